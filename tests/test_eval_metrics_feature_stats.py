"""Moments are those of all samples, however they came; shards read as one array."""

import numpy as np
import pytest

from eval.metrics import feature_stats
from eval.metrics.feature_stats import Features, Moments, as_features
from gan.errors import RequestError


def close(a: Moments, b: Moments):
    assert a.count == b.count
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-12)
    np.testing.assert_allclose(a.cov, b.cov, rtol=1e-9, atol=1e-10 * np.abs(b.cov).max())


def test_rows_are_read_in_blocks(monkeypatch):
    monkeypatch.setattr(feature_stats, "BLOCK", 8)
    whole = np.random.default_rng(1).normal(size=(50, 3))
    features = Features(np.split(whole, [11, 30]))
    indices = np.random.default_rng(2).permutation(50)[:37]
    for moments, rows in ((features.moments(), whole), (features.moments(indices), whole[indices])):
        assert moments.count == len(rows)
        np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.cov, np.cov(rows, rowvar=False), rtol=1e-9)
        assert moments.trace == pytest.approx(np.var(rows, axis=0, ddof=1).sum(), rel=1e-12)
    np.testing.assert_allclose(features.mean(), whole.mean(axis=0), rtol=1e-12)
    assert Features([np.zeros((0, 3))]).mean().tolist() == [0, 0, 0]
    np.testing.assert_array_equal(features.subset(indices).rows(0, 37), whole[indices])


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_are_numpys_in_any_batches_and_any_order(offset):
    features = np.random.default_rng(0).normal(size=(500, 6)) * np.arange(1, 7) + offset
    whole = Moments(6)
    whole.add(features)
    np.testing.assert_allclose(whole.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(whole.cov, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-9)
    assert whole.trace == pytest.approx(np.trace(whole.cov))
    parts = []
    for part in np.split(features, [1, 40, 40, 333]):
        parts.append(Moments(6))
        for row in np.array_split(part, 3):
            parts[-1].add(row)
    merged = Moments(6)
    for part in reversed(parts):
        merged.merge(part)
    close(merged, whole)


def test_moments_survive_a_file(tmp_path):
    moments = Moments(3)
    moments.add(np.random.default_rng(0).normal(size=(9, 3)))
    np.savez(tmp_path / "m.npz", **moments.to_arrays())
    with np.load(tmp_path / "m.npz", allow_pickle=False) as arrays:
        again = Moments.from_arrays(arrays)
    close(again, moments)
    again.add(np.ones((2, 3)))  # it can go on
    assert again.count == 11
    with pytest.raises(RequestError, match="must hold count, mean and scatter"):
        Moments.from_arrays({"count": np.array(3)})
    for count, mean, scatter in ((3, (3,), (3, 2)), (3, (3, 1), (3, 3)), (-1, (3,), (3, 3))):
        with pytest.raises(RequestError, match=r"scatter \[d, d\]"):
            Moments.from_arrays({"count": np.array(count), "mean": np.zeros(mean), "scatter": np.zeros(scatter)})
    empty = Moments.from_arrays({"count": np.array(0), "mean": np.zeros(3), "scatter": np.zeros((3, 3))})
    empty.merge(moments)
    close(empty, moments)


def test_moments_refuse_what_they_cannot_count():
    moments = Moments(3)
    with pytest.raises(ValueError, match=r"must be \[N, 3\]; got \[2, 4\]"):
        moments.add(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="must be finite; got 1 values"):
        moments.add(np.array([[0, np.nan, 0]]))
    with pytest.raises(ValueError, match="at least 2 samples; got 0"):
        _ = moments.cov
    moments.add(np.ones((1, 3)))
    with pytest.raises(ValueError, match="at least 2 samples; got 1"):
        _ = moments.cov
    moments.add(np.zeros((0, 3)))
    moments.add(np.zeros((1, 3)))
    assert moments.cov.tolist() == [[0.5] * 3] * 3 and moments.trace == 1.5
    with pytest.raises(ValueError, match=r"must be \[N, 3\]; got \[3\]"):
        moments.add(np.zeros(3))
    with pytest.raises(ValueError, match="must be finite; got 2 values"):
        moments.add(np.array([[0, np.inf, -np.inf]]))
    with pytest.raises(ValueError, match="dimension 3; got 4"):
        moments.merge(Moments(4))
    with pytest.raises(ValueError, match="dim must be positive"):
        Moments(0)


def test_shards_read_as_one_array(tmp_path):
    whole = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    paths = []
    for index, part in enumerate(np.split(whole, [10, 10, 31])):  # one is empty
        paths.append(tmp_path / f"{index}.npy")
        np.save(paths[-1], part)
    opened = Features.open([path for path in paths if np.load(path).size])
    for features in (opened, Features(np.split(whole, [10, 10, 31]))):
        assert (len(features), features.dim) == (50, 4)
        np.testing.assert_array_equal(features.rows(5, 40), whole[5:40])
        np.testing.assert_array_equal(features.take([49, 0, 10, 9, 30, 31]), whole[[49, 0, 10, 9, 30, 31]])
        np.testing.assert_array_equal(np.concatenate([block for _, block in features.blocks(7)]), whole)
        assert [start for start, _ in features.blocks(20, first=5)] == [5, 25, 45]
        np.testing.assert_allclose(features.mean(), whole.astype(float).mean(axis=0), rtol=1e-12)
        close(features.moments([3, 12, 45]), Features([whole[[3, 12, 45]]]).moments())
        assert features.subset([3, 12]).shards[0].dtype == np.float32
        assert as_features(features) is features


def test_rows_are_taken_by_numbers_of_any_type_and_no_others_than_there_are():
    whole = np.arange(60.0).reshape(20, 3)
    features = Features(np.split(whole, [4, 11]))
    np.testing.assert_array_equal(features.take(np.array([12, 3, 5], np.uint8)), whole[[12, 3, 5]])
    assert features.take(np.array([], np.int64)).shape == (0, 3)
    for index in (-1, 20):
        with pytest.raises(IndexError, match="indices must be from 0 to 19"):
            features.take(np.array([3, index]))


def test_shards_that_are_none_are_refused(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"no array")
    with pytest.raises(RequestError, match=r"a.npy must be a .npy file of features"):
        Features.open([tmp_path / "a.npy"])
    np.save(tmp_path / "b.npy", np.array([{"an": "object"}], object), allow_pickle=True)
    with pytest.raises(RequestError, match=r"b.npy must be a .npy file of features"):
        Features.open([tmp_path / "b.npy"])
    with pytest.raises(ValueError, match="same d"):
        Features([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(ValueError, match="one or more"):
        Features([np.zeros((2, 3))]).subset([])
