"""The command eval run. Heavy imports wait until a command runs."""

from dataclasses import replace
from pathlib import Path

import click

from eval.cli.options import evaluation_options, require_one
from eval.request import EvaluationRequest, RejectionOptions
from gan.cli.command import Command, takes
from gan.cli.options import PATH
from gan.cli.rejection_options import given, rejection_options
from gan.errors import BoundError, RequestError
from gan.runtime.console import result


@click.command(cls=Command)
@takes(EvaluationRequest)
@takes(RejectionOptions, name="rejection")
@click.option("--snapshot", metavar="SNAPSHOT", type=PATH, help="A snapshot, a run, or a folder of runs.")
@click.option("--images", metavar="FOLDER|ZIP|NPZ", type=PATH, help="Images to evaluate, instead of a snapshot.")
@click.option(
    "--data",
    required=True,
    metavar="DATASET|NPZ",
    type=PATH,
    help="Dataset made by salon prepare, or statistics of real images (mu and sigma).",
)
@click.option(
    "--out", required=True, metavar="DIR", type=PATH, help="Folder of results.json, report.html and features."
)
@click.option(
    "--require",
    metavar="METRIC<NUMBER",
    multiple=True,
    help="Bound that results must keep, else the exit code is 3; repeat. With Inception's weights METRIC is fid or "
    "kid, without them fd or kd.",
)
@rejection_options
@click.option(
    "--calibration-data",
    metavar="DATASET",
    type=PATH,
    help="Real images to calibrate --reject on; best those that neither training nor --data has. Default: --data.",
)
@evaluation_options
def run(
    snapshot: Path | None,
    images: Path | None,
    data: Path,
    manifest: Path | None,
    out: Path,
    device: str,
    as_json: bool,
    request: EvaluationRequest,
    rejection: RejectionOptions,
) -> None:
    """Evaluate a snapshot, or a folder, a ZIP or an array of images. The same command goes on where a killed one was.

    With --reject as many images that the discriminator accepts are evaluated beside, and each metric is told with and
    without rejection, and what it changes. --require is of the images without.

    \b
    salon eval run --snapshot runs --data paintings64.zip --num-images 2000 --out evaluation
    salon eval run --snapshot runs --data paintings64.zip --num-images 2000 --reject obrs --budget 4 --out evaluation
    torchrun --nproc-per-node 8 -m gan eval run --snapshot runs --data paintings64.zip --out evaluation
    """
    from eval.evaluate import REPORT
    from eval.evaluator import Evaluator, open_data, require_folder
    from eval.report import text as tables
    from gan.device.selection import select
    from gan.runtime import distributed

    source = require_one(snapshot, images, request.truncation_psi)
    require_folder(out)
    options = given(vars(rejection))
    if options and images:
        raise RequestError("--reject needs --snapshot, whose discriminator rejects; --images has none")
    if images and request.cuda_graphs:
        raise RequestError("--cuda-graphs needs --snapshot, whose images are generated")
    target = select(device)
    with distributed.joined(target):
        evaluator = Evaluator(open_data(data, manifest), replace(request, rejection=options or None), target)
        evaluation = evaluator(source, out)
    if evaluation is None:
        return
    figures = evaluation.figures
    parts = [tables.results(figures), *tables.rejection(figures), *tables.strata(figures)]
    result("\n".join([*parts, f"Report: {out / REPORT}"]), {"out": str(out), **figures}, as_json)
    if unmet := [row for row in figures["requirements"] if not row["met"]]:
        raise BoundError(
            "; ".join(f"{row['requirement']} is required; {row['key']} is {row['value']:.4g}" for row in unmet)
        )
