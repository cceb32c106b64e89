"""Images in one array on disk: .npz with arr_0, uint8 [N, H, W, 3], as guided-diffusion writes samples, or .npy."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gan.data.images import Pixels
from gan.errors import RequestError
from gan.runtime.file_kinds import why_unreadable
from gan.runtime.files import sha256

SUFFIXES = (".npz", ".npy")
MEMBER = "arr_0.npy"


class ArraySource:
    """The images of an array; with `count`, so many of them, drawn by `seed`. What is not compressed stays on disk.

    Raises RequestError for another array, or fewer images.
    """

    def __init__(self, path: Path, count: int | None = None, *, seed: int = 0) -> None:
        self.name = str(path)
        self._images = _open(Path(path))
        shape, dtype = self._images.shape, self._images.dtype
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise RequestError(f"{path} must hold images, uint8 [N, H, W, 3]; got {dtype} {list(shape)} instead")
        if count is not None and count > len(self._images):
            raise RequestError(f"`num_images` must be at most the {len(self._images)} images in {path}; got {count}")
        self.identity: dict[str, Any] = {"kind": "array", "sha256": sha256(Path(path))}
        self._chosen = np.arange(len(self._images))
        if count is not None and count < len(self._images):
            self._chosen = np.sort(np.random.default_rng(seed).permutation(len(self._images))[:count])
            self.identity["drawn"] = [count, seed]

    def __len__(self) -> int:
        return len(self._chosen)

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end of those that are drawn."""
        for index in self._chosen[first:end].tolist():
            yield np.array(self._images[index])

    def format(self, index: int) -> str:
        """Never a file's."""
        return "array"

    def label(self, index: int) -> str | None:
        """Unknown."""
        return None


def _open(path: Path) -> Pixels:
    try:
        if path.suffix.lower() == ".npy":
            images: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
            return images
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(MEMBER)
            with archive.open(entry) as member:
                if entry.compress_type != zipfile.ZIP_STORED:
                    return np.lib.format.read_array(member, allow_pickle=False)
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran_order, dtype = read(member)
                if dtype.hasobject:
                    raise ValueError("it holds objects")
                offset = member.tell()
        with open(path, "rb") as file:  # the name and the extra field of a member's own header precede its content
            file.seek(entry.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
        offset += entry.header_offset + 30 + int(lengths.sum())
        return np.memmap(path, dtype, "r", offset, shape, "F" if fortran_order else "C")
    except KeyError as error:
        raise RequestError(f"{path} must hold images as arr_0; it has no such array") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path} must be an array of images, .npz or .npy; {why_unreadable(path, error)}") from error
