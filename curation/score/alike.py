"""Pairs of images whose features are alike: by all pairs up to 100,000 images, by approximate neighbours above.

`features` are [N, dim]; cosines are around their mean.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curation.score.duplicates import Pairs
from eval.metrics import approximate
from eval.metrics.approximate import Approximate
from eval.metrics.feature_stats import Array, Features, UnitFeatures, as_features

if TYPE_CHECKING:
    import torch  # only named here

Floats = NDArray[np.float32]

BLOCK = 2048  # images on either side of a block of cosines
MOST_ALIKE = 3  # of each image, by features: so many pairs are compared in detail, whatever the size of the set
NEIGHBOURS = 20  # of an image, where they are approximate


def found_neighbours(features: Features, device: "torch.device | None" = None) -> Approximate | None:
    """The NEIGHBOURS nearest of each of many images; None where all pairs can be compared: of few, or on a GPU."""
    if device is not None or len(features) <= approximate.EXACT:
        return None
    return approximate.neighbours(UnitFeatures(features), NEIGHBOURS)


def similar(
    features: Features | Array,
    least: float,
    device: "torch.device | None" = None,
    near: Approximate | None = None,
) -> Pairs:
    """Pairs with a cosine of `least` or more, block by block -> [P, 2]; of `near` neighbours alone, where given.

    Searched on a `device` where one is given.
    """
    if near is not None:
        return _linked(near, least)
    unit = in_memory(features)
    if device is not None:
        from eval.metrics import on_device

        return on_device.alike(as_features(unit), least, device)
    blocks = [np.empty([0, 2], np.int64)]
    for a in range(0, len(unit), BLOCK):
        for b in range(a, len(unit), BLOCK):
            pairs: Pairs = np.argwhere(unit[a : a + BLOCK] @ unit[b : b + BLOCK].T >= least)
            pairs += np.array([a, b])
            blocks.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(blocks)


def in_memory(features: Features | Array) -> Floats:
    """Around their mean, at unit length."""
    every = np.arange(len(features))
    return np.asarray(UnitFeatures(as_features(features)).take(every, np.float32))


def _linked(near: Approximate, least: float) -> Pairs:
    # Between unit vectors |x - y|^2 = 2 - 2 cos.
    of, which = np.nonzero(near.neighbours.distances <= np.sqrt(2 - 2 * least))
    pairs = np.sort(np.stack([of, near.neighbours.indices[of, which]], axis=1), axis=1)
    return np.unique(pairs, axis=0)


def cosines(features: Features | Array, pairs: Pairs) -> Floats:
    """Of pairs [P, 2] -> [P]."""
    unit = UnitFeatures(as_features(features))
    blocks = [
        np.einsum("pd,pd->p", *(unit.take(some, np.float32) for some in pairs[start : start + BLOCK].T))
        for start in range(0, len(pairs), BLOCK)
    ]
    return np.concatenate([np.empty(0, np.float32), *blocks])


def nearest_pairs(pairs: Pairs, cosine: Floats, count: int = MOST_ALIKE) -> NDArray[np.bool_]:
    """Which pairs [P, 2] are, by their cosines [P], among the `count` most alike of either image -> mask [P]."""
    ends = pairs.T.reshape(-1)
    order = np.lexsort((-np.tile(cosine, 2), ends))
    _, first, counts = np.unique(ends[order], return_index=True, return_counts=True)
    rank = np.empty(len(ends), np.int64)
    rank[order] = np.arange(len(ends)) - np.repeat(first, counts)
    return np.asarray((rank < count).reshape(2, -1).any(axis=0))
