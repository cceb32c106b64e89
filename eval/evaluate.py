"""Evaluate one set of images against a dataset: one pass over the images, then each metric, then the files of results.

OUT/results.json    every number with its identity, interval and provenance
    report.html     the same for people
    features/       what a killed evaluation goes on from
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval import accepted_samples, figures, generator_metrics
from eval.accepted_samples import AcceptedSource
from eval.data import feature_cache
from eval.data.feature_cache import FeatureShards, folder_name, one_pass
from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetSource, Source
from eval.data.reference import Reference, StatisticsSource, open_references
from eval.data.snapshot_source import SnapshotSource
from eval.data.thumbnails import Thumbnails
from eval.features.extractor import Extractor
from eval.generator_metrics import PathLength
from eval.metric_registry import METRICS, OF_PAIRS, FeatureSets, Result, require_possible
from eval.metrics.feature_stats import Features
from eval.metrics.precision_recall import Comparison
from eval.report.html import write_report
from eval.thresholds import Requirement
from gan.runtime import distributed
from gan.runtime.console import progress, say
from gan.runtime.files import write_json

FORMAT = "salon-evaluation-1"
RESULTS, REPORT = "results.json", "report.html"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Outcome of one evaluation. `figures` is results.json; the small images go into reports."""

    figures: dict[str, Any]
    results: list[Result]
    generated: Thumbnails
    real: Thumbnails | None  # None: there are statistics of real images alone


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


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """A source of which everything is extracted: small images, and features by each extractor."""

    source: Source  # without the images that could not be read
    positions: NDArray[np.int64] = field(repr=False)  # [N], of its images in the shards
    thumbnails: Thumbnails
    sets: list[FeatureShards]

    def features(self, number: int, name: str = "features") -> Features:
        """Features [N, dim], or logits, by extractor `number`."""
        return self.sets[number].read(self.positions, name)


def evaluate(
    source: Source,
    real: DatasetSource | StatisticsSource,
    *,
    networks: Sequence[tuple[Extractor, Sequence[str]]],
    out: Path,
    strata: Sequence[str | None] | None = None,
    paths: PathLength | None = None,
    requirements: Sequence[Requirement] = (),
    accepted: AcceptedSource | None = None,
    batch_size: int = 16,
    dims: int | None = None,
    notes: Sequence[str] = (),
    request: Mapping[str, Any] | None = None,
) -> Evaluation | None:
    """Evaluate `source` against `real` by each network's metrics, and write OUT/results.json and the report.

    eval.evaluator.Evaluator has checked that all of this fits. `strata` [M] names the stratum of each real image;
    `paths` is what ppl measures; `accepted`, as many images of the same generator that rejection left, are evaluated
    beside; `dims` is the number of the reference's principal components to use; `request` is kept with the results, and
    `notes` come before their warnings. Of several processes, all must call it, each does its share, and the main one
    alone gets the evaluation.
    """
    clock = Clock()
    extractors = [extractor for extractor, _ in networks]
    with clock.phase("reference"):
        references, real_thumbnails = open_references(real, extractors, batch_size=batch_size, dims=dims)
    with clock.phase("images and features"):
        generated, made = extract(source, extractors, out, batch_size, "Images and features")
        source = generated.source
        for extractor, metrics in networks:  # once more, without the images that could not be read
            require_possible(metrics, extractor, len(source), len(real) or None)
        beside = None
        if accepted:
            beside, more = extract(accepted, extractors, out, batch_size, "Accepted images")
            made += more
    results = []
    if paths is not None and isinstance(source, SnapshotSource):
        with clock.phase("ppl"):
            path_length = generator_metrics.path_lengths(source, paths, out, batch_size)
        results += [path_length] if path_length else []
    evaluation = None
    with distributed.main_first():
        if distributed.is_main():
            warnings = [*notes]
            asked = [metrics for _, metrics in networks]
            warnings += figures.warnings(asked, source, generated.thumbnails, real_thumbnails, references)
            for warning in warnings:
                say(f"Warning: {warning}")
            of_features, comparison = _measure(asked, references, generated, strata, clock)
            if isinstance(source, AcceptedSource):
                of_features = _named(of_features, source)
            results = [*of_features, *results]
            for hint in figures.hints(results, comparison, references[0], source, strata):
                warnings.append(hint)
                say(f"Warning: {hint}")
            rejection = None
            if accepted and beside:
                rejection = _with_rejection(asked, references, beside, accepted, of_features, clock)
            rows = []
            if strata is not None:
                with clock.phase("strata"):
                    rows = figures.strata_rows(
                        strata, references[0], references[0].project(generated.features(0)), source, comparison
                    )
            document = {
                "format": FORMAT,
                "request": request,
                "generator": figures.describe(source),
                "reference": {"path": real.name, "images": len(real), **real.identity},
                "results": [result.to_dict() for result in results],
                "rejection": rejection,
                "strata": rows,
                "images": figures.notable(comparison, references[0]),
                "requirements": [row for requirement in requirements for row in requirement.check(results)],
                "warnings": warnings,
                "images_made": made,
                "pictures": str(generated.thumbnails.folder.relative_to(out)),
                "seconds": clock.seconds,
                "versions": figures.versions(),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            write_json(out / RESULTS, document)
            with_rejection = beside.thumbnails if beside else None
            write_report(document, generated.thumbnails, real_thumbnails, out / REPORT, accepted=with_rejection)
            evaluation = Evaluation(
                figures=document, results=results, generated=generated.thumbnails, real=real_thumbnails
            )
    return evaluation


def extract(
    source: Source, extractors: Sequence[Extractor], out: Path, batch_size: int, description: str
) -> tuple[Extracted, int]:
    """Small images and features of a source by each extractor, in OUT/features, and how many were made for it now."""
    images = {"images": source.identity, "count": len(source)}
    sets = [
        FeatureShards(out / "features" / folder_name({**images, "extractor": e.identity}), e, logits=e.has_logits)
        for e in extractors
    ]
    thumbnails = Thumbnails(out / "features" / folder_name(images), feature_cache.SHARD)
    made = one_pass(source, [thumbnails, *sets], batch_size=batch_size, description=description)
    positions = np.arange(len(source))
    if isinstance(source, FilesSource) and len(damaged := sets[0].damaged(len(source))):
        source, positions = source.without(damaged.tolist()), np.delete(positions, damaged)
        thumbnails = Thumbnails(thumbnails.folder, feature_cache.SHARD, positions)
    return Extracted(source=source, positions=positions, thumbnails=thumbnails, sets=sets), made


def _measure(
    asked: Sequence[Sequence[str]],
    references: list[Reference],
    generated: Extracted,
    strata: Sequence[str | None] | None,
    clock: Clock,
) -> tuple[list[Result], Comparison | None]:
    # -> results, and the first extractor's comparison, where a metric needs one; `asked` are the metrics of each
    work = [(number, metric) for number, metrics in enumerate(asked) for metric in metrics if metric != "ppl"]
    sets = [
        FeatureSets(reference, generated.features(number), partial(generated.features, number, "logits"))
        for number, reference in enumerate(references)
    ]
    results: list[Result] = []
    for number, name in progress(work, "Metrics", len(work), "metric"):
        with clock.phase(name):
            if measure := METRICS[name].measure:
                results += measure(sets[number])
            else:
                assert isinstance(generated.source, SnapshotSource) and strata is not None
                reference, gen = references[number], sets[number].gen
                results.append(generator_metrics.separability(generated.source, reference, gen, strata))
    return results, sets[0].comparison if set(OF_PAIRS) & set(asked[0]) else None


def _named(results: Sequence[Result], accepted: AcceptedSource) -> list[Result]:
    # With the rejection in their keys.
    return [replace(r, identity=replace(r.identity, rejection=accepted.rejection)) for r in results]


def _with_rejection(
    asked: Sequence[Sequence[str]],
    references: list[Reference],
    beside: Extracted,
    accepted: AcceptedSource,
    all_samples: Sequence[Result],
    clock: Clock,
) -> dict[str, Any]:
    names = [[metric for metric in metrics if METRICS[metric].measure] for metrics in asked]
    measured, _ = _measure(names, references, beside, None, clock)
    results = _named(measured, accepted)
    ids = {result.id for result in results}
    return {
        "name": accepted.rejection,
        **accepted.figures,
        "generator": figures.describe(accepted),
        "results": [result.to_dict() for result in results],
        "rows": accepted_samples.side_by_side(results, [r for r in all_samples if r.id in ids]),
    }
