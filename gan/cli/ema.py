"""The command ema. Heavy imports wait until it runs."""

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, FiniteRange, json_option, overwrite_option
from gan.runtime.console import result, say
from gan.training.request import AverageRequest


@click.command(cls=Command)
@takes(AverageRequest)
@click.option("--run", metavar="RUN", type=PATH, help="Run that was trained with --post-hoc-ema.")
@click.option(
    "--width",
    metavar="SHARE",
    type=FiniteRange(0, min_open=True),
    help="Width of the average: the standard deviation of its weights over time, as a share of the training.",
)
@click.option("--out", metavar="SNAPSHOT", type=PATH, help="Snapshot to write: .safetensors.")
@overwrite_option
@json_option
def ema(request: AverageRequest, as_json: bool) -> None:
    """Average a run's generator anew, in any width, after training: a snapshot of the run's newest checkpoint.

    salon eval ema finds the best width.

    \b
    salon ema --run runs/paintings64-tiny-1a2b3c4d --width 0.13 --out averaged.safetensors
    """
    from gan.training.reconstruct import doubt, open_stored, reconstruct

    stored = open_stored(request.run)
    combination = reconstruct(stored, request.width, request.out)
    figures = {
        "snapshot": str(request.out),
        "width": request.width,
        "kimg": stored.cur_nimg / 1000,
        "averaged_kimg": stored.seen / 1000,
        "averages": len(combination.weights),
        "error": combination.error,
    }
    if note := doubt(request.width, combination.error):
        say(f"Note: {note}")
    text = f"{request.out}: G_ema of width {request.width:g} at {figures['kimg']:g} kimg"
    result(
        f"{text}, of {figures['averages']} averages; its profile is off by {combination.error:.1%}", figures, as_json
    )
