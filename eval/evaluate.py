"""Judge one set of images against a dataset: one pass over the images, then each metric, then the files of results.

OUT/results.json    every number with its identity, interval and provenance
    report.html     the same for people
    features/       what a killed evaluation goes on from
"""

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval import measures, reference, shards
from eval.features import Extractor
from eval.identity import digest
from eval.measures import Result
from eval.precision_recall import Comparison
from eval.preprocess import differences
from eval.reference import Reference
from eval.shards import FeatureShards, Pictures
from eval.sources import DatasetSource, SnapshotSource, Source
from gan import __version__, distributed
from gan.console import progress, say
from gan.files import write_json

FORMAT = "salon-evaluation-1"
RESULTS, REPORT = "results.json", "report.html"
IMAGES_A_DIMENSION = 10  # fewer make a Fréchet distance mostly bias


@dataclass(kw_only=True)
class Evaluation:
    """Everything that one evaluation found. `figures` is results.json; the rest is for the report."""

    figures: dict[str, Any]
    results: list[Result]
    comparison: Comparison | None = field(repr=False)
    generated: Pictures
    real: Pictures


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
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


def evaluate(
    source: Source,
    real: DatasetSource,
    *,
    metrics: Sequence[str],
    extractors: Sequence[Extractor],
    out: Path,
    strata: Sequence[str | None] | None = None,
    batch_size: int = 16,
) -> Evaluation | None:
    """Judge `source` by `real` with every metric and extractor, and write OUT/results.json.

    `strata` [M] names the stratum of each real image. Of several processes, all must call it, each does its share, and
    the main one alone gets the evaluation. Raises RequestError when the request does not fit the images.
    """
    metrics = list(metrics)
    measures.require_known(metrics)
    for extractor in extractors:
        measures.require_possible(metrics, extractor, len(source), len(real))
    clock = Clock()
    with clock.phase("reference"):
        references, real_pictures = reference.pass_over(real, extractors, batch_size=batch_size)
    with clock.phase("images and features"):
        sets, pictures, made = _generate(source, extractors, out, batch_size)
    evaluation = None
    with distributed.main_first():
        if distributed.is_main():
            warnings = _warnings(metrics, source, pictures, real_pictures, references)
            for warning in warnings:
                say(f"Warning: {warning}")
            results, comparison = _measure(metrics, references, sets, len(source), clock)
            figures = {
                "format": FORMAT,
                "generator": _describe(source),
                "reference": {"path": real.name, "images": len(real), **real.identity},
                "results": [result.to_dict() for result in results],
                "warnings": warnings,
                "images_made": made,
                "seconds": {name: round(seconds, 3) for name, seconds in clock.seconds.items()},
                "versions": _versions(),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            write_json(out / RESULTS, figures)
            evaluation = Evaluation(
                figures=figures, results=results, comparison=comparison, generated=pictures, real=real_pictures
            )
    return evaluation


def _generate(
    source: Source, extractors: Sequence[Extractor], out: Path, batch_size: int
) -> tuple[list[FeatureShards], Pictures, int]:
    images = {"images": source.identity, "count": len(source)}
    folder = out / "features"
    sets = [FeatureShards(folder / digest({**images, "extractor": e.identity}), e) for e in extractors]
    pictures = Pictures(folder / digest(images))
    made = shards.one_pass(source, [pictures, *sets], batch_size=batch_size, what="Images and features")
    return sets, pictures, made


def _measure(
    metrics: list[str], references: list[Reference], sets: list[FeatureShards], count: int, clock: Clock
) -> tuple[list[Result], Comparison | None]:
    # -> results, and the first extractor's comparison
    every = range(shards.shard_count(count))
    work = [(r, s, m) for r, s in zip(references, sets, strict=True) for m in metrics if m in measures.OF_FEATURES]
    comparisons: dict[int, Comparison] = {}
    results: list[Result] = []
    for own, features, metric in progress(work, "Metrics", len(work), "metric"):
        with clock.phase(metric):
            gen = features.read(every)
            if metric in ("pr", "dc") and id(own) not in comparisons:
                comparisons[id(own)] = measures.compare_sets(own, gen)
            logits = features.read(every, "logits") if metric == "is" else None
            results += measures.measure(metric, own, gen, logits, comparisons.get(id(own)))
    return results, comparisons.get(id(references[0]))


def _warnings(
    metrics: list[str], source: Source, pictures: Pictures, real: Pictures, references: list[Reference]
) -> list[str]:
    found = differences(pictures.traits(len(source)), real.traits(len(references[0])))
    for own in references:
        dim, n = own.extractor.dim, min(len(source), len(own))
        if "fid" in metrics and n < IMAGES_A_DIMENSION * dim:
            found.append(
                f"{measures.NAMES[measures.result_ids('fid', own.extractor.is_inception)[0]]} of {own.extractor.name} "
                f"has {dim} dimensions and wants {IMAGES_A_DIMENSION * dim:,} images on either side; got {n:,}: "
                "compare it with the noise floor, or trust the kernel distance"
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
