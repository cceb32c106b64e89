"""Where a dataset's files lie: in a folder, in a ZIP, or in the ZIPs of a list. Their bytes are read by number.

What is known of the members of ZIPs is kept in a table, 32 bytes and a name each, instead of in Python objects.
"""

import os
import struct
import weakref
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gan.data.images import SUFFIXES
from gan.data.name_table import NameTable
from gan.data.names import is_hidden
from gan.data.split_zip import require_whole
from gan.data.zip_directory import MEMBER, entries
from gan.errors import RequestError

LABELS = "dataset.json"
LIST_SUFFIX = ".zips"
_SUFFIXES = tuple(SUFFIXES)
_OPEN = 128  # files that a dataset holds open; Linux allows a process 1,024 by default
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field (APPNOTE 4.3.7)
_ENCRYPTED = 1  # of the flags


class Files(Protocol):
    """The images of a dataset as files, numbered in the order of their names."""

    names: NameTable

    def read(self, index: int) -> bytes:
        """The bytes of one image's file. Raises what gan.data.dataset.UNREADABLE names."""
        ...

    def size(self, index: int) -> int:
        """How many bytes `read` gives."""
        ...


class Folder:
    """The images in a folder and the folders in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = NameTable(sorted(filter(_is_image, self._list())))

    def read(self, index: int) -> bytes:
        """The bytes of one image's file."""
        return (self.path / self.names[index]).read_bytes()

    def size(self, index: int) -> int:
        """How many bytes `read` gives."""
        return (self.path / self.names[index]).stat().st_size

    def _list(self) -> Iterator[str]:
        for folder, _, names in os.walk(self.path):
            for name in names:
                yield (Path(folder) / name).relative_to(self.path).as_posix()


class Zips:
    """The images in ZIPs that lie one after another. Threads and processes that were forked may read at once."""

    def __init__(self, paths: Sequence[Path], prefixes: Sequence[str], counts: Sequence[int], names: NameTable) -> None:
        self.paths, self.names = list(paths), names
        self._prefixes, self._ends = list(prefixes), np.cumsum(counts).tolist()
        self._members = np.empty(len(names), MEMBER)
        self._opened = _cache_of_files()

    @classmethod
    def open(cls, path: Path) -> "tuple[Zips, bytes | None]":
        """Those of one ZIP, and the bytes of its dataset.json. Raises as `open_files` does."""
        require_whole(path)
        names: list[str] = []
        members = np.fromiter((member for name, member in entries(path) if _added(name, names)), MEMBER)
        order = sorted(range(len(names)), key=names.__getitem__)
        # Of members of one name the last counts, as for zipfile.
        order = [place for place, after in pairwise([*order, -1]) if after < 0 or names[place] != names[after]]
        images = [place for place in order if names[place] != LABELS]
        zips = cls([path], [""], [len(images)], NameTable(names[place] for place in images))
        zips._members = members[images]
        labels = members[[place for place in order if names[place] == LABELS]]
        return zips, zips._read(path, labels[0], LABELS) if len(labels) else None

    def prefixed(self) -> "Zips":
        """The same images of one ZIP by the names that they have in a list. Its file is closed until it is read."""
        (path,) = self.paths
        names = NameTable(prefix(path) + name for name in self.names)
        zips = Zips([path], [prefix(path)], [len(names)], names)
        zips._members = self._members
        return zips

    @classmethod
    def joined(cls, parts: Sequence["Zips"]) -> "Zips":
        """The images of several ZIPs, which are `prefixed` and in the order of `listed`."""
        paths = [path for part in parts for path in part.paths]
        names = NameTable.joined(part.names for part in parts)
        zips = cls(paths, [prefix(path) for path in paths], [len(part.names) for part in parts], names)
        zips._members = np.concatenate([part._members for part in parts])
        return zips

    def read(self, index: int) -> bytes:
        """The bytes of one image's file."""
        place = bisect_right(self._ends, index)
        return self._read(
            self.paths[place], self._members[index], self.names[index].removeprefix(self._prefixes[place])
        )

    def _read(self, path: Path, member: np.void, name: str) -> bytes:
        offset, stored, size, crc, method, flags = member.tolist()
        if flags & _ENCRYPTED or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile knows more ways of compression, and the words for what it does not read; it lists the ZIP anew.
            with zipfile.ZipFile(path) as archive:
                return archive.read(name)
        file = self._opened(path)
        signature, *lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size, offset))
        if signature != b"PK\3\4":
            raise zipfile.BadZipFile(f"Bad magic number for file header of {name!r}")
        content = file.read(stored, offset + _LOCAL_HEADER.size + sum(lengths))
        if method == zipfile.ZIP_DEFLATED:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, max(size, 1))
        if len(content) != size or zlib.crc32(content) != crc:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {name!r}")
        return content

    def size(self, index: int) -> int:
        """How many bytes `read` gives."""
        return int(self._members["size"][index])

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _opened=_cache_of_files())


class _OpenFile:
    """A file that is read at any place, by several threads at once; closed when nobody has it any more."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, count: int, offset: int) -> bytes:
        content = os.pread(self._descriptor, count, offset)
        while len(content) < count:  # some file systems give large pieces in parts
            more = os.pread(self._descriptor, count - len(content), offset + len(content))
            if not more:
                raise EOFError("the ZIP ends before its member")
            content += more
        return content


def _cache_of_files() -> Callable[[Path], _OpenFile]:
    return lru_cache(_OPEN)(_OpenFile)


def open_files(path: Path) -> tuple[Files, bytes | None]:
    """The images of a folder or ZIP, and the bytes of its dataset.json, if it has one.

    Raises BadZipFile for any other file, RequestError for one part of a split ZIP, OSError.
    """
    if path.is_dir():
        return Folder(path), (path / LABELS).read_bytes() if (path / LABELS).is_file() else None
    return Zips.open(path)


def is_prepared(path: Path) -> bool:
    """Whether a path is a dataset by its dataset.json, or a list of such, and not any folder or ZIP of images."""
    if path.is_dir():
        return (path / LABELS).is_file()
    if is_list(path) or not zipfile.is_zipfile(path):
        return is_list(path)
    return any(entry.name == LABELS for entry in entries(path))


def is_list(path: Path) -> bool:
    """Whether a path is a list of ZIPs, by its suffix."""
    return path.suffix.lower() == LIST_SUFFIX and path.is_file()


def listed(path: Path) -> list[Path]:
    """The ZIPs that a list names, one a line, from its own folder; in the order of the prefixes of their images' names.

    Empty lines and those that begin with # name none. Raises RequestError where it names none, what is no file, or two
    of one prefix.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} must be a text file in UTF-8 that lists ZIPs, one a line") from error
    zips = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not zips:
        raise RequestError(f"{path} must list the ZIPs of a dataset, one a line; it lists none")
    by_prefix: dict[str, Path] = {}
    for file in zips:
        if not file.is_file() or is_list(file):
            reason = "is a list" if is_list(file) else "is a folder" if file.is_dir() else "does not exist"
            raise RequestError(f"{path} must list ZIPs; {file} {reason}")
        other = by_prefix.setdefault(prefix(file), file)
        if other is not file:
            if other.samefile(file):
                raise RequestError(f"{path} must list each ZIP once; it lists {file} twice")
            raise RequestError(
                f"{path} must list ZIPs of different names, with which those of their images begin; {other} and {file} "
                "have one. Rename one of them"
            )
    return [by_prefix[each] for each in sorted(by_prefix)]


def prefix(path: Path) -> str:
    """What the names of a ZIP's images begin with in a dataset of several: sea.zip -> sea/."""
    return f"{path.stem}/"


def _is_image(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) and not is_hidden(name)


def _added(name: str, names: list[str]) -> bool:
    # Whether a dataset has a use for the member; its name is appended to `names` then.
    if chosen := name == LABELS or _is_image(name):
        names.append(name)
    return chosen
