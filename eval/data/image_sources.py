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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from gan import snapshot
from gan.data.dataset import UNREADABLE, ImageDataset
from gan.data.images import SUFFIXES, Pixels
from gan.errors import ImageError, RequestError
from gan.runtime.console import progress
from gan.runtime.files import sha256
from gan.runtime.parallel import ordered_map
from gan.sampling import generate, latents

DEFAULT_COUNT = 10_000  # images of a snapshot


class Source(Protocol):
    """Images by index. `identity` is JSON, and the same only for the same images in the same order."""

    name: str
    identity: dict[str, Any]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end, uint8 [H, W, 3] of any sizes."""
        ...

    def format(self, index: int) -> str:
        """File format of an image, such as "jpeg"; "array" for what never was a file."""
        ...

    def label(self, index: int) -> str | None:
        """Name of an image's class, where it has one."""
        ...


class SnapshotSource:
    """A generator's images: image i is the one of seed `seed` + i, whatever the batch size, as in salon generate.

    A conditional generator paints each class as often as `class_shares` [classes] says (default: all alike); the class
    of an image follows from its seed too, so that all snapshots are judged by one bank of latents.
    """

    def __init__(
        self,
        path: Path,
        count: int = DEFAULT_COUNT,
        *,
        seed: int = 0,
        truncation_psi: float = 1.0,
        class_shares: Sequence[float] | None = None,
        device: torch.device | None = None,
        batch_size: int = 16,
    ) -> None:
        if count < 1 or seed + count - 1 > latents.MAX_SEED:
            raise RequestError(
                f"--num-images must be at least 1, and seeds at most {latents.MAX_SEED}; got {count} from {seed} on"
            )
        self.snapshot = snapshot.find(path)
        self.G = self.snapshot.G_ema.to(device or torch.device("cpu"))
        self.seed, self.count, self.truncation_psi, self.batch_size = seed, count, truncation_psi, batch_size
        classes = self.G.config.num_classes
        shares = np.full(classes, 1.0) if class_shares is None else np.asarray(class_shares, float)
        if classes and (len(shares) != classes or not shares.sum()):
            raise RequestError(f"{path} paints {classes} classes; the dataset has {len(shares)}")
        self._shares = shares / shares.sum() if classes else None
        self.name = str(self.snapshot.path)
        self.identity = {
            "kind": "snapshot",
            "sha256": sha256(self.snapshot.path),
            "truncation_psi": truncation_psi,
            "z_bank": self.z_bank,
            "device": next(self.G.parameters()).device.type,  # convolutions round differently there
        }

    @property
    def z_bank(self) -> str:
        """Names the latents and classes that image 0, 1, ... are made of; equal banks make differences paired."""
        classes = "" if self._shares is None else hashlib.sha256(self._shares.tobytes()).hexdigest()[:16]
        return f"seeds from {self.seed}, z_dim {self.G.config.z_dim}" + (f", classes {classes}" if classes else "")

    def __len__(self) -> int:
        return self.count

    def seeds(self, first: int, end: int) -> list[int]:
        """The seeds of images first..end."""
        return list(range(self.seed + first, self.seed + end))

    def classes(self, seeds: Sequence[int]) -> list[int] | None:
        """The class that is painted for each seed; None for a generator without classes."""
        if self._shares is None:
            return None
        return [int(np.random.default_rng([seed, 1]).choice(len(self._shares), p=self._shares)) for seed in seeds]

    def paint(self, seeds: Sequence[int], classes: Sequence[int] | None) -> Iterator[Pixels]:
        """The images of any seeds, each made now."""
        return generate.generate(self.G, seeds, classes, truncation_psi=self.truncation_psi, batch_size=self.batch_size)

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end, each made now."""
        seeds = self.seeds(first, end)
        return self.paint(seeds, self.classes(seeds))

    def format(self, index: int) -> str:
        """Never a file's."""
        return "array"

    def label(self, index: int) -> str | None:
        """The class that was asked for."""
        return self.class_name(self.seed + index)

    def class_name(self, seed: int) -> str | None:
        """Name of the class that is painted for a seed."""
        classes = self.classes([seed])
        if classes is None:
            return None
        names = self.snapshot.classes
        return names[classes[0]] if names else str(classes[0])


class DatasetSource:
    """The images `indices` of a prepared dataset, or all of them. `manifest` is the hash of what chose them.

    Raises RequestError at an image that cannot be read.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        fingerprint: str | None = None,
        indices: Sequence[int] | None = None,
        manifest: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.indices = list(range(len(dataset)) if indices is None else indices)
        self.name = str(dataset.path)
        self.identity = {
            "kind": "dataset",
            "sha256": fingerprint or dataset.fingerprint(),
            "manifest": manifest,
        }

    def __len__(self) -> int:
        return len(self.indices)

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end, decoded by several threads."""
        with ThreadPoolExecutor() as pool:
            try:
                yield from ordered_map(pool, self.dataset.image, self.indices[first:end])
            except ImageError as error:
                raise RequestError(
                    f"{self.name} holds an image that cannot be judged by: {error}. "
                    "Prepare it again with salon prepare, or drop it with a manifest."
                ) from error

    def format(self, index: int) -> str:
        """By the name's ending."""
        return SUFFIXES[Path(self.dataset.names[self.indices[index]]).suffix.lower()]

    def label(self, index: int) -> str | None:
        """Of dataset.json."""
        if self.dataset.labels is None:
            return None
        number = self.dataset.label(self.indices[index])
        return self.dataset.classes[number] if self.dataset.classes else str(number)

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
            raise RequestError(f"--num-images must be at most the {len(self.names)} images in {path}; got {count}")
        self.identity = {"kind": "files", "sha256": self._fingerprint()}

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end in the order of their names, decoded by several threads."""
        with ThreadPoolExecutor() as pool:
            yield from ordered_map(pool, self._decode, self.names[first:end])

    def format(self, index: int) -> str:
        """By the name's ending."""
        return SUFFIXES[Path(self.names[index]).suffix.lower()]

    def label(self, index: int) -> str | None:
        """The outermost folder's name."""
        parts = Path(self.names[index]).parts
        return parts[0] if len(parts) > 1 else None

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
            digest.update(f"{name} {hashlib.sha256(self._read(name)).hexdigest()}\n".encode())
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
    what: Path | Iterable[Pixels], count: int | None = None, *, seed: int = 0, **how: Any
) -> SnapshotSource | FilesSource | IteratorSource:
    """The source that `what` is: a snapshot (a file, a run), a folder or ZIP of images, or an iterator with its count.

    `how` goes to SnapshotSource. Raises RequestError for anything else.
    """
    if not isinstance(what, str | Path):
        if count is None:
            raise RequestError("num_images must be given for an iterator of images")
        return IteratorSource(what, count)
    path = Path(what)
    if not path.exists():
        raise RequestError(f"{path} must be a snapshot, or a folder or ZIP of images; it does not exist")
    if is_snapshot(path):
        return SnapshotSource(path, DEFAULT_COUNT if count is None else count, seed=seed, **how)
    return FilesSource(path, count, seed=seed)


def is_snapshot(path: Path) -> bool:
    """Whether it is a snapshot, a run or a folder of runs, by the names in it."""
    patterns = ("snapshot-*.safetensors", "snapshots/snapshot-*.safetensors", "*/snapshots/snapshot-*.safetensors")
    if path.is_dir():
        return any(next(path.glob(pattern), None) for pattern in patterns)
    return path.suffix == ".safetensors"
