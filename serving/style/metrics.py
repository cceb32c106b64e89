"""What is known of a style classifier from images that it had not seen: rates with intervals, confusion, calibration.

Images of one group (an artist, or one image whose artist is not known) depend on each other, so intervals count
groups, not images, wherever there are few of them.
Axis legend: N images, K styles.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.confidence_intervals import Estimate, bootstrap, wilson
from serving.style.head import Doubles, Integers
from serving.style.prevalence import Errors, Proportion

BINS = 10  # of the reliability curve

Flags = NDArray[np.bool_]


def classification_metrics(
    probabilities: Doubles, labels: Integers, groups: Integers, styles: Sequence[str]
) -> dict[str, Any]:
    """Figures of held-out probabilities [N, K] against labels [N]; an interval is that of new groups."""
    predicted = probabilities.argmax(1)
    right = predicted == labels
    matrix = confusion(labels, predicted, len(styles))
    return {
        "images": len(labels),
        "accuracy": _proportion(right, groups),
        "macro_f1": asdict(
            _by_group(lambda chosen: macro_f1(confusion(labels[chosen], predicted[chosen], len(styles))), groups)
        ),
        "per_class": [
            {
                "style": style,
                "images": int((labels == k).sum()),
                "recall": _proportion(right[labels == k], groups[labels == k]),
                "precision": float(matrix[k, k] / max(matrix[:, k].sum(), 1)),
            }
            for k, style in enumerate(styles)
        ],
        "confusion": matrix.tolist(),
        "ece": asdict(_by_group(lambda chosen: calibration_error(probabilities[chosen], right[chosen]), groups)),
        "reliability": reliability(probabilities, right),
    }


def confusion(labels: Integers, predicted: Integers, count: int) -> NDArray[np.int64]:
    """How many images of each of `count` styles are taken for each; int64 [true, predicted]."""
    return np.bincount(labels * count + predicted, minlength=count**2).reshape(count, count)


def macro_f1(matrix: NDArray[np.int64]) -> float:
    """The mean of F1, the harmonic mean of precision and recall, over the styles that have images; in [0, 1]."""
    own, taken = matrix.sum(axis=1), matrix.sum(axis=0)
    present = own > 0
    return float((2 * matrix.diagonal()[present] / (own + taken)[present]).mean())


def errors_about(probabilities: Doubles, labels: Integers, groups: Integers, target: int) -> Errors:
    """How often the most probable style is the target, on images of it and on images of the other styles."""
    positive = probabilities.argmax(1) == target
    own = labels == target
    return Errors(
        sensitivity=clustered(positive[own], groups[own]), specificity=clustered(~positive[~own], groups[~own])
    )


def clustered(hits: Flags, groups: Integers) -> Proportion:
    """The share of hits, with the design effect of groups: its variance over what independent images would have.

    The variance is that of a ratio estimated from clusters (Cochran 1977, section 11.8).
    """
    p, n = float(hits.mean()), len(hits)
    _, place = np.unique(groups, return_inverse=True)
    residuals = np.bincount(place, weights=hits - p)  # a sum for each group
    count = len(residuals)
    simple = p * (1 - p) / n
    spread = float((residuals**2).sum() / n**2 * count / (count - 1)) / simple if simple and count > 1 else 1.0
    return Proportion(hits=int(hits.sum()), n=n, spread=max(spread, 1.0))


def calibration_error(probabilities: Doubles, right: Flags) -> float:
    """Expected calibration error in [0, 1]: how far confidence is from accuracy on average (Guo et al. 2017, eq. 3)."""
    rows = reliability(probabilities, right)
    return float(sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / len(right))


def reliability(probabilities: Doubles, right: Flags) -> list[dict[str, Any]]:
    """Mean confidence and accuracy of the images in each of 10 ranges of confidence that has any."""
    confidence = probabilities.max(1)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": float(confidence[place == number].mean()),
            "accuracy": float(right[place == number].mean()),
            "images": int((place == number).sum()),
        }
        for number in np.unique(place)
    ]


def _proportion(hits: Flags, groups: Integers) -> dict[str, Any]:
    share = clustered(hits, groups)
    return asdict(wilson(share.hits, share.n, share.spread))


def _by_group(statistic: Callable[[Integers], float], groups: Integers) -> Estimate:
    # Of all images, with the interval of drawing whole groups anew.
    _, place = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
    every = np.arange(len(members), dtype=np.float64)
    estimate = bootstrap(every, lambda drawn: statistic(np.concatenate([members[int(group)] for group in drawn])))
    return replace(estimate, n=len(groups), method=f"{estimate.method} of {len(members)} groups")
