"""What is kept of features [N, d]: their moments, or themselves in shards on disk. Neither needs N x d of memory."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.errors import RequestError

Array = NDArray[Any]
Matrix = NDArray[np.float64]

BLOCK = 2048  # rows that are turned into float64 at a time


class Moments:
    """Mean and covariance of features of dimension d, in float64, from batches or from other moments: O(d^2) memory.

    Sums of squares are kept around the mean and merged as Chan et al. 1979 do, so a large mean costs no digits.
    """

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise ValueError(f"dim must be positive; got {dim} instead")
        self.dim = dim
        self.count = 0
        self.mean: Matrix = np.zeros(dim)
        self._scatter: Matrix = np.zeros((dim, dim))  # sum of (x - mean)(x - mean)^T

    def add(self, features: Array) -> None:
        """Count features [N, d] in. Raises ValueError for another shape, NaN or infinity."""
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"features must be [N, {self.dim}]; got {list(features.shape)} instead")
        if not len(features):
            return
        mean = features.mean(axis=0)
        if not np.isfinite(mean).all():
            raise ValueError(f"features must be finite; got {np.sum(~np.isfinite(features))} values that are not")
        centred = features - mean
        self._merge(len(features), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> None:
        """Count in what another has counted; in any order up to rounding. Raises ValueError for another dimension."""
        if other.dim != self.dim:
            raise ValueError(f"moments must be of dimension {self.dim}; got {other.dim} instead")
        if other.count:
            self._merge(other.count, other.mean, other._scatter)

    @property
    def cov(self) -> Matrix:
        """Covariance [d, d], of (N - 1). Raises ValueError for fewer than two samples."""
        if self.count < 2:
            raise ValueError(f"a covariance must have at least 2 samples; got {self.count} instead")
        return self._scatter / (self.count - 1)

    @property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float(np.trace(self._scatter)) / (self.count - 1)

    @classmethod
    def of(cls, mean: Array, cov: Array) -> "Moments":
        """Of known mean [d] and covariance [d, d], of samples whose number is not known.

        Raises ValueError for other shapes, values that are not finite, or a matrix that is no covariance.
        """
        mean, cov = np.asarray(mean, np.float64), np.asarray(cov, np.float64)
        if mean.ndim != 1 or cov.shape != 2 * mean.shape or not len(mean):
            raise ValueError(f"mean and cov must be [d] and [d, d]; got {list(mean.shape)} and {list(cov.shape)}")
        if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
            raise ValueError("mean and cov must be finite; got NaN or infinity")
        if np.abs(cov - cov.T).max() > 1e-4 * np.abs(cov).max() or (np.diag(cov) < 0).any():
            raise ValueError("cov must be symmetric, with variances from 0 up")
        moments = cls(len(mean))
        moments.count, moments.mean, moments._scatter = 2, mean, (cov + cov.T) / 2  # 2 - 1 is what cov divides by
        return moments

    def project(self, centre: Array, basis: Array) -> "Moments":
        """Of (x - centre) @ basis, basis [d, k]."""
        moments = Moments(basis.shape[1])
        moments.count, moments.mean = self.count, (self.mean - centre) @ basis
        moments._scatter = basis.T @ self._scatter @ basis
        return moments

    def to_arrays(self) -> dict[str, Array]:
        """For np.savez."""
        return {"count": np.array(self.count, np.int64), "mean": self.mean, "scatter": self._scatter}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Moments":
        """From what `to_arrays` gave. Raises RequestError when it is something else."""
        try:
            count, mean, scatter = int(arrays["count"]), arrays["mean"], arrays["scatter"]
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"moments must hold count, mean and scatter; got {error} instead") from error
        if mean.ndim != 1 or scatter.shape != 2 * mean.shape or count < 0:
            raise RequestError(
                f"moments must be of mean [d] and scatter [d, d]; got {list(mean.shape)} and {list(scatter.shape)}"
            )
        moments = cls(len(mean))
        moments.count, moments.mean, moments._scatter = count, np.float64(1) * mean, np.float64(1) * scatter
        return moments

    def _merge(self, count: int, mean: Matrix, scatter: Matrix) -> None:
        total = self.count + count
        delta = mean - self.mean
        self._scatter += scatter
        if self.count:
            self._scatter += np.outer(delta * (self.count * count / total), delta)
        self.mean = self.mean + delta * (count / total)
        self.count = total


class Features:
    """Features [N, d] in shards [n, d] one after the other, which may be memory maps: read block by block.

    With `chosen` [N] they are those rows of the shards, in that order.
    """

    def __init__(self, shards: Sequence[Array], chosen: Array | None = None) -> None:
        if not shards or any(s.ndim != 2 or s.shape[1] != shards[0].shape[1] for s in shards):
            shapes = [list(s.shape) for s in shards]
            raise ValueError(f"shards must be one or more of [n, d] with the same d; got {shapes} instead")
        self.shards = list(shards)
        self.dim = int(shards[0].shape[1])
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self._chosen = None if chosen is None else np.asarray(chosen)

    @classmethod
    def open(cls, paths: Sequence[Path]) -> "Features":
        """Open .npy shards as memory maps. Raises RequestError for a file that is none."""
        shards = []
        for path in paths:
            try:
                shards.append(np.load(path, mmap_mode="r", allow_pickle=False))
            except (OSError, ValueError) as error:
                raise RequestError(f"{path} must be a .npy file of features; got {error} instead") from error
        return cls(shards)

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._chosen is None else len(self._chosen)

    def rows(self, first: int, end: int) -> Matrix:
        """Rows first..end as float64 [end - first, d], a copy."""
        out = np.empty((end - first, self.dim))
        if self._chosen is not None:
            self._take(np.arange(first, end), out)
            return out
        for shard, start in zip(self.shards, self._starts, strict=False):
            low, high = max(first, start), min(end, start + len(shard))
            if low < high:
                out[low - first : high - first] = shard[low - start : high - start]
        return out

    def take(self, indices: Array, dtype: type[np.floating[Any]] = np.float64) -> Array:
        """Rows by index [n] from 0 on, in any order -> [n, d]. Raises IndexError for one that there is not."""
        out = np.empty((len(indices), self.dim), dtype)
        self._take(indices, out)
        return out

    def blocks(self, size: int = BLOCK, first: int = 0) -> Iterator[tuple[int, Matrix]]:
        """All rows from `first` on, `size` at a time: (index of the first, float64 [size or fewer, d])."""
        for start in range(first, len(self), size):
            yield start, self.rows(start, min(start + size, len(self)))

    def view(self, indices: Array) -> "Features":
        """Rows by index, in any order, without a copy."""
        return Features(self.shards, indices if self._chosen is None else self._chosen[indices])

    def subset(self, indices: Array) -> "Features":
        """Rows by index, as they are stored, in memory. Raises ValueError for none."""
        if not len(indices):
            raise ValueError("indices must be one or more; got none instead")
        out = np.empty((len(indices), self.dim), self.shards[0].dtype)
        self._take(indices, out)
        return Features([out])

    def mean(self) -> Matrix:
        """Of all rows: [d]."""
        return sum((block.sum(axis=0) for _, block in self.blocks()), np.zeros(self.dim)) / max(len(self), 1)

    def project(self, centre: Array, basis: Array) -> "Features":
        """(x - centre) @ basis of all rows, basis [d, k], in memory as float32."""
        out = np.empty((len(self), basis.shape[1]), np.float32)
        for first, block in self.blocks():
            out[first : first + len(block)] = (block - centre) @ basis
        return Features([out])

    def moments(self, indices: Array | None = None) -> Moments:
        """Of all rows, or of those by index."""
        moments = Moments(self.dim)
        if indices is None:
            for _, block in self.blocks():
                moments.add(block)
        else:
            for first in range(0, len(indices), BLOCK):
                moments.add(self.take(indices[first : first + BLOCK]))
        return moments

    def _take(self, indices: Array, out: Array) -> None:
        indices = np.asarray(indices) if self._chosen is None else self._chosen[indices]
        order = None if (indices[1:] >= indices[:-1]).all() else np.argsort(indices, kind="stable")
        ordered = indices if order is None else indices[order]
        if len(ordered) and not 0 <= ordered[0] <= ordered[-1] < self._starts[-1]:
            raise IndexError(f"indices must be from 0 to {self._starts[-1] - 1}; got {ordered[0]} to {ordered[-1]}")
        edges = np.searchsorted(ordered, self._starts)
        for index in np.flatnonzero(np.diff(edges)).tolist():  # one shard after the other
            part = slice(edges[index], edges[index + 1])
            out[part if order is None else order[part]] = self.shards[index][ordered[part] - self._starts[index]]


class UnitFeatures(Features):
    """Features around the mean of all of them and at unit length: the nearest are those of the largest cosine."""

    def __init__(self, features: Features) -> None:
        super().__init__(features.shards, features._chosen)
        self._centre = features.mean()

    def rows(self, first: int, end: int) -> Matrix:
        """Rows first..end as float64 [end - first, d]."""
        rows = super().rows(first, end)
        return self._at_unit_length(rows) if self._chosen is None else rows  # which _take has made of unit length

    def view(self, indices: Array) -> "Features":
        """Not of these: their mean would be another."""
        raise NotImplementedError

    def _take(self, indices: Array, out: Array) -> None:
        super()._take(indices, out)
        self._at_unit_length(out)

    def _at_unit_length(self, rows: Array) -> Array:
        rows -= self._centre
        rows /= np.maximum(np.sqrt(np.einsum("nd,nd->n", rows, rows)), 1e-12)[:, None]
        return rows


def joined(sets: Sequence[Features]) -> Features:
    """The rows of all sets [N, d], one set after the other, without a copy."""
    starts = np.cumsum([0, *(int(each._starts[-1]) for each in sets)])
    chosen = [
        start + (np.arange(len(each)) if each._chosen is None else each._chosen)
        for start, each in zip(starts, sets, strict=False)
    ]
    return Features([shard for each in sets for shard in each.shards], np.concatenate(chosen))


def as_features(features: "Features | Array") -> Features:
    """Features as they are, or an array [N, d] as features of one shard."""
    return features if isinstance(features, Features) else Features([np.asarray(features)])
