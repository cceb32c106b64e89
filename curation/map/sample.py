"""Which images to show where there are too many: a sample in which each stratum keeps its share. NumPy only."""

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


def stratified(strata: Places, count: int, *, seed: int) -> Places:
    """`count` of the places of `strata` [N], drawn within each stratum -> places [count], ascending; all if fewer.

    Shares are rounded by largest remainders; where there is room for all strata, each has one image at least.
    """
    if len(strata) <= count:
        return np.arange(len(strata))
    _, inverse, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(strata))
    by_stratum = shuffled[np.argsort(inverse[shuffled], kind="stable")]
    chosen = [
        part[:taken]
        for part, taken in zip(np.split(by_stratum, np.cumsum(sizes)[:-1]), _shares(sizes, count), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _shares(sizes: Places, count: int) -> list[int]:
    # How many of each stratum; the sum is `count`.
    exact = sizes * count / sizes.sum()
    taken = np.floor(exact).astype(np.int64)
    taken[np.argsort(taken - exact, kind="stable")[: count - int(taken.sum())]] += 1
    if len(sizes) <= count:
        for stratum in np.flatnonzero(taken == 0).tolist():
            taken[stratum], taken[int(np.argmax(taken))] = 1, taken.max() - 1
    shares: list[int] = taken.tolist()
    return shares
