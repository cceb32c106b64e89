"""Labels that an image's nearest neighbours contradict, and the label that they agree on."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curation.score.alike import NEIGHBOURS, in_memory
from eval.metrics.approximate import Approximate
from eval.metrics.feature_stats import Array, Features
from eval.metrics.neighbours import neighbours

if TYPE_CHECKING:
    import torch  # only named here

MIN_AGREEMENT = 0.6  # share of the votes of neighbours that agree on another label
MAX_OWN = 0.05  # share of the votes for the image's own label
MIN_LIFT = 1.5
MIN_CLASS = 20  # images

Floats = NDArray[np.float32]


def mislabelled(
    features: Features | Array,
    labels: NDArray[np.int64],
    device: "torch.device | None" = None,
    near: Approximate | None = None,
) -> dict[int, int]:
    """Places of images whose nearest neighbours agree on another label -> the place of an image of that label.

    The neighbours are those that are `near`, where they are given, or are searched, on a `device` where one is given.
    """
    first, labels, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)[1:]
    places = {}
    alike = most_alike(in_memory(features), NEIGHBOURS, device) if near is None else near.neighbours.indices
    for place, others in enumerate(alike):
        label = outvoted(int(labels[place]), labels[others], counts)
        if label is not None:
            places[place] = int(first[label])
    return places


def outvoted(own: int, near: NDArray[np.int64], counts: NDArray[np.int64]) -> int | None:
    """The label on which neighbours, of labels `near` [k], agree against the `own`; None where they do not.

    A neighbour counts by how rare its label is, so that a large class does not outvote a small one. Nor does it where
    it is around everything: the label must be MIN_LIFT times as frequent among the neighbours as in the set, where
    `counts` [labels] are the images of each. Classes of fewer than MIN_CLASS images are left alone.
    """
    votes = np.bincount(near, 1 / counts[near], minlength=len(counts))
    best, total = int(votes.argmax()), votes.sum()
    agreed = best != own and votes[best] >= (MIN_AGREEMENT - 1e-6) * total and votes[own] <= (MAX_OWN + 1e-6) * total
    telling = (near == best).mean() >= MIN_LIFT * counts[best] / counts.sum()
    return best if agreed and telling and min(counts[own], counts[best]) >= MIN_CLASS else None


def most_alike(unit: Floats, k: int, device: "torch.device | None" = None) -> NDArray[np.int64]:
    """Of each unit vector [N, dim] the `k` others (or all, where fewer) of the largest cosine, places [N, k]."""
    k = min(k, len(unit) - 1)
    if not k:
        return np.empty([len(unit), 0], np.int64)
    return neighbours(unit, k, dtype=np.float32, device=device).indices
