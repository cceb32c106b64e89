"""Which psi, which budget: one generator evaluated at several truncations, and with rejection, on the same latents.

OUT/sweep.json, sweep.html      figures, and the page
    psi-0.7/, psi-0.7-budget-2/ the evaluation of each setting (see eval.evaluate)
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.accepted_samples import accept
from eval.compare import Entry, compare, difference, read_entry
from eval.data.image_sources import DatasetSource, Source
from eval.data.snapshot_source import SnapshotSource
from eval.evaluator import Evaluator, require_same
from eval.figures import describe
from eval.metric_registry import of_features
from eval.report.html import write_sweep
from eval.request import SweepRequest
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.console import say
from gan.runtime.files import write_json

SWEEP, PAGE = "sweep.json", "sweep.html"
BESIDES = ("authenticity",)  # novelty belongs to the question, where no metric is named
QUALITY, VARIETY = "precision", "recall"  # what the Pareto front weighs; more is better


def sweep(evaluator: Evaluator, snapshot: Path, request: SweepRequest, out: Path) -> dict[str, Any] | None:
    """Evaluate a snapshot at each psi and budget of `request`, and write the files -> the figures of sweep.json.

    Image i is of seed i at each psi. A budget above 1 is evaluated by images that OBRS accepts, one of so many. Of
    several processes all must call it, and the main one gets the figures. Raises RequestError for what cannot be done.
    """
    asked = {metric for own in evaluator.metrics.values() for metric in own}
    if wrong := sorted(asked - set(of_features())):
        raise RequestError(f"`metrics` of a sweep must be some of {','.join(of_features())}; got {wrong[0]} instead")
    real, settings = evaluator.real, [(psi, budget) for psi in request.psi for budget in request.budget]
    if max(request.budget) > 1 and not isinstance(real, DatasetSource):
        raise RequestError("`budget` above 1 needs a dataset of images, on which the discriminator is calibrated")
    if len(settings) < 2:
        raise RequestError(f"`psi` and `budget` must make 2 settings or more; got {len(settings)}")
    source = _open(evaluator, snapshot, request.psi[0])
    record = {**evaluator.record(source), "psi": list(request.psi), "budget": list(request.budget)}
    record.pop("generator's truncation_psi")
    require_same(out / SWEEP, record, evaluator.request.overwrite)
    names = [f"psi-{psi:g}" + (f"-budget-{budget}" if budget > 1 else "") for psi, budget in settings]
    for number, ((psi, budget), name) in enumerate(zip(settings, names, strict=True), 1):
        say(f"{_label(psi, budget)}: {number} of {len(settings)}")
        if source.truncation_psi != psi:
            source = _open(evaluator, snapshot, psi)
        chosen: Source = source
        if budget > 1:
            assert isinstance(real, DatasetSource)
            chosen = accept(source, real, {"reject": "obrs", "budget": budget}, out / name)
        evaluator.evaluate(chosen, out / name)
    if not distributed.is_main():
        return None
    entries = [read_entry(out / name) for name in names]
    generator = {name: value for name, value in describe(source).items() if name != "truncation_psi"}
    images = {"generator": generator, "reference": {"path": real.name, "images": len(real), **real.identity}}
    figures = {**weigh(entries, settings), **images, "request": record}
    write_json(out / SWEEP, figures)
    write_sweep(figures, [entry.pictures for entry in entries], out / PAGE)
    return figures


def weigh(entries: Sequence[Entry], settings: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """Figures of a sweep from the evaluation of each (psi, budget): differences, the Pareto front, a recommendation.

    Two settings are weighed by their paired difference, whatever their rejection. Raises RequestError as
    eval.compare.compare does.
    """
    entries = [_comparable(entry, psi, budget) for entry, (psi, budget) in zip(entries, settings, strict=True)]
    compared = compare(entries)
    rows = [
        {"psi": psi, "budget": budget, **entry}
        for (psi, budget), entry in zip(settings, compared["entries"], strict=True)
    ]
    front = [place for place in range(len(entries)) if not any(_dominates(e, entries[place]) for e in entries)]
    plane = {QUALITY, VARIETY} <= set(entries[0].results)
    return {**compared, "format": "salon-sweep-1", "entries": rows, "front": front if plane else []}


def _open(evaluator: Evaluator, snapshot: Path, psi: float) -> SnapshotSource:
    source = evaluator.open(snapshot, truncation_psi=psi)
    if not isinstance(source, SnapshotSource):
        raise RequestError(f"`snapshot` must be a snapshot, a run or a folder of runs; got {snapshot} instead")
    return source


def _label(psi: float, budget: int) -> str:
    return f"psi {psi:g}" + (f" with budget {budget}" if budget > 1 else "")


def _comparable(entry: Entry, psi: float, budget: int) -> Entry:
    # Its results without the name of the rejection, which is what is swept, and its bank of latents as the others'.
    results = {id: replace(r, identity=replace(r.identity, rejection=None)) for id, r in entry.results.items()}
    return replace(entry, label=_label(psi, budget), kimg=None, z_bank="of the sweep", results=results)


def _dominates(a: Entry, b: Entry) -> bool:
    # Whether a is better than b in quality and variety, one of them by more than chance.
    if a is b or not {QUALITY, VARIETY} <= set(a.results):
        return False
    apart = [difference(a.results[id], b.results[id], paired=True) for id in (QUALITY, VARIETY)]
    return all(each.value >= 0 for each in apart) and any(each.low > 0 for each in apart)
