"""A model of a reviewer's verdicts: how probably they would keep each image, and which images to ask them about next.

Logistic regression on features. Axis legend: N images, D features, n verdicts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from curation.decide.quotas import ranks
from eval.metrics.confidence_intervals import wilson
from gan.errors import RequestError

MIN_VERDICTS, MIN_OF_A_KIND = 10, 3  # of a kind: each training side of nested folds has one
FOLDS = 5
STRENGTHS = (3.0, 30.0, 300.0)  # C of scikit-learn: the smaller, the stronger the regularisation
MIN_SLOPE = 0.1  # of Platt scaling: where nothing was learned, no ranking is turned round
POOL = 3  # among so many times the images to propose, those least certain, the most diverse are chosen

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class VerdictModel:
    """What was learned: the probability that the reviewer keeps each image, and how far it holds on held-out ones."""

    keep: Doubles  # [N], probabilities
    held_out: Doubles  # [n], probabilities of the judged images by models that had not seen their verdicts
    strength: float  # the C that was chosen


def inputs(features: Floats, score: Doubles | None = None) -> Floats:
    """Features [N, D], standardized and L2-normalized, and the rank of a `score` [N] -> float32 [N, D or D + 1].

    The rank is in (-0.5, 0.5), 0 where the score is NaN.
    """
    deviation = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    unit = standard / np.maximum(np.linalg.norm(standard, axis=1, keepdims=True), 1e-12)
    column = [] if score is None else [np.nan_to_num(ranks(score) - 0.5)[:, None]]
    return np.concatenate([unit, *column], axis=1, dtype=np.float32)


def require_verdicts(kept: Mask) -> None:
    """Raise RequestError for fewer than MIN_VERDICTS verdicts `kept` [n], or MIN_OF_A_KIND of keep or of drop."""
    keeps, drops = int(kept.sum()), int((~kept).sum())
    if len(kept) < MIN_VERDICTS or min(keeps, drops) < MIN_OF_A_KIND:
        raise RequestError(
            f"`manifest` must hold {MIN_VERDICTS} verdicts of a person or more, at least {MIN_OF_A_KIND} of them keep "
            f"and {MIN_OF_A_KIND} drop; it holds {keeps} keep and {drops} drop: give more with salon curate review"
        )


def fit(x: Floats, judged: Places, kept: Mask, *, seed: int) -> VerdictModel:
    """Learn verdicts `kept` [n] on the images at the places `judged` [n] of inputs x [N, D].

    Held-out probabilities are by nested cross-validation: strength and calibration are found anew without the held-out
    verdicts. Raises RequestError as `require_verdicts` does.
    """
    require_verdicts(kept)
    known = x[judged]
    held_out = np.empty(len(kept))
    for train, test in _folds(kept, seed):
        held_out[test] = learned(known[train], kept[train], known[test], seed)[0]
    keep, strength = learned(known, kept, x, seed)
    return VerdictModel(keep=keep, held_out=held_out, strength=strength)


def propose(x: Floats, keep: Doubles, candidates: Mask, count: int) -> Places:
    """Which `count` of the `candidates` [N] to ask about next -> places, the first to be asked first.

    Of those whose probability is nearest to one half, POOL times as many, the least certain comes first, then always
    the one farthest from all before it (Gonzalez 1985): alike images tell the same.
    """
    places = np.flatnonzero(candidates)
    pool = places[np.argsort(np.abs(keep[places] - 0.5), kind="stable")][: POOL * count]
    chosen: list[int] = []
    distance = np.full(len(pool), np.inf)
    for _ in range(min(count, len(pool))):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.square(x[pool] - x[pool[chosen[-1]]]).sum(axis=1))
        distance[chosen] = -1
    return pool[chosen]


def held_out_figures(probability: Doubles, kept: Mask) -> dict[str, Any]:
    """How well held-out probabilities [n] foretell the verdicts `kept` [n], each figure beside that of the base rate.

    `error` is the share of wrong verdicts at a probability of one half, with Wilson's 95 % interval; `brier` the mean
    squared error of the probability (Brier 1950); `auroc` that a kept image has a higher one than a dropped.
    """
    rate = float(kept.mean())
    error = wilson(int(((probability >= 0.5) != kept).sum()), len(kept))
    return {
        "error": error.value,
        "error_low": error.low,
        "error_high": error.high,
        "error_base": min(rate, 1 - rate),
        "auroc": float(roc_auc_score(kept, probability)),
        "brier": float(np.square(probability - kept).mean()),
        "brier_base": rate * (1 - rate),
    }


def learned(known: Floats, kept: Mask, x: Floats, seed: int) -> tuple[Doubles, float]:
    """Probabilities [N] that inputs x [N, D] are kept, by verdicts `kept` on those `known` [n, D], and the strength C.

    That of the smallest log loss on held-out verdicts, after `calibrate`, is chosen.
    """
    if len(known) < known.shape[1]:  # the weights lie in the span of the known inputs: n numbers say as much as D
        basis = np.linalg.qr(known.T)[0]  # [D, n]
        known, x = known @ basis, x @ basis
    best: tuple[float, float, float, float] | None = None  # log loss, slope, offset, C
    folds = _folds(kept, seed)
    for strength in STRENGTHS:
        logits = np.empty(len(kept))
        for train, test in folds:
            logits[test] = _regression(strength).fit(known[train], kept[train]).decision_function(known[test])
        found = (*calibrate(logits, kept), strength)
        best = found if best is None else min(best, found)
    assert best is not None
    _, slope, offset, strength = best
    logits = _regression(strength).fit(known, kept).decision_function(x).astype(np.float64)
    return expit(slope * logits + offset), strength


def calibrate(logits: Doubles, kept: Mask) -> tuple[float, float, float]:
    """The log loss, slope and offset of the sigmoid that turns held-out logits [n] into probabilities (Platt 1999).

    Against targets a little inside of 0 and 1 (equation 5 there), so that even separable verdicts leave doubt.
    """
    keeps, drops = int(kept.sum()), int((~kept).sum())
    targets = np.where(kept, (keeps + 1) / (keeps + 2), 1 / (drops + 2))

    def loss(line: Doubles) -> tuple[float, Doubles]:
        z = line[0] * logits + line[1]
        excess = expit(z) - targets
        return float(np.mean(np.logaddexp(0, z) - targets * z)), np.array([np.mean(excess * logits), np.mean(excess)])

    minimum = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(MIN_SLOPE, None), (None,) * 2])
    return float(minimum.fun), float(minimum.x[0]), float(minimum.x[1])


def _folds(kept: Mask, seed: int) -> list[tuple[Places, Places]]:
    # Pairs of places (train, test), at most FOLDS: each test side has verdicts of both kinds.
    count = min(FOLDS, int(kept.sum()), int((~kept).sum()))
    return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(kept, kept))


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=1000)
