"""Seeds are read as they are written; mixing and loops do what they say."""

import numpy as np
import pytest

from gan.errors import RequestError
from gan.sampling import latents


def keys(count, dtype=np.float32):
    return np.random.default_rng(0).normal(size=[count, 6, 8]).astype(dtype)


def test_one_seed_is_one_latent():
    z = latents.draw([3, 2**32 - 1, 3], 8)
    assert z.shape == (3, 8) and z.dtype == np.float32
    assert np.array_equal(z[0], np.random.RandomState(3).standard_normal(8).astype(np.float32))
    assert np.array_equal(z[0], z[2]) and not np.array_equal(z[0], z[1])
    assert latents.draw([], 8).shape == (0, 8)


def test_mixing_takes_the_named_layers():
    rows, columns = keys(2), keys(5)[2:]
    before = rows.copy()
    table = latents.mix(rows, columns, [1, 4]).reshape(2, 3, 6, 8)
    for row in range(2):
        for column in range(3):
            for layer in range(6):
                source = columns[column] if layer in (1, 4) else rows[row]
                assert np.array_equal(table[row, column, layer], source[layer])
    assert np.array_equal(rows, before)
    with pytest.raises(RequestError, match="`layers` must be from 0 to 5; got 6 instead"):
        latents.mix(rows, columns, [2, 6])


def test_a_loop_passes_through_its_keys_and_is_closed_and_smooth():
    points = keys(5, np.float64)
    path = latents.loop(points, 100)
    assert path.shape == (500, 6, 8)
    np.testing.assert_allclose(path[::100], points)
    steps = np.roll(path, -1, 0) - path  # the last one leads back to the first key
    bends = np.roll(steps, -1, 0) - steps
    distance = length(np.roll(points, -1, 0) - points).max()
    assert length(steps).max() < distance / 100 * 3  # no jump, not where it closes either
    assert length(bends).max() < distance / 100**2 * 20  # no corner


def test_a_loop_around_one_key_stands_still_and_one_frame_is_the_key():
    points = keys(3)
    np.testing.assert_allclose(latents.loop(points[:1], 7), np.repeat(points[:1], 7, 0), rtol=1e-6)
    assert np.array_equal(latents.loop(points, 1), points)
    assert latents.loop(points, 4).dtype == np.float32


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("0", [0]),
        ("0-3,42", [0, 1, 2, 3, 42]),
        (" 7 , 5-6 ", [7, 5, 6]),
        ("3-3", [3]),
        ("1,1", [1, 1]),
        ("4294967295", [2**32 - 1]),
    ],
)
def test_parse_numbers(text, numbers):
    assert latents.parse_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "1.5", "-1", "1-", "1-2-3", "0x1", "1 2", "0..3"])
def test_parse_numbers_refuses_what_is_no_number(text):
    with pytest.raises(RequestError, match="`rows` must be numbers and ranges such as 0-15,42; got"):
        latents.parse_numbers(text, "rows")


@pytest.mark.parametrize("text", ["3-1", "4294967296", "0-4294967296", "0-99999999"])
def test_parse_numbers_refuses_what_is_out_of_range(text):
    with pytest.raises(RequestError, match=f"`seeds` must rise within 0 to 4294967295, .*; got {text} instead"):
        latents.parse_numbers(text)


def length(x):
    return np.sqrt((x**2).sum((1, 2)))
