"""Which images to drop: ranks of scores fused into one, the lowest first, within quotas. NumPy only.

A score's scale says nothing across methods, its order does: methods are fused by their ranks. Quotas keep a rare kind
of image from being dropped as if it were a fault.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FUSIONS = ("mean", "min")


def ranks(scores: Floats) -> Floats:
    """Scores [N] -> ranks in (0, 1), the lowest score first; equal scores share the mean of theirs; NaN stays NaN."""
    rank = np.full(len(scores), np.nan)
    known = ~np.isnan(scores)
    _, inverse, counts = np.unique(scores[known], return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    rank[known] = ((below + counts / 2) / max(known.sum(), 1))[inverse]
    return rank


def fuse(scores: Sequence[Floats], fusion: str = "mean", weights: Sequence[float] | None = None) -> Floats:
    """Scores [N] of several methods -> one rank [N] in (0, 1); NaN where no method has a score.

    "mean" of an image's ranks, by the methods' `weights` where they are given, or "min": low as soon as one method
    finds it low.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"`fusion` must be one of {', '.join(FUSIONS)}; got {fusion!r} instead")
    rank = np.stack([ranks(s) for s in scores])  # [methods, N]
    known = ~np.isnan(rank)
    if fusion == "min":
        fused: Floats = np.where(known, rank, np.inf).min(0)
    else:
        share = np.asarray(np.ones(len(scores)) if weights is None else weights)[:, None]
        known &= share > 0
        fused = np.where(known, rank * share, 0).sum(0) / np.maximum((known * share).sum(0), 1e-300)
    fused[~known.any(0)] = np.nan
    return fused


def drop_lowest(
    rank: Floats, order: NDArray[np.int64], strata: NDArray[np.int64], candidates: Mask, room: NDArray[np.int64], n: int
) -> Mask:
    """The n lowest candidates, at most room[s] of stratum s -> mask [N]; fewer where the room ends.

    `order` breaks ties: of two equal ranks, the image that comes first in it is dropped first.
    """
    lowest_first = order[candidates[order] & ~np.isnan(rank[order])]
    lowest_first = lowest_first[np.argsort(rank[lowest_first], kind="stable")]
    groups = strata[lowest_first]
    in_room = lowest_first[_position_in_group(groups) < room[groups]]
    dropped = np.zeros(len(rank), bool)
    dropped[in_room[: max(n, 0)]] = True
    return dropped


def at_most(share: float, count: int) -> int:
    """How many of `count` images may go when at least `share` of them must stay."""
    return count - math.ceil(share * count - 1e-9)  # 0.7 * 10 is a little more than 7


def highest(rank: Floats, candidates: Mask, share: float) -> Mask:
    """The candidates whose rank lies in the highest `share` of ranks -> mask [N]."""
    return candidates & (np.nan_to_num(rank, nan=-1) > 1 - share)


def _position_in_group(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    # [2, 0, 2, 2, 0] -> [0, 0, 1, 2, 1]
    by_group = np.argsort(groups, kind="stable")
    sorted_groups = groups[by_group]
    starts = np.flatnonzero(np.r_[True, sorted_groups[1:] != sorted_groups[:-1]]) if len(groups) else groups
    lengths = np.diff(np.r_[starts, len(groups)])
    position = np.empty(len(groups), np.int64)
    position[by_group] = np.arange(len(groups)) - np.repeat(starts, lengths)
    return position
