"""Options that several commands share."""

import math
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)


class FiniteRange(click.FloatRange):
    """A number in a range, without NaN and infinity, which every comparison of click's lets pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output; all else goes to standard error."
)
device_option = click.option(
    "--device", metavar="NAME", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what --out already holds.")
