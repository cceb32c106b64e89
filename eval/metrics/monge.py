"""Monge distance: sliced optimal transport between two sets of features; MIND when these are Inception's.

Berthet et al. 2026 (arXiv 2605.06797): 3 d times the mean, over directions u of unit length, of the squared Wasserstein
distance between the sets projected on u, which sorting solves. From 0 up, in the square of the features' unit, and of
FID's size: where two sets differ by a shift alone it is three times the square of that. It is too high at any finite n,
far less so than FID, and compares sets of one size with each other.
"""

import numpy as np
from numpy.typing import NDArray

from eval.metrics.confidence_intervals import Jackknife, random_blocks
from eval.metrics.feature_stats import Array, Features, Matrix, as_features

PROJECTIONS = 1000
AT_ONCE = 100  # projections that are in memory


def monge_distance(
    gen: Features | Array, real: Features | Array, *, projections: int = PROJECTIONS, blocks: int = 20
) -> Jackknife:
    """The distance of features [N, d] to real ones [M, d], and without each block of the generated ones.

    The directions are the same in every call of one d. Raises ValueError for two dimensions, or fewer than 3 generated
    samples and 1 real one.
    """
    gen, real = as_features(gen), as_features(real)
    if gen.dim != real.dim:
        raise ValueError(f"gen and real must have the same dimension; got {gen.dim} and {real.dim} instead")
    if len(gen) < 3 or not len(real) or projections < 1:
        raise ValueError(
            f"gen must be at least 3, real and projections 1; got {len(gen)}, {len(real)} and {projections} instead"
        )
    groups = random_blocks(len(gen), blocks)
    block_of = np.empty(len(gen), np.int64)
    for number, group in enumerate(groups):
        block_of[group] = number
    rng = np.random.default_rng(0)
    totals = np.zeros(len(groups) + 1)  # of all, and without each block
    for first in range(0, projections, AT_ONCE):
        directions = rng.standard_normal([min(AT_ONCE, projections - first), gen.dim])
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        x = np.sort(_projected(real, directions), axis=1)
        y = _projected(gen, directions)
        order = np.argsort(y, axis=1)
        y, owner = np.take_along_axis(y, order, axis=1), block_of[order]
        totals[0] += wasserstein(x, y).sum()
        for number in range(len(groups)):
            totals[1 + number] += wasserstein(x, y[owner != number].reshape(len(y), -1)).sum()
    value, *left_out = 3 * gen.dim * totals / projections
    sizes = np.array([len(group) for group in groups])
    return Jackknife(value=float(value), left_out=np.array(left_out), sizes=sizes)


def wasserstein(x: Matrix, y: Matrix) -> Matrix:
    """Squared 2-Wasserstein distance of sorted samples x [P, M] and y [P, N], each row to its own -> [P].

    Exact for sets of two sizes: the integral of the squared difference of both quantile functions.
    """
    m, n = x.shape[1], y.shape[1]
    if m == n:
        return np.asarray(np.einsum("pn,pn->p", x - y, x - y) / n)
    at, weight = _steps(m, n)
    apart = x[:, at // n] - y[:, at // m]
    distances: Matrix = np.einsum("pk,pk,k->p", apart, apart, weight)
    return distances


def _steps(m: int, n: int) -> tuple[NDArray[np.int64], Matrix]:
    # Where either of two quantile functions steps, in units of 1 / (m n), and how long each step of both is.
    at = np.union1d(np.arange(m, dtype=np.int64) * n, np.arange(n, dtype=np.int64) * m)
    return at, np.diff(at, append=m * n) / (m * n)


def _projected(features: Features, directions: Matrix) -> Matrix:
    # [N, d] -> [P, N]
    out = np.empty((len(directions), len(features)))
    for first, block in features.blocks():
        out[:, first : first + len(block)] = directions @ block.T
    return out
