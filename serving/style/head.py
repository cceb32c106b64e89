"""The head of a style classifier: multinomial logistic regression on frozen features, with calibrated probabilities.

Every choice is made by folds that keep a group's images together, an artist's works where artists are known: features
identify an artist, so a classifier that is tested on artists it has seen looks better than it is. Axis legend: N
images, D features, K styles.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from gan.errors import RequestError

FOLDS = 5
STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2)  # C of scikit-learn: the smaller, the stronger the regularisation
TEMPERATURES = (0.1, 10.0)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Step = Callable[[], object]  # called after each fit, to show progress


@dataclass(frozen=True, kw_only=True)
class Head:
    """softmax(features W^T + b). Standardization and temperature are part of W [K, D] and b [K], float32."""

    weight: Floats
    bias: Floats
    strength: float  # the C that was chosen
    temperature: float

    def probabilities(self, features: Floats) -> Doubles:
        """float32 [N, D] -> [N, K], each row's sum is 1."""
        probabilities: Doubles = softmax(features.astype(np.float64) @ self.weight.T + self.bias, axis=1)
        return probabilities


def fit(features: Floats, labels: Integers, groups: Integers, *, seed: int, step: Step = lambda: None) -> Head:
    """Fit a head to features [N, D], labels [N] in 0..K-1. Takes fits(1) fits of the regression.

    The strength with the smallest log loss on images held out by group is chosen, each with its own temperature, which
    the same held-out logits give (Guo et al. 2017).
    """
    folds = split(labels, groups, seed)
    best: tuple[float, float, float] | None = None  # log loss, C, temperature
    for strength in STRENGTHS:
        logits = np.zeros([len(labels), int(labels.max()) + 1])
        for train, test in folds:
            logits[test] = _logits(_regression(strength).fit(features[train], labels[train]), features[test])
            step()
        loss, temperature = calibrate(logits, labels)
        if best is None or loss < best[0]:
            best = (loss, strength, temperature)
    assert best is not None
    _, strength, temperature = best
    scaler, regression = _regression(strength).fit(features, labels).named_steps.values()
    step()
    weight = _each(regression.coef_) / scaler.scale_
    bias = _each(regression.intercept_) - weight @ scaler.mean_
    return Head(
        weight=(weight / temperature).astype(np.float32),
        bias=(bias / temperature).astype(np.float32),
        strength=strength,
        temperature=temperature,
    )


def held_out(features: Floats, labels: Integers, groups: Integers, *, seed: int, step: Step = lambda: None) -> Doubles:
    """Probabilities [N, K] of every image by a head that saw nothing of its group.

    Nested: strength and temperature are chosen anew inside of each fold's other images. Takes FOLDS * fits(1) fits.
    """
    probabilities = np.zeros([len(labels), int(labels.max()) + 1])
    for train, test in split(labels, groups, seed):
        head = fit(features[train], labels[train], groups[train], seed=seed, step=step)
        probabilities[test] = head.probabilities(features[test])
    return probabilities


def fits(times: int) -> int:
    """How many regressions `times` calls of fit() take."""
    return times * (FOLDS * len(STRENGTHS) + 1)


def split(labels: Integers, groups: Integers, seed: int) -> list[tuple[Integers, Integers]]:
    """FOLDS pairs of indices (train, test): no group is on both sides, and styles are spread as evenly as that allows.

    Raises RequestError when a style has too few groups to be on every training side.
    """
    counts = np.bincount(labels)
    if min(counts.min(), len(np.unique(groups))) >= FOLDS:
        folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels, groups))
        if all(np.bincount(labels[train], minlength=len(counts)).all() and len(test) for train, test in folds):
            return folds
    raise RequestError("`data` must hold more artists of every style, or choose `group_by` image")


def calibrate(logits: Doubles, labels: Integers) -> tuple[float, float]:
    """The smallest log loss that dividing logits [N, K] by a temperature gives, and that temperature."""

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scores[np.arange(len(labels)), labels].mean())

    minimum = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(minimum.fun), float(np.exp(minimum.x))


def _regression(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=1000))


def _logits(regression: Pipeline, features: Floats) -> Doubles:
    logits: Doubles = regression.decision_function(features)
    return logits if logits.ndim == 2 else np.stack([np.zeros_like(logits), logits], 1)


def _each(parameters: Doubles) -> Doubles:
    # Of K styles; scikit-learn gives two styles one row, the difference of theirs.
    return np.concatenate([np.zeros_like(parameters), parameters]) if len(parameters) == 1 else parameters
