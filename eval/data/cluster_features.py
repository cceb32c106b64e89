"""Features of a dataset's images by a cluster, into the same cache as on one machine, to the bit.

A task is a shard. All machines must see the dataset, and the extractor's weights, under the same paths.
"""

from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from eval.data.feature_cache import SHARD, FeatureShards, Floats, Places, cache_folder_of, rows_by_shard
from eval.data.image_sources import DatasetImages
from eval.features.extractor import Extractor, load_extractor
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.runtime.cluster import Cluster
from gan.runtime.console import progress
from gan.runtime.files import remove_stale_partials


def extract(
    dataset: ImageDataset, indices: Places, extractor: Extractor, cluster: Cluster, weights: Path | None = None
) -> None:
    """Make the shards that the cache lacks of the images at `indices` [n]; finished ones stay, however this ends.

    `weights` are those that the extractor was loaded with. An image that cannot be read is left to who reads the cache.
    """
    images = DatasetImages(dataset, indices)
    shards = FeatureShards(cache_folder_of(images, extractor), extractor)
    remove_stale_partials(shards.folder)
    lacking = [shard for shard, rows in rows_by_shard(indices).items() if not shards.has(shard, rows)]
    function = partial(_features, dataset=dataset.path.resolve(), extractor=extractor.name, weights=weights)
    values = cluster.ordered_map(function, lacking, _crashed, block=1)
    for shard, features in zip(lacking, progress(values, "Extracting features", len(lacking), "shard"), strict=True):
        shards.write(shard, [{"features": features}], images)


def _features(shard: int, *, dataset: Path, extractor: str, weights: Path | None) -> Floats:
    # By the batches of eval.data.feature_cache: the last digits of features may depend on how many are in a batch.
    opened, own = _opened(dataset), _loaded(extractor, weights)
    shards = FeatureShards(Path(), own)
    images = DatasetImages(opened, np.arange(0))
    pixels = list(images.pixels(shard * SHARD, min((shard + 1) * SHARD, len(images))))
    batches = (pixels[start : start + own.batch_size] for start in range(0, len(pixels), own.batch_size))
    return np.concatenate([shards.take(batch)["features"] for batch in batches])


def _crashed(shard: int) -> Floats:
    raise RequestError(f"the processes that extracted features of the images from {shard * SHARD} on died")


@lru_cache(maxsize=2)
def _opened(dataset: Path) -> ImageDataset:
    return ImageDataset(dataset)


@lru_cache(maxsize=2)
def _loaded(extractor: str, weights: Path | None) -> Extractor:
    torch.set_num_threads(1)  # a worker has one core
    return load_extractor(extractor, weights=weights, device=torch.device("cpu"))
