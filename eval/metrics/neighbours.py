"""Nearest neighbours by Euclidean distance: exact, and in blocks, so that memory is O(N k), time O(N^2 d).

In float64 distances are exact even within tight clusters. float32 takes half the time, for features of about unit
length whose neighbours matter and not the last digits of their distances. Between unit vectors the nearest are those of
the largest cosine, as |x - y|^2 = 2 - 2 cos.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.feature_stats import Array, Features, as_features

if TYPE_CHECKING:
    import torch  # only named here: it is loaded where there is a device

BLOCK = 1024  # samples on either side of a block of distances
COLUMNS = 16_384  # references that a block of samples is compared with at a time
# |x-y|^2 below this share of |x|^2 + |y|^2 is computed anew, from differences
CANCELLED = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-4}

Precision = type[np.float64] | type[np.float32]


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The k nearest of each sample, nearest first. Worth keeping for a reference."""

    distances: NDArray[Any]  # [N, k], Euclidean
    indices: NDArray[np.int64]  # [N, k]


def neighbours(
    features: Features | Array, k: int, *, dtype: Precision = np.float64, device: "torch.device | None" = None
) -> Neighbours:
    """The k nearest others of each sample [N, d]; computed on a `device` where one is given.

    Raises ValueError unless there are more samples than that.
    """
    if not 1 <= k < len(features):
        raise ValueError(f"k must be from 1 to the samples but one; got {k} of {len(features)} samples instead")
    if device is not None:
        return _on_device(features, None, _mean(features, dtype), k, device)
    best, indices = _nothing(len(features), k, dtype)
    centre = _mean(features, dtype)
    for i, x in _blocks(features, BLOCK, dtype):
        for j, y in _blocks(features, BLOCK, dtype, first=i):
            squared = squared_distances(x - centre, y - centre)
            if i == j:
                np.fill_diagonal(squared, np.inf)
            _keep_least(best[i : i + len(x)], indices[i : i + len(x)], squared, j)
            if i != j:
                _keep_least(best[j : j + len(y)], indices[j : j + len(y)], squared.T, i)
    return _sorted(best, indices)


def neighbours_among(
    queries: Features | Array,
    references: Features | Array,
    k: int,
    *,
    dtype: Precision = np.float64,
    device: "torch.device | None" = None,
) -> Neighbours:
    """The k nearest of references [M, d] to each of queries [N, d]; a query that is a reference too finds itself.

    Computed on a `device` where one is given. Raises ValueError unless there are so many references.
    """
    if not 1 <= k <= len(references):
        raise ValueError(f"k must be from 1 to the references; got {k} of {len(references)} instead")
    if device is not None and len(queries):
        return _on_device(queries, references, _mean(references, dtype), k, device)
    best, indices = _nothing(len(queries), k, dtype)
    centre = _mean(references, dtype)
    for j, y in _blocks(references, COLUMNS, dtype):
        for i, x in _blocks(queries, BLOCK, dtype):
            squared = squared_distances(x - centre, y - centre)
            _keep_least(best[i : i + len(x)], indices[i : i + len(x)], squared, j)
    return _sorted(best, indices)


def squared_distances(x: Array, y: Array) -> Array:
    """|x_i - y_j|^2 of x [n, d] and y [m, d] -> [n, m], to the precision of differences where they are close."""
    # |x|^2 + |y|^2 - 2 x.y loses digits where x and y are close: there it is done again.
    xx, yy = np.einsum("id,id->i", x, x), np.einsum("jd,jd->j", y, y)
    squared: Array = x @ y.T
    squared *= -2
    squared += xx[:, None] + yy
    share = CANCELLED[squared.dtype]
    suspect = np.flatnonzero(squared.min(axis=1) < share * (xx + yy.max()))
    close = np.argwhere(squared[suspect] < share * (xx[suspect, None] + yy))
    close[:, 0] = suspect[close[:, 0]]
    for first in range(0, len(close), BLOCK):
        i, j = close[first : first + BLOCK].T
        difference = x[i] - y[j]
        squared[i, j] = np.einsum("pd,pd->p", difference, difference)
    return squared


def _on_device(
    queries: Features | Array, references: Features | Array | None, centre: Array, k: int, device: "torch.device"
) -> Neighbours:
    from eval.metrics import on_device

    others = None if references is None else as_features(references)
    distances, indices = on_device.nearest(as_features(queries), others, centre, k, device)
    return Neighbours(distances=distances, indices=indices)


def _nothing(count: int, k: int, dtype: Precision) -> tuple[Array, NDArray[np.int64]]:
    return np.full((count, k), np.inf, dtype), np.zeros((count, k), np.int64)


def _mean(features: Features | Array, dtype: Precision) -> Array:
    mean: Array = features.mean() if isinstance(features, Features) else features.mean(axis=0, dtype=np.float64)
    return mean.astype(dtype)


def _blocks(features: Features | Array, size: int, dtype: Precision, first: int = 0) -> Iterator[tuple[int, Array]]:
    for start in range(first, len(features), size):
        end = min(start + size, len(features))
        rows = features.rows(start, end) if isinstance(features, Features) else features[start:end]
        yield start, rows.astype(dtype, copy=False)


def _keep_least(best: Array, indices: NDArray[np.int64], squared: Array, first: int) -> None:
    # best [n, k] becomes the k least of itself and squared [n, m], in place, in any order; so do their indices.
    k = best.shape[1]
    rows = np.flatnonzero(squared.min(axis=1) < best.max(axis=1))
    squared = squared if len(rows) == len(squared) else squared[rows]
    if k < squared.shape[1]:
        places = np.argpartition(squared, k - 1, axis=1)[:, :k]
        squared = np.take_along_axis(squared, places, axis=1)
    else:
        places = np.broadcast_to(np.arange(squared.shape[1]), squared.shape)
    places = places + first
    if np.isinf(best).all() and squared.shape == best.shape:
        best[:], indices[:] = squared, places
        return
    both = np.concatenate([best[rows], squared], axis=1)  # [rows, 2 k or fewer]
    both_indices = np.concatenate([indices[rows], places], axis=1)
    least = np.argpartition(both, k - 1, axis=1)[:, :k]
    best[rows] = np.take_along_axis(both, least, axis=1)
    indices[rows] = np.take_along_axis(both_indices, least, axis=1)


def _sorted(best: Array, indices: NDArray[np.int64]) -> Neighbours:
    order = np.argsort(best, axis=1)
    return Neighbours(
        distances=np.sqrt(np.take_along_axis(best, order, axis=1)),
        indices=np.take_along_axis(indices, order, axis=1),
    )
