"""Metrics during training: a figure for gan.training.metrics_budget, which decides when, and of how many images."""

from collections.abc import Sequence
from pathlib import Path

import torch

from eval.data.image_sources import SnapshotSource
from eval.data.reference import open_reference
from eval.evaluate import evaluate
from eval.evaluator import Evaluator
from eval.features.extractor import Extractor
from eval.metric_registry import OF_FEATURES
from gan.errors import RequestError
from gan.runtime import distributed
from gan.training.metrics_budget import BudgetedMetrics, Metric

# Counts that are used, so that the curve has few keys: the largest that the budget allows.
COUNTS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
SMALLEST = 500


def hook(
    data: Path,
    metrics: str,
    percent: float,
    *,
    out: Path,
    device: torch.device,
    weights: Sequence[str] = (),
    manifest: Path | None = None,
) -> BudgetedMetrics:
    """What `salon train --metrics fid,kid --metrics-budget PERCENT --metrics-weights NAME=PATH` gives to the trainer.

    Raises RequestError for what cannot be measured.
    """
    names = metrics.split(",")
    if wrong := [name for name in names if name not in OF_FEATURES]:
        raise RequestError(f"--metrics must be none, or some of {','.join(OF_FEATURES)}; got {wrong[0]} instead")
    try:
        judge = Evaluator(data, device, metrics=names, files=weights, manifest=manifest)
    except RequestError as error:  # which speaks to who ran salon eval
        raise RequestError(str(error).replace("--weights", "--metrics-weights")) from error
    judge.tell_network()
    (extractor,) = judge.extractors
    measure = metric(data, names, extractor, out=out, manifest=manifest, device=device)
    return BudgetedMetrics(measure, percent, smallest=SMALLEST)


def metric(
    data: Path,
    metrics: Sequence[str],
    extractor: Extractor,
    *,
    out: Path,
    manifest: Path | None = None,
    seed: int = 0,
    batch_size: int = 16,
    device: torch.device | None = None,
) -> Metric:
    """Judge snapshots by a dataset: (snapshot, number of images) -> values and standard errors by key.

    Each snapshot gets a folder in `out` with its results and report; all are judged by the same latents. The dataset is
    read now, so that a fault in the request is found before training. Measure in the main process alone, as training
    calls its hooks. Raises RequestError for metrics that are not of features.
    """
    if wrong := [name for name in metrics if name not in OF_FEATURES]:
        raise RequestError(f"metrics during training must be of features alone; got {', '.join(wrong)}")
    real, _ = open_reference(data, manifest)

    def measure(snapshot: Path, count: int) -> dict[str, float]:
        n = max((usable for usable in COUNTS if usable <= count), default=count)
        # Training goes on as if nothing had happened: its other processes wait, its random numbers stay.
        with distributed.alone(), torch.random.fork_rng():
            source = SnapshotSource(
                snapshot, n, seed=seed, class_shares=real.class_shares(), device=device, batch_size=batch_size
            )
            found = evaluate(
                source, real, metrics=metrics, extractors=[extractor], out=out / snapshot.stem, batch_size=batch_size
            )
        assert found is not None
        figures = {}
        for result in found.results:
            figures[str(result.identity)] = result.estimate.value
            figures[f"{result.identity}/se"] = result.estimate.se
        return figures

    return measure
