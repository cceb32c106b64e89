"""Resumable, sharded cache of features: one pass over the images serves all extractors, and an image goes through a
network once, whoever asks for its features.

Shard i holds the images at positions i * SHARD, ... of a source. Shards are whole or absent: a killed pass goes on with
those that are missing. Of several processes each makes every so-manyth.

$SALON_CACHE/features/DIGEST/    of real images. The digest is of all images of a dataset (names, bytes, labels),
                                 whichever a manifest keeps, and of the network with its weights, preprocessing,
                                 precision and backend
OUT/features/DIGEST/             of generated images, in the folder of their evaluation
"""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import chain, groupby, islice, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from eval.data.decoding import decoded, processes_for
from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetImages, DatasetSource, Source
from eval.data.thumbnails import Thumbnails
from eval.features.extractor import Extraction, Extractor
from eval.metrics.feature_stats import Array, Features, Moments
from eval.metrics.result_key import digest
from gan.data.dataset import ImageDataset
from gan.data.images import Pixels
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.console import progress
from gan.runtime.files import atomic, cache_folder, remove_stale_partials
from gan.runtime.parallel import delayed

SHARD = 256  # images
DECODER = 2  # grows when gan.data.decode gives other pixels, or sources decode by other means; 2: by it alone
MEMORY = 2**28  # bytes of pixels that wait to be extracted at a time, if one batch is not more

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Part = TypeVar("Part")


class Shards(Protocol):
    """What a pass fills. `take` makes something of a batch, in any thread; `write` makes a shard's files of that."""

    folder: Path

    def has(self, shard: int, rows: Places) -> bool:
        """Whether the shard is there, and has what is made of the images at its `rows`."""
        ...

    def take(self, pixels: Sequence[Pixels | None]) -> Any:
        """Images [H, W, 3] of one shard; None for one that cannot be read."""
        ...

    def write(self, shard: int, parts: Sequence[Any], source: Source) -> None:
        """Write the shard from what `take` gave of its batches, in order."""
        ...


class FeatureShards:
    """Features by one extractor in a folder of .npy files [n, dim], float32, and `logits`, where they are asked for.

    The row of an image that cannot be read is NaN.
    """

    def __init__(self, folder: Path, extractor: Extractor, *, logits: bool = False) -> None:
        self.folder, self.extractor = folder, extractor
        self._names = ("logits", "features") if logits else ("features",)  # in the order in which they are written

    def has(self, shard: int, rows: Places) -> bool:
        """Whether the shard is there, with features of the images at its `rows`."""
        file = _file(self.folder, "features", shard)
        return file.exists() and not np.isnan(Features.open([file]).shards[0][rows, 0]).any()

    def take(self, pixels: Sequence[Pixels | None]) -> dict[str, Floats]:
        """Extract features, and logits, of a batch."""
        return self._of_all(self.extractor(_stacked(pixels)), [image is not None for image in pixels])

    def start(self, pixels: Sequence[Pixels | None]) -> "Started":
        """What `take` does, only started; result() of what this gives waits for it."""
        readable = [image is not None for image in pixels]
        return Started(self, self.extractor.start(_stacked(pixels)), readable)

    def _of_all(self, extracted: dict[str, Floats], readable: Sequence[bool]) -> dict[str, Floats]:
        if not all(readable):
            extracted = {name: _spread(rows, np.array(readable)) for name, rows in extracted.items()}
        return {name: extracted[name] for name in self._names}

    def write(self, shard: int, parts: Sequence[dict[str, Floats]], source: Source) -> None:
        """Write logits, then features."""
        for name in self._names:
            with atomic(_file(self.folder, name, shard)) as temporary, open(temporary, "wb") as file:
                np.save(file, np.concatenate([part[name] for part in parts]), allow_pickle=False)

    def damaged(self, count: int) -> Places:
        """Positions of those of the first `count` images that could not be read."""
        features = self.read(np.arange(count))
        return np.concatenate([first + np.flatnonzero(np.isnan(rows[:, 0])) for first, rows in features.blocks()])

    def read(self, positions: Places, name: str = "features") -> Features:
        """Features of the images at `positions` [n], as memory maps."""
        shards = positions // SHARD
        there = np.unique(shards)
        features = Features.open([_file(self.folder, name, shard) for shard in there.tolist()])
        rows = np.searchsorted(there, shards) * SHARD + positions % SHARD
        return features if np.array_equal(rows, np.arange(len(features))) else features.view(rows)


class Started:
    """Features that a GPU has been told to compute."""

    def __init__(self, shards: FeatureShards, extraction: Extraction, readable: list[bool]) -> None:
        self._shards, self._extraction, self._readable = shards, extraction, readable

    def result(self) -> dict[str, Floats]:
        """What FeatureShards.take gives."""
        return self._shards._of_all(self._extraction.result(), self._readable)


def cached(
    source: Source, extractors: Sequence[Extractor], *, batch_size: int, description: str
) -> tuple[list[Features], Thumbnails]:
    """Features [n, dim] of a source's images by each extractor, and small images, from the user's cache.

    What is missing there is made in one pass; of a dataset the shards that hold a kept image, each as a whole. Of
    several processes all must call it, and each makes its share. Raises RequestError for a kept image that cannot be
    read.
    """
    images: Source = source.all_images if isinstance(source, DatasetSource) else source
    positions = source.indices if isinstance(source, DatasetSource) else np.arange(len(source))
    thumbnails = Thumbnails(cache_folder_of(images), SHARD, positions)
    sets = [FeatureShards(cache_folder_of(images, extractor), extractor) for extractor in extractors]
    one_pass(images, [thumbnails, *sets], positions=positions, batch_size=batch_size, description=description)
    return [shards.read(positions) for shards in sets], thumbnails


def features_of(dataset: ImageDataset, indices: Places, extractor: Extractor) -> Floats:
    """Features of the images of a dataset at `indices` [n], in memory, float32 [n, dim]; see `cached`."""
    return np.asarray(stored_features_of(dataset, indices, extractor).take(np.arange(len(indices)), np.float32))


def stored_features_of(dataset: ImageDataset, indices: Places, extractor: Extractor) -> Features:
    """Features of the images of a dataset at `indices` [n], as memory maps; see `cached`."""
    images = DatasetImages(dataset, indices)
    shards = FeatureShards(cache_folder_of(images, extractor), extractor)
    one_pass(images, [shards], positions=indices, batch_size=extractor.batch_size, description="Extracting features")
    return shards.read(indices) if len(indices) else Features([np.empty((0, extractor.dim), np.float32)])


def one_pass(
    source: Source, sets: Sequence[Shards], *, batch_size: int, description: str, positions: Places | None = None
) -> int:
    """Fill all shards that hold images at `positions` -> number of images made in this process.

    Without `positions` all are made as far as they can be read. Each image is made once for all sets that lack its
    shard. Of several processes (see gan.runtime.distributed) each makes its share; all return when all shards are
    there. Raises RequestError where one cannot see another's.
    """
    for folder in {shards.folder for shards in sets}:
        remove_stale_partials(folder)
    count = len(source)
    needed = rows_by_shard(np.arange(count) if positions is None else positions)
    mine = list(needed)[distributed.rank() :: distributed.world_size()]
    required = needed if positions is not None else dict.fromkeys(needed, np.arange(0))
    lacking = {shard: [own for own in sets if not own.has(shard, required[shard])] for shard in mine}
    waiting = [shard for shard in mine if lacking[shard]]
    if waiting and source.identity["kind"] == "iterator" and distributed.world_size() > 1:
        raise RequestError("an iterator of images must be evaluated by one process; write them to a folder first")
    ranges = [range(shard * SHARD, min((shard + 1) * SHARD, count)) for shard in waiting]
    total = sum(map(len, ranges))
    processes = 0 if _on_cpu(sets) else processes_for(total)
    images = _images(source, ranges, processes)
    fill = _fill if _on_cpu(sets) else _fill_ahead
    fill(progress(images, description, total), lacking, source, batch_size)
    distributed.anyone(False)  # until all have made theirs
    for own in sets:
        if not all(own.has(shard, rows[:0]) for shard, rows in needed.items()):
            raise RequestError(
                f"SALON_CACHE and `out` must be folders that all machines share; {own.folder} lacks what another made"
            )
    return total


def shared_moments(features: Features, path: Path) -> Moments:
    """Moments of all features, kept in `path`. Of several processes each counts its part; the main one merges them.

    Must be called by all processes; the others get the same from the file.
    """
    if not path.exists():
        world, rank = distributed.world_size(), distributed.rank()
        parts = [path.with_name(f"moments-{part}-of-{world}.npz") for part in range(world)]
        edges = np.linspace(0, len(features), world + 1).astype(int)
        save_arrays(parts[rank], features.moments(np.arange(edges[rank], edges[rank + 1])).to_arrays())
        distributed.anyone(False)
        with distributed.main_first():
            if distributed.is_main():
                total = Moments(features.dim)
                for part in parts:
                    total.merge(Moments.from_arrays(load_arrays(part)))
                save_arrays(path, total.to_arrays())
                for part in parts:
                    part.unlink()
    return Moments.from_arrays(load_arrays(path))


def folder_name(identity: Mapping[str, Any]) -> str:
    """Name of the folder for what is made of images of this identity. Shards of another size, and what was decoded
    in another way, are not mixed with it.
    """
    return digest({**identity, "shard": SHARD, "decoder": DECODER})


def shard_count(count: int) -> int:
    """Shards of `count` images."""
    return -(-count // SHARD)


def rows_by_shard(positions: Places) -> dict[int, Places]:
    """Shard -> the rows in it of those images at `positions` [n] that it holds."""
    ordered = np.sort(positions)
    shards, starts = np.unique(ordered // SHARD, return_index=True)
    return dict(zip(shards.tolist(), np.split(ordered % SHARD, starts[1:]), strict=True)) if len(ordered) else {}


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as .npz, atomically."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_arrays(path: Path) -> dict[str, Array]:
    """Read what save_arrays wrote. Raises RequestError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise RequestError(f"{path} must hold arrays; {reason}. Remove it, and it is made again") from error


def cache_folder_of(images: Source, extractor: Extractor | None = None) -> Path:
    """Where features of images by an extractor are kept; without one what is made of the images alone."""
    identity = {"images": images.identity} | ({} if extractor is None else {"extractor": extractor.identity})
    return cache_folder() / "features" / folder_name(identity)


def _images(source: Source, ranges: Sequence[range], processes: int) -> Iterator[tuple[int, Pixels | None]]:
    # The images at these positions, each with its shard.
    if processes and isinstance(source, DatasetImages | FilesSource):
        positions = list(chain.from_iterable(ranges))
        for position, image in zip(positions, decoded(source.read, positions, processes), strict=True):
            yield position // SHARD, image
        return
    for each in ranges:
        yield from zip(repeat(each.start // SHARD), source.pixels(each.start, each.stop))


def _fill(
    images: Iterable[tuple[int, Pixels | None]],
    lacking: Mapping[int, Sequence[Shards]],
    source: Source,
    batch_size: int,
) -> None:
    # On a CPU: a batch for each thread at a time, and then the next set, in the same threads.
    workers = torch.get_num_threads()
    with ThreadPoolExecutor(workers) as pool:
        for shard, members in groupby(images, key=itemgetter(0)):
            parts: dict[int, list[Any]] = {number: [] for number in range(len(lacking[shard]))}
            for batches in _grouped(map(itemgetter(1), members), batch_size, workers):
                for number, own in enumerate(lacking[shard]):
                    parts[number] += _in_threads(pool, own.take, batches)
            for number, own in enumerate(lacking[shard]):
                own.write(shard, parts[number], source)


def _fill_ahead(
    images: Iterable[tuple[int, Pixels | None]],
    lacking: Mapping[int, Sequence[Shards]],
    source: Source,
    batch_size: int,
) -> None:
    # On a GPU: everything is started, and a shard waited for when the next one has been. Features stay on the GPU until
    # then; small images are made by threads.
    with ThreadPoolExecutor() as pool:

        def start(own: Shards, batch: list[Pixels | None]) -> Any:
            return own.start(batch) if isinstance(own, FeatureShards) else pool.submit(own.take, batch)

        def started() -> Iterator[tuple[int, list[list[Any]]]]:
            size = max([batch_size, *(own.extractor.batch_size for own in _of_features(lacking))])
            for shard, members in groupby(images, key=itemgetter(0)):
                parts: list[list[Any]] = [[] for _ in lacking[shard]]
                for (batch,) in _grouped(map(itemgetter(1), members), size, 1):
                    for own, waiting in zip(lacking[shard], parts, strict=True):
                        waiting.append(start(own, batch))
                yield shard, parts

        for shard, parts in delayed(started(), 1):
            for own, waiting in zip(lacking[shard], parts, strict=True):
                own.write(shard, [part.result() for part in waiting], source)


def _of_features(lacking: Mapping[int, Sequence[Shards]]) -> list[FeatureShards]:
    return [own for sets in lacking.values() for own in sets if isinstance(own, FeatureShards)]


def _on_cpu(sets: Sequence[Shards]) -> bool:
    return all(own.extractor.device.type == "cpu" for own in sets if isinstance(own, FeatureShards))


def _grouped(pixels: Iterable[Pixels | None], batch_size: int, workers: int) -> Iterator[list[list[Pixels | None]]]:
    # Lists of a batch for each worker, or of as many as MEMORY takes.
    images = iter(pixels)
    group: list[list[Pixels | None]] = []
    held = 0
    while batch := list(islice(images, batch_size)):
        group.append(batch)
        held += sum(image.nbytes for image in batch if image is not None)
        if len(group) == workers or held >= MEMORY:
            yield group
            group, held = [], 0
    if group:
        yield group


def _in_threads(pool: Executor, function: Callable[[Any], Part], batches: Sequence[Any]) -> list[Part]:
    # On a CPU each thread computes a batch of its own: threads that share one wait for each other after every layer,
    # and for longer when other threads decode meanwhile; and the last digits would depend on how many share it.
    threads = torch.get_num_threads()

    def alone(batch: Any) -> Part:
        torch.set_num_threads(1)
        return function(batch)

    try:
        return list(pool.map(alone, batches))
    finally:
        torch.set_num_threads(threads)  # the number is the whole process's


def _stacked(pixels: Sequence[Pixels | None]) -> Pixels | list[Pixels]:
    # Those that can be read: one array of those that are of one size.
    images = [image for image in pixels if image is not None]
    return np.stack(images) if len({image.shape for image in images}) == 1 else images


def _spread(rows: Floats, readable: NDArray[np.bool_]) -> Floats:
    # Rows [n, d] of the readable images among others, whose rows are NaN.
    spread = np.full((len(readable), rows.shape[1]), np.nan, np.float32)
    spread[readable] = rows
    return spread


def _file(folder: Path, name: str, shard: int) -> Path:
    return folder / f"{name}-{shard:05d}.npy"
