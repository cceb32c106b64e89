"""Metrics of all pairs as a GPU computes them, here on the CPU: the same values as the loops that they stand for."""

import dataclasses

import numpy as np
import pytest
import torch

from eval.metrics import on_device
from eval.metrics.feature_stats import Features
from eval.metrics.kernel import kernel_distance, within
from eval.metrics.neighbours import neighbours
from eval.metrics.precision_recall import Cover, compare

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(on_device, "BLOCK", 7)


@pytest.fixture(params=["whole", "by blocks"])
def sets(request, monkeypatch):
    """Real and generated features, in shards, some of them copies and some almost."""
    rng = np.random.default_rng(0)
    real, gen = rng.standard_normal([40, 5], np.float32), 1.1 * rng.standard_normal([31, 5], np.float32) + 100
    real += 100  # far from the origin: differences lose digits
    gen[3], real[8], gen[9] = real[2], real[7], gen[10] + np.float32(2e-5)
    gen[20] = real[8]
    if request.param == "by blocks":
        init = on_device.Resident.__init__
        monkeypatch.setattr(
            on_device.Resident, "__init__", lambda self, *a: (init(self, *a), setattr(self, "_all", None))[0]
        )
    return Features([real[:17], real[17:]]), Features([gen])


def same(found, expected):
    for field in dataclasses.fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, Cover):
            assert np.array_equal(a.counts, b.counts) and np.array_equal(a.visits, b.visits), field.name
            assert np.array_equal(a._last[a.counts == 1], b._last[b.counts == 1]), field.name
            assert dataclasses.astuple(a.estimate()) == dataclasses.astuple(b.estimate())
        else:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=field.name)


def test_neighbours(sets):
    for features in sets:
        found, expected = neighbours(features, 6, device=CPU), neighbours(features, 6)
        np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-9, atol=1e-12)
        apart = np.diff(np.c_[expected.distances, np.full(len(features), np.inf)]) > 1e-9  # equal ones in any order
        settled = apart & np.c_[np.full(len(features), True), apart[:, :-1]]
        assert settled.mean() > 0.9 and np.array_equal(found.indices[settled], expected.indices[settled])
    with pytest.raises(ValueError, match="k must be"):
        neighbours(sets[0], 40, device=CPU)


def test_comparison(sets):
    expected = compare(*sets)
    assert 0 < (expected.precise.counts > 0).mean() < 1 and 0 < (expected.coverage.counts > 0).mean() < 1
    assert np.isinf(expected.realism).sum() in (0, 1, 2)
    found = compare(*sets, device=CPU)
    same(dataclasses.replace(found, nearest=expected.nearest), expected)
    chosen = expected.nearest != found.nearest
    assert set(np.flatnonzero(chosen)) <= {20}  # the copy of what has a copy


def test_kernel_distance(sets):
    real, gen = sets
    same(within(real, device=CPU), within(real))
    found, expected = kernel_distance(gen, real, device=CPU), kernel_distance(gen, real)
    assert found.estimate.value == pytest.approx(expected.estimate.value, rel=1e-9)
    assert found.estimate.se == pytest.approx(expected.estimate.se, rel=1e-7)
    np.testing.assert_allclose(found.influence_a, expected.influence_a, rtol=1e-7, atol=1e-6)


def test_features_are_uploaded_once(sets):
    real, gen = sets
    assert on_device.resident(real, CPU) is on_device.resident(real, CPU)
    assert on_device.resident(gen, CPU) is not on_device.resident(real, CPU)
    (first, block), *_ = on_device.resident(real, CPU).blocks()
    assert (first, block.shape, block.dtype) == (0, (7, 5), torch.float64)
