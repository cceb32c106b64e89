"""The command blend. Heavy imports wait until it runs."""

from dataclasses import asdict

import click

from gan.blending.request import MAPPINGS, BlendRequest
from gan.cli.command import Command, takes
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    class_option,
    device_option,
    json_option,
    marking_options,
    overwrite_option,
    psi_option,
)
from gan.runtime.console import result
from gan.sampling.request import MarkingRequest


@click.command(cls=Command)
@takes(BlendRequest)
@takes(MarkingRequest, "marking")
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option(
    "--from-layer",
    metavar="LAYER",
    type=WholeRange(0),
    help="First layer of B; those below it are A's. 0: all B's.",
)
@click.option(
    "--weight",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    help="Share of B in the interpolated weights: of all layers, or with --from-layer of those from it on.",
)
@click.option(
    "--mapping",
    type=click.Choice(MAPPINGS),
    help="Mapping network. Default: A's with --from-layer; with --weight alone interpolated like the rest.",
)
@click.option("--unrelated", is_flag=True, help="Blend generators that are not known to be of one lineage.")
@click.option("--out", metavar="SNAPSHOT", type=PATH, help="Snapshot to write: .safetensors.")
@click.option(
    "--sheet",
    metavar="FILE",
    type=PATH,
    help="Picture to write, .png, .jpg or .webp: a column each layer to blend from; with --weight alone, weights.",
)
@click.option("--seeds", metavar="SEEDS", help="Seeds of the sheet's rows.")
@class_option
@psi_option
@device_option
@marking_options
@overwrite_option
@json_option
def blend(request: BlendRequest, marking: MarkingRequest, as_json: bool) -> None:
    """Blend two generators of one lineage: the first layers of A, the last of B.

    Layers that decide on composition come from A, those that decide on texture and colour from B, or the other way
    round (Pinkney and Adler 2020). A and B are snapshots, runs or folders of runs; B was trained from A, A from B, or
    both from a third.

    \b
    salon blend runs/landscapes people-runs --sheet choose.png
    salon blend runs/landscapes people-runs --from-layer 4 --out blended.safetensors
    """
    from gan.blending import blend as library

    made = library.blend(request, marking)
    figures = {**made.about, **asdict(made), "out": request.out, "sheet": request.sheet}
    del figures["about"], figures["ancestors"]
    files = ", ".join(str(file) for file in (request.out, request.sheet) if file is not None)
    layers = f"layers from {request.from_layer} on" if request.from_layer is not None else "all layers"
    how = f": {layers} {made.about['weight']:.0%} of B" if request.out is not None else ""
    result(f"{made.a} and {made.b}{how}: {files}", figures, as_json)
