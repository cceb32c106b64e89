"""The last kept copy of a picture, which neither a flag nor a low rank may drop. NumPy only."""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def last_copies(
    group: NDArray[np.int64],
    kept: Mask,
    fixed: Mask,
    fault: Mask,
    pixels: NDArray[np.float64],
    order: NDArray[np.int64],
) -> Mask:
    """The copy to spare of each group of copies -> mask [N] of `kept` images.

    `group` is -1 for an image alone. Images without a `fault` come first, then those of the most `pixels`, then the
    first in `order`. A group with a kept and `fixed` image needs no other; and a fault that all copies have, dropped
    ones too, is the picture's own, not a copy's: it spares none.
    """
    eligible = (group >= 0) & kept & any_copy(group, ~fault) & ~any_copy(group, kept & fixed)
    place = np.empty(len(group), np.int64)
    place[order] = np.arange(len(group))
    best_first = np.lexsort((place, -pixels, fault, group))
    best_first = best_first[eligible[best_first]]
    last = np.zeros(len(group), bool)
    last[best_first[np.unique(group[best_first], return_index=True)[1]]] = True
    return last


def any_copy(group: NDArray[np.int64], mask: Mask) -> Mask:
    """Images of whose group the mask has one; those alone are a group together."""
    _, number = np.unique(group, return_inverse=True)
    return np.asarray(np.bincount(number[mask], minlength=len(group))[number] > 0, bool)
