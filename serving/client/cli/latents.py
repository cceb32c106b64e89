"""The commands query mix and interpolate. Heavy imports wait until a command runs."""

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, FiniteRange, WholeRange
from gan.runtime.console import progress, result
from gan.runtime.files import refuse_existing
from gan.sampling.request import MarkingRequest
from serving.client.cli.connect import check_suffix, client_of, generator_options, recipe_of, source_of
from serving.client.options import ws_option
from serving.client.request import Connection, InterpolateQuery, MixQuery


@click.command(cls=Command)
@takes(Connection, "connection")
@takes(MixQuery)
@takes(MarkingRequest, "marking")
@click.option("--rows", metavar="SEEDS", help="Seeds whose images the rows start from.")
@click.option("--columns", metavar="SEEDS", help="Seeds that give the rows their chosen layers.")
@click.option("--layers", metavar="LAYERS", help="Layers to take from the columns. Low: composition. High: colour.")
@click.option("--out", metavar="FILE", type=PATH, help="File of the grid: .png, .jpg or .webp.")
@generator_options
def mix(request: MixQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    """Generate a grid of style mixing: each cell is its row's image with some layers of its column's."""
    import numpy as np

    from gan.data import images
    from gan.sampling import image_grid, latents
    from gan.sampling.marking import Marking

    rows, columns, layers = (
        latents.parse_numbers(getattr(request, name), name) for name in ("rows", "columns", "layers")
    )
    check_suffix(request.out)
    refuse_existing([request.out], request.overwrite)
    marks = Marking(marking)
    with client_of(connection) as client:
        figures = source_of(client)
        ws = client.map_seeds(rows + columns, request.truncation_psi, request.label)
        row_ws, column_ws = np.split(ws, [len(rows)])
        ws = np.concatenate([ws, latents.mix(row_ws, column_ws, layers)])
        generated = list(progress(client.synthesize(ws), "Generating", len(ws)))
        seeds = {"seeds": rows, "columns": columns, "layers": layers}
        recipe = recipe_of(client, request, "mix", **seeds)
    ends = len(rows), len(rows) + len(columns)
    grid = image_grid.mixing_grid(generated[: ends[0]], generated[ends[0] : ends[1]], generated[ends[1] :])
    images.save(grid, request.out, recipe=marks.of(recipe))
    marks.sign(request.out, recipe)
    figures |= {"file": str(request.out), "rows": rows, "columns": columns, "layers": layers}
    text = f"A grid of {len(rows)} rows and {len(columns)} columns from {client.url}: {request.out}"
    result(text, figures, as_json)


@click.command(cls=Command)
@takes(Connection, "connection")
@takes(InterpolateQuery)
@takes(MarkingRequest, "marking")
@click.option("--seeds", metavar="SEEDS", help="Seeds to pass through, in order, and back to the first.")
@ws_option
@click.option("--frames", metavar="N", type=WholeRange(1), help="Frames from one seed to the next.")
@click.option("--fps", metavar="FPS", type=FiniteRange(1, 120), help="Frames a second.")
@click.option("--out", metavar="FILE", type=PATH, help="File of the animation: .mp4, .webp or .gif.")
@generator_options
def interpolate(request: InterpolateQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    """Generate a closed path through seeds, or rows of a file of ws, as an animation."""
    from gan.data.images import for_display
    from gan.sampling import animation, latents
    from gan.sampling.marking import Marking
    from serving.client.edit import of_file, of_seeds, parse_seeds

    seeds, out, fps = parse_seeds(request.seeds, request.ws), request.out, request.fps
    animation.check_suffix(out, "out")
    refuse_existing([out], request.overwrite)
    marks = Marking(marking)
    with client_of(connection) as client:
        figures = source_of(client)
        if request.ws is not None:
            keys = of_file(client, request.ws)
        else:
            keys = of_seeds(client, seeds, request.truncation_psi, request.label)
        ws = latents.loop(keys.ws, request.frames)
        frames = map(for_display, client.synthesize(ws))
        recipe = recipe_of(client, request, "interpolation", **keys.fields(), frames=request.frames)
        animation.save(progress(frames, "Generating", len(ws), unit="frame"), out, fps, recipe=marks.of(recipe))
    marks.sign(out, recipe)
    figures |= {"file": str(out), "frames": len(ws), "seconds": len(ws) / fps}
    result(f"{len(ws)} frames, {len(ws) / fps:.1f} s, from {client.url}: {out}", figures, as_json)
