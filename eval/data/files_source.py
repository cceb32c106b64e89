"""The images of a folder or ZIP, decoded as `salon prepare` decodes them. What is left out is counted, by reason."""

import copy
import hashlib
import os
import threading
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gan.data.dataset import UNREADABLE
from gan.data.decode import decode, format_of, read_file
from gan.data.images import Pixels
from gan.data.names import is_hidden, is_ignored
from gan.errors import ImageError, RequestError
from gan.runtime.console import progress
from gan.runtime.parallel import ordered_map

NAMED = 3  # files that are named for each reason why files are left out


class FilesSource:
    """The images of a folder or ZIP, of any formats and shapes; with `count`, so many of them, drawn by `seed`.

    Files that are hidden, or no images by their names, are passed over (see gan.data.names). Of all others the
    content decides: those that are no images are in `left_out`, names by reason. A damaged image is a RequestError, or
    None with `skip_damaged`. Images in sub-folders have the first folder's name as label. Raises RequestError when
    there are no images.
    """

    def __init__(self, path: Path, count: int | None = None, *, seed: int = 0, skip_damaged: bool = False) -> None:
        self.path, self.name = Path(path), str(path)
        self.left_out: dict[str, list[str]] = {}
        self.damaged: list[int] = []  # positions that `without` has taken out
        self._skip_damaged = skip_damaged
        self._lock = threading.Lock()
        try:
            self._archive = None if self.path.is_dir() else zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            reason = getattr(error, "strerror", None) or error
            raise RequestError(f"{path} must be a folder or a ZIP of images; got {reason} instead") from error
        hashes = self._hash_images(count, seed)
        self.names = sorted(hashes)
        if not self.names:
            raise RequestError(f"{path} holds no images{self._told('; ')}")
        if count is not None and count > len(self.names):
            raise RequestError(f"`num_images` must be at most the {len(self.names)} images in {path}; got {count}")
        self._formats = [hashes[name][1] for name in self.names]
        lines = (f"{name} {hashes[name][0]}\n".encode(errors="surrogateescape") for name in self.names)
        self.identity = {"kind": "files", "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, first: int, end: int) -> Iterator[Pixels | None]:
        """Images first..end in the order of their names, decoded by several threads."""
        with ThreadPoolExecutor() as pool:
            yield from ordered_map(pool, self.read, range(first, end))

    def read(self, position: int) -> Pixels | None:
        """One image, uint8 [H, W, 3]; None for a damaged one where those are skipped."""
        name = self.names[position]
        try:
            return self._decode(name)
        except ImageError as error:
            if self._skip_damaged:
                return None
            raise RequestError(f"{self.path} holds an image that cannot be read, {name}: {error}") from error

    def without(self, damaged: Sequence[int]) -> "FilesSource":
        """The same source without the images at these positions, which are `left_out` with the others."""
        rest = copy.copy(self)
        rest.left_out, rest.damaged = {reason: [*names] for reason, names in self.left_out.items()}, list(damaged)
        for position in damaged:
            try:
                self._decode(self.names[position])
            except ImageError as error:
                rest.left_out.setdefault(error.reason, []).append(self.names[position])
        kept = sorted(set(range(len(self))) - set(damaged))
        if not kept:
            raise RequestError(f"{self.path} holds no image that can be read{rest._told('; ')}")
        rest.names, rest._formats = [self.names[n] for n in kept], [self._formats[n] for n in kept]
        return rest

    def note(self) -> str | None:
        """What is left out, in one line; None for nothing."""
        return self._told(f"{self.path}: ") or None

    def format(self, index: int) -> str:
        """By the file's content, such as "jpeg"."""
        return self._formats[index]

    def label(self, index: int) -> str | None:
        """The outermost folder's name."""
        folder, separator, _ = self.names[index].replace("\\", "/").partition("/")
        return folder if separator else None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_archive")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        archive = None if state["path"].is_dir() else zipfile.ZipFile(state["path"])
        self.__dict__.update(state, _lock=threading.Lock(), _archive=archive)

    def _hash_images(self, count: int | None, seed: int) -> dict[str, tuple[str, str]]:
        # Name -> SHA-256 and format of all images, or of the first `count` of all files in an order by chance.
        names = sorted(name for name in self._list() if not is_hidden(name) and not is_ignored(name))
        if count is not None and count < len(names):
            names = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
        hashes: dict[str, tuple[str, str]] = {}
        for name in progress(names, "Hashing images", len(names)):
            if len(hashes) == count:
                break
            try:
                content = self._read(name)
                format = format_of(content).lower()
                hashes[name] = hashlib.sha256(content).hexdigest(), "jpeg" if format == "mpo" else format
            except ImageError as error:
                self.left_out.setdefault(error.reason, []).append(name)
        return hashes

    def _told(self, before: str) -> str:
        total = sum(map(len, self.left_out.values()))
        if not total:
            return ""
        reasons = []
        for reason, names in sorted(self.left_out.items()):
            more = ", ..." if len(names) > NAMED else ""
            shown = ", ".join(sorted(names)[:NAMED]).encode(errors="backslashreplace").decode()
            reasons.append(f"{reason} {len(names)} ({shown}{more})")
        return f"{before}{total} {'file is' if total == 1 else 'files are'} left out: {'; '.join(reasons)}"

    def _decode(self, name: str) -> Pixels:
        return np.asarray(decode(self._read(name)).image)

    def _list(self) -> list[str]:
        if self._archive is not None:
            return [entry.filename for entry in self._archive.infolist() if not entry.is_dir()]
        files = (Path(folder, name) for folder, _, names in os.walk(self.path) for name in names)
        return [file.relative_to(self.path).as_posix() for file in files]

    def _read(self, name: str) -> bytes:
        if self._archive is None:
            return read_file(self.path / name)
        try:
            with self._lock:  # the archive has one position
                return self._archive.read(name)
        except UNREADABLE as error:
            raise ImageError("corrupt", f"the ZIP's member cannot be read: {error}") from error
