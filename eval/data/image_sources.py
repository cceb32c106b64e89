"""Where images come from: a snapshot's seeds, a dataset, a folder or ZIP of images, an array, or any iterator.

A source gives uint8 images [H, W, C] by index, which extractors see as RGB, and says who it is: `identity` decides
every pixel, so features that were made of it may be kept under it.
"""

import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eval.data.array_source import SUFFIXES as ARRAYS
from eval.data.array_source import ArraySource
from eval.data.files_source import FilesSource
from eval.data.snapshot_source import DEFAULT_COUNT, SnapshotSource, seen_as
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.data.images import SUFFIXES, Pixels
from gan.errors import ImageError, RequestError
from gan.runtime.parallel import ordered_map


class Source(Protocol):
    """Images by index. `identity` is JSON, and the same only for the same images in the same order."""

    name: str
    identity: dict[str, Any]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def pixels(self, first: int, end: int) -> Iterator[Pixels | None]:
        """Images first..end, uint8 [H, W, C] of any sizes; None for one that cannot be read and need not be."""
        ...

    def format(self, index: int) -> str:
        """File format of an image, such as "jpeg"; "array" for what never was a file."""
        ...

    def label(self, index: int) -> str | None:
        """Name of an image's class, where it has one."""
        ...


class DatasetImages:
    """All images of a dataset by position, whichever a manifest keeps: what the feature cache holds shards of.

    An image that cannot be read is None; at a `required` position [n] it raises RequestError.
    """

    def __init__(self, dataset: ImageDataset, required: NDArray[np.int64]) -> None:
        self.dataset = dataset
        self._required = np.zeros(len(dataset), bool)
        self._required[required] = True
        self.name = str(dataset.path)
        self.identity: dict[str, Any] = {"kind": "dataset", "sha256": dataset.fingerprint(), "manifest": None}
        self.identity |= seen_as(dataset.shape)

    def __len__(self) -> int:
        return len(self.dataset)

    def pixels(self, first: int, end: int) -> Iterator[Pixels | None]:
        """Images first..end, decoded by several threads."""
        with ThreadPoolExecutor() as pool:
            yield from ordered_map(pool, self.read, range(first, end))

    def read(self, position: int) -> Pixels | None:
        """One image, uint8 [H, W, C]."""
        try:
            return self.dataset.image(position)
        except ImageError as error:
            if not self._required[position]:
                return None
            raise RequestError(
                f"{self.name} holds an image that cannot be read: {error}. "
                "Prepare it again with salon prepare, or drop it with a manifest."
            ) from error

    def format(self, index: int) -> str:
        """By the name's ending."""
        return SUFFIXES[Path(self.dataset.names[index]).suffix.lower()]

    def label(self, index: int) -> str | None:
        """Name of an image's class in dataset.json."""
        if self.dataset.labels is None:
            return None
        return self.dataset.class_name(self.dataset.label(index))


class DatasetSource:
    """The images of a prepared dataset that a collection keeps; `indices` [M] are their positions in the dataset.

    Raises RequestError when it keeps none, and at an image that cannot be read.
    """

    def __init__(self, collection: Collection) -> None:
        self.collection, self.dataset = collection, collection.dataset
        self.indices = collection.require_kept()
        self.all_images = DatasetImages(self.dataset, self.indices)
        self.name = self.all_images.name
        self.identity: dict[str, Any] = {**self.all_images.identity, "manifest": collection.selection}

    def __len__(self) -> int:
        return len(self.indices)

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end, decoded by several threads."""
        with ThreadPoolExecutor() as pool:
            for image in ordered_map(pool, self.all_images.read, self.indices[first:end].tolist()):
                assert image is not None  # all of these are required
                yield image

    def format(self, index: int) -> str:
        """By the name's ending."""
        return self.all_images.format(int(self.indices[index]))

    def label(self, index: int) -> str | None:
        """Name of an image's class in dataset.json."""
        return self.all_images.label(int(self.indices[index]))

    def class_shares(self) -> list[int] | None:
        """How many images each class has; None without labels."""
        if self.dataset.labels is None:
            return None
        counts = np.bincount(self.dataset.labels[self.indices], minlength=self.dataset.num_classes)
        return [int(count) for count in counts]


class IteratorSource:
    """Images from any iterator, which is used up once and in order; so nothing of it is kept for another run."""

    def __init__(self, images: Iterable[Pixels], count: int, name: str = "iterator") -> None:
        self._images, self._next, self.count, self.name = iter(images), 0, count, name
        self.identity = {"kind": "iterator", "run": uuid.uuid4().hex}

    def __len__(self) -> int:
        return self.count

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end; `first` must be where the last call ended. Raises RequestError when they run out."""
        if first != self._next:
            raise RequestError(f"an iterator gives its images in order, from {self._next}; {first} was asked for")
        for index in range(first, end):
            image = next(self._images, None)
            if image is None:
                raise RequestError(f"{self.name} must give {self.count} images; it ended after {index}")
            self._next += 1
            yield image

    def format(self, index: int) -> str:
        """Never a file's."""
        return "array"

    def label(self, index: int) -> str | None:
        """Unknown."""
        return None


def open_source(
    images: Path | Iterable[Pixels], count: int | None = None, *, seed: int = 0, **options: Any
) -> SnapshotSource | FilesSource | ArraySource | IteratorSource:
    """The source of `images`: of a snapshot (a file, a run), a folder or ZIP of images, an array (.npz, .npy), or an
    iterator with its count.

    `options` are those of SnapshotSource. Raises RequestError for anything else.
    """
    if not isinstance(images, str | Path):
        if count is None:
            raise RequestError("`num_images` must be given for an iterator of images")
        return IteratorSource(images, count)
    path = Path(images)
    if not path.exists():
        raise RequestError(f"{path} must be a snapshot, or a folder or ZIP of images; it does not exist")
    if is_snapshot(path):
        return SnapshotSource(path, DEFAULT_COUNT if count is None else count, seed=seed, **options)
    return open_files(path, count, seed=seed, skip_damaged=True)


def open_files(
    path: Path, count: int | None = None, *, seed: int = 0, skip_damaged: bool = False
) -> FilesSource | ArraySource:
    """A folder or ZIP of images, or an array of them. A damaged file is an error, or skipped.

    Raises RequestError for anything else.
    """
    if path.suffix.lower() in ARRAYS and path.is_file():
        return ArraySource(path, count, seed=seed)
    return FilesSource(path, count, seed=seed, skip_damaged=skip_damaged)


def is_snapshot(path: Path) -> bool:
    """Whether it is a snapshot, a run or a folder of runs, by the names in it."""
    patterns = ("snapshot-*.safetensors", "snapshots/snapshot-*.safetensors", "*/snapshots/snapshot-*.safetensors")
    if path.is_dir():
        return any(next(path.glob(pattern), None) for pattern in patterns)
    return path.suffix == ".safetensors"
