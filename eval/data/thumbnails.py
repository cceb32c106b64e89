"""Small images of a source for reports, and of what file formats and sizes its images are, in one ZIP a shard."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.data.image_sources import Source
from eval.features.preprocess import FileProperties
from gan.data.images import Pixels, encode, for_display
from gan.runtime.files import atomic

THUMBNAIL = 96  # longest side in pixels
QUALITY = 85

Small = tuple[bytes, tuple[int, int]]  # the small image, a JPEG, and the size of the large one


class Thumbnails:
    """Small images in shards of `shard` images each. Indices are those of `positions` [n] in the shards; None: all."""

    def __init__(self, folder: Path, shard: int, positions: NDArray[np.int64] | None = None) -> None:
        self.folder, self._shard, self._positions = folder, shard, positions

    def has(self, shard: int, rows: NDArray[np.int64]) -> bool:
        """Whether the shard's ZIP is there, with an image for each of its `rows`."""
        if not self._file(shard).exists():
            return False
        properties = self._properties(shard)
        return all(properties[row] is not None for row in rows.tolist())

    def take(self, pixels: Sequence[Pixels | None]) -> list[Small | None]:
        """Shrink and encode a batch; small images keep their size."""
        return [None if image is None else _shrunk(image) for image in pixels]

    def write(self, shard: int, parts: Sequence[list[Small | None]], source: Source) -> None:
        """Write a shard from what `take` gave of its batches."""
        first = shard * self._shard
        properties = []
        with atomic(self._file(shard)) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for index, small in enumerate((small for part in parts for small in part), first):
                properties.append(small and [source.format(index), *small[1]])
                if small:
                    archive.writestr(f"{index}.jpg", small[0])
            archive.writestr("traits.json", json.dumps(properties))

    def jpeg(self, index: int) -> bytes:
        """The small image `index`, a JPEG file's bytes."""
        position = index if self._positions is None else int(self._positions[index])
        with zipfile.ZipFile(self._file(position // self._shard)) as archive:
            return archive.read(f"{position}.jpg")

    def image(self, index: int) -> Image.Image:
        """The same, decoded."""
        return Image.open(io.BytesIO(self.jpeg(index)))

    def traits(self, count: int) -> FileProperties:
        """Formats and sizes of the first `count` images."""
        positions = np.arange(count) if self._positions is None else self._positions[:count]
        shards = positions // self._shard
        properties = FileProperties()
        for shard in np.unique(shards).tolist():
            own = self._properties(shard)
            for row in (positions[shards == shard] % self._shard).tolist():
                if own[row]:
                    properties.add(*own[row])
        return properties

    def _properties(self, shard: int) -> list[tuple[str, int, int] | None]:
        with zipfile.ZipFile(self._file(shard)) as archive:
            rows: list[tuple[str, int, int] | None] = json.loads(archive.read("traits.json"))
        return rows

    def _file(self, shard: int) -> Path:
        return self.folder / f"pictures-{shard:05d}.zip"


def _shrunk(pixels: Pixels) -> Small:
    image = Image.fromarray(for_display(pixels))
    size = image.size
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return encode(image, "jpeg", QUALITY), size
