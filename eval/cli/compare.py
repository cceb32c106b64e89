"""The commands eval compare and eval ema, which compare evaluations. Heavy imports wait until a command runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eval.cli.options import Numbers, evaluation_options
from eval.request import ComparisonRequest, EvaluationRequest, WidthsRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH
from gan.errors import RequestError
from gan.runtime.console import result, say

if TYPE_CHECKING:
    from eval.compare import Entry


@click.command(cls=Command)
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


@click.command(cls=Command)
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
    type=Numbers(float),
    show_default=False,
    help="Widths to try, with commas between: standard deviations of the average's weights over time, as shares of the "
    "training. Default: 0.04,0.05,0.07,0.1,0.13,0.15.",
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


def _tell_comparison(
    entries: "Sequence[Entry]",
    record: Mapping[str, Any],
    out: Path | None,
    as_json: bool,
    over: tuple[str, Sequence[float | None]] | None = None,
) -> None:
    from eval.compare import compare, in_order
    from eval.report import text
    from eval.report.html import write_comparison

    ordered = in_order(entries)
    figures = {**compare(ordered), "request": record}
    write = partial(write_comparison, figures, [entry.pictures for entry in ordered], over=over)
    _tell(figures, text.comparison(figures), write, out, as_json)


def _tell_groups(
    groups: "Mapping[str, Sequence[Entry]]", record: Mapping[str, Any], out: Path | None, as_json: bool
) -> None:
    from eval.compare_groups import compare_groups
    from eval.report import text
    from eval.report.html import write_group_comparison

    figures = {**compare_groups(groups), "request": record}
    _tell(figures, text.groups(figures), partial(write_group_comparison, figures), out, as_json)


def _tell(figures: dict[str, Any], text: str, write: Callable[[Path], None], out: Path | None, as_json: bool) -> None:
    from eval.compare import COMPARISON
    from gan.runtime import files

    for warning in figures["warnings"]:
        say(f"Warning: {warning}")
    if out is not None:
        files.write_json(out / COMPARISON, figures)
        write(out / "comparison.html")
        text += f"\nReport: {out / 'comparison.html'}"
    result(text, figures, as_json)
