"""Labels that neighbours contradict, series and exact copies, against brute force and planted cases."""

import numpy as np
import pytest
import torch

from curation.score import alike, label_noise
from curation.score.alike import cosines, nearest_pairs, similar
from curation.score.check import best_copies, exact
from curation.score.density import normalized
from curation.score.label_noise import mislabelled, most_alike
from eval.metrics import approximate, neighbours, on_device
from eval.metrics.feature_stats import as_features, joined

DEVICES = [None, torch.device("cpu")]  # the loops on a CPU; how a GPU searches, on a CPU


@pytest.fixture(params=[(7, 5), (4, 64), (64, 3)], ids=lambda sizes: f"blocks of {sizes[0]} by {sizes[1]}")
def blocks(request, monkeypatch):
    for module, size in zip((alike, neighbours), request.param, strict=True):
        monkeypatch.setattr(module, "BLOCK", size)
    monkeypatch.setattr(on_device, "BLOCK", request.param[0])


def draw(count, dim=16, seed=0):
    return np.random.default_rng(seed).standard_normal([count, dim], np.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [2, 5, 40])
def test_the_most_alike_are_those_of_brute_force(blocks, count, device):
    unit = normalized(draw(count))
    cosines = unit.astype(np.float64) @ unit.T.astype(np.float64)
    np.fill_diagonal(cosines, -np.inf)
    expected = np.argsort(-cosines, axis=1)[:, : min(6, count - 1)]
    assert np.array_equal(most_alike(unit, 6, device), expected)
    assert most_alike(unit[:1], 6, device).shape == (1, 0)


@pytest.mark.parametrize("device", DEVICES)
def test_similar_pairs_are_those_of_brute_force(blocks, device):
    features = draw(40)
    features[[3, 17, 39]] = features[5] + 0.1 * draw(3, seed=1)
    features += np.linspace(5, 20, 16, dtype=np.float32)  # what all have in common makes no two alike
    unit = normalized(features - features.mean(axis=0))
    expected = np.argwhere(np.triu(unit @ unit.T >= 0.9, k=1))
    assert len(expected) == 6
    assert np.array_equal(np.array(sorted(similar(features, 0.9, device).tolist())), expected)
    assert cosines(features, expected) == pytest.approx((unit @ unit.T)[tuple(expected.T)], abs=1e-5)
    assert len(cosines(features, expected[:0])) == 0


def clusters(*sizes):
    """Features in well separated clusters, and the cluster of each."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return draw(len(sizes))[labels] * 5 + 0.5 * draw(len(labels), seed=1), labels


@pytest.mark.parametrize("device", DEVICES)
def test_wrong_labels_in_a_cluster_are_found(device):
    features, labels = clusters(60, 40, 30)
    given = labels.copy()
    given[[0, 70, 129]] = 1, 2, 0
    found = mislabelled(features, given, device)
    assert list(found) == [0, 70, 129] and mislabelled(features, labels, device) == {}
    assert [given[example] for example in found.values()] == [0, 1, 2]  # what they should be


def test_wrong_labels_and_similar_pairs_are_found_by_approximate_neighbours(monkeypatch):
    monkeypatch.setattr(approximate, "EXACT", 100)
    features, labels = clusters(60, 40, 30)
    given = labels.copy()
    given[[0, 70, 129]] = 1, 2, 0
    features[41] = features[5] + 0.01
    near = alike.found_neighbours(joined([as_features(features[:50]), as_features(features[50:])]))
    squared = near.neighbours.distances[[5, 41], 0] ** 2
    assert squared == pytest.approx(2 - 2 * cosines(features, np.array([[5, 41], [5, 41]])), abs=1e-6)
    assert near.recall.value > 0.98
    assert mislabelled(features, given, near=near) == mislabelled(features, given)
    assert similar(features, 0.999, near=near).tolist() == similar(features, 0.999).tolist() == [[5, 41]]
    assert alike.found_neighbours(as_features(features), torch.device("cpu")) is None  # a GPU compares all pairs
    assert alike.found_neighbours(as_features(features[:100])) is None


def test_likeness_is_around_the_mean_of_the_set():
    labels = np.repeat([0, 1], 40)
    features = 10 + 10 * labels[:, None].astype(np.float32) + 0.5 * draw(80)  # both lie in one direction from 0
    given = labels.copy()
    given[3] = 1
    assert list(mislabelled(features, given)) == [3]


def test_two_of_a_kind_speak_for_one_another():
    features, labels = clusters(60, 40)
    features[1:3] = features[0] + 0.01 * draw(2, seed=2)
    labels[:3] = 1
    assert mislabelled(features, labels) == {}


def test_small_classes_are_left_alone():
    features, labels = clusters(60, 40)
    labels[0] = 2  # a class of one image
    assert mislabelled(features, labels) == {}


def test_a_large_class_does_not_outvote_a_small_one():
    features = draw(320, dim=4)  # tell nothing of the labels: half of the small class have no other of it near
    assert mislabelled(features, np.repeat([0, 1], [298, 22])) == {}


def test_neighbours_that_disagree_say_nothing():
    features, labels = clusters(60, 40)
    labels[1:60] = 2 + labels[1:60] + np.arange(59) % 2  # half of them are of one class, half of another
    labels[0] = 1
    assert mislabelled(features, labels) == {}


def vote(own, near, counts):
    return label_noise.outvoted(own, np.array(near), np.array(counts))


def test_a_neighbour_of_a_rare_class_counts_for_more():
    assert vote(0, [1] * 9 + [2], [200, 250, 25]) is None  # 9 of 250 images and 1 of 25 is much the same
    assert vote(0, [1] * 10, [200, 250, 25]) == 1


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([1] * 12 + [2] * 8, 1),  # 0.6 of the votes
        ([1] * 11 + [2] * 9, None),
        ([1] * 19 + [0], 1),  # 0.05 for its own
        ([1] * 18 + [0] * 2, None),
        ([0] * 20, None),
    ],
)
def test_how_many_neighbours_have_to_agree(near, expected):
    assert vote(0, near, [40, 40, 40]) == expected


@pytest.mark.parametrize(("size", "expected"), [(20, 1), (19, None)])
def test_a_class_of_twenty_is_large_enough(size, expected):
    assert vote(0, [1] * 10, [size, 40]) == expected and vote(0, [1] * 10, [100, size]) == expected


def test_a_label_must_be_more_frequent_near_an_image_than_in_the_set():
    for common, expected in ((66, 1), (67, None)):  # all neighbours of a label that 2 of 3 images have are no news
        assert vote(0, [1] * 10, [100 - common, common]) == expected


def test_exact_copies_are_all_but_the_first_in_an_order():
    keys = ["a", None, "b", "a", None, "b", "a"]
    assert exact(keys, np.arange(7)) == [3, 5, 6]
    assert exact(keys, np.array([6, 5, 1, 0, 4, 3, 2])) == [0, 3, 2]


def test_the_best_copy_is_the_first_in_an_order():
    group = np.array([0, 1, -1, 0, 1, 0])
    assert best_copies(group, np.array([2, 5, 1, 0, 3, 4])).tolist() == [5, 1, 2, 5, 1, 5]
    assert best_copies(np.full(3, -1), np.arange(3)).tolist() == [0, 1, 2]


def test_the_most_alike_of_either_image_are_compared():
    pairs = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [2, 3], [4, 5]])
    cosine = np.array([0.9, 0.8, 0.7, 0.75, 0.95, 0.66])
    assert nearest_pairs(pairs, cosine, 1).tolist() == [True, False, False, False, True, True]
    assert nearest_pairs(pairs, cosine, 2).tolist() == [True, True, True, True, True, True]
    crowd = np.array([(a, b) for a in range(50) for b in range(a + 1, 50)])
    kept = nearest_pairs(crowd, np.random.default_rng(0).random(len(crowd)), 3)
    assert 50 * 3 / 2 <= kept.sum() <= 50 * 3
    assert nearest_pairs(np.empty([0, 2], np.int64), np.empty(0)).tolist() == []
