"""Near hashes by sampled bits against those by bands, which miss none."""

import numpy as np
import pytest

from curation.score import duplicates, sampled_bits
from curation.score.duplicates import orientations


def planted(count, bits):
    """Hashes and those of the transposed images; the second half are the first, turned in all ways and changed."""
    rng = np.random.default_rng(bits)
    hashes, transposed = rng.integers(0, 1 << 64, [2, 2 * count], np.uint64)
    turned = orientations(hashes[:count], transposed[:count])  # [8, count]
    for place in range(count):
        flips = rng.choice(64, bits, replace=False).astype(np.uint64)
        changed = np.bitwise_or.reduce(np.uint64(1) << flips, initial=np.uint64(0))
        hashes[count + place] = turned[place % 8, place] ^ changed
    return hashes, transposed


@pytest.mark.parametrize("bits", [0, 2, 4])
def test_near_hashes_are_those_of_all_bands(bits):
    hashes, transposed = planted(200, bits)
    exact = duplicates.near_hashes(hashes, transposed=transposed)
    assert np.array_equal(sampled_bits.near_hashes(hashes, transposed=transposed), exact)
    late = sampled_bits.near_hashes(hashes, first_new=390, transposed=transposed)
    assert late.tolist() == [pair for pair in exact.tolist() if pair[1] >= 390] and len(late) >= 10


def test_the_farthest_are_found_as_often_as_is_said():
    hashes, transposed = planted(3000, 7)
    found = {tuple(pair) for pair in sampled_bits.near_hashes(hashes, transposed=transposed).tolist()}
    hits = np.mean([(place, 3000 + place) in found for place in range(3000)])
    assert hits == pytest.approx(sampled_bits.RECALL, abs=4 * np.sqrt(0.98 * 0.02 / 3000))
    every = {tuple(pair) for pair in duplicates.near_hashes(hashes, transposed=transposed).tolist()}
    assert found <= every


def test_equal_hashes_are_paired_with_the_first_alone():
    hashes, transposed = (np.tile(two, 500) for two in np.random.default_rng(0).integers(0, 1 << 64, [2, 2], np.uint64))
    expected = [[place % 2, place] for place in range(2, 1000)]
    assert sampled_bits.near_hashes(hashes, transposed=transposed).tolist() == sorted(expected)
