"""Where images come from: folders, searched deep, and ZIPs. Nothing is written; only regular files are opened.

Links to files are read, also where they leave the folder. A link to a folder is followed once, after all that lies in
the folder itself; one that leads back to a folder that holds it is a loop.
"""

import errno
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from gan.data.decode import read_file
from gan.data.image_files import is_hidden, is_ignored
from gan.errors import ImageError, RequestError


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that may be an image."""

    source: str  # SOURCE's name, as the manifest shows it
    name: str  # path inside SOURCE with "/", as text that can be printed
    path: Path  # of the file, or of the ZIP that holds it
    entry: int | None = None  # its number in the ZIP's directory
    problem: str | None = None  # why it cannot even be opened

    @property
    def shown(self) -> str:
        """SOURCE/path, or SOURCE.zip/member."""
        return f"{self.source}/{self.name}"

    @property
    def folder(self) -> str:
        """Name of the folder that holds the file; of a file directly in SOURCE: SOURCE's name."""
        parent = PurePosixPath(self.name).parent.name
        return parent or (Path(self.source).stem if self.entry is not None else Path(self.source).name)


@dataclass(kw_only=True)
class Listing:
    """Image files in an order that does not depend on the file system, and how many other files were ignored."""

    files: list[ImageFile] = field(default_factory=list)
    ignored: int = 0


def find(sources: Sequence[Path], exclude: Iterable[Path] = ()) -> Listing:
    """List the image files in folders and ZIPs; hidden files and the files and folders in `exclude` are passed over.

    Raises RequestError for a source that is missing, or is neither a folder nor a ZIP.
    """
    listing = Listing()
    passed_over = {_identity(path.stat()) for path in exclude if path.exists()}
    names = [source.resolve().name for source in sources]
    for source, name in zip(sources, names, strict=True):
        shown = _printable(name if names.count(name) == 1 and name else source.as_posix())
        if source.is_dir():
            _find_in_folder(source, shown, passed_over, listing)
        elif source.is_file():
            _find_in_zip(source, shown, listing)
        else:
            raise RequestError(f"`sources` must be a folder or a ZIP of images; got {source} instead, which is none")
    return listing


def read(file: ImageFile, max_bytes: int) -> bytes:
    """The bytes of an image file. Raises ImageError with the reason why they cannot be had."""
    if file.problem:
        raise ImageError(file.problem, file.name)
    if file.entry is None:
        return read_file(file.path, max_bytes)
    try:
        archive = _open_zip(file.path)
        entry = archive.infolist()[file.entry]
        if entry.flag_bits & 1:
            raise ImageError("encrypted", "the ZIP's member needs a password")
        if entry.file_size > max_bytes:
            raise ImageError("too large", f"{entry.file_size:,} bytes are more than the limit of {max_bytes:,}")
        return archive.read(entry)
    except NotImplementedError as error:
        raise ImageError("unreadable", f"the ZIP's member is compressed in an unknown way: {error}") from error
    except (OSError, EOFError, RuntimeError, ValueError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        raise ImageError("corrupt", f"the ZIP's member cannot be read: {error}") from error


def _find_in_folder(folder: Path, shown: str, passed_over: set[tuple[int, int]], listing: Listing) -> None:
    visited = set(passed_over)
    links = [folder]
    while links:  # first all that truly lies in the folder, then what links lead to, in order
        inner_links: list[Path] = []
        for start in links:
            for path, problem in _walk(start, passed_over, visited, inner_links):
                name = _printable(path.relative_to(folder).as_posix())
                if problem is None and is_ignored(path.name):
                    listing.ignored += 1
                else:
                    listing.files.append(ImageFile(shown, name, path, problem=problem))
        links = inner_links


def _walk(
    folder: Path, passed_over: set[tuple[int, int]], visited: set[tuple[int, int]], links: list[Path]
) -> Iterator[tuple[Path, str | None]]:
    """Files below a folder with the problem of those that cannot be opened; linked folders are put into `links`."""
    stack = [folder]
    while stack:
        path = stack.pop()
        try:
            status = path.stat()
        except OSError as error:
            yield path, "symlink loop" if error.errno == errno.ELOOP else "broken link"
            continue
        if stat.S_ISREG(status.st_mode):
            if _identity(status) not in passed_over:
                yield path, None
        elif not stat.S_ISDIR(status.st_mode):
            yield path, "not a regular file"
        elif path != folder and path.is_symlink():
            links.append(path)
        elif _identity(status) in visited:
            parent = path.parent.resolve()
            if path.resolve() in (parent, *parent.parents):
                yield path, "symlink loop"
        else:
            visited.add(_identity(status))
            try:
                inside = sorted(path.iterdir(), reverse=True)  # the stack turns them round
            except OSError:
                yield path, "unreadable"
                continue
            stack.extend(child for child in inside if not child.name.startswith("."))


def _find_in_zip(path: Path, shown: str, listing: Listing) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise RequestError(
            f"`sources` must be a folder or a ZIP of images; got {path} instead, which is none or is damaged: {error}"
        ) from error
    files = []
    for number, entry in enumerate(entries):
        name = member_name(entry)
        if entry.is_dir() or is_hidden(name):
            continue
        if is_ignored(name):
            listing.ignored += 1
        else:
            files.append(ImageFile(shown, name, path, entry=number))
    listing.files.extend(sorted(files, key=lambda file: file.name))


def member_name(entry: zipfile.ZipInfo) -> str:
    """A member's name as its maker meant it: without the UTF-8 flag, Python reads it as cp437, which few mean."""
    name = entry.filename
    if not entry.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return _printable(name.replace("\\", "/"))


@lru_cache(maxsize=8)
def _open_zip(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)  # kept open: a worker reads many members of few archives


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _printable(name: str) -> str:
    # A file name of other bytes than UTF-8 could not be written to the manifest or the report.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
