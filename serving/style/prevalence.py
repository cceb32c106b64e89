"""How often a style occurs, by a classifier that errs: the raw rate, and the rate corrected for its known errors."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scipy.special import ndtri

from eval.metrics.confidence_intervals import Estimate, wilson

MIN_YOUDEN = 0.1  # below, a classifier hardly knows the style from others: no correction is stable


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """`hits` of `n` images that were held out. Those of one artist depend on each other: n / `spread` of them count."""

    hits: int
    n: int
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.n or not self.n or not self.spread >= 1:
            raise ValueError(f"hits must be from 0 to n, n positive and spread at least 1; got {self} instead")

    @property
    def value(self) -> float:
        """hits / n."""
        return self.hits / self.n

    def smoothed(self) -> tuple[float, float]:
        """The share with one hit and one miss more, and how many independent images it is worth then."""
        worth = self.n / self.spread
        return (self.value * worth + 1) / (worth + 2), worth + 2


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How a classifier errs about one style: `sensitivity` on images of it, `specificity` on images of others."""

    sensitivity: Proportion
    specificity: Proportion

    @property
    def youden(self) -> float:
        """Sensitivity + specificity - 1 (Youden 1950): 1 for a perfect classifier, 0 for one that guesses."""
        return self.sensitivity.value + self.specificity.value - 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Errors":
        """The inverse of to_dict. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(sensitivity=Proportion(**fields["sensitivity"]), specificity=Proportion(**fields["specificity"]))


def corrected(hits: int, n: int, errors: Errors, level: float = 0.95) -> Estimate | None:
    """The true rate behind `hits` of `n` images, from Rogan & Gladen 1978: (raw + specificity - 1) / Youden's index.

    The interval is that of Lang & Reiczigel 2014, which counts the uncertainty of sensitivity and specificity in; both
    value and interval are cut to [0, 1]. Where all of the interval lies outside, since these images are mistaken less
    often than the known ones, Wilson's end of the raw rate stands for the one that would be lost.
    None where Youden's index is not clearly above zero: nothing can be told then.
    Raises ValueError unless 0 <= hits <= n and n > 0.
    """
    plain = wilson(hits, n, level=level)
    z = float(ndtri((1 + level) / 2))
    (sensitivity, n1), (specificity, n0) = errors.sensitivity.smoothed(), errors.specificity.smoothed()
    variance1, variance0 = sensitivity * (1 - sensitivity) / n1, specificity * (1 - specificity) / n0
    youden = sensitivity + specificity - 1
    if youden < MIN_YOUDEN or youden - z * math.sqrt(variance1 + variance0) <= 0:
        return None
    m = n + z**2
    p = (hits + z**2 / 2) / m
    rate = (p + specificity - 1) / youden
    shift = 2 * z**2 * (rate * variance1 - (1 - rate) * variance0)
    se = math.sqrt(p * (1 - p) / m + rate**2 * variance1 + (1 - rate) ** 2 * variance0) / youden
    low, high = rate + shift - z * se, rate + shift + z * se
    low, high = plain.low if low >= 1 else max(low, 0.0), plain.high if high <= 0 else min(high, 1.0)
    value = min(max((plain.value + errors.specificity.value - 1) / errors.youden, 0.0), 1.0)
    return Estimate(
        value=value, se=se, low=min(low, value), high=max(high, value), n=n, method="Rogan-Gladen, Lang-Reiczigel"
    )
