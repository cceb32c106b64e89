"""A dataset: images of one shape in a ZIP, a folder or a list of ZIPs, with `dataset.json` for labels and channels.

The layout is that of the StyleGAN3 family (see gan.data.dataset_json for the labels, gan.data.archives for the files).
"""

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gan.data import archives, dataset_json
from gan.data.classes import MAX_CLASSES, class_name
from gan.data.dataset_json import DatasetLabels
from gan.data.decode import decode
from gan.data.images import SUFFIXES, Pixels, to_rgb
from gan.data.names import canonical_name
from gan.errors import ImageError, RequestError, SalonError
from gan.image_shape import ImageShape, base_of
from gan.runtime.console import progress, say
from gan.runtime.files import atomic, cache_folder, write_json
from gan.runtime.parallel import ordered_map

# What reading a member and decoding it raise: the file system, the ZIP (RuntimeError: it is encrypted), the decoders.
UNREADABLE = (
    *(OSError, EOFError, ValueError, SyntaxError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error),
    Image.DecompressionBombError,
)


class ImageDataset:
    """Random access to the images of a dataset. Safe to use from several threads and worker processes.

    Raises RequestError when `path` is no dataset, is empty, or its `dataset.json` does not fit its images.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._fingerprint: str | None = None
        self._files: archives.Files
        self.labels: NDArray[np.int64] | None = None
        self.classes: list[str] | None = None
        self.num_classes = 0
        if not self.path.exists():
            raise RequestError(f"{path} does not exist; make a dataset with `salon prepare`")
        if archives.is_list(self.path):
            self._join(archives.listed(self.path))
            return
        try:
            self._files, labels_file = archives.open_files(self.path)
        except zipfile.BadZipFile as error:
            raise RequestError(f"{path} must be a ZIP or a folder of images; it is none, or is damaged") from error
        except OSError as error:
            raise RequestError(f"{path} cannot be read: {error.strerror}") from error
        self.names = self._files.names
        if not self.names:
            raise RequestError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))})")
        labels = self._read_labels(labels_file)
        if labels:
            self.labels = np.array([labels.by_name[canonical_name(name)] for name in self.names], np.int64)
            self.classes, self.num_classes = labels.classes, labels.num_classes
        try:
            width, height = Image.open(io.BytesIO(self.file_bytes(0))).size
        except UNREADABLE as error:
            raise RequestError(f"{path} must hold images; {self.names[0]} cannot be read: {_said(error)}") from error
        channels = 3 if labels_file is None else dataset_json.channels(labels_file, f"dataset.json in {path}")
        self.shape = ImageShape(width, height, channels)
        self._require_shape()

    def __len__(self) -> int:
        return len(self.names)

    def read_bytes(self, name: str) -> bytes:
        """The bytes of the file of the image called `name`. Raises ValueError where there is none."""
        return self.file_bytes(self.names.index(name))

    def file_bytes(self, index: int) -> bytes:
        """The bytes of the file of image `index`."""
        return self._files.read(index)

    def file_size(self, index: int) -> int:
        """How many bytes the file of image `index` has."""
        return self._files.size(index)

    def image(self, index: int) -> Pixels:
        """Image `index`, uint8 [H, W, C]. Raises ImageError when it is unreadable or unlike the others."""
        name = self.names[index]
        try:
            image = decode(self.file_bytes(index), channels=self.shape.channels).image
        except (ImageError, *UNREADABLE) as error:
            raise ImageError("unreadable", f"{name}: {error}") from error
        if image.size != self.shape.size:
            expected = f"{self.shape.width}x{self.shape.height}"
            raise ImageError("size", f"{name} has {image.width}x{image.height} pixels, others {expected}")
        return np.asarray(image).reshape(self.shape.hwc)

    def rgb(self, index: int) -> Pixels:
        """Image `index` as networks that judge images take it, uint8 [H, W, 3]. Raises what `image` raises."""
        return to_rgb(self.image(index))

    def pixels(self, index: int) -> Pixels:
        """Image `index` as training takes it, uint8 [C, H, W]. Raises what `image` raises."""
        return self.image(index).transpose(2, 0, 1)  # HWC -> CHW

    def label(self, index: int) -> int:
        """Class of image `index`; 0 without labels."""
        return 0 if self.labels is None else int(self.labels[index])

    def class_name(self, index: int) -> str:
        """What to call class `index`: its name, or its number where it has none."""
        return class_name(index, self.classes)

    def require_classes(self, num_classes: int, names: Sequence[str] | None, parameter: str) -> None:
        """Check that the labels are classes of networks that know `num_classes`, called `names`; 0 takes any.

        Raises RequestError, which names `parameter`, where there are none or others.
        """
        if not num_classes:
            return
        own = [self.class_name(index) for index in range(self.num_classes)]
        known = [class_name(index, names) for index in range(num_classes)]
        if 0 < len(own) <= len(known) and (not self.classes or not names or own == known[: len(own)]):
            return
        of = f", {', '.join(known)}" if names and len(known) < 20 else ""
        has = f": {', '.join(own)}" if self.classes and len(own) < 20 else ""
        raise RequestError(
            f"`{parameter}` must hold images of {len(known)} classes{of}; {self.path} has {len(own)}{has}"
        )

    def fingerprint(self) -> str:
        """SHA-256 over names, bytes and labels of all images, and channels but RGB's: the same for a ZIP and a folder.

        Computed once; changes of the labels in memory do not count.
        """
        if self._fingerprint is not None:
            return self._fingerprint
        digest = hashlib.sha256()
        # One thread: for what is in memory, more of them get in each other's way.
        for index, name in enumerate(progress(self.names, "Hashing the dataset")):
            sha = hashlib.sha256(self.file_bytes(index)).hexdigest()
            digest.update(json.dumps([name, sha, self.label(index) if self.labels is not None else None]).encode())
        if self.shape.channels != 3:
            digest.update(json.dumps({"channels": self.shape.channels}).encode())
        self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def preflight(self, fingerprint: str) -> None:
        """Decode every image once, so that a bad one is found now; remembered by content.

        Raises RequestError that names the first bad images.
        """
        record = cache_folder() / "preflight" / f"{fingerprint}.json"
        if record.exists():
            return
        with ThreadPoolExecutor() as pool:
            problems = ordered_map(pool, self._problem, range(len(self)))
            errors = [problem for problem in progress(problems, "Checking images", len(self)) if problem]
        if errors:
            shown = "; ".join(errors[:5]) + (f"; and {len(errors) - 5} more" if len(errors) > 5 else "")
            raise RequestError(
                f"{self.path} holds {len(errors)} images that cannot be trained on: {shown}. "
                "Prepare it again with `salon prepare`, or drop them with a manifest."
            )
        try:
            write_json(record, {"dataset": fingerprint, "images": len(self), "shape": str(self.shape)})
        except SalonError as error:  # costs time at the next start, nothing else
            say(f"The result of the check will not be remembered: {error}")

    def cache(self, fingerprint: str) -> Path:
        """Decode all images into an uint8 memory map [N, C, H, W] beside the dataset, once -> its path."""
        path = self.path.with_name(f"{self.path.name}.{fingerprint[:16]}.cache.npy")
        if not path.exists():
            shape = (len(self), *self.shape.chw)
            with atomic(path) as temporary, ThreadPoolExecutor() as pool:
                array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
                with open(temporary, "r+b") as file:  # a full disk is an error here, and a crash of the process later
                    os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
                images = ordered_map(pool, self.pixels, range(len(self)))
                for index, pixels in enumerate(progress(images, "Caching pixels", len(self))):
                    array[index] = pixels
                array.flush()
        return path

    def _problem(self, index: int) -> str | None:
        try:
            self.pixels(index)
        except ImageError as error:
            return str(error)
        return None

    def _join(self, paths: Sequence[Path]) -> None:
        # Take over the ZIPs of a list, which must be alike.
        first: ImageDataset | None = None
        files, labels = [], []
        for path in progress(paths, "Opening ZIPs", unit="ZIP"):
            part = ImageDataset(path)
            first = first or part
            self._require_alike(part, first)
            assert isinstance(part._files, archives.Zips)
            files.append(part._files.prefixed())
            labels += [] if part.labels is None else [part.labels]
        assert first is not None
        self._files = archives.Zips.joined(files)
        self.names = self._files.names
        self.labels = np.concatenate(labels) if labels else None
        self.classes, self.num_classes, self.shape = first.classes, first.num_classes, first.shape

    def _require_alike(self, part: "ImageDataset", first: "ImageDataset") -> None:
        if part.shape != first.shape:
            raise RequestError(
                f"{self.path} must list ZIPs of images of one shape; {first.path} has {first.shape}, {part.path} "
                f"{part.shape}. Prepare them again with one `resolution` and `shape`"
            )
        if (part.classes, part.num_classes) != (first.classes, first.num_classes):
            raise RequestError(
                f"{self.path} must list ZIPs of the same classes in the same order; {first.path} has "
                f"{_told_classes(first)}, {part.path} {_told_classes(part)}. `salon prepare` makes one dataset of both"
            )

    def _require_shape(self) -> None:
        if self.shape.width == self.shape.height:
            return
        try:
            base_of(*self.shape.size)
        except RequestError as error:
            raise RequestError(
                f"{self.path} must hold images that are 2 to 8 times one power of two in width and height; "
                f"{self.names[0]} has {self.shape.width}x{self.shape.height}. Make a dataset of them with "
                "`salon prepare`"
            ) from error

    def _read_labels(self, labels_file: bytes | None) -> DatasetLabels | None:
        where = f"dataset.json in {self.path}"
        labels = None if labels_file is None else dataset_json.parse(labels_file, where)
        if labels is None:
            return None
        missing = [name for name in self.names if canonical_name(name) not in labels.by_name]
        if missing:
            raise RequestError(f"{where} has no label for {len(missing)} images, e.g. {missing[0]}")
        if labels.num_classes > MAX_CLASSES:
            raise RequestError(
                f"{where} must hold at most {MAX_CLASSES:,} classes; got class {labels.num_classes - 1}. "
                "`salon prepare` numbers them anew"
            )
        return labels


def _told_classes(dataset: ImageDataset) -> str:
    if not dataset.classes or len(dataset.classes) > 20:
        return f"{dataset.num_classes or 'no'} classes"
    return ", ".join(dataset.classes)


def _said(error: BaseException) -> str:
    # Pillow would name an object in the memory.
    return "it is no image, or is damaged" if isinstance(error, UnidentifiedImageError) else str(error)


class DatasetWriter:
    """Write a dataset ZIP of images with so many channels: the same images in the same order give the same bytes."""

    def __init__(self, file: Path, suffix: str, channels: int = 3) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        self._suffix, self._channels = suffix, channels
        self._labels: list[tuple[str, int]] = []
        self.count = 0

    def add(self, content: bytes, label: int | None = None) -> str:
        """Append an encoded image -> its name in the archive. Every image has a label or none has."""
        name = f"{self.count // 1000:05d}/img{self.count:08d}{self._suffix}"
        self._member(name, content)
        self.count += 1
        if label is not None:
            self._labels.append((name, label))
        return name

    def close(self, classes: list[str] | None = None) -> None:
        """Write `dataset.json` and the archive's directory. `classes` are the names of classes 0, 1, ..."""
        content: dict[str, Any] = {"labels": self._labels or None}
        if classes and self._labels:
            content["classes"] = classes
        if self._channels != 3:
            content["channels"] = self._channels
        self._member("dataset.json", json.dumps(content).encode())
        self._zip.close()

    def _member(self, name: str, content: bytes) -> None:
        entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o644 << 16
        self._zip.writestr(entry, content)
