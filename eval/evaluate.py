"""Judge one set of images against a dataset: one pass over the images, then each metric, then the files of results.

OUT/results.json    every number with its identity, interval and provenance
    report.html     the same for people
    features/       what a killed evaluation goes on from
"""

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval import accepted_samples, generator_metrics, metric_registry
from eval.accepted_samples import AcceptedSource
from eval.data import feature_cache, reference
from eval.data.feature_cache import FeatureShards, Thumbnails, folder_name
from eval.data.image_sources import DatasetSource, SnapshotSource, Source
from eval.data.reference import Reference
from eval.features.extractor import Extractor
from eval.features.preprocess import differences
from eval.generator_metrics import PathLength
from eval.metric_registry import Result
from eval.metrics.confidence_intervals import linear_jackknife, wilson
from eval.metrics.precision_recall import Comparison
from eval.metrics.strata import strata_table
from eval.report.html import write_report
from eval.thresholds import Requirement
from gan import __version__
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.console import progress, say
from gan.runtime.files import write_json

FORMAT = "salon-evaluation-1"
RESULTS, REPORT = "results.json", "report.html"
IMAGES_A_DIMENSION = 10  # fewer make a Fréchet distance mostly bias
NOTABLE = 12  # images shown as best, worst, and closest to real ones


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one evaluation found. `figures` is results.json; the pictures go into reports."""

    figures: dict[str, Any]
    results: list[Result]
    generated: Thumbnails
    real: Thumbnails


@dataclass
class Clock:
    """Seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, which may come in several pieces."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 3)


def evaluate(
    source: Source,
    real: DatasetSource,
    *,
    metrics: Sequence[str],
    extractors: Sequence[Extractor],
    out: Path,
    strata: Sequence[str | None] | None = None,
    paths: PathLength | None = None,
    requirements: Sequence[Requirement] = (),
    accepted: AcceptedSource | None = None,
    batch_size: int = 16,
    request: Mapping[str, Any] | None = None,
) -> Evaluation | None:
    """Judge `source` by `real` with every metric and extractor, and write OUT/results.json and the report.

    `strata` [M] names the stratum of each real image; `paths` is what ppl measures; `accepted`, as many images of the
    same generator that rejection left, are judged beside; `request` is kept with the results. Of several processes, all
    must call it, each does its share, and the main one alone gets the evaluation. Raises RequestError when the request
    does not fit the images.
    """
    metrics = list(metrics)
    _require_fitting(metrics, extractors, source, real, strata, paths)
    clock = Clock()
    with clock.phase("reference"):
        references, real_pictures = reference.pass_over(real, extractors, batch_size=batch_size)
    pictures, sets = _takers(source, extractors, out)
    with clock.phase("images and features"):
        made = feature_cache.one_pass(source, [pictures, *sets], batch_size=batch_size, what="Images and features")
        beside = None if accepted is None else _takers(accepted, extractors, out)
        if accepted and beside:
            made += feature_cache.one_pass(
                accepted, [beside[0], *beside[1]], batch_size=batch_size, what="Accepted images"
            )
    results = []
    if paths is not None and isinstance(source, SnapshotSource):
        with clock.phase("ppl"):
            found = generator_metrics.path_lengths(source, paths, out, batch_size)
        results += [found] if found else []
    evaluation = None
    with distributed.main_first():
        if distributed.is_main():
            warnings = _warnings(metrics, source, pictures, real_pictures, references)
            for warning in warnings:
                say(f"Warning: {warning}")
            of_features, comparison = _measure(metrics, references, sets, source, strata, clock)
            results = [*of_features, *results]
            chosen = None
            if accepted and beside:
                chosen = _with_rejection(metrics, references, beside[1], accepted, of_features, clock)
            figures = {
                "format": FORMAT,
                "request": request,
                "generator": _describe(source),
                "reference": {"path": real.name, "images": len(real), **real.identity},
                "results": [result.to_dict() for result in results],
                "rejection": chosen,
                "strata": _strata(strata, references[0], sets[0], source, comparison, clock),
                "images": _notable(comparison, references[0]),
                "requirements": [row for requirement in requirements for row in requirement.check(results)],
                "warnings": warnings,
                "images_made": made,
                "pictures": str(pictures.folder.relative_to(out)),
                "seconds": clock.seconds,
                "versions": _versions(),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            write_json(out / RESULTS, figures)
            write_report(figures, pictures, real_pictures, out / REPORT, accepted=beside and beside[0])
            evaluation = Evaluation(figures=figures, results=results, generated=pictures, real=real_pictures)
    return evaluation


def _takers(source: Source, extractors: Sequence[Extractor], out: Path) -> tuple[Thumbnails, list[FeatureShards]]:
    images = {"images": source.identity, "count": len(source)}
    sets = [FeatureShards(out / "features" / folder_name({**images, "extractor": e.identity}), e) for e in extractors]
    return Thumbnails(out / "features" / folder_name(images)), sets


def _with_rejection(
    metrics: list[str],
    references: list[Reference],
    sets: list[FeatureShards],
    accepted: AcceptedSource,
    all_samples: Sequence[Result],
    clock: Clock,
) -> dict[str, Any]:
    names = [metric for metric in metrics if metric in metric_registry.OF_FEATURES]
    found, _ = _measure(names, references, sets, accepted, None, clock)
    results = [replace(r, identity=replace(r.identity, rejection=accepted.rejection)) for r in found]
    ids = {result.id for result in results}
    return {
        "name": accepted.rejection,
        **accepted.figures,
        "generator": _describe(accepted),
        "results": [result.to_dict() for result in results],
        "rows": accepted_samples.side_by_side(results, [r for r in all_samples if r.id in ids]),
    }


def _require_fitting(
    metrics: list[str],
    extractors: Sequence[Extractor],
    source: Source,
    real: DatasetSource,
    strata: Sequence[str | None] | None,
    paths: PathLength | None,
) -> None:
    metric_registry.require_known(metrics)
    for extractor in extractors:
        metric_registry.require_possible(metrics, extractor, len(source), len(real))
    for metric in metric_registry.OF_GENERATORS:
        if metric in metrics and not isinstance(source, SnapshotSource):
            raise RequestError(f"--metrics {metric} needs a snapshot, whose latents are known; got {source.name}")
    if "ls" in metrics and strata is None:
        raise RequestError("--metrics ls needs --strata, the attributes that are to be separable")
    if ("ppl" in metrics) != (paths is not None):
        raise RequestError("--metrics ppl needs the weights of LPIPS")


def _measure(
    metrics: list[str],
    references: list[Reference],
    sets: list[FeatureShards],
    source: Source,
    strata: Sequence[str | None] | None,
    clock: Clock,
) -> tuple[list[Result], Comparison | None]:
    # -> results, and the first extractor's comparison
    every = range(feature_cache.shard_count(len(source)))
    work = [(r, s, m) for r, s in zip(references, sets, strict=True) for m in metrics if m != "ppl"]
    comparisons: dict[str, Comparison] = {}
    results: list[Result] = []
    for own, features, metric in progress(work, "Metrics", len(work), "metric"):
        key = own.extractor.key
        with clock.phase(metric):
            gen = features.read(every)
            if metric == "ls":
                assert isinstance(source, SnapshotSource) and strata is not None
                results.append(generator_metrics.separability(source, own, gen, strata))
                continue
            if metric in ("pr", "dc") and key not in comparisons:
                comparisons[key] = metric_registry.compare_sets(own, gen)
            logits = features.read(every, "logits") if metric == "is" else None
            results += metric_registry.measure(metric, own, gen, logits, comparisons.get(key))
    return results, comparisons.get(references[0].extractor.key)


def _strata(
    strata: Sequence[str | None] | None,
    own: Reference,
    features: FeatureShards,
    source: Source,
    comparison: Comparison | None,
    clock: Clock,
) -> list[dict[str, Any]]:
    # A row for each stratum. Generated images belong to the one they are labelled with; without labels, to none.
    if strata is None:
        return []
    with clock.phase("strata"):
        gen = features.read(range(feature_cache.shard_count(len(source))))
        labels = [source.label(index) for index in range(len(source))]
        known = np.array([index for index, name in enumerate(strata) if name is not None], np.int64)
        labelled = set(labels) & set(strata) - {None}
        table = strata_table(
            own.features.subset(known),
            [str(strata[index]) for index in known],
            gen,
            [str(label) for label in labels] if labelled else None,
        )
        rows = []
        for row in table:
            members = [index for index in known if strata[index] == row.name]
            covers = {} if comparison is None else {"coverage": comparison.coverage, "recall": comparison.recalled}
            shares = {name: _share(cover.counts[members] > 0) for name, cover in covers.items()}
            rows.append({**asdict(row), "labelled": bool(labelled), "coverage": None, "recall": None, **shares})
        return rows


def _share(hit: NDArray[np.bool_]) -> dict[str, Any]:
    # With replicates over the real images [m], so that two evaluations of one stratum can be compared in pairs.
    estimate = wilson(int(hit.sum()), len(hit))
    replicates = linear_jackknife(estimate.value, hit.astype(np.float64), metric_registry.BLOCKS)
    return {**asdict(estimate), "replicates": replicates.to_dict()}


def _notable(comparison: Comparison | None, own: Reference) -> dict[str, Any]:
    # Indices of the most and the least real images, and of those that are closest to a real one: copies, perhaps.
    if comparison is None:
        return {"best": [], "worst": [], "closest": []}
    order = np.argsort(-comparison.realism, kind="stable")
    # As a share of how far the real image's own next neighbour is.
    usual = own.neighbours.distances[comparison.nearest, 0]
    ratio = comparison.nearest_distance / np.maximum(usual, np.finfo(float).tiny)
    realism = [None if np.isinf(value) else float(value) for value in comparison.realism]  # None: a copy
    return {
        "best": [{"index": int(index), "realism": realism[index]} for index in order[:NOTABLE]],
        "worst": [{"index": int(index), "realism": realism[index]} for index in order[::-1][:NOTABLE]],
        "closest": [
            {"index": int(index), "real": int(comparison.nearest[index]), "ratio": float(ratio[index])}
            for index in np.argsort(ratio, kind="stable")[:NOTABLE]
        ],
        "closer_than_real": int((ratio < 1).sum()),
    }


def _warnings(
    metrics: list[str], source: Source, pictures: Thumbnails, real: Thumbnails, references: list[Reference]
) -> list[str]:
    found = differences(pictures.traits(len(source)), real.traits(len(references[0])))
    for own in references:
        dim, n = own.extractor.dim, min(len(source), len(own))
        if "fid" in metrics and n < IMAGES_A_DIMENSION * dim:
            name = metric_registry.NAMES[metric_registry.result_ids("fid", own.extractor.is_inception)[0]]
            found.append(
                f"{name} by {own.extractor.name} has {dim} dimensions and wants {IMAGES_A_DIMENSION * dim:,} images on "
                f"either side; got {n:,}: read it beside its noise floor, or read the kernel distance"
            )
    return found


def _describe(source: Source) -> dict[str, Any]:
    described = {"name": source.name, "images": len(source), **source.identity}
    if isinstance(source, SnapshotSource):
        described |= {"cur_nimg": source.snapshot.cur_nimg, "seed": source.seed}
    return described


def _versions() -> dict[str, str]:
    return {
        "salon": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
