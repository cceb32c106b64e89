"""Near duplicates among very many hashes: those that agree in some of their bits, drawn again and again.

Bit sampling (Indyk and Motwani 1998): time O(N log N), where looking up bands of the hashes grows faster. A pair of
hashes that differ in 7 bits is found with a probability of 98 %, nearer ones more surely. Of images with equal hashes
each is paired with the first alone.
"""

from math import ceil, comb, log

import numpy as np

from curation.score.duplicates import MIRROR, RADIUS, TURN, Hashes, Pairs, same_keys
from gan.runtime.console import progress

EXACT = 100_000  # hashes up to which curation.score.duplicates looks all bands up
RECALL = 0.98  # of pairs that differ in RADIUS bits
KEY_BITS = 20  # and two more, by which the orientation is chosen
_OF_MIRROR = [8 * v + u for v in range(0, 8, 2) for u in range(1, 8, 2)]  # bits that only mirroring turns over
_OF_TURN = [8 * v + u for v in range(1, 8, 2) for u in range(0, 8, 2)]  # and only turning upside down


def draws() -> int:
    """How often bits are drawn, so that a pair that differs in RADIUS is found with a probability of RECALL."""
    together = comb(64 - KEY_BITS - 2, RADIUS) / comb(64, RADIUS)
    return ceil(log(1 - RECALL) / log(1 - together))


def near_hashes(hashes: Hashes, first_new: int = 0, *, transposed: Hashes) -> Pairs:
    """Pairs of images whose hashes differ in RADIUS bits at most in one of eight orientations, nearly all -> [P, 2]."""
    both = np.stack([hashes, transposed], axis=1)
    _, first, member = np.unique(both, axis=0, return_index=True, return_inverse=True)
    equal = np.stack([first[member], np.arange(len(hashes))], axis=1)
    sets = both[first].T  # [2, images of different hashes]
    rng = np.random.default_rng(0)
    found = equal[equal[:, 0] != equal[:, 1]]
    for _ in progress(range(draws()), "Comparing hashes", draws()):
        mirror, turn = rng.choice(_OF_MIRROR), rng.choice(_OF_TURN)
        others = np.setdiff1d(np.arange(64), [mirror, turn])
        mask = np.bitwise_or.reduce(np.uint64(1) << rng.choice(others, KEY_BITS, replace=False).astype(np.uint64))
        upright = [_upright(each, mirror, turn) for each in sets]
        keys = [each & mask for each in upright]
        order = np.argsort(keys[0], kind="stable")
        for side, own in enumerate(keys):
            for queries, which in same_keys(keys[0], order, own):
                near = np.bitwise_count(upright[side][queries] ^ upright[0][which]) <= RADIUS
                pairs = np.sort(np.stack([first[queries[near]], first[which[near]]], axis=1), axis=1)
                found = np.concatenate([found, pairs[pairs[:, 0] != pairs[:, 1]]])
        found = np.unique(found, axis=0)
    return np.asarray(found[found[:, 1] >= first_new])


def _upright(hashes: Hashes, mirror: int, turn: int) -> Hashes:
    # In that of four orientations, upright, mirrored, upside down or both, in which these two bits are 0.
    bit = [(hashes >> np.uint64(place)) & np.uint64(1) for place in (mirror, turn)]
    return np.asarray(hashes ^ (bit[0] * MIRROR) ^ (bit[1] * TURN))
