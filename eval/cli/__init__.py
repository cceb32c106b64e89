"""The group salon eval, and its commands run, compare and reference. Heavy imports wait until a command runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eval.cli.blind import blind
from eval.cli.novelty import novelty
from eval.cli.options import evaluation_options, extractor_options, measuring_options, sweep_options
from eval.request import EvaluationRequest, FeatureRequest, RejectionOptions, SweepRequest
from gan.cli.command import Group, takes
from gan.cli.options import PATH
from gan.cli.rejection_options import given, rejection_options
from gan.errors import BoundError, RequestError
from gan.runtime.console import result, say, table

if TYPE_CHECKING:
    from eval.compare import Entry


@click.group(cls=Group)
def evaluate() -> None:
    """Evaluate a generator against a dataset: metrics with confidence intervals, and a report.

    \b
    salon eval run --snapshot runs --data paintings64.zip --num-images 2000 --out evaluation
    salon eval run --images pictures --data paintings64.zip --metrics fid,kid --require 'kd<0.5' --out judged
    salon eval compare runs/paintings64-tiny-1a2b3c4d --data paintings64.zip --num-images 1000 --out comparison
    salon eval sweep --snapshot runs --data paintings64.zip --num-images 1000 --out sweep
    salon eval reference paintings64.zip
    """


evaluate.add_command(novelty)
evaluate.add_command(blind)


@evaluate.command()
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

    source = _require_one(snapshot, images)
    require_folder(out)
    options = given(vars(rejection))
    if options and images:
        raise RequestError("--reject needs --snapshot, whose discriminator rejects; --images has none")
    if images and request.truncation_psi != 1:
        raise RequestError("--truncation-psi needs --snapshot; --images are as they are")
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


@evaluate.command()
@takes(EvaluationRequest)
@click.argument("evaluated", nargs=-1, required=True, type=PATH, metavar="RESULTS|RUN|SNAPSHOT...")
@click.option("--data", metavar="DATASET", type=PATH, help="Dataset to evaluate snapshots against.")
@click.option(
    "--out", metavar="DIR", type=PATH, help="Folder of comparison.json, comparison.html, and what is evaluated now."
)
@evaluation_options
def compare(
    evaluated: tuple[Path, ...],
    data: Path | None,
    manifest: Path | None,
    out: Path | None,
    device: str,
    as_json: bool,
    request: EvaluationRequest,
) -> None:
    """Compare evaluations: a curve over training, differences with their intervals, and the best.

    RESULTS is a folder of eval run or its results.json. Snapshots, and all snapshots of a RUN, are evaluated first,
    with the same latents; that needs --data and --out.

    \b
    salon eval compare evaluation-a evaluation-b
    salon eval compare runs/paintings64-tiny-1a2b3c4d --data paintings64.zip --num-images 1000 --out comparison
    """
    from eval.compare import COMPARISON, find, read_entry
    from eval.evaluator import Evaluator, open_data, require_folder, require_same
    from gan.device.selection import select
    from gan.runtime import distributed, files

    entries, snapshots = find(evaluated)
    if snapshots and (data is None or out is None):
        raise RequestError("eval compare needs --data and --out to evaluate snapshots")
    if len(entries) + len(snapshots) < 2:
        raise RequestError(f"eval compare needs 2 or more to compare; got {len(entries) + len(snapshots)}")
    record = {"compared": " ".join(map(str, evaluated))}
    if out is not None:
        require_folder(out)
        require_same(out / COMPARISON, record, request.overwrite)
    target = select(device)
    with distributed.joined(target):
        if data is not None and out is not None and snapshots:
            evaluator = Evaluator(open_data(data, manifest), request, target)
            for path in snapshots:
                folder = out / f"{path.stem}-{files.sha256(path)[:8]}"
                if evaluator(path, folder) is not None:
                    entries.append(read_entry(folder))
    if distributed.is_main():
        _tell_comparison(entries, record, out, as_json)


@evaluate.command("sweep")
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
def sweep_settings(
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
    from eval.evaluator import Evaluator, open_data, require_folder
    from eval.report import text as tables
    from eval.sweep import PAGE, sweep
    from gan import snapshot as snapshots
    from gan.device.selection import select
    from gan.runtime import distributed

    path = snapshots.find(snapshot).path
    require_folder(out)
    target = select(device)
    with distributed.joined(target):
        figures = sweep(Evaluator(open_data(data, manifest), request, target), path, settings, out)
    if figures is None:
        return
    for warning in figures["warnings"]:
        say(f"Warning: {warning}")
    result(f"{tables.sweep(figures)}\nReport: {out / PAGE}", {"out": str(out), **figures}, as_json)


@evaluate.command()
@takes(FeatureRequest)
@click.argument("data", type=PATH, metavar="DATASET")
@click.option("--manifest", metavar="DIR", type=PATH, help="Manifest; only the images that it keeps are the reference.")
@extractor_options
def reference(data: Path, manifest: Path | None, device: str, as_json: bool, request: FeatureRequest) -> None:
    """Extract a dataset's features and statistics in advance. What is in the cache is not made again.

    \b
    salon eval reference paintings64.zip --extractor efficientnet-lite0
    """
    from eval import suite
    from eval.data.image_sources import DatasetSource
    from eval.data.reference import open_references
    from eval.evaluator import open_extractors
    from gan.data.collection import Collection
    from gan.device.selection import select
    from gan.runtime import distributed

    target = select(device)
    with distributed.joined(target):
        real = DatasetSource(Collection.open(data, manifest))
        extractors = open_extractors(request, real, target)
        if not request.extractors:
            suite.tell_missing([extractor.name for extractor in extractors], list(suite.SUITE))
        references, _ = open_references(real, extractors, batch_size=request.batch_size)
        with distributed.main_first():
            for own in references if distributed.is_main() else []:
                own.prepare()
    rows = [
        {"extractor": own.extractor.key, "images": len(own), "dim": own.extractor.dim, "folder": str(own.folder)}
        for own in references
    ]
    figures = {"data": str(data), **real.identity, "references": rows}
    result(table([list(row.values()) for row in rows], list(rows[0])), figures, as_json)


def _require_one(snapshot: Path | None, images: Path | None) -> Path:
    # -> the one of the two that was given, which must be what its option says.
    from eval.data.image_sources import is_snapshot

    path = snapshot or images
    if path is None or (snapshot and images):
        raise RequestError("eval run needs either --snapshot or --images")
    if (snapshot is None) == is_snapshot(path):
        if not path.exists():
            raise RequestError(f"{'--images' if images else '--snapshot'} must be there; {path} does not exist")
        if images:
            raise RequestError(
                f"{path} must be given with --snapshot; --images is a folder, a ZIP or an array of images"
            )
        raise RequestError(
            f"--snapshot must be a snapshot, a run or a folder of runs; {path} is none. Images are given with --images"
        )
    return path


def _tell_comparison(entries: "Sequence[Entry]", record: dict[str, str], out: Path | None, as_json: bool) -> None:
    from eval.compare import COMPARISON, compare, in_order
    from eval.report import text as tables
    from eval.report.html import write_comparison
    from gan.runtime import files

    ordered = in_order(entries)
    figures = {**compare(ordered), "request": record}
    text = tables.comparison(figures)
    for warning in figures["warnings"]:
        say(f"Warning: {warning}")
    if out is not None:
        files.write_json(out / COMPARISON, figures)
        write_comparison(figures, [entry.pictures for entry in ordered], out / "comparison.html")
        text += f"\nReport: {out / 'comparison.html'}"
    result(text, figures, as_json)
