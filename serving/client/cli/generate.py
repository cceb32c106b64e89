"""The command query generate. Heavy imports wait until it runs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Command, takes
from gan.cli.generate_options import parse_grid
from gan.cli.options import PATH, WholeRange, format_option, grid_option
from gan.runtime.console import progress, result
from gan.runtime.files import refuse_existing
from gan.sampling.request import MarkingRequest
from serving.client.cli.connect import check_suffix, client_of, generator_options, recipe_of, source_of
from serving.client.cli.edit import write_edited
from serving.client.options import ws_option
from serving.client.request import Connection, EditQuery, GenerateQuery

if TYPE_CHECKING:
    from serving.client.client import Client

_BUDGET = 4


@click.command(cls=Command)
@takes(Connection, "connection")
@takes(GenerateQuery)
@takes(MarkingRequest, "marking")
@click.option(
    "--seeds", metavar="SEEDS", help="Seeds and ranges, such as 0-15,42. With --reject: the candidates, from 0 on."
)
@ws_option
@click.option("--out", type=PATH, help="Folder for one file a seed; with --grid, the grid's file.")
@grid_option
@format_option
@click.option(
    "--reject",
    type=click.Choice(["obrs"]),
    help="Rejection sampling by the served discriminator, with an exact budget (Verine et al. 2024).",
)
@click.option("--count", metavar="NIMG", type=WholeRange(1), help="Images to accept. Required by --reject.")
@click.option(
    "--budget", metavar="K", type=WholeRange(1), help=f"Candidates for each accepted image. Default: {_BUDGET}."
)
@generator_options
def generate(request: GenerateQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    """Generate images of seeds: one image a seed, the same that `salon generate` gives. With --ws one for each row."""
    import time

    from gan.data import images
    from gan.sampling import image_grid
    from gan.sampling.marking import Marking

    if request.ws is not None:
        to = {name: getattr(request, name) for name in ("out", "ws", "grid", "format", "overwrite")}
        write_edited(EditQuery(direction=(), **to), connection, marking, as_json)
        return
    if request.reject is None and request.seeds is None:
        raise click.UsageError("Missing option '--seeds'; or let --reject choose them.")
    out, seeds = request.out, _seeds(request)
    columns, rows = parse_grid(request.grid, request.count or len(seeds or [])) if request.grid else (0, 0)
    marks = Marking(marking)
    start = time.perf_counter()
    with client_of(connection) as client:
        figures = source_of(client)
        if request.reject:
            seeds, figures["rejection"] = _accepted(client, request, seeds)
        assert seeds is not None
        files = [out] if request.grid else _files(request, seeds)
        generated = progress(client.generate(seeds, request.truncation_psi, request.label), "Generating", len(seeds))
        kind, grid = ("grid" if request.grid else "image"), request.grid
        recipe = recipe_of(client, request, kind, seeds=seeds, grid=grid)
        recipes = [recipe] if grid else (dataclasses.replace(recipe, seeds=[seed]) for seed in seeds)
        made = [image_grid.grid(list(generated), columns, rows)] if grid else generated
        for file, own, pixels in zip(files, recipes, made, strict=True):
            images.save(pixels, file, recipe=marks.of(own))
            marks.sign(file, own)
    seconds = time.perf_counter() - start
    figures |= {"files": [str(f) for f in files], "images": len(seeds), "seeds": seeds, "seconds": seconds}
    of = f" of {figures['rejection']['candidates']} candidates" if request.reject else ""
    result(f"{len(seeds)} images{of} in {seconds:.1f} s from {client.url}: {out}", figures, as_json)


def _seeds(request: GenerateQuery) -> list[int] | None:
    # The seeds, after a look at what would be replaced; None: rejection sampling chooses them.
    from gan.data import images
    from gan.sampling import latents

    seeds = None if request.seeds is None else latents.parse_numbers(request.seeds)
    if request.grid:
        check_suffix(request.out, "with --grid")
        existing = [request.out]
    elif request.reject:
        existing = sorted(request.out.glob(f"seed*{images.FORMATS[request.format]}"))
    else:
        existing = _files(request, seeds or [])
    refuse_existing(existing, request.overwrite)
    return seeds


def _files(request: GenerateQuery, seeds: Sequence[int]) -> list[Path]:
    from gan.data import images

    return [request.out / f"seed{seed:04d}{images.FORMATS[request.format]}" for seed in seeds]


def _accepted(
    client: "Client", request: GenerateQuery, candidates: list[int] | None
) -> tuple[list[int], dict[str, Any]]:
    from serving.client.rejection import choose

    assert request.count is not None
    budget = request.budget or _BUDGET
    return choose(client, candidates, request.count, budget, request.truncation_psi, request.label)
