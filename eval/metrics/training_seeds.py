"""How sure a mean over several trainings is, and the difference of two: both kinds of chance in one interval.

The images' chance is that of the generated images of one evaluation, as each metric tells it. That of training is what
another seed, another order of the images, would have changed: only the spread between trainings shows it (Lucic et al.
2018, "Are GANs Created Equal?"), and one training shows nothing of it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from eval.metrics.confidence_intervals import LEVEL, Estimate, Jackknife, normal_interval


@dataclass(frozen=True, kw_only=True)
class TwoChances:
    """A number with the interval of each kind of chance by itself, and of both together."""

    images: Estimate
    training: Estimate | None  # None: with one training it is not known

    @property
    def both(self) -> Estimate:
        """The interval of both; without the chance of training that of the images alone."""
        return self.images if self.training is None else in_quadrature(self.images, self.training)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: the fields of `both`, and each kind by itself."""
        training = self.training and asdict(self.training)
        return {**asdict(self.both), "images": asdict(self.images), "training": training}


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """One statistic of R trainings of one kind, all evaluated alike and by the same latents.

    What `replicates` lack, `errors` [R] hold: standard errors of each value by the images' chance.
    """

    values: Sequence[float]  # [R]
    errors: Sequence[float]  # [R]
    n: int  # images of each evaluation
    replicates: Jackknife | None = None  # of the mean; None: unknown
    corrected: bool = False  # whether the values are those without bias

    @classmethod
    def of(
        cls,
        estimates: Sequence[Estimate],
        replicates: Sequence[Jackknife | None],
        *,
        corrected: bool = False,
    ) -> "Trainings":
        """From each training's estimate, and its replicates where there are some."""
        known = [jackknife for jackknife in replicates if jackknife is not None]
        return cls(
            values=[estimate.value for estimate in estimates],
            errors=[estimate.se for estimate in estimates],
            n=estimates[0].n,
            replicates=_mean(known) if len(known) == len(estimates) else None,
            corrected=corrected,
        )

    @classmethod
    def of_replicates(cls, replicates: Sequence[Jackknife]) -> "Trainings":
        """From replicates alone."""
        return cls.of([jackknife.raw() for jackknife in replicates], replicates)

    def mean(self) -> TwoChances:
        """The mean over the trainings."""
        return TwoChances(images=self._images(), training=_spread(float(np.mean(self.values)), self))

    def minus(self, other: "Trainings", *, paired: bool) -> TwoChances:
        """The difference of two means. `paired`: the i-th images of both are of the same latents."""
        training = _spread(float(np.mean(self.values)) - float(np.mean(other.values)), self, other)
        if paired and self.replicates is not None and other.replicates is not None:
            both = self.replicates - other.replicates
            return TwoChances(images=both.bias_corrected() if self.corrected else both.raw(), training=training)
        a, b = self._images(), other._images()
        se = math.hypot(a.se, b.se)
        images = normal_interval(a.value - b.value, se, min(self.n, other.n), "two independent sets")
        return TwoChances(images=images, training=training)

    def _images(self) -> Estimate:
        if self.replicates is not None:
            return self.replicates.bias_corrected() if self.corrected else self.replicates.raw()
        # As if all trainings had the same chance: of the same latents they may have.
        error = math.sqrt(float(np.mean(np.square(self.errors))))
        return normal_interval(float(np.mean(self.values)), error, self.n, "root mean square of the errors")


def in_quadrature(a: Estimate, b: Estimate, value: float | None = None) -> Estimate:
    """A number whose two kinds of chance are a's and b's, of a's value unless one is given.

    Half widths add as squares (Howe 1974; Zou & Donner 2008), each with its own degrees of freedom: those of
    Satterthwaite, of the sum, promise too much where the less sure part happens to look small.
    """
    value = a.value if value is None else value
    half = math.hypot((a.high - a.low) / 2, (b.high - b.low) / 2)
    method = f"{a.method}; {b.method}"
    return Estimate(value=value, se=math.hypot(a.se, b.se), low=value - half, high=value + half, n=a.n, method=method)


def _spread(value: float, *groups: Trainings) -> Estimate | None:
    # The interval by the spread between trainings, of a mean or of a difference of means (Welch 1947).
    if any(len(group.values) < 2 for group in groups):
        return None
    counts = [len(group.values) for group in groups]
    variances = [float(np.var(group.values, ddof=1)) / len(group.values) for group in groups]
    variance = sum(variances)
    parts = sum(v**2 / (count - 1) for v, count in zip(variances, counts, strict=True))
    freedom = variance**2 / parts if parts else min(counts) - 1
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(variance)
    method = f"Welch, {' and '.join(map(str, counts))} trainings"
    return Estimate(
        value=value, se=math.sqrt(variance), low=value - half, high=value + half, n=sum(counts), method=method
    )


def _mean(replicates: Sequence[Jackknife]) -> Jackknife:
    # Of statistics of the same blocks.
    return Jackknife(
        value=float(np.mean([jackknife.value for jackknife in replicates])),
        left_out=np.mean([jackknife.left_out for jackknife in replicates], axis=0),
        sizes=replicates[0].sizes,
    )
