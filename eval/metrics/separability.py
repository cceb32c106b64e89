"""Linear separability: how well hyperplanes in latent space tell attributes of images apart. From 1 up; low is good.

Karras et al. 2019, section 4.2: exp of the sum over attributes of H(Y|X), in nats, with Y the attribute and X what a
linear SVM says of the latent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.confidence_intervals import Estimate, Vector, normal_interval
from eval.metrics.feature_stats import Array

STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)  # of SVMs, from the most regularized on
KEPT = 0.5  # share of the images, those whose attribute is surest, that Karras et al. keep


def linear_separability(
    latents: Array, attributes: Array, names: Sequence[str] | None = None, *, folds: int = 5, seed: int = 0
) -> tuple[Estimate, dict[str, Estimate]]:
    """Of latents [N, d] (z or w) and attributes [N, A] -> the score, and H(Y|X) of each attribute by name.

    Attributes are booleans, or a classifier's probabilities, of which the surest half is kept. SVMs judge samples that
    they were not fitted to, so few samples do not look separable; with many it is the paper's number. An attribute that
    nearly all or no images have adds nothing. Raises ValueError for shapes that do not fit.
    """
    latents, attributes = np.asarray(latents, np.float64), np.asarray(attributes)
    if latents.ndim != 2 or attributes.ndim != 2 or len(latents) != len(attributes) or not attributes.size:
        raise ValueError(
            f"latents and attributes must be [N, d] and [N, A]; got {list(latents.shape)} and "
            f"{list(attributes.shape)} instead"
        )
    names = [str(index) for index in range(attributes.shape[1])] if names is None else names
    if len(set(names)) != attributes.shape[1]:
        raise ValueError(f"names must be {attributes.shape[1]} different ones; got {list(names)} instead")
    n = len(latents)
    surprises = np.zeros(n)  # [N], how each sample moves the sum
    entropies: dict[str, Estimate] = {}
    for name, column in zip(names, attributes.T, strict=True):
        kept, labels = _confident(column)
        surprise = _surprise(labels, _predictions(latents[kept], labels, folds, seed))
        entropy = float(surprise.mean())
        surprises[kept] += (surprise - entropy) * (n / len(kept))
        se = float(surprise.std()) / math.sqrt(len(kept))
        entropies[name] = normal_interval(entropy, se, len(kept), "delta method").clipped(0.0, math.log(2))
    total = sum(entropy.value for entropy in entropies.values())
    logarithm = normal_interval(total, float(surprises.std()) / math.sqrt(n), n, "delta method").clipped(low=0.0)
    score = Estimate(
        value=math.exp(total),
        se=math.exp(total) * logarithm.se,
        low=math.exp(logarithm.low),
        high=math.exp(logarithm.high),
        n=n,
        method=f"delta method, SVMs crossed over {folds} folds",
    )
    return score, entropies


@dataclass(frozen=True, kw_only=True)
class Hyperplane:
    """What separates the latents whose attribute holds from the others."""

    normal: Vector  # [d], of length 1, towards those whose attribute holds
    accuracy: float  # of the SVMs on samples that they were not fitted to, the mean of both kinds: 0.5 is guessing
    kept: int  # samples, of a classifier's probabilities the surest half


def hyperplane(latents: Array, attribute: Array, *, folds: int = 5, seed: int = 0) -> Hyperplane | None:
    """The hyperplane of a linear SVM, of latents [N, d] and one attribute [N] as linear_separability takes them.

    To separate well is not enough for a direction to move along: among hyperplanes that do, many lean towards axes in
    which latents hardly vary. So all axes keep their scale, and of STRENGTHS the least is taken whose accuracy in
    cross-validation is within one standard error of the best. Of probabilities the surest half of each kind is kept,
    so that a rare attribute is not left out for being rare. None where one kind has fewer kept samples than `folds`.
    Raises ValueError as linear_separability.
    """
    from sklearn.svm import LinearSVC

    attribute = np.asarray(attribute)
    kinds = [np.flatnonzero(kind) for kind in (attribute > 0.5, ~(attribute > 0.5))]
    kept = np.sort(np.concatenate([kind[_confident(attribute[kind])[0]] for kind in kinds if len(kind)]))
    labels = attribute[kept] > 0.5
    if _rarer(labels) < folds:
        return None
    centred = np.asarray(latents, np.float64)[kept]
    centred = (centred - centred.mean(axis=0)) / math.sqrt(max(centred.var(axis=0).mean(), 1e-30))
    svms = [LinearSVC(C=strength, dual=False, random_state=seed) for strength in STRENGTHS]
    right = [_predictions(centred, labels, folds, seed, svm) == labels for svm in svms]
    accuracies = [float(each[labels].mean() + each[~labels].mean()) / 2 for each in right]
    best = max(accuracies)
    enough = best - math.sqrt(best * (1 - best) / len(labels))
    chosen = next(place for place, accuracy in enumerate(accuracies) if accuracy >= enough)
    normal: Vector = svms[chosen].fit(centred, labels).coef_[0]
    length = float(np.linalg.norm(normal))
    return Hyperplane(normal=normal / (length or 1.0), accuracy=accuracies[chosen], kept=len(kept))


def _confident(column: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    # -> indices of the samples to keep, and their labels
    if column.dtype == bool:
        return np.arange(len(column)), column
    if not np.issubdtype(column.dtype, np.floating) or not ((column >= 0) & (column <= 1)).all():
        raise ValueError("attributes must be booleans or probabilities from 0 to 1")
    surest = np.argsort(-np.abs(column - 0.5), kind="stable")[: max(1, round(len(column) * KEPT))]
    kept = np.sort(surest)
    return kept, column[kept] > 0.5


def _predictions(
    latents: Array, labels: NDArray[np.bool_], folds: int, seed: int, svm: Any = None
) -> NDArray[np.bool_]:
    # Imported here, as all that takes a second and few commands need.
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if _rarer(labels) < folds:  # too few to learn from: as if all were of one kind
        return np.zeros(len(labels), bool)
    svm = make_pipeline(StandardScaler(), LinearSVC(dual=False, random_state=seed)) if svm is None else svm
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    predictions: NDArray[np.bool_] = cross_val_predict(svm, latents, labels, cv=split)
    return predictions


def _rarer(labels: NDArray[np.bool_]) -> int:
    return min(int(labels.sum()), int((~labels).sum()))


def _surprise(labels: NDArray[np.bool_], predictions: NDArray[np.bool_]) -> Vector:
    # -log p(y|x) of each sample, whose mean is H(Y|X)
    table = np.zeros((2, 2))  # [x, y]
    np.add.at(table, (predictions.astype(int), labels.astype(int)), 1)
    given = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    surprise: Vector = -np.log(given[predictions.astype(int), labels.astype(int)])
    return surprise
