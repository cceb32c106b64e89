"""The search for nearest neighbours, within a set and in another one, against brute force."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from eval.metrics import neighbours as search
from eval.metrics.feature_stats import Features
from eval.metrics.neighbours import neighbours, neighbours_among, squared_distances


@pytest.fixture(params=[(7, 5), (4, 64), (64, 3)], ids=lambda sizes: f"blocks of {sizes[0]} by {sizes[1]}")
def blocks(request, monkeypatch):
    for name, size in zip(("BLOCK", "COLUMNS"), request.param, strict=True):
        monkeypatch.setattr(search, name, size)


def draw(count, seed=0):
    return np.random.default_rng(seed).standard_normal([count, 6])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("k", [1, 4, 20])
def test_those_of_another_set_are_those_of_brute_force(blocks, k, dtype):
    queries, references = draw(30), draw(41, seed=1)
    queries[3] = references[17]
    distances = cdist(queries, references)
    found = neighbours_among(Features([queries[:11], queries[11:]]), references, k, dtype=dtype)
    assert found.distances.dtype == dtype and found.indices[3, 0] == 17 and found.distances[3, 0] == 0
    np.testing.assert_array_equal(found.indices, np.argsort(distances, axis=1)[:, :k])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :k], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_others_of_a_set_are_those_of_brute_force(blocks, dtype):
    features = draw(37)
    distances = cdist(features, features)
    np.fill_diagonal(distances, np.inf)
    found = neighbours(features, 6, dtype=dtype)
    np.testing.assert_array_equal(found.indices, np.argsort(distances, axis=1)[:, :6])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :6], rtol=1e-5)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-7), (np.float32, 1e-3)])
def test_close_samples_far_from_the_origin_keep_their_digits(dtype, tolerance):
    x = (10 + 1e-3 * draw(20)).astype(dtype)
    y = (10 + 1e-3 * draw(20, seed=1)).astype(dtype)
    expected = cdist(x.astype(np.float64), y.astype(np.float64)) ** 2
    np.testing.assert_allclose(squared_distances(x, y), expected, rtol=tolerance)


def test_more_neighbours_than_there_are_is_refused():
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"got {k} of 5"):
            neighbours(draw(5), k)
    with pytest.raises(ValueError, match="got 6 of 5"):
        neighbours_among(draw(9), draw(5), 6)
    assert neighbours_among(draw(9), draw(5), 5).indices.shape == (9, 5)
