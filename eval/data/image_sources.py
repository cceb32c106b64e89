"""Where images come from: a snapshot's seeds, a dataset, a folder or ZIP of images, or any iterator.

A source gives uint8 images [H, W, 3] by index, and says who it is: `identity` decides every pixel, so features that
were made of it may be kept under it.
"""

import hashlib
import io
import os
import threading
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from eval.data.snapshot_source import DEFAULT_COUNT, SnapshotSource
from gan.data.collection import Collection
from gan.data.dataset import UNREADABLE, ImageDataset
from gan.data.images import SUFFIXES, Pixels
from gan.errors import ImageError, RequestError
from gan.runtime.console import progress
from gan.runtime.parallel import ordered_map


class Source(Protocol):
    """Images by index. `identity` is JSON, and the same only for the same images in the same order."""

    name: str
    identity: dict[str, Any]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def pixels(self, first: int, end: int) -> Iterator[Pixels | None]:
        """Images first..end, uint8 [H, W, 3] of any sizes; None for one that cannot be read and need not be."""
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

    def __len__(self) -> int:
        return len(self.dataset)

    def pixels(self, first: int, end: int) -> Iterator[Pixels | None]:
        """Images first..end, decoded by several threads."""
        with ThreadPoolExecutor() as pool:
            yield from ordered_map(pool, self.read, range(first, end))

    def read(self, position: int) -> Pixels | None:
        """One image, uint8 [H, W, 3]."""
        try:
            return self.dataset.pixels(position).transpose(1, 2, 0)  # CHW -> HWC
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
        number = self.dataset.label(index)
        return self.dataset.classes[number] if self.dataset.classes else str(number)


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


class FilesSource:
    """The images of a folder or ZIP, of any shapes; with `count`, so many of them, drawn by `seed`.

    Images in sub-folders have the first folder's name as label. Raises RequestError when there are none.
    """

    def __init__(self, path: Path, count: int | None = None, *, seed: int = 0) -> None:
        self.path, self.name = Path(path), str(path)
        self._lock = threading.Lock()
        try:
            self._archive = None if self.path.is_dir() else zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            reason = getattr(error, "strerror", None) or error
            raise RequestError(f"{path} must be a folder or a ZIP of images; got {reason} instead") from error
        self.names = sorted(name for name in self._list() if Path(name).suffix.lower() in SUFFIXES)
        if not self.names:
            raise RequestError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))})")
        if count is not None and count < len(self.names):
            chosen = np.random.default_rng(seed).permutation(len(self.names))[:count]
            self.names = [self.names[index] for index in sorted(chosen)]
        elif count is not None and count > len(self.names):
            raise RequestError(f"`num_images` must be at most the {len(self.names)} images in {path}; got {count}")
        self.identity = {"kind": "files", "sha256": self._fingerprint()}

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end in the order of their names, decoded by several threads."""
        with ThreadPoolExecutor() as pool:
            yield from ordered_map(pool, self.read, range(first, end))

    def read(self, position: int) -> Pixels:
        """One image, uint8 [H, W, 3]."""
        return self._decode(self.names[position])

    def format(self, index: int) -> str:
        """By the name's ending."""
        return SUFFIXES[Path(self.names[index]).suffix.lower()]

    def label(self, index: int) -> str | None:
        """The outermost folder's name."""
        parts = Path(self.names[index]).parts
        return parts[0] if len(parts) > 1 else None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_archive")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        archive = None if state["path"].is_dir() else zipfile.ZipFile(state["path"])
        self.__dict__.update(state, _lock=threading.Lock(), _archive=archive)

    def _decode(self, name: str) -> Pixels:
        try:
            return np.asarray(Image.open(io.BytesIO(self._read(name))).convert("RGB"))
        except UNREADABLE as error:
            why = "it is no image, or is damaged" if isinstance(error, UnidentifiedImageError) else error
            raise RequestError(f"{self.path} holds an image that cannot be read, {name}: {why}") from error

    def _list(self) -> list[str]:
        if self._archive is not None:
            return [entry.filename for entry in self._archive.infolist() if not entry.is_dir()]
        files = (Path(folder, name) for folder, _, names in os.walk(self.path) for name in names)
        return [file.relative_to(self.path).as_posix() for file in files if not file.name.startswith(".")]

    def _read(self, name: str) -> bytes:
        if self._archive is None:
            return (self.path / name).read_bytes()
        with self._lock:  # the archive has one position
            return self._archive.read(name)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in progress(self.names, "Hashing images", len(self.names)):
            line = f"{name} {hashlib.sha256(self._read(name)).hexdigest()}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


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
) -> SnapshotSource | FilesSource | IteratorSource:
    """The source of `images`: of a snapshot (a file, a run), a folder or ZIP of images, or an iterator with its count.

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
    return FilesSource(path, count, seed=seed)


def is_snapshot(path: Path) -> bool:
    """Whether it is a snapshot, a run or a folder of runs, by the names in it."""
    patterns = ("snapshot-*.safetensors", "snapshots/snapshot-*.safetensors", "*/snapshots/snapshot-*.safetensors")
    if path.is_dir():
        return any(next(path.glob(pattern), None) for pattern in patterns)
    return path.suffix == ".safetensors"
