"""Hashes and groups of near duplicates, against brute force and against what really happens to images."""

import io

import numpy as np
import pytest
from PIL import Image

from curation.score import duplicates
from curation.score.alignment import oriented
from curation.score.duplicates import groups, mirrored, near_hashes, perceptual_hash, perceptual_hashes
from gan.data.synthetic_scenes import painting

RNG = np.random.default_rng(0)


def distance(a, b):
    return (int(a) ^ int(b)).bit_count()


def test_a_copy_keeps_its_hash_and_a_mirrored_copy_the_mirrored_hash():
    images = [painting("landscape", "impressionism", seed, 160) for seed in range(12)]
    for image in images:
        buffer = io.BytesIO()
        image.resize((90, 90)).save(buffer, "JPEG", quality=60)
        copy = Image.open(buffer).convert("RGB")
        value = perceptual_hash(np.asarray(image))
        assert distance(value, perceptual_hash(np.asarray(copy))) <= 4
        flipped = perceptual_hash(np.asarray(copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
        assert distance(mirrored(np.array([value], np.uint64))[0], flipped) <= 4
    values = [perceptual_hash(np.asarray(image)) for image in images]
    assert np.median([distance(a, b) for a in values for b in values if a != b]) > 12


def test_the_first_bit_is_the_sign_of_a_frequency_and_not_of_the_brightness():
    rows = np.cos(np.pi * (2 * np.arange(32) + 1) * 8 / 64)  # vertical frequency 8
    for ground in (70, 180):
        for sign in (1, -1):
            grey = np.broadcast_to((ground + 50 * sign * rows)[:, None, None], [32, 32, 3])
            assert perceptual_hash(grey.round().astype(np.uint8)) & 1 == (sign == 1)


@pytest.mark.parametrize(("v", "u"), [(1, 0), (0, 1), (3, 5), (7, 7), (2, 6)])
def test_each_bit_is_the_sign_of_its_frequency(v, u):
    steps = np.pi * (2 * np.arange(32) + 1) / 64
    wave = np.outer(np.cos(v * steps), np.cos(u * steps))[:, :, None].repeat(3, axis=2)
    for sign in (1, -1):
        value = perceptual_hash((128 + 50 * sign * wave).round().astype(np.uint8))
        assert value >> (8 * v + u) & 1 == (sign == 1)  # hashes are kept in manifests


def test_bands_are_the_four_quarters_of_a_hash():
    hashes = np.array([0x4444333322221111, 0x8], np.uint64)
    assert [duplicates._band(hashes, band).tolist() for band in range(4)] == [
        *([0x1111, 0x8], [0x2222, 0], [0x3333, 0], [0x4444, 0])
    ]


def test_mirroring_twice_is_nothing():
    hashes = RNG.integers(0, 2**64, 50, np.uint64)
    assert (mirrored(mirrored(hashes)) == hashes).all() and (mirrored(hashes) != hashes).all()


@pytest.mark.parametrize("radius", [0, 3, 7])
def test_near_hashes_are_those_of_brute_force(radius):
    hashes = RNG.integers(0, 2**64, 300, np.uint64)
    for copy in range(120):  # copies at every distance up to 11, half of them mirrored
        bits = RNG.choice(64, copy % 12, replace=False)
        value = hashes[copy] ^ np.uint64(sum(1 << int(bit) for bit in bits))
        hashes[150 + copy] = value if copy % 2 else mirrored(np.array([value]))[0]
    expected = [
        (a, b)
        for a in range(300)
        for b in range(a + 1, 300)
        if min(distance(hashes[a], hashes[b]), distance(mirrored(hashes[a : a + 1])[0], hashes[b])) <= radius
    ]
    assert len(expected) >= (radius + 1) * 10 - 10
    assert near_hashes(hashes, radius).tolist() == [list(pair) for pair in expected]
    late = [list(pair) for pair in expected if pair[1] >= 200]
    assert near_hashes(hashes, radius, first_new=200).tolist() == late


def test_many_equal_hashes_are_looked_at_in_parts(monkeypatch):
    parts = list(duplicates._chunks(np.full(10, 4), largest=10))
    assert parts == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    assert list(duplicates._chunks(np.array([50, 1]), largest=10)) == [(0, 1), (1, 2)]
    assert len(near_hashes(np.zeros(40, np.uint64), 0)) == 40 * 39 // 2
    monkeypatch.setattr(duplicates._chunks, "__defaults__", (10,))
    several = np.tile(RNG.integers(0, 2**64, 3, np.uint64), 5)  # three images, five times each
    assert near_hashes(several, 0).tolist() == [[a, b] for a in range(15) for b in range(a + 3, 15, 3)]


def test_a_radius_that_bands_cannot_guarantee_is_refused():
    with pytest.raises(ValueError, match="radius must be from 0 to 7; got 8 instead"):
        near_hashes(np.zeros(2, np.uint64), 8)


def test_a_turned_image_has_the_hash_of_its_orientation():
    for seed in range(6):
        image = np.asarray(painting("landscape", "impressionism", seed, 128))
        hashes, transposed = (np.array([value], np.uint64) for value in perceptual_hashes(image))
        assert hashes[0] == perceptual_hash(image)
        for orientation, expected in enumerate(duplicates.orientations(hashes, transposed)[:, 0]):
            turned = np.stack([oriented(channel, orientation) for channel in image.transpose(2, 0, 1)], axis=2)
            assert distance(perceptual_hash(np.ascontiguousarray(turned)), expected) <= 2, orientation
    upright = duplicates.orientations(hashes)
    assert (upright == duplicates.orientations(hashes, transposed)[:2]).all()


def test_turned_hashes_are_found_in_all_orientations():
    hashes, transposed = RNG.integers(0, 2**64, [2, 60], np.uint64)
    turned = duplicates.orientations(hashes, transposed)
    for copy in range(16):
        bits = np.uint64(sum(1 << int(bit) for bit in RNG.choice(64, copy // 2, replace=False)))
        hashes[30 + copy] = turned[copy % 8, copy] ^ bits
    found = near_hashes(hashes, transposed=transposed)
    assert found.tolist() == [[copy, 30 + copy] for copy in range(16)]
    orientation, bits = duplicates.closest(found, hashes, transposed)
    assert orientation.tolist() == [*range(8)] * 2 and bits.tolist() == [copy // 2 for copy in range(16)]
    assert near_hashes(hashes).tolist() == [[copy, 30 + copy] for copy in (0, 1, 8, 9)]


def test_groups_are_connected_and_named_by_their_first():
    assert groups(np.array([[1, 4], [4, 2], [0, 5]]), 7).tolist() == [0, 1, 1, -1, 1, 0, -1]
    assert groups(np.empty([0, 2], np.int64), 3).tolist() == [-1, -1, -1]
