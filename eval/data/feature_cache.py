"""One pass over a source's images, for any number of takers, kept in shards: a killed pass goes on where it was.

Each image is made once and given to all that still lack its shard. Shards are whole or absent; of several processes
each makes every so-manyth.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.data.image_sources import Source
from eval.features.extractor import Extractor
from eval.features.preprocess import FileProperties
from eval.metrics.feature_stats import Array, Features, Moments
from eval.metrics.result_key import digest
from gan.data.images import Pixels, encode
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.console import progress
from gan.runtime.files import atomic, remove_stale_partials

SHARD = 256  # images
THUMBNAIL = 96  # longest side in pixels
QUALITY = 85


class FeatureShards:
    """A source's features by one extractor, and its logits, in a folder of .npy files [n, d], float32."""

    def __init__(self, folder: Path, extractor: Extractor) -> None:
        self.folder, self.extractor = folder, extractor
        self._found: list[dict[str, Array]] = []

    def has(self, shard: int) -> bool:
        """Features are written last."""
        return _shard(self.folder, "features", shard).exists()

    def take(self, pixels: list[Pixels]) -> None:
        """Extract."""
        self._found.append(dict(self.extractor(pixels)))

    def finish(self, shard: int, source: Source, first: int) -> None:
        """Write logits, then features."""
        for name in sorted(self._found[0], reverse=True):  # logits, features
            with atomic(_shard(self.folder, name, shard)) as temporary, open(temporary, "wb") as file:
                np.save(file, np.concatenate([found[name] for found in self._found]), allow_pickle=False)
        self._found = []

    def read(self, shards: Iterable[int], name: str = "features") -> Features:
        """The shards as memory maps."""
        return Features.open([_shard(self.folder, name, shard) for shard in shards])


class Thumbnails:
    """Small pictures of a source's images, and of what format and size they are, in one ZIP a shard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._images: list[Image.Image] = []
        self._sizes: list[tuple[int, int]] = []

    def has(self, shard: int) -> bool:
        """Whether its ZIP is there."""
        return _shard(self.folder, "pictures", shard, ".zip").exists()

    def take(self, pixels: list[Pixels]) -> None:
        """Shrink; small images stay as they are."""
        for image in pixels:
            small = Image.fromarray(image)
            self._sizes.append(small.size)
            small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
            self._images.append(small)

    def finish(self, shard: int, source: Source, first: int) -> None:
        """Write the ZIP."""
        formats = [source.format(first + offset) for offset in range(len(self._images))]
        with (
            atomic(_shard(self.folder, "pictures", shard, ".zip")) as temporary,
            zipfile.ZipFile(temporary, "w") as archive,
        ):
            for offset, image in enumerate(self._images):
                archive.writestr(f"{first + offset}.jpg", encode(image, "jpeg", QUALITY))
            archive.writestr(
                "traits.json", json.dumps([[f, *size] for f, size in zip(formats, self._sizes, strict=True)])
            )
        self._images, self._sizes = [], []

    def jpeg(self, index: int) -> bytes:
        """The small picture of image `index`, a JPEG file's bytes."""
        with zipfile.ZipFile(_shard(self.folder, "pictures", index // SHARD, ".zip")) as archive:
            return archive.read(f"{index}.jpg")

    def image(self, index: int) -> Image.Image:
        """The same, decoded."""
        return Image.open(io.BytesIO(self.jpeg(index)))

    def traits(self, count: int) -> FileProperties:
        """Formats and sizes of images 0..count."""
        traits = FileProperties()
        for shard in range(-(-count // SHARD)):
            with zipfile.ZipFile(_shard(self.folder, "pictures", shard, ".zip")) as archive:
                for format, width, height in json.loads(archive.read("traits.json")):
                    traits.add(format, width, height)
        return traits


def one_pass(source: Source, takers: Sequence[FeatureShards | Thumbnails], *, batch_size: int, what: str) -> int:
    """Give every image to every taker that lacks it -> the number of images that were made, in this process.

    Of several processes (see gan.runtime.distributed) this one makes its share; it returns when all shards are there.
    Raises RequestError where it cannot see those of another one.
    """
    for folder in {taker.folder for taker in takers}:
        remove_stale_partials(folder)
    count = len(source)
    mine = range(distributed.rank(), shard_count(count), distributed.world_size())
    waiting = [shard for shard in mine if not all(taker.has(shard) for taker in takers)]
    if waiting and source.identity["kind"] == "iterator" and distributed.world_size() > 1:
        raise RequestError("an iterator of images must be judged by one process; write them to a folder first")
    images = (
        (shard, image) for shard in waiting for image in source.pixels(shard * SHARD, min((shard + 1) * SHARD, count))
    )
    total = sum(min(SHARD, count - shard * SHARD) for shard in waiting)
    for shard, some in groupby(progress(images, what, total), key=itemgetter(0)):
        lacking = [taker for taker in takers if not taker.has(shard)]
        pixels = map(itemgetter(1), some)
        while batch := list(islice(pixels, batch_size)):
            for taker in lacking:
                taker.take(batch)
        for taker in lacking:
            taker.finish(shard, source, shard * SHARD)
    distributed.anyone(False)  # until all have made theirs
    for taker in takers:
        if not all(taker.has(shard) for shard in range(shard_count(count))):
            raise RequestError(
                f"SALON_CACHE and --out must be folders that all machines share; {taker.folder} lacks what another made"
            )
    return total


def moments(shards: FeatureShards, count: int) -> Moments:
    """Of all features, kept beside them. Of several processes each counts its shards; the main one merges them.

    Must be called by all processes, after one_pass; the others get the same from the file.
    """
    path = shards.folder / "moments.npz"
    if not path.exists():
        world, rank = distributed.world_size(), distributed.rank()
        mine = range(rank, shard_count(count), world)
        parts = [shards.folder / f"moments-{part}-of-{world}.npz" for part in range(world)]
        own = shards.read(mine).moments() if mine else Moments(shards.extractor.dim)
        save_arrays(parts[rank], own.to_arrays())
        distributed.anyone(False)
        with distributed.main_first():
            if distributed.is_main():
                total = Moments(shards.extractor.dim)
                for part in parts:
                    total.merge(Moments.from_arrays(load_arrays(part)))
                save_arrays(path, total.to_arrays())
                for part in parts:
                    part.unlink()
    return Moments.from_arrays(load_arrays(path))


def folder_name(identity: Mapping[str, Any]) -> str:
    """Name of the folder for what is made of images of this identity. Shards of another size are not mixed with it."""
    return digest({**identity, "shard": SHARD})


def shard_count(count: int) -> int:
    """Shards of `count` images."""
    return -(-count // SHARD)


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


def _shard(folder: Path, name: str, shard: int, suffix: str = ".npy") -> Path:
    return folder / f"{name}-{shard:05d}{suffix}"
