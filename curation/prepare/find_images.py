"""Where images come from: folders, searched deep, ZIPs and tars. They stay as they are.

Only regular files are opened.

Links to files are read, also where they leave the folder. A link to a folder is followed once, after all that lies in
the folder itself; one that leads back to a folder that holds it is a loop.
"""

import errno
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from curation.prepare.archives import DAMAGED, is_archive, members, unused, without_suffix
from curation.prepare.parquet import is_parquet, read_table
from curation.prepare.request import KINDS_OF_SOURCES as KINDS
from gan.data.decode import read_file
from gan.data.names import is_ignored, printable
from gan.errors import ImageError, RequestError


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that may be an image."""

    source: str  # SOURCE's name, as the manifest shows it
    name: str  # path inside SOURCE with "/", as text that can be printed
    path: Path  # of the file, or of the archive that holds it
    entry: int | None = None  # its number in the ZIP's directory
    span: tuple[int, int] | None = None  # its offset and length in the tar or copy of a Parquet file, bytes
    problem: str | None = None  # why it cannot even be opened
    label: str | None = None  # of its row in a Parquet file

    @property
    def shown(self) -> str:
        """SOURCE/path, or SOURCE.zip/member."""
        return f"{self.source}/{self.name}"

    @property
    def folder(self) -> str:
        """Name of the folder that holds the file; of a file directly in SOURCE: SOURCE's name."""
        parent = PurePosixPath(self.name).parent.name
        return without_suffix(parent or Path(self.source).name)


@dataclass(kw_only=True)
class Listing:
    """Image files in an order that does not depend on the file system, and what else there was."""

    files: list[ImageFile] = field(default_factory=list)
    ignored: int = 0
    datasets: list[ImageFile] = field(default_factory=list)  # files dataset.json
    beside: dict[str, ImageFile] = field(default_factory=dict)  # WebDataset's .cls and .json by SOURCE/path

    classes: list[list[str] | None] = field(default_factory=list)  # names of classes in each Parquet file with images

    def add(self, file: ImageFile) -> None:
        """Sort in a file that can be opened."""
        name = PurePosixPath(file.name).name
        if name == "dataset.json":
            self.datasets.append(file)
        elif (suffix := PurePosixPath(name).suffix.lower()) in (".cls", ".json"):
            self.beside[file.shown[: -len(suffix)] + suffix] = file
            self.ignored += 1
        elif is_ignored(name):
            self.ignored += 1
        else:
            self.files.append(file)


def find(
    sources: Sequence[Path], scratch: Path, exclude: Iterable[Path] = (), label_column: str | None = None
) -> Listing:
    """List the image files in folders and archives; hidden files and what is in `exclude` are passed over.

    `scratch` is a folder that is made for archives that have to be unpacked; it must stay until the images are read.
    `label_column` is that of Parquet files; None: the one that can be meant.
    Raises RequestError for a source that is missing, or is neither a folder nor an archive.
    """
    listing = Listing()
    passed_over = {_identity(path.stat()) for path in exclude if path.exists()}
    names = [source.resolve().name for source in sources]
    for source, name in zip(sources, names, strict=True):
        shown = printable(name if names.count(name) == 1 and name else source.as_posix())
        if source.is_dir():
            _find_in_folder(source, shown, passed_over, scratch, listing, label_column)
        elif source.is_file():
            _find_in_file(source, shown, scratch, listing, label_column)
        else:
            raise RequestError(f"`sources` {KINDS}; got {source} instead, which is none")
    return listing


def read(file: ImageFile, max_bytes: int) -> bytes:
    """The bytes of an image file. Raises ImageError with the reason why they cannot be had."""
    if file.problem:
        raise ImageError(file.problem, file.name)
    if file.span is not None:
        return _read_span(file.path, *file.span, max_bytes)
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


def _read_span(path: Path, offset: int, size: int, max_bytes: int) -> bytes:
    if size > max_bytes:
        raise ImageError("too large", f"{size:,} bytes are more than the limit of {max_bytes:,}")
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise ImageError("unreadable", error.strerror or str(error)) from error


def _find_in_folder(
    folder: Path,
    shown: str,
    passed_over: set[tuple[int, int]],
    scratch: Path,
    listing: Listing,
    label_column: str | None,
) -> None:
    visited = set(passed_over)
    links = [folder]
    while links:  # first all that truly lies in the folder, then what links lead to, in order
        inner_links: list[Path] = []
        for start in links:
            for path, problem in _walk(start, passed_over, visited, inner_links):
                name = printable(path.relative_to(folder).as_posix())
                if problem is not None:
                    listing.files.append(ImageFile(shown, name, path, problem=problem))
                elif is_archive(name):
                    try:
                        _add_members(path, shown, f"{name}/", scratch, listing)
                    except (OSError, RequestError, *DAMAGED):
                        listing.files.append(ImageFile(shown, name, path, problem="corrupt"))
                elif path.suffix.lower() == ".parquet":
                    try:
                        if not _add_rows(path, shown, f"{name}/", scratch, listing, label_column, paths=False):
                            listing.ignored += 1
                    except RequestError:
                        raise
                    except (OSError, ValueError):
                        listing.files.append(ImageFile(shown, name, path, problem="corrupt"))
                else:
                    listing.add(ImageFile(shown, name, path))
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


def _find_in_file(path: Path, shown: str, scratch: Path, listing: Listing, label_column: str | None) -> None:
    try:
        if is_parquet(path):
            if not _add_rows(path, shown, "", scratch, listing, label_column, paths=True):
                raise RequestError(f"{path} must have a column of images, such as `image`, with their bytes or paths")
        else:
            _add_members(path, shown, "", scratch, listing)
    except RequestError:  # a part of a split ZIP, or a Parquet file without images
        raise
    except (OSError, *DAMAGED) as error:
        raise RequestError(f"`sources` {KINDS}; got {path} instead, which is none or is damaged: {error}") from error


def _add_members(path: Path, shown: str, folder: str, scratch: Path, listing: Listing) -> None:
    for member in members(path, scratch, f"{shown}/{folder}".rstrip("/")):
        file = ImageFile(shown, folder + member.name, member.path, member.entry, member.span, member.problem)
        if file.problem:
            listing.files.append(file)
        else:
            listing.add(file)


def _add_rows(
    path: Path, shown: str, folder: str, scratch: Path, listing: Listing, label_column: str | None, *, paths: bool
) -> bool:
    """Whether a Parquet file has images, which are added; `paths`: also where it has only their paths."""
    table = read_table(path, unused(scratch), label_column, paths=paths)
    if table is None:
        return False
    listing.classes.append(table.classes)
    listing.files += [
        ImageFile(shown, folder + row.name, row.path, span=row.span, problem=row.problem, label=row.label)
        for row in table.rows
    ]
    return True


@lru_cache(maxsize=8)
def _open_zip(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)  # kept open: a worker reads many members of few archives


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
