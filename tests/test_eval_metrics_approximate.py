"""Approximate neighbours against those of all pairs."""

import sys

import numpy as np
import pytest

from eval.metrics import approximate
from eval.metrics.feature_stats import Features, UnitFeatures, joined
from eval.metrics.neighbours import neighbours
from gan.errors import RequestError


def clustered(count, dim=300, seed=0):
    """Features [N, dim] around many centres, in shards of unequal sizes."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal([count // 20, dim], np.float32)
    rows = centres[rng.integers(0, len(centres), count)] + 0.6 * rng.standard_normal([count, dim], np.float32)
    return Features(np.split(rows, [count // 3, count // 2]))


@pytest.mark.parametrize(("k", "candidates"), [(1, 64), (20, 64), (20, 20)])
def test_nearly_all_true_neighbours_are_found_and_the_share_is_told(k, candidates, monkeypatch):
    features = clustered(3000)
    true = neighbours(features, k, dtype=np.float32)
    monkeypatch.setattr(approximate, "TESTED", 3000)
    monkeypatch.setattr(approximate, "CANDIDATES", candidates)
    found = approximate.neighbours(features, k)
    hits = [len(set(a) & set(b)) for a, b in zip(found.neighbours.indices, true.indices, strict=True)]
    assert found.recall.value == pytest.approx(np.mean(hits) / k) and found.recall.n == 3000 * k
    assert found.recall.value >= 0.98 if candidates > k else 0.5 < found.recall.value < 0.98
    same = found.neighbours.indices == true.indices
    assert found.neighbours.distances[same] == pytest.approx(true.distances[same], rel=1e-3)
    assert (np.diff(found.neighbours.distances) >= 0).all()
    again = approximate.neighbours(features, k)
    assert (again.neighbours.indices == found.neighbours.indices).all()  # whatever the threads did


def test_where_the_graph_leads_nowhere_all_samples_are_searched(monkeypatch):
    features = clustered(600)
    real = approximate._Graph.nearest

    def nowhere(self, start, k):
        distances, indices = real(self, start, k)
        distances[::7, 1:] = np.inf
        indices[::7, 1:] = -1
        return distances, indices

    monkeypatch.setattr(approximate._Graph, "nearest", nowhere)
    found, true = approximate.neighbours(features, 5).neighbours, neighbours(features, 5, dtype=np.float32)
    assert (found.indices[::7] == true.indices[::7]).all()
    assert found.distances[::7] == pytest.approx(true.distances[::7], rel=1e-3)


def test_neighbours_that_are_missed_together_make_the_share_less_certain(monkeypatch):
    real = approximate._Graph.nearest

    def astray(self, start, k):
        distances, indices = real(self, start, k)
        indices[::5] = (start + np.arange(len(indices)))[::5, None]  # itself
        return distances, indices

    monkeypatch.setattr(approximate._Graph, "nearest", astray)
    monkeypatch.setattr(approximate, "BLOCK", 100)
    monkeypatch.setattr(approximate, "TESTED", 500)
    recall = approximate.neighbours(clustered(500), 10).recall
    assert recall.value == pytest.approx(0.8, abs=0.005) and recall.n == 5000
    assert recall.se == pytest.approx((0.8 * 0.2 / 500) ** 0.5, rel=0.02)  # as of 500, not of 5,000


def test_the_graph_is_of_the_first_principal_components(monkeypatch):
    rng = np.random.default_rng(0)
    features = Features([rng.standard_normal([800, 60], np.float32) * ([3] * 8 + [0.1] * 52)])
    monkeypatch.setattr(approximate, "DIM", 8)
    monkeypatch.setattr(approximate, "CANDIDATES", 20)
    assert approximate.neighbours(features, 5).recall.value > 0.98


def test_equal_samples_are_neighbours_of_one_another():
    rows = np.repeat(np.random.default_rng(0).standard_normal([4, 8], np.float32), 40, axis=0)
    found = approximate.neighbours(Features([rows]), 5).neighbours
    assert found.distances == pytest.approx(0, abs=1e-5)
    assert (found.indices // 40 == np.arange(160)[:, None] // 40).all()
    assert (found.indices != np.arange(160)[:, None]).all()


def test_as_many_neighbours_as_there_are_others_can_be_asked_for():
    features = clustered(60)
    found = approximate.neighbours(features, approximate.MOST).neighbours
    assert (np.sort(found.indices) == np.sort(neighbours(features, approximate.MOST).indices)).mean() > 0.9
    few = approximate.neighbours(Features([np.eye(4)]), 3).neighbours
    assert np.sort(few.indices).tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


@pytest.mark.parametrize("k", [0, 25, 10])
def test_other_numbers_of_neighbours_are_refused(k):
    with pytest.raises(ValueError, match=f"k must be .* got {k} of 10 instead"):
        approximate.neighbours(Features([np.eye(10)]), k)


def test_without_faiss_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RequestError, match=r"pip install 'salon\[faiss\]'"):
        approximate.neighbours(Features([np.eye(10)]), 2)


def test_unit_features_are_around_the_mean_of_all_and_at_unit_length():
    rows = np.random.default_rng(0).standard_normal([30, 4]) + 5
    unit = UnitFeatures(Features([rows[:12], rows[12:]]))
    expected = rows - rows.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert unit.rows(5, 20) == pytest.approx(expected[5:20])
    places = np.array([29, 3, 3, 14])
    assert unit.take(places) == pytest.approx(expected[places])
    assert unit.take(places, np.float32).dtype == np.float32
    assert unit.subset(places).rows(0, 4) == pytest.approx(expected[places])
    with pytest.raises(NotImplementedError):
        unit.view(places)
    some = UnitFeatures(Features([rows[:12], rows[12:]]).view(places))  # around the mean of those
    expected = rows[places] - rows[places].mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert len(some) == 4 and some.rows(0, 4) == pytest.approx(expected)
    assert some.take(np.array([3, 0])) == pytest.approx(expected[[3, 0]])


def test_joined_sets_are_one_after_the_other():
    rows = np.arange(60.0).reshape(20, 3)
    parts = [Features([rows[:7], rows[7:12]]), Features([rows[12:]]).view(np.array([3, 0]))]
    every = joined(parts)
    assert len(every) == 14
    assert (every.rows(0, 14) == np.concatenate([rows[:12], rows[[15, 12]]])).all()
    assert (every.take(np.array([13, 0, 12])) == rows[[12, 0, 15]]).all()
