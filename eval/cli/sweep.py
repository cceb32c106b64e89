"""The command eval sweep. Heavy imports wait until a command runs."""

from pathlib import Path

import click

from eval.cli.options import measuring_options, sweep_options
from eval.request import EvaluationRequest, SweepRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH
from gan.runtime.console import result, say


@click.command(cls=Command)
@takes(EvaluationRequest)
@takes(SweepRequest, name="settings")
@click.option(
    "--snapshot", required=True, metavar="SNAPSHOT", type=PATH, help="A snapshot, a run, or a folder of runs."
)
@click.option("--data", required=True, metavar="DATASET", type=PATH, help="Dataset made by salon prepare.")
@click.option(
    "--out", required=True, metavar="DIR", type=PATH, help="Folder of sweep.json, sweep.html and the evaluations."
)
@sweep_options
@measuring_options
def sweep(
    snapshot: Path,
    data: Path,
    manifest: Path | None,
    out: Path,
    device: str,
    as_json: bool,
    request: EvaluationRequest,
    settings: SweepRequest,
) -> None:
    """Evaluate a generator at several truncations and with rejection: which psi, which budget?

    Every setting is evaluated on the same latents: curves of each metric over psi with their intervals, precision
    against recall with the Pareto front, the same seeds at each psi, and a recommendation where chance allows one. The
    same command goes on where a stopped one was.

    \b
    salon eval sweep --snapshot runs --data paintings64.zip --num-images 1000 --out sweep
    salon eval sweep --snapshot runs --data paintings64.zip --psi 0.6:1:0.1 --budget 1,4 --out sweep-4
    """
    from eval import sweep as sweeps
    from eval.evaluator import Evaluator, open_data, require_folder
    from eval.report import text as tables
    from gan import snapshot as snapshots
    from gan.device.selection import select
    from gan.runtime import distributed

    path = snapshots.find(snapshot).path
    require_folder(out)
    target = select(device)
    with distributed.joined(target):
        evaluator = Evaluator(open_data(data, manifest), request, target, besides=sweeps.BESIDES)
        figures = sweeps.sweep(evaluator, path, settings, out)
    if figures is None:
        return
    for warning in figures["warnings"]:
        say(f"Warning: {warning}")
    result(f"{tables.sweep(figures)}\nReport: {out / sweeps.PAGE}", {"out": str(out), **figures}, as_json)
