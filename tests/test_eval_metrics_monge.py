"""The Monge distance against closed forms and the definition."""

import numpy as np
import pytest

from eval.metrics import monge
from eval.metrics.confidence_intervals import random_blocks
from eval.metrics.monge import monge_distance, wasserstein


def test_a_shift_gives_three_times_its_square():
    rng = np.random.default_rng(0)
    real, shift = rng.normal(size=(50, 16)), rng.normal(size=16)
    # The squares of a direction's parts are 1/d on average; over 1,000 directions within a few per cent.
    assert monge_distance(real + shift, real).value == pytest.approx(3 * np.sum(shift**2), rel=0.1)
    assert monge_distance(real, real).value == 0
    exact = monge_distance(real[:, :1] + 2, real[:, :1])  # the only directions are 1 and -1
    assert exact.value == pytest.approx(3 * 2**2, rel=1e-12)


@pytest.mark.parametrize(("m", "n"), [(7, 7), (6, 9), (5, 13), (1, 4)])
def test_in_one_dimension_it_is_optimal_transport(m, n):
    rng = np.random.default_rng(m)
    x, y = np.sort(rng.normal(size=(2, m)), axis=1), np.sort(rng.normal(size=(2, n)), axis=1)
    # Each sample as often as makes both sets of one size: sorted they are each other's partners.
    expected = ((np.repeat(x, n, axis=1) - np.repeat(y, m, axis=1)) ** 2).mean(axis=1)
    assert wasserstein(x, y) == pytest.approx(expected, rel=1e-12)


def test_what_is_left_out_is_left_out(monkeypatch):
    rng = np.random.default_rng(0)
    gen, real = rng.normal(size=(23, 4)), rng.normal(size=(31, 4)) * 1.5
    found = monge_distance(gen, real, projections=50, blocks=5)
    monkeypatch.setattr(monge, "AT_ONCE", 50)
    for number, group in enumerate(random_blocks(23, 5)):
        rest = np.delete(gen, group, axis=0)
        assert found.sizes[number] == len(group)
        assert found.left_out[number] == pytest.approx(monge_distance(rest, real, projections=50).value, rel=1e-12)


def test_it_is_the_mean_over_directions_that_torch_would_find():
    rng = np.random.default_rng(0)
    gen, real = rng.normal(size=(40, 3)) + 1, rng.gamma(2, size=(40, 3))
    directions = np.random.default_rng(5).normal(size=(20_000, 3))  # others than its own
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    apart = np.sort(gen @ directions.T, axis=0) - np.sort(real @ directions.T, axis=0)
    assert monge_distance(gen, real).value == pytest.approx(9 * np.mean(apart**2), rel=0.1)


def test_what_cannot_be_compared_is_refused():
    x = np.zeros([5, 3])
    for gen, real, said in ((x, x[:, :2], "same dimension"), (x[:2], x, "at least 3"), (x, x[:0], "real")):
        with pytest.raises(ValueError, match=said):
            monge_distance(gen, real)
