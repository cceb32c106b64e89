"""Archives of images: ZIPs, tars, compressed tars, and those that lie in one another.

A tar is read in place, as a ZIP is. A compressed tar, and an archive in an archive, are unpacked as one file first.
"""

import bz2
import gzip
import io
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from gan.data.names import is_hidden, printable
from gan.data.split_zip import require_whole
from gan.errors import RequestError, SalonError
from gan.runtime.console import say

DEPTH = 3  # archives in one another that are read
_NAME = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
Stream = IO[bytes] | io.BufferedIOBase
_STREAMS: dict[bytes, Callable[[Path], Stream]] = {  # by the first bytes
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
# What damaged archives raise; RuntimeError: it is encrypted or compressed in an unknown way.
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError),
    gzip.BadGzipFile,
)
Open = Callable[[], Stream | None]


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    name: str  # path inside, with "/", as text that can be printed
    path: Path  # of the archive that holds it
    entry: int | None = None  # its number in a ZIP's directory
    span: tuple[int, int] | None = None  # offset and length in a tar, bytes
    problem: str | None = None  # why it cannot be read


def is_archive(name: str) -> bool:
    """Whether a file's name is that of an archive."""
    return _NAME.search(name) is not None


def without_suffix(name: str) -> str:
    """The name of an archive as one of a folder: without .zip, .tar.gz and the like."""
    return _NAME.sub("", name)


def members(path: Path, scratch: Path, shown: str, depth: int = DEPTH) -> list[Member]:
    """The files in an archive, and in archives in it, by name; hidden ones are passed over.

    What is unpacked lies in `scratch`, which is made. Raises RequestError for a part of a split ZIP, OSError or one of
    DAMAGED for what is no archive or is damaged, and SalonError when the disk is full. A tar that is truncated has the
    files before its end; a line says so, with `shown` as its name.
    """
    found: list[Member] = []
    for member, open_member in _files(_plain(path, scratch), shown):
        if is_hidden(member.name):
            continue
        if depth == 1 or member.problem or not _NAME.search(member.name):
            found.append(member)
            continue
        try:
            unpacked = _unpack(open_member(), scratch)
            inside = members(unpacked, scratch, f"{shown}/{member.name}", depth - 1)
        except (RequestError, *DAMAGED):
            found.append(replace(member, problem="corrupt"))
        else:
            found += [replace(one, name=f"{member.name}/{one.name}") for one in inside]
    return sorted(found, key=lambda member: member.name)


def member_name(entry: zipfile.ZipInfo) -> str:
    """A member's name as its maker meant it: without the UTF-8 flag, Python reads it as cp437, which few mean."""
    name = entry.filename
    if not entry.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return printable(name.replace("\\", "/"))


def _files(path: Path, shown: str) -> Iterator[tuple[Member, Open]]:
    if tarfile.is_tarfile(path):  # first: a ZIP at the end of a tar makes it look like a ZIP
        with tarfile.open(path, "r:") as tar:
            yield from _files_of_tar(path, tar, shown)
        return
    require_whole(path)
    with zipfile.ZipFile(path) as archive:
        for number, entry in enumerate(archive.infolist()):
            if not entry.is_dir():
                yield Member(member_name(entry), path, entry=number), partial(archive.open, entry)


def _files_of_tar(path: Path, tar: tarfile.TarFile, shown: str) -> Iterator[tuple[Member, Open]]:
    spans: dict[str, tuple[int, int]] = {}
    for entry in _entries(tar, shown):
        member = Member(printable(entry.name.removeprefix("./")), path)
        if entry.isreg() and not entry.issparse():
            spans[entry.name] = entry.offset_data, entry.size
            member = replace(member, span=spans[entry.name])
        elif entry.islnk() and entry.linkname in spans:
            member = replace(member, span=spans[entry.linkname])
        else:
            member = replace(member, problem="not a regular file")
        if not entry.isdir():
            yield member, partial(tar.extractfile, entry)


def _entries(tar: tarfile.TarFile, shown: str) -> Iterator[tarfile.TarInfo]:
    count, whole = 0, False
    with suppress(tarfile.ReadError):  # it ends inside of an entry
        for entry in tar:
            yield entry
            count += 1
        assert tar.fileobj
        tar.fileobj.seek(tar.offset)
        block = tar.fileobj.read(tarfile.BLOCKSIZE)
        whole = len(block) == tarfile.BLOCKSIZE and not any(block)  # else tarfile takes a damaged entry for the end
    if not whole:
        say(f"{shown} is truncated or damaged: only the {count:,} entries before that are read; fetch it again")


def _plain(path: Path, scratch: Path) -> Path:
    # A compressed tar -> the tar.
    with open(path, "rb") as file:
        first = file.read(6)
    for magic, opener in _STREAMS.items():
        if first.startswith(magic):
            return _unpack(opener(path), scratch)
    return path


def unused(scratch: Path) -> Path:
    """The path of a file to make in `scratch`, which is made."""
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch / str(sum(1 for _ in scratch.iterdir()))


def _unpack(file: Stream | None, scratch: Path) -> Path:
    assert file is not None
    path = unused(scratch)
    try:
        with file, open(path, "xb") as copy:
            shutil.copyfileobj(file, copy, 2**20)
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        if error.errno is None:  # bz2's: the stream is invalid
            raise ValueError(str(error)) from error
        raise SalonError(f"{scratch.parent} has no room to unpack an archive: {error.strerror}") from error
    return path
