"""Options that several commands share."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gan.config import MAX_SEED
from gan.data.strata import STRATA
from gan.runtime.engines import ENGINES

PATH = click.Path(path_type=Path)


class WholeRange(click.IntRange):
    """A whole number in a range."""

    name = "whole number"


class CountOrAuto(WholeRange):
    """A whole number in a range, or "auto", which is None to the library."""

    name = "whole number or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A number in a range, without NaN and infinity, which every comparison of click's lets pass."""

    name = "number"

    def _describe_range(self) -> str:
        return "" if self.min is None and self.max is None else super()._describe_range()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output; all else goes to standard error."
)
device_option = click.option(
    "--device",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="Device to compute on: auto, cpu, cuda or cuda:N.",
)
workers_option = click.option(
    "--workers",
    metavar="N",
    type=CountOrAuto(0, 256),
    help="Processes that load images; auto: as many as keep up, none where the pixels lie on the device. "
    "Default: auto.",
)
graphs_option = click.option(
    "--cuda-graphs/--no-cuda-graphs",
    help="CUDA graphs of the batches that the generator makes: less work for the host. New: not yet proven on a GPU, "
    "and off by default.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what --out already holds.")
Function = TypeVar("Function", bound=Callable[..., Any])


def together(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Several options as one decorator; --help has them in this order."""
    return lambda command: functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


# How generated pictures' files are marked: fields of gan.sampling.request.MarkingRequest.
marking_options = together(
    click.option(
        "--no-metadata",
        "metadata",
        flag_value=False,
        default=True,
        help="Leave the mark and the recipe out of the files: that they are generated, and how (see salon verify).",
    ),
    click.option(
        "--sign-certificate",
        metavar="FILE",
        type=PATH,
        help="Certificate, PEM with its chain, that signs the files as Content Credentials (C2PA).",
    ),
    click.option("--sign-key", metavar="FILE", type=PATH, help="Private key of --sign-certificate, PEM."),
)

engine_options = together(
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        help="Engine that computes: local, or ray, a cluster of machines that see the same files under the same paths.",
    ),
    click.option(
        "--address",
        metavar="HOST:PORT",
        help="Address of the Ray cluster, or auto on one of its machines. Default: a Ray of this machine's own.",
    ),
)


def seed_option(of: str) -> Callable[[Function], Function]:
    """--seed, whose help says of what."""
    kind = WholeRange(0, MAX_SEED)
    return click.option("--seed", metavar="SEED", type=kind, default=0, show_default=True, help=of)


psi_option = click.option(
    "--truncation-psi",
    metavar="PSI",
    type=FiniteRange(-2, 2),
    default=1.0,
    show_default=True,
    help="Truncation. Below 1: more typical and less varied, 0: the average.",
)
class_option = click.option(
    "--class", "class_name", metavar="CLASS", help="Class of the images: its name or its index."
)
grid_option = click.option(
    "--grid", metavar="CxR", help="Image grid of C columns and R rows instead of one file a seed."
)
format_option = click.option(
    "--format",
    type=click.Choice(["png", "jpeg", "webp"]),
    default="png",
    show_default=True,
    help="Format of one file a seed; that of a grid follows from --out.",
)


def none_is_nothing(context: click.Context, option: click.Parameter, value: str) -> str | None:
    """Callback of a choice that has "none"."""
    return None if value == "none" else value


def column_option(name: str, of: str) -> Callable[[Function], Function]:
    """An option that names a column of STRATA, or "none", whose help says of what."""
    columns = click.Choice(["none", *STRATA])
    return click.option(f"--{name}", type=columns, default="none", show_default=True, callback=none_is_nothing, help=of)
