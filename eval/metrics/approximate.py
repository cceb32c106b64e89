"""Approximate nearest neighbours, where comparing all pairs would take hours: time O(N log N), memory 0.5 kB a row.

Samples are projected on their first principal components, in bytes, and a graph of near ones is walked through (HNSW,
Malkov and Yashunin 2020, by faiss). What it names is compared again in all dimensions, exactly as neighbours does. How
many of the true neighbours are found is measured on some of the samples. The graph is built by one thread: with more
of them it would be another at each run.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from eval.metrics.confidence_intervals import Estimate, wilson
from eval.metrics.feature_stats import Array, Features, Moments
from eval.metrics.neighbours import Neighbours, neighbours_among
from gan.errors import RequestError
from gan.runtime.console import progress
from gan.runtime.parallel import ordered_map

EXACT = 100_000  # samples up to which all pairs are compared
DIM = 256  # principal components
FITTED = 20_000  # samples that these are fitted on
LINKS, BUILT, WALKED = 16, 128, 128  # of a node; and the nodes kept while it is linked, and while one is searched
CANDIDATES = 64  # for each sample, compared in all dimensions
MOST = 24  # neighbours that can be asked for
TESTED = 500  # samples whose true neighbours are searched, too
BLOCK, COMPARED = 256, 16  # samples that are searched, and that are compared, at a time


@dataclass(frozen=True, kw_only=True)
class Approximate:
    """What was found, and the share of the true neighbours among it."""

    neighbours: Neighbours
    recall: Estimate


def neighbours(features: Features, k: int, *, seed: int = 0) -> Approximate:
    """The k nearest others of nearly each sample [N, d], and how nearly; in float32.

    Where the graph leads to fewer than k others, all samples are searched. Raises ValueError unless k is from 1 to 24
    and there are more samples, and RequestError where faiss is not installed.
    """
    if not 1 <= k <= min(MOST, len(features) - 1):
        raise ValueError(f"k must be from 1 to {MOST} and fewer than the samples; got {k} of {len(features)} instead")
    chosen = np.random.default_rng(seed).permutation(len(features))
    graph = _Graph(features, chosen[:FITTED])
    distances = np.empty([len(features), k], np.float32)
    indices = np.empty([len(features), k], np.int64)
    starts = range(0, len(features), BLOCK)
    with ThreadPoolExecutor(initializer=graph.by_one_thread) as pool:
        blocks = ordered_map(pool, lambda start: graph.nearest(start, k), starts, ahead=4)
        for start, found in zip(starts, progress(blocks, "Searching neighbours", len(starts)), strict=True):
            distances[start : start + BLOCK], indices[start : start + BLOCK] = found
    tested = np.sort(chosen[:TESTED])
    lacking = np.flatnonzero(np.isinf(distances[:, -1]))
    exact = _exactly(features, np.concatenate([tested, lacking]), k)
    distances[lacking], indices[lacking] = exact.distances[len(tested) :], exact.indices[len(tested) :]
    both = zip(exact.indices[: len(tested)], indices[tested], strict=True)
    recall = _recall(np.array([len(np.intersect1d(*each)) for each in both]), k)
    return Approximate(neighbours=Neighbours(distances=distances, indices=indices), recall=recall)


def _recall(hits: NDArray[np.int64], k: int) -> Estimate:
    # Of k neighbours of each sample so many found [n]. Those of one sample may be missed together: then they say less.
    share = hits.mean() / k
    spread = hits.var() / (k * share * (1 - share)) if 0 < share < 1 else 1.0
    return wilson(int(hits.sum()), len(hits) * k, spread)


class _Graph:
    def __init__(self, features: Features, fitted: NDArray[np.int64]) -> None:
        try:
            import faiss
        except ImportError as error:
            raise RequestError(
                f"neighbours among more than {EXACT:,} images need pip install 'salon[faiss]': {error}"
            ) from error
        self._features = features
        sample = features.take(np.sort(fitted))
        moments = Moments(features.dim)
        moments.add(sample)
        self._centre = moments.mean
        self._basis = np.linalg.eigh(moments.cov)[1][:, ::-1][:, :DIM].astype(np.float32)
        self._index = cast(Any, faiss.index_factory(self._basis.shape[1], f"HNSW{LINKS}_SQ8"))
        self._index.hnsw.efConstruction, self._index.hnsw.efSearch = BUILT, WALKED
        self._index.train(self._projected(sample))
        self.by_one_thread = partial(faiss.omp_set_num_threads, 1)
        with ThreadPoolExecutor(1, initializer=self.by_one_thread) as thread:
            blocks = progress(features.blocks(BLOCK), "Linking neighbours", -(-len(features) // BLOCK))
            for _ in ordered_map(thread, lambda block: self._index.add(self._projected(block[1])), blocks, ahead=4):
                pass

    def nearest(self, start: int, k: int) -> tuple[Array, NDArray[np.int64]]:
        # Of the samples of a block: distances [n, k], infinite where too few were found, and indices.
        queries = self._features.rows(start, min(start + BLOCK, len(self._features)))
        candidates = self._index.search(self._projected(queries), CANDIDATES + 1)[1]  # [n, CANDIDATES + 1]; -1: none
        own = start + np.arange(len(queries))[:, None]
        there, place = np.unique(candidates, return_inverse=True)
        rows = self._features.take(np.maximum(there, 0), np.float32)
        squared = np.empty(candidates.shape, np.float32)
        for first in range(0, len(queries), COMPARED):
            part = slice(first, first + COMPARED)
            difference = rows[place.reshape(candidates.shape)[part]]  # [COMPARED, CANDIDATES + 1, d]
            difference -= queries[part, None].astype(np.float32)
            squared[part] = np.einsum("qcd,qcd->qc", difference, difference)
        squared[(candidates < 0) | (candidates == own)] = np.inf
        order = np.argsort(squared, axis=1, kind="stable")[:, :k]
        return np.sqrt(np.take_along_axis(squared, order, axis=1)), np.take_along_axis(candidates, order, axis=1)

    def _projected(self, rows: Array) -> Any:
        return (rows - self._centre).astype(np.float32) @ self._basis  # [n, DIM]


def _exactly(features: Features, places: NDArray[np.int64], k: int) -> Neighbours:
    # Of some samples: the k nearest of all others.
    found = neighbours_among(features.take(places), features, k + 1, dtype=np.float32)
    own = found.indices == places[:, None]
    own[~own.any(axis=1), -1] = True  # more copies of it than k are as near as itself
    others = ~own
    shape = len(places), k
    return Neighbours(distances=found.distances[others].reshape(shape), indices=found.indices[others].reshape(shape))
