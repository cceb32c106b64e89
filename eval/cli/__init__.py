"""The commands eval run, compare, ema and reference. Heavy imports wait until a command runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eval.cli.options import Numbers, evaluation_options, extractor_options
from eval.request import ComparisonRequest, EvaluationRequest, FeatureRequest, RejectionOptions, WidthsRequest
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
    salon eval reference paintings64.zip
    """


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
@takes(ComparisonRequest, name="comparison")
@click.argument("evaluated", nargs=-1, type=PATH, metavar="RESULTS|RUN|SNAPSHOT...")
@click.option(
    "--group",
    "groups",
    metavar="NAME=PATH,...",
    multiple=True,
    help="Group of trainings by its name: results, runs (of which the newest snapshot counts) or snapshots, with "
    "commas between; repeat. Means of the groups are compared.",
)
@click.option("--data", metavar="DATASET", type=PATH, help="Dataset to evaluate snapshots against.")
@click.option(
    "--out", metavar="DIR", type=PATH, help="Folder of comparison.json, comparison.html, and what is evaluated now."
)
@evaluation_options
def compare(
    manifest: Path | None, device: str, as_json: bool, request: EvaluationRequest, comparison: ComparisonRequest
) -> None:
    """Compare evaluations: a curve over training, differences with their intervals, and the best.

    RESULTS is a folder of eval run or its results.json. Snapshots, and all snapshots of a RUN, are evaluated first,
    with the same latents; that needs --data and --out. Groups, such as two recipes with three seeds each, are compared
    by their means, with the chance of training and that of images.

    \b
    salon eval compare evaluation-a evaluation-b
    salon eval compare --group old=a1,a2,a3 --group new=b1,b2,b3 --out comparison
    salon eval compare runs/paintings64-tiny-1a2b3c4d --data paintings64.zip --num-images 1000 --out comparison
    """
    from eval.compare import COMPARISON, Entry, find, read_entry
    from eval.compare_groups import find_groups
    from eval.evaluator import Evaluator, open_data, require_folder, require_same
    from gan.device.selection import select
    from gan.runtime import distributed, files

    groups = find_groups(comparison.members)
    entries, snapshots = find(comparison.evaluated)
    waiting = [*snapshots, *(member for group in groups.values() for member in group if isinstance(member, Path))]
    data, out = comparison.data, comparison.out
    if waiting and (data is None or out is None):
        raise RequestError("eval compare needs --data and --out to evaluate snapshots")
    if not groups and len(entries) + len(snapshots) < 2:
        raise RequestError(f"eval compare needs 2 or more to compare; got {len(entries) + len(snapshots)}")
    record = {"compared": " ".join([*map(str, comparison.evaluated), *comparison.groups])}
    if out is not None:
        require_folder(out)
        require_same(out / COMPARISON, record, request.overwrite)
    target = select(device)
    evaluated: dict[Path, Entry] = {}
    with distributed.joined(target):
        if data is not None and out is not None and waiting:
            evaluator = Evaluator(open_data(data, manifest), request, target)
            for path in waiting:
                folder = out / f"{path.stem}-{files.sha256(path)[:8]}"
                if evaluator(path, folder) is not None:
                    evaluated[path] = read_entry(folder)
    if not distributed.is_main():
        return
    if groups:
        of = {
            name: [evaluated[member] if isinstance(member, Path) else member for member in group]
            for name, group in groups.items()
        }
        _tell_groups(of, record, out, as_json)
    else:
        _tell_comparison([*entries, *evaluated.values()], record, out, as_json)


@evaluate.command()
@takes(EvaluationRequest)
@takes(WidthsRequest, name="search")
@click.option("--run", metavar="RUN", type=PATH, help="Run that was trained with --post-hoc-ema.")
@click.option("--data", metavar="DATASET", type=PATH, help="Dataset to evaluate against.")
@click.option(
    "--out",
    metavar="DIR",
    type=PATH,
    help="Folder of comparison.json, comparison.html, and of each width's snapshot and evaluation.",
)
@click.option(
    "--widths",
    metavar="SHARES",
    type=Numbers(),
    show_default="0.04,0.05,0.07,0.1,0.13,0.15",
    help="Widths to try, with commas between: standard deviations of the average's weights over time, as shares of the "
    "training.",
)
@evaluation_options
def ema(manifest: Path | None, device: str, as_json: bool, request: EvaluationRequest, search: WidthsRequest) -> None:
    """Find the best width of a run's averaged generator: each is reconstructed, and evaluated by the same latents.

    G_ema as it was trained takes part.

    \b
    salon eval ema --run runs/paintings64-tiny-1a2b3c4d --data paintings64.zip --num-images 2000 --out widths
    """
    from eval.compare import COMPARISON
    from eval.ema_widths import evaluate_widths
    from eval.evaluator import Evaluator, open_data, require_folder, require_same
    from gan.device.selection import select
    from gan.runtime import distributed
    from gan.training.reconstruct import open_stored

    require_folder(search.out)
    stored = open_stored(search.run)
    widths = ",".join(f"{width:g}" for width in search.widths)
    record = {"run": str(search.run), "cur_nimg": stored.cur_nimg, "widths": widths}
    require_same(search.out / COMPARISON, record, request.overwrite)
    target = select(device)
    with distributed.joined(target):
        evaluator = Evaluator(open_data(search.data, manifest), request, target)
        entries = evaluate_widths(stored, search.widths, evaluator, search.out)
    if distributed.is_main():
        over = ("width of the average", [entry.width for entry in entries])
        _tell_comparison(entries, record, search.out, as_json, over)


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
    from eval.data.image_sources import DatasetSource
    from eval.data.reference import open_references
    from eval.evaluator import open_extractors, tell_default
    from gan.data.collection import Collection
    from gan.device.selection import select
    from gan.runtime import distributed

    target = select(device)
    with distributed.joined(target):
        real = DatasetSource(Collection.open(data, manifest))
        extractors = open_extractors(request, real, target)
        if not request.extractors:
            tell_default(extractors[0].name)
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


def _tell_comparison(
    entries: "Sequence[Entry]",
    record: Mapping[str, Any],
    out: Path | None,
    as_json: bool,
    over: tuple[str, Sequence[float | None]] | None = None,
) -> None:
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
        write_comparison(figures, [entry.pictures for entry in ordered], out / "comparison.html", over)
        text += f"\nReport: {out / 'comparison.html'}"
    result(text, figures, as_json)


def _tell_groups(
    groups: "Mapping[str, Sequence[Entry]]", record: dict[str, str], out: Path | None, as_json: bool
) -> None:
    from eval.compare import COMPARISON
    from eval.compare_groups import compare_groups
    from eval.report import text as tables
    from eval.report.html import write_group_comparison
    from gan.runtime import files

    figures = {**compare_groups(groups), "request": record}
    text = tables.groups(figures)
    for warning in figures["warnings"]:
        say(f"Warning: {warning}")
    if out is not None:
        files.write_json(out / COMPARISON, figures)
        write_group_comparison(figures, out / "comparison.html")
        text += f"\nReport: {out / 'comparison.html'}"
    result(text, figures, as_json)
