"""Metrics during training: a figure for gan.training.metrics_budget, which decides when, and of how many images."""

from collections.abc import Sequence
from pathlib import Path

import torch

from eval.evaluator import Evaluator
from eval.metric_registry import METRICS, of_features
from eval.request import EvaluationRequest
from gan.data.collection import Collection
from gan.errors import RequestError
from gan.runtime import distributed, plugins
from gan.training.metrics_budget import BudgetedMetrics, Metric

# Numbers of images that are used, so that the curve has few keys: the largest that the budget allows.
COUNTS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
SMALLEST = 500


def hook(
    collection: Collection,
    metrics: str,
    percent: float,
    *,
    out: Path,
    device: torch.device,
    weights: Sequence[str] = (),
) -> BudgetedMetrics:
    """What evaluates snapshots during training: by `metrics`, such as "fid,kid", in `percent` of the time.

    `weights` are NAME=PATH, files of an extractor's weights. The collection has been opened, so that a fault in the
    request is found before training. Raises RequestError, which calls them `metrics_weights`, for what cannot be
    measured.
    """
    names = tuple(metrics.split(","))
    known = [*of_features(), *plugins.names(plugins.METRICS, METRICS)]
    if wrong := [name for name in names if name not in known]:
        raise RequestError(f"`metrics` must be none, or some of {','.join(known)}; got {wrong[0]} instead")
    request = EvaluationRequest(metrics=names, weights=tuple(weights), overwrite=True)
    try:
        evaluator = Evaluator(collection, request, device)
    except RequestError as error:  # of the request's `weights`
        raise RequestError(str(error).replace("`weights`", "`metrics_weights`")) from error
    evaluator.tell_network("metrics_weights")
    return BudgetedMetrics(metric(evaluator, out), percent, smallest=SMALLEST)


def metric(evaluator: Evaluator, out: Path) -> Metric:
    """Evaluate snapshots: (snapshot, number of images) -> values and standard errors by key.

    Each snapshot gets a folder in `out` with its results and report; all are evaluated by the same latents. Measure in
    the main process alone, as training calls its hooks.
    """

    def measure(snapshot: Path, count: int) -> dict[str, float]:
        n = max((usable for usable in COUNTS if usable <= count), default=count)
        # Training goes on as if nothing had happened: its other processes wait, its random numbers stay.
        with distributed.alone(), torch.random.fork_rng():
            evaluation = evaluator(snapshot, out / snapshot.stem, num_images=n)
        assert evaluation is not None
        figures = {}
        for result in evaluation.results:
            figures[str(result.identity)] = result.estimate.value
            figures[f"{result.identity}/se"] = result.estimate.se
        return figures

    return measure
