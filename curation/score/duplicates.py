"""Near duplicates: found by a perceptual hash that knows a mirrored or turned image; and groups of them.

A hash is 64 signs of low frequencies of the discrete cosine transform. Mirroring an image changes the sign of its odd
horizontal frequencies, so the hash of the mirrored image is the hash of the image with fixed bits turned over. With the
hash of the transposed image this gives all eight orientations, numbered as in curation.score.alignment.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from gan.data.images import Pixels

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]  # [P, 2], the first below the second

SIDE, FREQUENCIES = 32, 8  # px, and frequencies in each direction
RADIUS = 7  # bits; 4 bands of 16 bits then hold one that differs by a bit at most
MIN_SERIES = 0.75  # of the features of a series
_BANDS, _BAND_BITS = 4, 16
# Bit 8v + u is the sign of vertical frequency v and horizontal frequency u; the mean brightness (0, 0) says nothing,
# and in its place stands (8, 0). Odd u change under mirroring.
MIRROR = np.uint64(sum(1 << (8 * v + u) for v in range(8) for u in range(1, 8, 2)))
TURN = np.uint64(sum(1 << (8 * v + u) for v in range(1, 8, 2) for u in range(8)))  # upside down, likewise of odd v
_FLIPS = np.array([0, *(1 << bit for bit in range(_BAND_BITS))], np.uint16)  # within one bit of a band


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits of uint8 [H, W, 3]; images that look alike differ in few."""
    return perceptual_hashes(pixels)[0]


def perceptual_hashes(pixels: Pixels) -> tuple[int, int]:
    """The hashes of an image and of the transposed image."""
    grey = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    spectrum = fft.dctn(np.asarray(grey, np.float64), norm="ortho")[: FREQUENCIES + 1, : FREQUENCIES + 1]
    return _signs(spectrum), _signs(spectrum.T)


def _signs(spectrum: NDArray[np.float64]) -> int:
    signs = spectrum[:FREQUENCIES, :FREQUENCIES] > 0
    signs[0, 0] = spectrum[FREQUENCIES, 0] > 0
    return int(np.packbits(signs.ravel(), bitorder="little").view("<u8")[0])


def mirrored(hashes: Hashes) -> Hashes:
    """Hashes of the mirrored images."""
    return hashes ^ MIRROR


def orientations(hashes: Hashes, transposed: Hashes | None = None) -> Hashes:
    """Hashes of the images in each orientation, [8, N]; without those `transposed`, upright and mirrored, [2, N]."""
    if transposed is None:
        return np.stack([hashes, mirrored(hashes)])
    return np.stack([base ^ flip for base in (hashes, transposed) for flip in (0, MIRROR, TURN, MIRROR ^ TURN)])


def closest(pairs: Pairs, hashes: Hashes, transposed: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each pair: the orientation in which the first is nearest to the second, and in how many bits they differ."""
    turned = orientations(hashes[pairs[:, 0]], transposed[pairs[:, 0]])
    bits = np.bitwise_count(turned ^ hashes[pairs[:, 1]]).astype(np.int64)  # [8, P]
    return bits.argmin(axis=0), bits.min(axis=0)


def to_text(value: int) -> str:
    """16 hexadecimal digits, as in the manifest."""
    return f"{value:016x}"


def near_hashes(hashes: Hashes, radius: int = RADIUS, first_new: int = 0, *, transposed: Hashes | None = None) -> Pairs:
    """Pairs of images whose hashes, or one of them mirrored, differ in at most `radius` bits.

    With the hashes of the `transposed` images, one of them in any of eight orientations. Only pairs with an image from
    `first_new` on are looked for. Without an N x N table: by the pigeonhole principle one of four bands of 16 bits
    differs in radius / 4 bits at most, so its neighbours are looked up (Norouzi et al. 2012, section 3).

    Raises ValueError for a radius above 7.
    """
    if not 0 <= radius <= RADIUS:
        raise ValueError(f"radius must be from 0 to {RADIUS}; got {radius} instead")
    near: list[Pairs] = [np.empty([0, 2], np.int64)]
    new = np.arange(first_new, len(hashes))
    for queries in orientations(hashes[first_new:], None if transposed is None else transposed[first_new:]):
        for band in range(_BANDS):
            keys, query_keys = _band(hashes, band), _band(queries, band)
            order = np.argsort(keys, kind="stable")
            for flip in _FLIPS:
                for left, right in same_keys(keys, order, query_keys ^ flip):
                    within = np.bitwise_count(queries[left] ^ hashes[right]) <= radius
                    pairs = np.stack([new[left[within]], right[within]], axis=1)
                    near.append(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1))
    return np.unique(np.concatenate(near), axis=0)


def groups(pairs: Pairs, count: int) -> NDArray[np.int64]:
    """Connected images -> the lowest index of each one's group, -1 for an image alone; int64 [count]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first, sizes = np.unique(component, return_index=True, return_counts=True)
    named = np.where(sizes > 1, first, -1)
    return np.asarray(named[component], np.int64)


def same_keys(
    keys: NDArray[Any], order: NDArray[np.int64], query_keys: NDArray[Any]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Queries and what has their key among `keys`, of which `order` is the sorted order; some of them at a time."""
    ordered = keys[order]
    low = np.searchsorted(ordered, query_keys, "left")
    counts = np.searchsorted(ordered, query_keys, "right") - low
    for start, stop in _chunks(counts):
        matches = counts[start:stop]  # of each query
        queries = np.repeat(np.arange(start, stop), matches)
        offsets = np.arange(matches.sum()) - np.repeat(np.cumsum(matches) - matches, matches)
        yield queries, order[np.repeat(low[start:stop], matches) + offsets]


def _band(hashes: Hashes, band: int) -> NDArray[np.uint16]:
    return (hashes >> np.uint64(_BAND_BITS * band)).astype(np.uint16)


def _chunks(counts: NDArray[np.int64], largest: int = 1 << 20) -> Iterator[tuple[int, int]]:
    # Ranges of queries with about `largest` candidates together: many equal hashes must not fill the memory.
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + largest, "right")), start + 1)
        yield start, stop
        start = stop
