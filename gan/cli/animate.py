"""The commands generate interpolate and timelapse. Heavy imports wait until a command runs."""

from pathlib import Path

import click

from gan.cli.command import Command, takes
from gan.cli.generate_options import (
    batch_option,
    class_of,
    load,
    parse_seeds,
    precision_option,
    recipe_of,
    snapshot_argument,
    ws_option,
)
from gan.cli.journey_options import journey_options, travel
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
from gan.errors import RequestError
from gan.runtime.console import result
from gan.runtime.files import refuse_existing
from gan.sampling.journey_request import JourneyRequest
from gan.sampling.request import MarkingRequest, SamplingRequest


@click.command(cls=Command)
@takes(SamplingRequest, "sampling")
@takes(JourneyRequest, "journey")
@takes(MarkingRequest, "marking")
@snapshot_argument
@click.option("--seeds", metavar="SEEDS", help="Seeds to pass through, in order, and back to the first.")
@journey_options
@ws_option
@click.option("--frames", metavar="N", type=WholeRange(1), default=60, show_default=True, help="Frames a seed.")
@click.option("--fps", metavar="FPS", type=FiniteRange(1, 120), default=30, show_default=True, help="Frames a second.")
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The animation: .mp4, .webp or .gif.")
@psi_option
@click.option(
    "--noise-mode",
    type=click.Choice(["const", "none"]),
    help="Noise inputs. const: the stored noise. none: without.",
)
@class_option
@batch_option
@precision_option
@device_option
@marking_options
@overwrite_option
@json_option
@click.pass_context
def interpolate(
    context: click.Context,
    sampling: SamplingRequest,
    journey: JourneyRequest,
    seeds: str | None,
    ws: Path | None,
    frames: int,
    fps: float,
    out: Path,
    marking: MarkingRequest,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Interpolate between seeds, or rows of a file of ws, in a closed loop, as an animation; or along keyframes, to a
    sound.

    \b
    salon generate interpolate runs --seeds 0-5 --out loop.mp4
    salon generate interpolate runs --keyframes journey.toml --easing spherical --out journey.mp4
    salon generate interpolate runs --seeds 0-5 --audio music.flac --drive low=psi:0.4 --out music.mp4
    """
    if journey.asked:
        chosen = context.get_parameter_source("frames") is click.core.ParameterSource.COMMANDLINE
        pace = {"frames": frames if chosen else None, "fps": fps}
        travel(sampling, journey, marking, seeds, ws, pace, out, overwrite, as_json)
        return
    if seeds is None and ws is None:
        raise click.UsageError("Missing option '--seeds', '--ws' or '--keyframes'.")
    import torch

    from gan.data.images import for_display
    from gan.runtime.console import progress
    from gan.runtime.files import sha256
    from gan.sampling import animation, latents
    from gan.sampling.edit import EditRequest, edited
    from gan.sampling.generate import synthesize
    from gan.sampling.marking import Marking

    request = EditRequest(seeds=parse_seeds(seeds, ws), ws=ws)
    animation.check_suffix(out, "out")
    refuse_existing([out], overwrite)
    marks = Marking(marking)
    source, G = load(sampling)
    keys = edited(G, request, sampling, class_of(source, sampling, ws), sha256(source.path))
    path = torch.from_numpy(latents.loop(keys.ws.cpu().numpy(), frames)).to(keys.ws)
    pixels = map(for_display, synthesize(G, path, noise_mode=sampling.noise_mode, batch_size=sampling.batch_size))
    recipe = recipe_of(source, sampling, "interpolation", **keys.recipe(), frames=frames)
    animation.save(progress(pixels, "Generating", len(path), unit="frame"), out, fps, recipe=marks.of(recipe))
    marks.sign(out, recipe)
    figures = {"snapshot": str(source.path), "file": str(out), "frames": len(path), "seconds": len(path) / fps}
    result(f"{len(path)} frames, {len(path) / fps:.1f} s, from {source.path}: {out}", figures, as_json)


@click.command(cls=Command)
@takes(MarkingRequest, "marking")
@click.argument("run", type=PATH)
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The animation: .mp4, .webp or .gif.")
@click.option("--fps", metavar="FPS", type=FiniteRange(0.1, 120), default=5, show_default=True, help="Grids a second.")
@marking_options
@overwrite_option
@json_option
def timelapse(run: Path, out: Path, fps: float, marking: MarkingRequest, overwrite: bool, as_json: bool) -> None:
    """Animate the image grids of a RUN, which show the generator learn."""
    import numpy as np
    from PIL import Image

    from gan.data.recipe import Recipe
    from gan.runtime.files import read_json
    from gan.sampling import animation
    from gan.sampling.marking import Marking
    from gan.training.run_dir import Run, require_run

    animation.check_suffix(out, "out")
    refuse_existing([out], overwrite)
    require_run(run, "run")
    marks = Marking(marking)
    grids = Run(run).list_grids()
    if not grids:
        raise RequestError(f"RUN must be a run with image grids in {run / 'grids'}; there are none")
    pixels = (np.asarray(Image.open(grid).convert("RGB")) for grid in grids)
    recipe = Recipe(kind="timelapse", model=run.name, dataset=read_json(Run(run).config_file)["dataset"])
    animation.save(pixels, out, fps, hold=round(2 * fps) or 1, recipe=marks.of(recipe))
    marks.sign(out, recipe)
    figures = {"run": str(run), "file": str(out), "frames": len(grids)}
    result(f"{len(grids)} image grids of {run}: {out}", figures, as_json)
