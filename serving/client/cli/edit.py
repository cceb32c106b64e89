"""The commands query edit and directions. Heavy imports wait until a command runs."""

import dataclasses
from pathlib import Path

import click

from gan.cli.command import Command, takes
from gan.cli.directions import entries_of
from gan.cli.generate_options import parse_grid
from gan.cli.options import PATH, format_option, grid_option, overwrite_option
from gan.runtime.console import progress, result, table
from gan.runtime.files import atomic, refuse_existing
from gan.sampling.request import MarkingRequest
from serving.client.cli.connect import check_suffix, client_of, generator_options, source_of
from serving.client.options import model_option, server_options, ws_option
from serving.client.request import Connection, EditQuery


@click.command(cls=Command)
@takes(Connection, "connection")
@takes(EditQuery)
@takes(MarkingRequest, "marking")
@click.option(
    "--direction",
    metavar="NAME=AMOUNT",
    multiple=True,
    required=True,
    help="Direction and how far to move along it, in standard deviations; repeat for several.",
)
@click.option(
    "--directions",
    metavar="FILE",
    type=PATH,
    help="File of salon directions find. Default: the directions that are served with the generator.",
)
@click.option("--seeds", metavar="SEEDS", help="Seeds and ranges, such as 0-15,42.")
@ws_option
@click.option("--out", type=PATH, help="Folder for one file a seed; with --grid, the grid's file.")
@grid_option
@format_option
@generator_options
def edit(request: EditQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    """Edit images along directions: those of seeds, or of a file of ws.

    `salon query directions` lists the directions that are served.

    \b
    salon query edit --direction pc1=2 --direction pc3=-1 --seeds 0-7 --out edited
    """
    write_edited(request, connection, marking, as_json)


def write_edited(request: EditQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    """Write the images that a request asks for, of the server that a connection names."""
    import time

    from gan.data import images
    from gan.sampling import image_grid
    from gan.sampling.marking import Marking
    from serving.client.edit import edited

    if request.grid:
        check_suffix(request.out, "with --grid")
    marks = Marking(marking)
    start = time.perf_counter()
    with client_of(connection) as client:
        made = edited(client, request)
        figures = source_of(client)
        count, suffix = len(made.origin.names), images.FORMATS[request.format]
        columns, rows = parse_grid(request.grid, count) if request.grid else (0, 0)
        files = [request.out] if request.grid else [request.out / f"{name}{suffix}" for name in made.origin.names]
        refuse_existing(files, request.overwrite)
        generated = progress(made.images, "Generating", count)
        pictures = [image_grid.grid(list(generated), columns, rows)] if request.grid else generated
        recipes = [dataclasses.replace(made.recipe, kind="grid", grid=request.grid)] if request.grid else made.recipes()
        for file, recipe, pixels in zip(files, recipes, pictures, strict=True):
            images.save(pixels, file, recipe=marks.of(recipe))
            marks.sign(file, recipe)
    seconds = time.perf_counter() - start
    figures |= {"files": [str(f) for f in files], "images": count, "seconds": seconds, **made.origin.fields()}
    figures |= {"edits": made.recipe.edits, "directions": made.recipe.directions}
    result(f"{count} images in {seconds:.1f} s from {client.url}: {request.out}", figures, as_json)


@click.command(cls=Command)
@takes(Connection, "connection")
@click.option("--out", metavar="FILE", type=PATH, help="File to write the directions to, .npz.")
@model_option
@overwrite_option
@server_options
def directions(out: Path | None, overwrite: bool, connection: Connection, as_json: bool) -> None:
    """List the directions that are served with a generator; with --out, write them to a file."""
    if out is not None:
        refuse_existing([out], overwrite)
    with client_of(connection) as client:
        figures, served = source_of(client), client.need_directions()
        content, digest = client.directions_file(), client.about("mapping").directions
        if out is not None and content is not None:
            with atomic(out) as temporary:
                temporary.write_bytes(content)
    rows = []
    for entry in served.entries.values():
        share = "" if entry.explained_variance is None else f"{entry.explained_variance:.1%}"
        rows.append([entry.name, f"{entry.first}-{entry.last}", entry.method, share, f"{entry.sigma:.3g}"])
    text = table(rows, ["direction", "layers", "method", "variance", "sigma"])
    figures |= {"sha256": digest, "directions": entries_of(served), "file": None if out is None else str(out)}
    result(f"{text}\nOf {client.url}{'' if out is None else f': {out}'}", figures, as_json)
