"""Features of a dataset's images: extracted in shards that survive an interruption, by any number of processes."""

import hashlib
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eval.features.extractor import Extractor
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.console import progress
from gan.runtime.files import atomic, cache_folder
from gan.runtime.parallel import ordered_map

Floats = NDArray[np.float32]

SHARD = 2048  # images


def folder_for(fingerprint: str, extractor: Extractor) -> Path:
    """Where the shards of a dataset lie: the place depends on the images and on all that decides their features."""
    key = hashlib.sha256(json.dumps([fingerprint, sorted(extractor.identity.items())]).encode()).hexdigest()
    return cache_folder() / "features" / key[:32]


def embed(dataset: ImageDataset, indices: NDArray[np.int64], extractor: Extractor, folder: Path) -> Floats:
    """Features of the images at `indices`, float32 [n, dim], a shard at a time. Finished shards are not made again.

    Of several processes each makes every so manieth shard; all return the whole. Raises ImageError for a bad image,
    RequestError when a process cannot see what another one wrote.
    """
    shards = [indices[start : start + SHARD] for start in range(0, len(indices), SHARD)]
    paths = [folder / f"{hashlib.sha256(shard.tobytes()).hexdigest()[:32]}.npy" for shard in shards]
    numbers = range(distributed.rank(), len(shards), distributed.world_size())
    for number in progress(numbers, "Extracting features", len(numbers), unit="shard"):
        if not paths[number].exists():
            features = _extract(dataset, shards[number], extractor)
            with atomic(paths[number]) as temporary, open(temporary, "wb") as file:
                np.save(file, features)
    distributed.anyone(False)  # the others' shards are there
    if lost := [path for path in paths if not path.exists()]:
        raise RequestError(
            f"SALON_CACHE must be a folder that all machines share; {lost[0].parent} lacks what another made"
        )
    return np.concatenate([np.load(path, allow_pickle=False) for path in paths])


def _extract(dataset: ImageDataset, indices: NDArray[np.int64], extractor: Extractor) -> Floats:
    # On a CPU each thread computes a batch of its own: threads that share one wait for each other after every layer,
    # and for longer when other threads decode meanwhile.
    threads, size = torch.get_num_threads(), extractor.batch_size
    workers = threads if extractor.device.type == "cpu" else 1
    try:
        with (
            ThreadPoolExecutor() as readers,
            ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool,
        ):
            images = ordered_map(readers, dataset.image, (int(i) for i in indices), ahead=2 * workers * size)
            batches = (np.stack(list(itertools.islice(images, size))) for _ in range(0, len(indices), size))  # NHWC
            found = ordered_map(pool, lambda batch: extractor(batch)["features"], batches, ahead=2 * workers)
            return np.concatenate(list(found))
    finally:
        torch.set_num_threads(threads)  # the number is the whole process's
