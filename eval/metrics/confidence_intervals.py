"""How sure a number is: estimates with 95 % intervals, and the jackknife, the bootstrap and closed forms for them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

Vector = NDArray[np.float64]

LEVEL = 0.95  # of every interval
TAUS = 200  # standard deviations that `shrink` tries


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number from `n` samples with its standard error and 95 % interval [low, high]; `method` says whence."""

    value: float
    se: float
    low: float
    high: float
    n: int
    method: str

    def clipped(self, low: float = -math.inf, high: float = math.inf) -> "Estimate":
        """The same with the interval cut to what the number can be at all."""
        return replace(self, low=min(max(self.low, low), high), high=min(max(self.high, low), high))


def normal_interval(value: float, se: float, n: int, method: str, freedom: float = math.inf) -> Estimate:
    """value ± q se, with q Student's quantile for `freedom` degrees; the normal one, 1.96, for infinitely many."""
    tail = (1 + LEVEL) / 2
    quantile = float(ndtri(tail) if math.isinf(freedom) else stdtrit(freedom, tail))
    return Estimate(value=value, se=se, low=value - quantile * se, high=value + quantile * se, n=n, method=method)


def wilson(successes: int, n: int, spread: float = 1.0, level: float = LEVEL) -> Estimate:
    """A proportion with the score interval of Wilson 1927, which is right near 0 and 1 too.

    `spread` >= 1 widens it for successes that depend on each other: n / spread of them count.
    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not 0 <= successes <= n or not n:
        raise ValueError(f"successes must be from 0 to n, and n positive; got {successes} of {n} instead")
    p, z, m = successes / n, float(ndtri((1 + level) / 2)), n / max(spread, 1.0)
    centre = (p + z**2 / (2 * m)) / (1 + z**2 / m)
    half = z * math.sqrt(p * (1 - p) / m + z**2 / (4 * m**2)) / (1 + z**2 / m)
    low, high = min(centre - half, p), max(centre + half, p)  # at 0 and 1 they meet, up to rounding
    return Estimate(
        value=p, se=math.sqrt(p * (1 - p) / m), low=max(low, 0.0), high=min(high, 1.0), n=n, method="Wilson"
    )


@dataclass(frozen=True, kw_only=True)
class Jackknife:
    """A statistic of n samples in B blocks, and what it is without each block (Quenouille 1956, Tukey 1958).

    Blocks may differ in size: delete-m_j jackknife of Busing et al. 1999.
    """

    value: float
    left_out: Vector  # [B], the statistic of all samples but those of a block
    sizes: NDArray[np.int64]  # [B], samples in each block

    def __post_init__(self) -> None:
        if len(self.left_out) != len(self.sizes) or len(self.sizes) < 2:
            raise ValueError(
                f"left_out and sizes must be of the same 2 or more blocks; got {len(self.left_out)} and "
                f"{len(self.sizes)} instead"
            )

    @property
    def n(self) -> int:
        """Samples in all blocks."""
        return int(self.sizes.sum())

    @property
    def corrected(self) -> float:
        """The value without its bias of order 1/n (Busing et al. 1999, eq. 6)."""
        return float(np.sum(self._pseudo_values() * self.sizes) / self.n)

    @property
    def se(self) -> float:
        """Standard error (Busing et al. 1999, eq. 7)."""
        others = self.n / self.sizes - 1  # samples that stay, for each that goes
        return math.sqrt(float(np.mean((self._pseudo_values() - self.corrected) ** 2 / others)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"value": self.value, "left_out": self.left_out.tolist(), "sizes": self.sizes.tolist()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Jackknife":
        """The inverse of to_dict. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            value=fields["value"],
            left_out=np.array(fields["left_out"], np.float64),
            sizes=np.array(fields["sizes"], np.int64),
        )

    def __sub__(self, other: "Jackknife") -> "Jackknife":
        """The difference of one statistic on two sets whose i-th samples belong together: see paired_difference."""
        if not np.array_equal(self.sizes, other.sizes):
            raise ValueError(
                f"a and b must have the same blocks; got {self.sizes.tolist()} and {other.sizes.tolist()} instead"
            )
        return Jackknife(value=self.value - other.value, left_out=self.left_out - other.left_out, sizes=self.sizes)

    def raw(self) -> Estimate:
        """The value as it is. Its interval is for what this statistic is on average at this n."""
        return self._estimate(self.value, "jackknife")

    def bias_corrected(self) -> Estimate:
        """The value without its bias. Its interval is for what the statistic tends to as n grows."""
        return self._estimate(self.corrected, "jackknife, bias-corrected")

    def _estimate(self, value: float, method: str) -> Estimate:
        blocks = len(self.sizes)
        return normal_interval(value, self.se, self.n, f"{method}, {blocks} blocks", freedom=blocks - 1)

    def _pseudo_values(self) -> Vector:
        h = self.n / self.sizes
        return h * self.value - (h - 1) * self.left_out


def linear_jackknife(value: float, influence: Vector, blocks: int = 20) -> Jackknife:
    """The jackknife of a statistic by how much each sample adds to it: `influence` [n], in the order of the samples.

    To first order the statistic is value + mean(influence) around influence's own mean (Hampel 1974); for what is a
    mean itself, such as precision, that is exact.
    """
    deviations = np.asarray(influence, np.float64) - np.mean(influence)
    groups = random_blocks(len(deviations), blocks)
    sizes = np.array([len(group) for group in groups])
    sums = np.array([deviations[group].sum() for group in groups])
    return Jackknife(value=value, left_out=value - sums / (len(deviations) - sizes), sizes=sizes)


def random_blocks(n: int, blocks: int) -> list[NDArray[np.int64]]:
    """Split 0..n-1 into at most `blocks` of sizes that differ by one at most, at random but always the same.

    At random, since files come sorted, and blocks that are one style each would say nothing of chance.
    Raises ValueError for fewer than 2 samples or blocks.
    """
    if n < 2 or blocks < 2:
        raise ValueError(f"n and blocks must be at least 2; got {n} and {blocks} instead")
    order = np.random.default_rng(0).permutation(n)
    return [np.sort(block) for block in np.array_split(order, min(blocks, n))]


def bootstrap(values: Vector, statistic: Callable[[Vector], float], *, resamples: int = 500, seed: int = 0) -> Estimate:
    """`statistic` of values [n], with the basic percentile interval of resamples (Efron 1979)."""
    values = np.asarray(values, np.float64)
    if not len(values):
        raise ValueError("values must hold at least one number; got none instead")
    rng = np.random.default_rng(seed)
    n = len(values)
    draws = np.array([statistic(values[rng.integers(0, n, n)]) for _ in range(resamples)])
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(
        value=statistic(values),
        se=float(draws.std(ddof=1)),
        low=float(low),
        high=float(high),
        n=n,
        method=f"bootstrap, {resamples} resamples",
    )


def paired_difference(a: Jackknife, b: Jackknife, *, corrected: bool = False) -> Estimate:
    """a - b of one statistic on two sets whose i-th samples belong together, such as images from the same z.

    The same block is left out of both, so what they share cancels and the interval is tighter than that of two
    independent sets. Raises ValueError when the blocks are not the same.
    """
    both = a - b
    return both.bias_corrected() if corrected else both.raw()


def shrink(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Draw estimates of like things together, each the more the less sure it is (empirical Bayes).

    Random effects: value_i ~ N(theta_i, se_i^2), theta_i ~ N(mean, tau^2), tau^2 by moments (DerSimonian & Laird 1986).
    The standard errors count in that tau is not known: they are the mean squares over its restricted likelihood.
    """
    variance = np.array([e.se**2 for e in estimates])
    if len(estimates) < 3 or not variance.any():  # too few to know how much they differ, or nothing to draw
        return list(estimates)
    x = np.array([e.value for e in estimates])
    variance = np.maximum(variance, 1e-8 * variance.max())  # weights stay finite where one has no error at all
    weight = 1 / variance
    spread = float(np.sum(weight * (x - np.average(x, weights=weight)) ** 2))
    scale = float(weight.sum() - np.sum(weight**2) / weight.sum())
    tau2 = max(0.0, (spread - (len(x) - 1)) / scale)
    mean = float(np.average(x, weights=1 / (variance + tau2)))
    keep = tau2 / (tau2 + variance)  # [n], how much of itself each keeps
    value = keep * x + (1 - keep) * mean
    return [
        normal_interval(float(v), float(s), e.n, f"{e.method}; shrunken")
        for e, v, s in zip(estimates, value, _shrunken_errors(x, variance, value), strict=True)
    ]


def _shrunken_errors(x: Vector, variance: Vector, value: Vector) -> Vector:
    # Root mean squares of theta_i - value_i [n], with a flat prior of tau (Gelman 2006, section 5).
    tau2 = np.linspace(0, 4 * math.sqrt(float(x.var(ddof=1)) + float(variance.mean())), TAUS)[:, None] ** 2  # [TAUS, 1]
    weight = 1 / (variance + tau2)  # [TAUS, n]
    total = weight.sum(axis=1, keepdims=True)
    mean = (weight * x).sum(axis=1, keepdims=True) / total
    log_likelihood = (np.log(weight).sum(axis=1) - np.log(total[:, 0]) - (weight * (x - mean) ** 2).sum(axis=1)) / 2
    likelihood = np.exp(log_likelihood - log_likelihood.max())
    drawn = variance * weight  # how far each is drawn to the mean
    squares = (1 - drawn) * variance + drawn**2 / total + (x - drawn * (x - mean) - value) ** 2
    errors: Vector = np.sqrt(likelihood @ squares / likelihood.sum())
    return errors
