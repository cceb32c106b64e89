"""The command generate edit, and what it shares with generate images --ws. Heavy imports wait until it runs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan.cli.command import Command, takes
from gan.cli.generate_options import (
    batch_option,
    check_cutoff,
    check_folder,
    check_size,
    class_of,
    cutoff_option,
    load,
    noise_option,
    parse_grid,
    parse_seeds,
    precision_option,
    recipe_of,
    snapshot_argument,
    write_images,
    ws_option,
)
from gan.cli.options import (
    PATH,
    class_option,
    device_option,
    format_option,
    grid_option,
    json_option,
    marking_options,
    overwrite_option,
    psi_option,
)
from gan.runtime.console import result
from gan.runtime.files import refuse_existing
from gan.sampling.request import MarkingRequest, SamplingRequest

if TYPE_CHECKING:
    from gan.sampling.edit import EditRequest


@click.command(cls=Command)
@takes(SamplingRequest, "sampling")
@takes(MarkingRequest, "marking")
@snapshot_argument
@click.option("--directions", required=True, metavar="FILE", type=PATH, help="File of salon directions find.")
@click.option(
    "--direction",
    "texts",
    required=True,
    multiple=True,
    metavar="NAME=AMOUNT",
    help="Direction and how far to move along it, in standard deviations; repeat for several.",
)
@click.option("--seeds", metavar="SEEDS", help="Seeds and ranges, such as 0-15,42.")
@ws_option
@click.option("--out", required=True, type=PATH, help="Folder for one file a seed; with --grid, the grid's file.")
@grid_option
@format_option
@psi_option
@cutoff_option
@noise_option
@class_option
@batch_option
@precision_option
@device_option
@marking_options
@overwrite_option
@json_option
def edit(
    sampling: SamplingRequest,
    directions: Path,
    texts: tuple[str, ...],
    seeds: str | None,
    ws: Path | None,
    out: Path,
    grid: str | None,
    format: str,
    marking: MarkingRequest,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Edit images along directions, which salon directions finds: those of seeds, or of a file of ws.

    \b
    salon generate edit runs --directions directions.npz --direction pc1=2 --direction pc3=-1 --seeds 0-7 --out edited
    """
    from gan.sampling.directions import parse_amounts
    from gan.sampling.edit import EditRequest

    request = EditRequest(seeds=parse_seeds(seeds, ws), ws=ws, directions=directions, edits=parse_amounts(texts))
    write(request, sampling, Files(out=out, grid=grid, format=format, overwrite=overwrite), marking, as_json)


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where images go: options of generate images and generate edit."""

    out: Path
    grid: str | None
    format: str
    overwrite: bool


def write(request: "EditRequest", sampling: SamplingRequest, to: Files, marking: MarkingRequest, as_json: bool) -> None:
    """Write the images of a request, one file each or one grid, and print the result."""
    import time

    from gan.data.images import FORMATS, check_suffix
    from gan.runtime.console import progress
    from gan.runtime.files import sha256
    from gan.sampling.edit import edited
    from gan.sampling.marking import Marking

    if to.grid:
        check_suffix(to.out, "out", " with --grid")
    else:
        check_folder(to.out)
        request = replace(request, seeds=list(dict.fromkeys(request.seeds)))  # one file a seed
    marks = Marking(marking)
    source, G = load(sampling)
    check_cutoff(sampling.truncation_cutoff, G.config.num_ws)
    start = time.perf_counter()
    moved = edited(G, request, sampling, class_of(source, sampling, request.ws), sha256(source.path))
    cells = parse_grid(to.grid, len(moved.ws)) if to.grid else None
    if cells:
        check_size(to.out, *cells, G.config.shape)
    files = [to.out] if cells else [to.out / f"{name}{FORMATS[to.format]}" for name in moved.origin.names]
    refuse_existing(files, to.overwrite)
    one = recipe_of(source, sampling, "grid" if cells else "image", **moved.recipe(), grid=to.grid)
    recipes = [one] if cells else (replace(one, **moved.recipe(place)) for place in range(len(files)))
    write_images(progress(moved.images(G, sampling), "Generating", len(moved.ws)), files, recipes, marks, cells)
    seconds = time.perf_counter() - start
    figures = {"snapshot": str(source.path), "files": [str(f) for f in files], "images": len(moved.ws)}
    figures |= {**moved.recipe(), "seconds": seconds}
    result(f"{len(moved.ws)} images in {seconds:.1f} s from {source.path}: {to.out}", figures, as_json)
