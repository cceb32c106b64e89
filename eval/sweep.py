"""Which psi, which budget: one generator evaluated at several truncations, and with rejection, on the same latents.

OUT/sweep.json, sweep.html      figures, and the page
    psi-0.7/, psi-0.7-budget-2/ the evaluation of each setting (see eval.evaluate)
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.accepted_samples import accept
from eval.compare import Entry, compare, difference, read_entry
from eval.data.image_sources import DatasetSource
from eval.data.snapshot_source import DEFAULT_COUNT, SnapshotSource
from eval.evaluator import Evaluator, require_same
from eval.metric_registry import HIGHER_IS_BETTER, OF_FEATURES
from eval.report.html import write_sweep
from eval.request import SweepRequest
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.console import say
from gan.runtime.files import write_json

SWEEP, PAGE = "sweep.json", "sweep.html"
QUALITY, VARIETY = "precision", "recall"  # what the Pareto front weighs


def sweep(evaluator: Evaluator, snapshot: Path, request: SweepRequest, out: Path) -> dict[str, Any] | None:
    """Evaluate a snapshot at each psi and budget of `request`, and write the files -> the figures of sweep.json.

    Image i is of seed i at each psi. A budget above 1 is evaluated by images that OBRS accepts, one of so many. Of
    several processes all must call it, and the main one gets the figures. Raises RequestError for what cannot be done.
    """
    if not evaluator.request.metrics:  # novelty belongs to the question
        headline = next(iter(evaluator.metrics))
        evaluator.metrics[headline] = (*evaluator.metrics[headline], "authenticity")
    asked = {metric for own in evaluator.metrics.values() for metric in own}
    if wrong := sorted(asked - set(OF_FEATURES)):
        raise RequestError(f"`metrics` of a sweep must be some of {','.join(OF_FEATURES)}; got {wrong[0]} instead")
    if max(request.budget) > 1 and not isinstance(evaluator.real, DatasetSource):
        raise RequestError("`budget` above 1 needs a dataset of images, on which the discriminator is calibrated")
    settings = [(psi, budget) for psi in request.psi for budget in request.budget]
    first = _source(evaluator, snapshot, request.psi[0])
    names = [f"psi-{psi:g}" + (f"-budget-{budget}" if budget > 1 else "") for psi, budget in settings]
    record = {**evaluator.record(first), "psi": list(request.psi), "budget": list(request.budget)}
    record.pop("generator's truncation_psi")
    require_same(out / SWEEP, record, evaluator.request.overwrite)
    for number, ((psi, budget), name) in enumerate(zip(settings, names, strict=True), 1):
        say(f"{_label(psi, budget)}: {number} of {len(settings)}")
        source = _source(evaluator, snapshot, psi)
        if budget == 1:
            evaluator.evaluate(source, out / name)
        else:
            assert isinstance(evaluator.real, DatasetSource)
            options = {"reject": "obrs", "budget": budget}
            evaluator.evaluate(accept(source, evaluator.real, options, out / name), out / name)
    if not distributed.is_main():
        return None
    entries = [read_entry(out / name) for name in names]
    figures = {**weigh(entries, settings), "request": record}
    write_json(out / SWEEP, figures)
    write_sweep(figures, [entry.pictures for entry in entries], out / PAGE)
    return figures


def weigh(entries: Sequence[Entry], settings: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """Figures of a sweep from the evaluation of each (psi, budget): differences, the Pareto front, a recommendation.

    Two settings are weighed by their paired difference, whatever their rejection. Raises RequestError for fewer than 2.
    """
    entries = [_comparable(entry, psi, budget) for entry, (psi, budget) in zip(entries, settings, strict=True)]
    if len(entries) < 2:
        raise RequestError(f"`psi` and `budget` must make 2 settings or more; got {len(entries)}")
    compared = compare(entries)
    rows = [
        {"psi": psi, "budget": budget, **entry}
        for (psi, budget), entry in zip(settings, compared["entries"], strict=True)
    ]
    front = [place for place in range(len(entries)) if not any(_dominates(e, entries[place]) for e in entries)]
    plane = {QUALITY, VARIETY} <= set(entries[0].results)
    return {**compared, "format": "salon-sweep-1", "entries": rows, "front": front if plane else []}


def _source(evaluator: Evaluator, snapshot: Path, psi: float) -> SnapshotSource:
    request = evaluator.request
    source = SnapshotSource(
        snapshot,
        request.num_images or DEFAULT_COUNT,
        seed=request.seed,
        truncation_psi=psi,
        class_shares=evaluator.real.class_shares(),
        device=evaluator.device,
        batch_size=request.batch_size,
    )
    if request.cuda_graphs:
        source.use_graphs()
    return source


def _label(psi: float, budget: int) -> str:
    return f"psi {psi:g}" + (f", budget {budget}" if budget > 1 else "")


def _comparable(entry: Entry, psi: float, budget: int) -> Entry:
    # Its results without the name of the rejection, which is what is swept, and its bank of latents as the others'.
    results = {id: replace(r, identity=replace(r.identity, rejection=None)) for id, r in entry.results.items()}
    return replace(entry, label=_label(psi, budget), kimg=None, z_bank="of the sweep", results=results)


def _dominates(a: Entry, b: Entry) -> bool:
    # Whether a is better than b in quality and variety, one of them by more than chance.
    if a is b or not {QUALITY, VARIETY} <= set(a.results):
        return False
    apart = list(_better_by(a, b))
    return all(each.value >= 0 for each in apart) and any(each.low > 0 for each in apart)


def _better_by(a: Entry, b: Entry) -> Iterator[Any]:
    for id in (QUALITY, VARIETY):
        assert id in HIGHER_IS_BETTER
        yield difference(a.results[id], b.results[id], paired=True)
