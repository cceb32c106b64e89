"""Kernel distance: squared maximum mean discrepancy of a polynomial kernel; KID when the features are Inception's.

Binkowski et al. 2018, section 4. Unbiased, so it may be negative; small sets do, where FID's bias would drown them.
All pairs are used instead of the mean of random subsets: it is the same expectation with less noise. Only of very many
samples it is those within blocks.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.metrics.confidence_intervals import (
    Estimate,
    Jackknife,
    Vector,
    linear_jackknife,
    normal_interval,
    random_blocks,
)
from eval.metrics.feature_stats import Array, Features, as_features
from gan.runtime.console import progress

if TYPE_CHECKING:
    import torch  # only named here: it is loaded where there is a device

BLOCK = 1024  # rows on either side of a block of kernel values
EXACT = 100_000  # samples of a set up to which all pairs are computed
BLOCKED = 4_000  # samples of a block of more


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """k(x, y) = (gamma x.y + coef0)^degree; gamma None: 1/d."""

    degree: int = 3
    gamma: float | None = None
    coef0: float = 1.0

    def __call__(self, x: Any, y: Any) -> Any:
        """[n, d], [m, d] -> [n, m], float64, all arrays or all tensors."""
        gamma = 1 / x.shape[1] if self.gamma is None else self.gamma
        return (gamma * (x @ y.T) + self.coef0) ** self.degree


@dataclass(frozen=True, kw_only=True)
class Within:
    """Kernel values between the samples of one set, none with itself. Worth keeping for a reference."""

    sums: Vector  # [n], over the others
    squares: float  # over all ordered pairs
    pairs: int  # ordered pairs whose values were computed: n (n - 1), or fewer, of which the sums are made

    @property
    def mean(self) -> float:
        """Over all pairs."""
        n = len(self.sums)
        return float(self.sums.sum()) / (n * (n - 1))


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """The estimate, and how each sample of a [m] and b [n] moves it (first order, of mean 0)."""

    estimate: Estimate
    influence_a: Vector
    influence_b: Vector

    def jackknife(self, blocks: int = 20) -> Jackknife:
        """Over the samples of a, for confidence_intervals.paired_difference of two sets that meet the same b."""
        return linear_jackknife(self.estimate.value, self.influence_a, blocks)


def within(features: Features | Array, kernel: Kernel | None = None, *, device: "torch.device | None" = None) -> Within:
    """Sum a set's kernel values up, on a `device` where one is given. Time O(N^2 d), memory O(N).

    Above EXACT samples, where there is no device, those of blocks of the samples stand for all: time O(N d).
    Raises ValueError for fewer than 2 samples.
    """
    features, kernel = as_features(features), kernel or Kernel()
    if len(features) < 2:
        raise ValueError(f"features must be at least 2 samples; got {len(features)} instead")
    if device is not None:
        from eval.metrics import on_device

        sums, squares = on_device.kernel_within(features, kernel, device)
        return Within(sums=sums, squares=squares, pairs=len(features) * (len(features) - 1))
    if len(features) > EXACT:
        return _within_blocks(features, kernel)
    sums, squares = np.zeros(len(features)), 0.0
    for i, x in features.blocks(BLOCK):
        for j, y in features.blocks(BLOCK, first=i):
            values = kernel(x, y)
            if i == j:
                np.fill_diagonal(values, 0.0)
            sums[i : i + len(x)] += values.sum(axis=1)
            if i != j:
                sums[j : j + len(y)] += values.sum(axis=0)
            squares += float(np.vdot(values, values)) * (1 if i == j else 2)
    return Within(sums=sums, squares=squares, pairs=len(features) * (len(features) - 1))


def _within_blocks(features: Features, kernel: Kernel) -> Within:
    # An incomplete U-statistic (Blom 1976): each sample meets those of its block alone.
    n = len(features)
    sums, squares, pairs = np.zeros(n), 0.0, 0
    blocks = random_blocks(n, -(-n // BLOCKED))
    for block in progress(blocks, "Comparing features", len(blocks)):
        part = within(features.view(block), kernel)
        sums[block] = part.sums * (n - 1) / (len(block) - 1)
        squares, pairs = squares + part.squares, pairs + part.pairs
    return Within(sums=sums, squares=squares * n * (n - 1) / pairs, pairs=pairs)


def kid(
    a: Features | Array, b: Features | Array, *, degree: int = 3, gamma: float | None = None, coef0: float = 1.0
) -> Estimate:
    """Kernel distance of features a [m, d] and b [n, d] with its standard error. The defaults are KID's."""
    return kernel_distance(a, b, kernel=Kernel(degree=degree, gamma=gamma, coef0=coef0)).estimate


def kernel_distance(
    a: Features | Array,
    b: Features | Array,
    *,
    kernel: Kernel | None = None,
    within_a: Within | None = None,
    within_b: Within | None = None,
    device: "torch.device | None" = None,
) -> KernelDistance:
    """Kernel distance of features a [m, d] and b [n, d]; `within_a` and `within_b` where they are known.

    All pairs are computed on a `device` where one is given, in float64 too (see eval.metrics.on_device). Without one,
    sets of more than EXACT samples are compared block by block, which the standard error knows.
    The U-statistic of Gretton et al. 2012, eq. 3, for sets of any two sizes. Its variance by Hoeffding's decomposition
    (Bounliphone et al. 2016; Sutherland et al. 2017): the terms of second order matter where both sets are alike.
    """
    a, b, kernel = as_features(a), as_features(b), kernel or Kernel()
    if a.dim != b.dim:
        raise ValueError(f"a and b must have features of the same dimension; got {a.dim} and {b.dim} instead")
    aa, bb = within_a or within(a, kernel, device=device), within_b or within(b, kernel, device=device)
    m, n = len(a), len(b)
    rows, columns, squares, pairs = _between(a, b, kernel, device)
    mean = float(rows.sum()) / (m * n)
    # First order: how far a sample's own mean kernel values lie from the average sample's.
    influence_a = 2 * (aa.sums / (m - 1) - rows / n)
    influence_b = 2 * (bb.sums / (n - 1) - columns / m)
    influence_a, influence_b = influence_a - influence_a.mean(), influence_b - influence_b.mean()
    # Second order: variance of the kernel that is centred in both arguments, E k^2 - Var of row means - ... - mean^2.
    second = (
        2 * _doubly_centred(aa.squares / (m * (m - 1)), aa.sums / (m - 1), aa.sums / (m - 1), aa.mean) / aa.pairs
        + 2 * _doubly_centred(bb.squares / (n * (n - 1)), bb.sums / (n - 1), bb.sums / (n - 1), bb.mean) / bb.pairs
        + 4 * _doubly_centred(squares / (m * n), rows / n, columns / m, mean) / pairs
    )
    # The influences' own noise has the second order in it twice.
    variance = float(influence_a.var(ddof=1)) / m + float(influence_b.var(ddof=1)) / n - second
    value = aa.mean + bb.mean - 2 * mean
    se = math.sqrt(max(variance, second))
    estimate = normal_interval(value, se, m, "variance of the U-statistic")
    return KernelDistance(estimate=estimate, influence_a=influence_a, influence_b=influence_b)


def _between(
    a: Features, b: Features, kernel: Kernel, device: "torch.device | None" = None
) -> tuple[Vector, Vector, float, int]:
    # Sums over b and over a of the kernel values of a and b, the sum of their squares, and how many were computed.
    if device is not None:
        from eval.metrics import on_device

        return *on_device.kernel_between(a, b, kernel, device), len(a) * len(b)
    if len(a) * len(b) > EXACT**2 and min(len(a), len(b)) > BLOCKED:
        return _between_blocks(a, b, kernel)
    rows, columns, squares = np.zeros(len(a)), np.zeros(len(b)), 0.0
    for i, x in a.blocks(BLOCK):
        for j, y in b.blocks(BLOCK):
            values = kernel(x, y)
            rows[i : i + len(x)] += values.sum(axis=1)
            columns[j : j + len(y)] += values.sum(axis=0)
            squares += float(np.vdot(values, values))
    return rows, columns, squares, len(a) * len(b)


def _between_blocks(a: Features, b: Features, kernel: Kernel) -> tuple[Vector, Vector, float, int]:
    # Each sample of a meets those of one block of b alone.
    m, n = len(a), len(b)
    rows, columns, squares, pairs = np.zeros(m), np.zeros(n), 0.0, 0
    number = -(-min(m, n) // BLOCKED)
    both = list(zip(random_blocks(m, number), random_blocks(n, number), strict=True))
    for i, j in progress(both, "Comparing features", number):
        rows_i, columns_j, squares_ij, pairs_ij = _between(a.view(i), b.view(j), kernel)
        rows[i], columns[j] = rows_i * n / len(j), columns_j * m / len(i)
        squares, pairs = squares + squares_ij, pairs + pairs_ij
    return rows, columns, squares * m * n / pairs, pairs


def _doubly_centred(square: float, rows: Vector, columns: Vector, mean: float) -> float:
    return max(0.0, square - float(np.mean((rows - mean) ** 2) + np.mean((columns - mean) ** 2)) - mean**2)
