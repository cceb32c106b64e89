"""Evaluation of generated images against a dataset: feature extractors, metrics with confidence intervals, reports.

Public from Python, each loaded when it is first used:

Evaluator, EvaluationRequest    evaluate snapshots or images against a gan.data.collection.Collection
load_extractor, features_of     a pretrained network by name; features of a dataset's images, from the cache
Moments, Features               statistics of features [N, dim]; features in shards on disk
frechet_distance, frechet_estimate, kernel_distance, monge_distance, precision_recall, density_coverage,
inception_score, path_length, path_distances, linear_separability, strata_table
                                metrics of features, logits, path distances or latents
Estimate, paired_difference     a number with its 95 % interval; the difference of two

from pathlib import Path
from eval import EvaluationRequest, Evaluator
from gan.data.collection import Collection
from gan.device.selection import select

evaluator = Evaluator(Collection.open(Path("paintings64.zip")), EvaluationRequest(metrics=("kid",)), select("auto"))
evaluation = evaluator(Path("runs/paintings64-tiny-1a2b3c4d"), Path("evaluation"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.data.feature_cache import features_of
    from eval.evaluator import Evaluator
    from eval.features.extractor import load_extractor
    from eval.metrics.confidence_intervals import Estimate, paired_difference
    from eval.metrics.feature_stats import Features, Moments
    from eval.metrics.frechet import frechet_distance, frechet_estimate
    from eval.metrics.inception_score import inception_score
    from eval.metrics.kernel import kernel_distance
    from eval.metrics.monge import monge_distance
    from eval.metrics.path_length import path_distances, path_length
    from eval.metrics.precision_recall import density_coverage, precision_recall
    from eval.metrics.separability import linear_separability
    from eval.metrics.strata import strata_table
    from eval.request import EvaluationRequest

_MODULES = {
    "eval.data.feature_cache": ("features_of",),
    "eval.evaluator": ("Evaluator",),
    "eval.features.extractor": ("load_extractor",),
    "eval.metrics.confidence_intervals": ("Estimate", "paired_difference"),
    "eval.metrics.feature_stats": ("Features", "Moments"),
    "eval.metrics.frechet": ("frechet_distance", "frechet_estimate"),
    "eval.metrics.inception_score": ("inception_score",),
    "eval.metrics.kernel": ("kernel_distance",),
    "eval.metrics.monge": ("monge_distance",),
    "eval.metrics.path_length": ("path_distances", "path_length"),
    "eval.metrics.precision_recall": ("density_coverage", "precision_recall"),
    "eval.metrics.separability": ("linear_separability",),
    "eval.metrics.strata": ("strata_table",),
    "eval.request": ("EvaluationRequest",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Estimate",
    "EvaluationRequest",
    "Evaluator",
    "Features",
    "Moments",
    "density_coverage",
    "features_of",
    "frechet_distance",
    "frechet_estimate",
    "inception_score",
    "kernel_distance",
    "linear_separability",
    "load_extractor",
    "monge_distance",
    "paired_difference",
    "path_distances",
    "path_length",
    "precision_recall",
    "strata_table",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'eval' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
