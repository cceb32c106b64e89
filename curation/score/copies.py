"""Copies of a picture: turned, mirrored, grey, blurred, scaled, cropped, or within a border or a frame.

Hashes and features name the pairs that may be copies, and the details of the two pictures decide. An image has one or
two views: the whole, and what lies inside of a border or frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from curation.score import alignment, duplicates, image_checks, sampled_bits
from curation.score.alignment import aligned, oriented
from curation.score.duplicates import Hashes, Pairs
from gan.data.images import Pixels
from gan.runtime.console import progress

MIN_ALIGNED = 0.81  # of the details of copies: benchmarks/README.md
MIN_ALIGNED_EQUAL = 0.5  # where the hashes differ by a bit at most, as a blurred copy's do
EQUAL = 1  # bits
MIN_COSINE = 0.65  # of features, centred on the mean of the set: those of a crop are alike, its hash is not

Candidate = tuple[int, int, tuple[int, ...], int]  # two views, orientations to try, and the bits that differ
View = tuple[int, int, tuple[int, int, int, int] | None]  # hash, hash when transposed, the box of what lies inside


@dataclass(frozen=True, kw_only=True)
class Views:
    """The views of a set of images, in the order of the images."""

    image: NDArray[np.int64]  # [V] of each view
    hashes: Hashes  # [V]
    transposed: Hashes  # [V]
    boxes: list[tuple[int, int, int, int] | None]  # left, top, right, bottom; None: the whole image

    def has_inside(self, view: int) -> bool:
        """Whether the whole image that is a view is followed by the view of what lies inside of its border."""
        return view + 1 < len(self.boxes) and self.boxes[view + 1] is not None


def views(pixels: Pixels) -> list[View]:
    """The views of one image, the whole first."""
    box = image_checks.inside(pixels)
    boxes = [None] if box is None else [None, box]
    return [(*duplicates.perceptual_hashes(cut(pixels, box)), box) for box in boxes]


def collected(views_of: list[list[View]]) -> Views:
    """The views of all images."""
    every = [view for some in views_of for view in some]
    return Views(
        image=np.repeat(np.arange(len(views_of)), [len(some) for some in views_of]),
        hashes=np.array([view[0] for view in every], np.uint64),
        transposed=np.array([view[1] for view in every], np.uint64),
        boxes=[view[2] for view in every],
    )


def area(view: View, pixels: int) -> float:
    """The share of an image of so many pixels that a view shows."""
    if view[2] is None:
        return 1.0
    left, top, right, bottom = view[2]
    return (right - left) * (bottom - top) / pixels


def cut(pixels: Pixels, box: tuple[int, int, int, int] | None) -> Pixels:
    """What lies inside of the box."""
    if box is None:
        return pixels
    left, top, right, bottom = box
    return pixels[top:bottom, left:right]


def find(
    known: Views, alike: Pairs, pixels: Callable[[int], Pixels], first_new: int = 0, same: Pairs | None = None
) -> Pairs:
    """Pairs of images that are copies, enough of them to connect all copies -> [P, 2], the first below the second.

    `alike` are pairs of images [P, 2] whose features are alike, `pixels` gives an image, and pairs that are known to be
    the `same` connect from the beginning. Only pairs with an image from `first_new` on are looked for.
    """
    image = known.image
    start = int(np.searchsorted(image, first_new))
    search = duplicates if len(image) <= sampled_bits.EXACT else sampled_bits
    pairs = search.near_hashes(known.hashes, first_new=start, transposed=known.transposed)
    pairs = pairs[image[pairs[:, 0]] != image[pairs[:, 1]]]
    orientations, bits = duplicates.closest(pairs, known.hashes, known.transposed)
    order = np.argsort(bits, kind="stable")
    candidates = [(*pairs[i].tolist(), (int(orientations[i]),), int(bits[i])) for i in order.tolist()]
    whole = np.searchsorted(image, alike[alike[:, 1] >= first_new])  # the first view of an image
    candidates += [(a, b, (0, 1), duplicates.RADIUS) for a, b in whole.tolist()]
    candidates = list(dict.fromkeys(_within_borders(known, candidate) for candidate in candidates))
    details = lru_cache(4096)(lambda view: alignment.details(cut(pixels(int(image[view])), known.boxes[view])))
    root = list(range(int(image[-1]) + 1 if len(image) else 0))
    for a, b in () if same is None else same.tolist():
        root[_root(root, b)] = _root(root, a)
    found = []
    for a, b, turns, differing in progress(candidates, "Comparing", len(candidates)):
        first, second = int(image[a]), int(image[b])
        if _root(root, first) == _root(root, second):
            continue
        least = MIN_ALIGNED_EQUAL if differing <= EQUAL else MIN_ALIGNED
        if any(aligned(oriented(details(a), turn), details(b)) >= least for turn in turns):
            root[_root(root, second)] = _root(root, first)
            found.append(sorted((first, second)))
    return np.array(found, np.int64).reshape(-1, 2)


def _within_borders(known: Views, candidate: Candidate) -> Candidate:
    # Of two images with borders what lies inside is compared: their borders alone are alike.
    a, b, turns, _ = candidate
    if known.boxes[a] is None and known.boxes[b] is None and known.has_inside(a) and known.has_inside(b):
        return a + 1, b + 1, turns, duplicates.RADIUS
    return candidate


def _root(root: list[int], place: int) -> int:
    while root[place] != place:
        root[place] = place = root[root[place]]
    return place
