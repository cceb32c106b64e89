"""Metrics of all pairs as a GPU computes them, here on the CPU: the same values as the loops that they stand for."""

import dataclasses
import gc

import numpy as np
import pytest
import torch

from eval.metrics import on_device
from eval.metrics.feature_stats import Features
from eval.metrics.kernel import kernel_distance, within
from eval.metrics.neighbours import neighbours, neighbours_among
from eval.metrics.precision_recall import Cover, compare
from gan.device import memory

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
        monkeypatch.setattr(on_device, "SHARE", 0)
    return Features([real[:17], real[17:]]), Features([gen])


def shells(cover):
    """Pairs of samples and the balls that hold them once they have grown."""
    return np.concatenate([np.empty([0, 2], int), *(np.stack(part, axis=1) for part in cover._shells)])


def same(found, expected):
    for field in dataclasses.fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, Cover):
            assert np.array_equal(a.counts, b.counts) and np.array_equal(a.visits, b.visits), field.name
            assert np.array_equal(a._last[a.counts == 1], b._last[b.counts == 1]), field.name
            assert sorted(map(tuple, shells(a))) == sorted(map(tuple, shells(b))), field.name
        elif not field.name.endswith("_near"):  # equally near ones come in any order
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


def test_features_are_uploaded_once_and_given_back(sets, request):
    real, gen = sets
    parts = [on_device.Resident(features, CPU) for features in (real, real, gen)]
    assert parts[0]._all is parts[1]._all
    assert (parts[0]._all is None) == ("by blocks" in request.node.name)
    (first, block), *_ = parts[0].blocks()
    assert (first, block.shape, block.dtype) == (0, (7, 5), torch.float64)
    own = Features([np.ones([3, 2], np.float32)])
    neighbours(own, 1, device=CPU)
    assert own in on_device._kept
    count = len(on_device._kept)
    del own
    gc.collect()
    assert len(on_device._kept) == count - 1


def settled(distances):
    """Of distances [N, k + 1], sorted: which of the first k are of one sample alone, by more than float32 rounds."""
    apart = np.diff(distances, axis=1) > 1e-5 * distances[:, 1:]
    return apart & np.c_[np.full(len(apart), True), apart[:, :-1]]


@pytest.mark.parametrize("k", [1, 6, 30, 39])  # below a block of 7, above it, and all others
def test_searches_in_float32(sets, k):
    real, gen = sets
    float32 = {"dtype": np.float32}
    for search, given, most in ((neighbours, (real,), 39), (neighbours_among, (gen, real), 40)):
        found = search(*given, k, device=CPU, **float32)
        assert found.distances.dtype == np.float32 and found.indices.dtype == np.int64
        expected, exact = search(*given, k, **float32), search(*given, most)
        np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-4, atol=1e-5)
        clear = settled(np.c_[exact.distances, np.full(len(exact.distances), np.inf)][:, : k + 1])
        assert clear.mean() > 0.8 and np.array_equal(found.indices[clear], exact.indices[:, :k][clear])
        again = search(*given, k, device=CPU, **float32)
        assert np.array_equal(again.indices, found.indices) and np.array_equal(again.distances, found.distances)


def test_equally_near_ones_come_in_their_order():
    # Their mean and all distances are exact.
    features = np.repeat(np.float32([[0, 0], [4, 0], [0, 4]]), [16, 8, 8], axis=0)[np.arange(32) * 5 % 32]
    for dtype in (np.float32, np.float64):
        found = neighbours(features, 31, dtype=dtype, device=CPU)
        assert len(np.unique(found.distances)) == 3
        for i, (distances, indices) in enumerate(zip(found.distances, found.indices, strict=True)):
            assert sorted([*indices, i]) == list(range(32))
            assert np.array_equal(np.lexsort([indices, distances]), np.arange(31))


def test_alike_pairs_are_those_of_brute_force(sets):
    for features in sets:
        rows = features.rows(0, len(features)) - features.mean()
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        expected = np.argwhere(np.triu(unit.astype(np.float64) @ unit.T >= 0.6, k=1))
        found = on_device.alike(Features([unit]), 0.6, CPU)
        assert len(expected) > 20 and sorted(found.tolist()) == expected.tolist()


def test_blocks_are_smaller_where_less_memory_is_free(monkeypatch):
    monkeypatch.setattr(on_device, "BLOCK", 4096)
    features = Features([np.zeros([3, 2048], np.float32)])

    def block(free):
        monkeypatch.setattr(memory, "free_memory", lambda device: free)
        return on_device.Resident(features, CPU)._block

    assert block(80e9) == 4096 and block(4.8e9) == 2048 and block(1.6e9) == 1024
    assert block(0) == 4096  # a system that does not say


def test_no_neighbour_of_none():
    found = neighbours_among(np.zeros([0, 2], np.float32), np.zeros([3, 2], np.float32), 2, device=CPU)
    assert found.indices.shape == (0, 2)
