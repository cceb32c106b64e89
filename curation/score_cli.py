"""The commands `salon curate check` and `salon curate score`. Heavy imports wait until a command runs."""

from pathlib import Path

import click

from gan.options import PATH, json_option


@click.command()
@click.argument("dataset", type=PATH)
@json_option
def check(dataset: Path, as_json: bool) -> None:
    """Flag what may not belong into a dataset."""


@click.command()
@click.argument("dataset", type=PATH)
@json_option
def score(dataset: Path, as_json: bool) -> None:
    """Score how typical of a dataset each of its images is."""
