"""The options of journeys, which generate interpolate has, and what it then does. Heavy imports wait."""

from pathlib import Path
from typing import Any

import click

from gan.cli.generate_options import load, recipe_of
from gan.cli.options import PATH, FiniteRange, together
from gan.runtime.console import result
from gan.runtime.files import refuse_existing
from gan.sampling.journey_request import EASINGS, JourneyRequest
from gan.sampling.request import MarkingRequest, SamplingRequest

journey_options = together(
    click.option(
        "--keyframes",
        metavar="FILE",
        type=PATH,
        help="Keys to pass through in the place of seeds: TOML with seeds or ws, psi, class, edits and seconds.",
    ),
    click.option(
        "--easing",
        type=click.Choice(EASINGS),
        help="Path from key to key. spherical: an arc, in z between seeds. smooth: a spline through all.",
    ),
    click.option("--no-loop", "loop", flag_value=False, default=True, help="End at the last key, not at the first."),
    click.option("--audio", metavar="FILE", type=PATH, help="Sound that drives the animation, and is in the MP4."),
    click.option(
        "--seconds",
        metavar="SECONDS",
        type=FiniteRange(0, min_open=True),
        help="Length of the sound to use. Default: all.",
    ),
    click.option(
        "--drive",
        metavar="FEATURE=TARGET",
        multiple=True,
        help="Target that a feature of the sound, onset, low, mid or high, drives: speed, psi, a direction or none; "
        ":AMOUNT may follow. Default: onset=speed:2 and low=psi:0.2.",
    ),
    click.option("--directions", metavar="FILE", type=PATH, help="Directions that keys and --drive name."),
)


def travel(
    sampling: SamplingRequest,
    journey: JourneyRequest,
    marking: MarkingRequest,
    seeds: str | None,
    ws: Path | None,
    pace: dict[str, Any],
    out: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the animation of a journey. `pace`: frames a seed, and frames a second."""
    from gan.data.images import for_display
    from gan.runtime.console import progress
    from gan.sampling import animation
    from gan.sampling.journey_plan import plan
    from gan.sampling.latents import parse_numbers
    from gan.sampling.marking import Marking

    animation.check_suffix(out, "out")
    if journey.audio is not None:
        animation.check_sound(out, "out")
    refuse_existing([out], overwrite)
    marks = Marking(marking)
    seed_list = None if seeds is None else parse_numbers(seeds)
    source, G = load(sampling)
    planned = plan(source, G, sampling, journey, seeds=seed_list, ws=ws, **pace)
    pixels = map(for_display, planned.frames(noise_mode=sampling.noise_mode, batch_size=sampling.batch_size))
    recipe = recipe_of(source, sampling, "journey", **planned.recipe)
    shown = progress(pixels, "Generating", len(planned), unit="frame")
    animation.save(shown, out, pace["fps"], recipe=marks.of(recipe), sound=planned.sound)
    marks.sign(out, recipe)
    seconds = len(planned) / pace["fps"]
    figures: dict[str, Any] = {"snapshot": str(source.path), "file": str(out), "frames": len(planned)}
    figures |= {"seconds": seconds, "keys": len(planned.keys), **planned.recipe["journey"]}
    figures["seconds"] = seconds
    result(
        f"{len(planned)} frames, {seconds:.1f} s, through {len(planned.keys)} keys, from {source.path}: {out}",
        figures,
        as_json,
    )
