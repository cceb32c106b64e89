"""Features that a cluster's workers extract are those of this machine, shard by shard, to the bit."""

import numpy as np
import pytest
import torch
from conftest import empty_cache

from eval.data import cluster_features, feature_cache
from eval.data.feature_cache import features_of
from eval.features import extractor as extractors
from gan.data.dataset import ImageDataset
from gan.errors import RequestError


class OneProcess:
    """What Cluster.ordered_map does, in this process; `shards` are those that were asked for."""

    def __init__(self):
        self.shards = []

    def ordered_map(self, function, items, crashed, *, block):
        self.shards += items
        return map(function, items)


@pytest.fixture
def small(monkeypatch, lite):
    """Shards of 5 images, batches of 2, and the number of threads as it was."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(feature_cache, "SHARD", 5)
    monkeypatch.setattr(cluster_features, "SHARD", 5)
    monkeypatch.setattr(extractors, "BATCH_SIZE", 2)
    monkeypatch.setattr(lite, "batch_size", 2)
    cluster_features._loaded.cache_clear()
    yield
    cluster_features._loaded.cache_clear()
    torch.set_num_threads(threads)


def test_the_shards_that_are_lacking_are_made_as_on_this_machine(small, lite, tiny_dataset, monkeypatch, tmp_path):
    dataset, cluster = ImageDataset(tiny_dataset), OneProcess()
    monkeypatch.setenv("SALON_CACHE", str(empty_cache(tmp_path / "here")))
    expected = features_of(dataset, np.arange(12), lite)
    monkeypatch.setenv("SALON_CACHE", str(empty_cache(tmp_path / "there")))
    for indices in (np.array([11, 2]), np.arange(12), np.arange(12)):
        cluster_features.extract(dataset, indices, lite, cluster)
    assert cluster.shards == [0, 2, 1]  # each once
    monkeypatch.setattr(extractors.Extractor, "__call__", None)  # nothing is left to do here
    assert np.array_equal(features_of(dataset, np.arange(12), lite), expected)


def test_a_shard_whose_workers_died_is_named(small):
    with pytest.raises(RequestError, match="features of the images from 10 on died"):
        cluster_features._crashed(2)
