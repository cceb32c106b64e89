"""Labels that neighbours contradict, series and exact copies, against brute force and planted cases."""

import numpy as np
import pytest
import torch

from curation.score import check
from curation.score.check import exact, mislabelled, most_alike, similar
from curation.score.density import normalized
from eval.metrics import neighbours, on_device

DEVICES = [None, torch.device("cpu")]  # the loops on a CPU; how a GPU searches, on a CPU


@pytest.fixture(params=[(7, 5), (4, 64), (64, 3)], ids=lambda sizes: f"blocks of {sizes[0]} by {sizes[1]}")
def blocks(request, monkeypatch):
    for module, size in zip((check, neighbours), request.param, strict=True):
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


@pytest.mark.parametrize("device", DEVICES)
def test_similar_pairs_are_those_of_brute_force(blocks, device):
    features = draw(40)
    features[[3, 17, 39]] = features[5] + 0.1 * draw(3, seed=1)
    features += np.linspace(5, 20, 16, dtype=np.float32)  # what all have in common makes no two alike
    unit = normalized(features - features.mean(axis=0))
    expected = np.argwhere(np.triu(unit @ unit.T >= 0.9, k=1))
    assert len(expected) == 6
    assert np.array_equal(np.array(sorted(similar(features, 0.9, device).tolist())), expected)


def clusters(*sizes):
    """Features in well separated clusters, and the cluster of each."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return draw(len(sizes))[labels] * 5 + 0.5 * draw(len(labels), seed=1), labels


@pytest.mark.parametrize("device", DEVICES)
def test_wrong_labels_in_a_cluster_are_found(device):
    features, labels = clusters(60, 40, 30)
    given = labels.copy()
    given[[0, 70, 129]] = 1, 2, 0
    assert mislabelled(features, given, device) == [0, 70, 129] and mislabelled(features, labels, device) == []


def test_likeness_is_around_the_mean_of_the_set():
    labels = np.repeat([0, 1], 40)
    features = 10 + 10 * labels[:, None].astype(np.float32) + 0.5 * draw(80)  # both lie in one direction from 0
    given = labels.copy()
    given[3] = 1
    assert mislabelled(features, given) == [3]


def test_two_of_a_kind_speak_for_one_another():
    features, labels = clusters(60, 40)
    features[1:3] = features[0] + 0.01 * draw(2, seed=2)
    labels[:3] = 1
    assert mislabelled(features, labels) == []


def test_small_classes_are_left_alone():
    features, labels = clusters(60, 40)
    labels[0] = 2  # a class of one image
    assert mislabelled(features, labels) == []


def test_a_large_class_does_not_outvote_a_small_one():
    features = draw(320, dim=4)  # tell nothing of the labels: half of the small class have no other of it near
    assert mislabelled(features, np.repeat([0, 1], [298, 22])) == []


def test_neighbours_that_disagree_say_nothing():
    features, labels = clusters(60, 40)
    labels[1:60] = 2 + labels[1:60] + np.arange(59) % 2  # half of them are of one class, half of another
    labels[0] = 1
    assert mislabelled(features, labels) == []


def test_a_neighbour_of_a_rare_class_counts_for_more(monkeypatch):
    labels = np.repeat([0, 1, 2], [200, 250, 25])
    near = np.stack([np.flatnonzero(labels == label)[:10] for label in labels])
    near[0] = [*range(200, 209), 450]  # 9 of 250 images and 1 of 25 is much the same
    monkeypatch.setattr(check, "most_alike", lambda *_: near)
    assert mislabelled(draw(len(labels)), labels) == []
    near[0] = range(200, 210)
    assert mislabelled(draw(len(labels)), labels) == [0]


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([1] * 8 + [2] * 2, True),  # 0.8 of the votes
        ([1] * 8 + [0] + [2], True),  # one of its own
        ([1] * 8 + [0] * 2, False),
        ([1] * 7 + [2] * 3, False),
    ],
)
def test_how_many_neighbours_have_to_agree(near, expected, monkeypatch):
    labels = np.repeat([0, 1, 2], 40)
    first = {0: 1, 1: 40, 2: 80}  # a place of each label, other than 0
    neighbours = np.stack([np.full(10, first[label]) for label in labels])  # all others agree with theirs
    neighbours[0] = [first[label] for label in near]
    monkeypatch.setattr(check, "most_alike", lambda *_: neighbours)
    assert mislabelled(draw(120), labels) == ([0] if expected else [])


@pytest.mark.parametrize(("size", "found"), [(20, True), (19, False)])
def test_a_class_of_twenty_is_large_enough(size, found, monkeypatch):
    for sizes in ([size, 40], [40, size]):  # the image's own class, and that of its neighbours
        labels = np.repeat([0, 1], sizes)
        neighbours = np.stack([np.full(10, np.flatnonzero(labels == label)[0]) for label in labels])
        neighbours[0] = len(labels) - 1
        monkeypatch.setattr(check, "most_alike", lambda *_, neighbours=neighbours: neighbours)
        assert mislabelled(draw(len(labels)), labels)[:1] == ([0] if found else [])


def test_a_label_must_be_more_frequent_near_an_image_than_in_the_set(monkeypatch):
    for common, found in ((66, True), (67, False)):  # all neighbours of a label that 2 of 3 images have are no news
        labels = np.repeat([0, 1], [100 - common, common])
        neighbours = np.stack([np.full(10, np.flatnonzero(labels == label)[0]) for label in labels])
        neighbours[0] = 99
        monkeypatch.setattr(check, "most_alike", lambda *_, neighbours=neighbours: neighbours)
        assert mislabelled(draw(100), labels) == ([0] if found else [])


def test_exact_copies_are_all_but_the_first_in_an_order():
    keys = ["a", None, "b", "a", None, "b", "a"]
    assert exact(keys, np.arange(7)) == [3, 5, 6]
    assert exact(keys, np.array([6, 5, 1, 0, 4, 3, 2])) == [0, 3, 2]


def test_the_best_copy_is_the_first_in_an_order():
    group = np.array([0, 1, -1, 0, 1, 0])
    assert check.best_copies(group, np.array([2, 5, 1, 0, 3, 4])).tolist() == [5, 1, 2, 5, 1, 5]
    assert check.best_copies(np.full(3, -1), np.arange(3)).tolist() == [0, 1, 2]
