"""Image files wherever they lie, lists of them, and their bytes. What is read here is never unpacked into a folder."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, cast

from curation.prepare import remote
from curation.prepare.addresses import Source
from curation.prepare.archives import DAMAGED, is_archive, members, unused, without_suffix
from curation.prepare.parquet import is_parquet, read_table
from curation.prepare.request import KINDS_OF_SOURCES as KINDS
from gan.data.decode import open_file, read_file
from gan.data.names import is_ignored
from gan.errors import ImageError, RequestError

_VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")


@dataclass(frozen=True, slots=True)
class Clip:
    """A part of a video: `count` frames, the first of so many intervals between frames."""

    first: int  # intervals before it
    count: int


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that may be an image, or a video."""

    source: str  # SOURCE's name, as the manifest shows it
    name: str  # path inside SOURCE with "/", as text that can be printed; "" where it is SOURCE itself
    path: Source  # of the file, or of the archive that holds it; a text is an address
    entry: int | None = None  # its number in the ZIP's directory
    span: tuple[int, int] | None = None  # its offset and length in the tar or copy of a Parquet file, bytes
    problem: str | None = None  # why it cannot even be opened
    label: str | None = None  # of its row in a Parquet file
    clip: Clip | None = None  # the part that is meant of a video

    @property
    def shown(self) -> str:
        """SOURCE/path, or SOURCE.zip/member."""
        return f"{self.source}/{self.name}" if self.name else self.source

    @property
    def is_video(self) -> bool:
        """Whether its name is that of a video."""
        return is_video(self.shown)

    @property
    def folder(self) -> str:
        """Name of the folder that holds the file; of a file directly in SOURCE: SOURCE's name."""
        parent = PurePosixPath(self.name).parent.name
        return without_suffix(parent or Path(self.source).name)


@dataclass(kw_only=True)
class Listing:
    """Image files in an order that does not depend on the file system, and what else there was."""

    scratch: Path  # folder that is made for archives that have to be fetched or unpacked
    label_column: str | None = None  # of Parquet files; None: the one that can be meant
    with_videos: bool = False  # whether videos are listed, too
    files: list[ImageFile] = field(default_factory=list)
    ignored: int = 0
    videos_ignored: int = 0
    datasets: list[ImageFile] = field(default_factory=list)  # files dataset.json
    beside: dict[str, ImageFile] = field(default_factory=dict)  # WebDataset's .cls and .json by SOURCE/path
    classes: list[list[str] | None] = field(default_factory=list)  # names of classes in each Parquet file with images

    def add(self, file: ImageFile) -> None:
        """Sort in a file."""
        name = PurePosixPath(file.name).name
        if file.problem:
            self.files.append(file)
        elif name == "dataset.json":
            self.datasets.append(file)
        elif (suffix := PurePosixPath(name).suffix.lower()) in (".cls", ".json"):
            self.beside[file.shown[: -len(suffix)] + suffix] = file
            self.ignored += 1
        elif is_ignored(name):
            self.ignored += 1
        elif file.is_video and not self.with_videos:
            self.videos_ignored += 1
        else:
            self.files.append(file)

    def require_videos(self, source: str) -> None:
        """Raise RequestError where a source is a video and videos are not listed."""
        if not self.with_videos:
            raise RequestError(f"`sources`: {source} is a video; add `video_every`, the seconds between its frames")

    def add_found(self, file: ImageFile) -> None:
        """Sort in a file of a folder; archives and Parquet files are read like folders, if they can be.

        Raises RequestError for a `label_column` that a Parquet file has not, SalonError when the disk is full.
        """
        assert isinstance(file.path, Path)
        if file.problem or not is_container(file.name):
            self.add(file)
            return
        try:
            if is_archive(file.name):
                try:
                    self._add_members(file.path, file.source, f"{file.name}/")
                except RequestError as error:  # a part of a split ZIP
                    raise ValueError from error
            elif not self._add_rows(file.path, file.source, f"{file.name}/", paths=False):
                self.ignored += 1
        except (OSError, *DAMAGED) as error:
            if isinstance(error, RequestError):  # which is a ValueError
                raise
            self.files.append(replace(file, problem="corrupt"))

    def add_source(self, path: Path, source: str, called: str, *, paths: bool) -> None:
        """Sort in what is in an archive or a Parquet file that is a source itself; messages call it `called`.

        `paths`: also where a Parquet file has nothing but paths. Raises RequestError where it cannot be read.
        """
        try:
            if not is_parquet(path):
                self._add_members(path, source)
            elif not self._add_rows(path, source, paths=paths):
                raise RequestError(f"{called} must have a column of images, such as `image`, with their bytes or paths")
        except RequestError:  # a part of a split ZIP, or a Parquet file without images
            raise
        except (OSError, *DAMAGED) as error:
            raise RequestError(
                f"`sources` {KINDS}; got {called} instead, which is none or is damaged: {error}"
            ) from error

    def _add_members(self, path: Path, source: str, folder: str = "") -> None:
        for member in members(path, self.scratch, f"{source}/{folder}".rstrip("/")):
            self.add(ImageFile(source, folder + member.name, member.path, member.entry, member.span, member.problem))

    def _add_rows(self, path: Path, source: str, folder: str = "", *, paths: bool) -> bool:
        """Whether a Parquet file has images, which are added."""
        table = read_table(path, unused(self.scratch), self.label_column, paths=paths)
        if table is None:
            return False
        self.classes.append(table.classes)
        self.files += [
            ImageFile(source, folder + row.name, row.path, span=row.span, problem=row.problem, label=row.label)
            for row in table.rows
        ]
        return True


def is_video(name: str) -> bool:
    """Whether a file's name is that of a video."""
    return name.lower().endswith(_VIDEOS)


def is_container(name: str) -> bool:
    """Whether a file's name is that of an archive or a Parquet file."""
    return is_archive(name) or name.lower().endswith(".parquet")


def read(file: ImageFile, max_bytes: int) -> bytes:
    """The bytes of an image file. Raises ImageError with the reason why they cannot be had."""
    if file.problem:
        raise ImageError(file.problem, file.name)
    if isinstance(file.path, str):
        return remote.read(file.path, max_bytes)
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


@contextmanager
def opened(file: ImageFile) -> Iterator[IO[bytes]]:
    """A file as a stream that can be sought in. Raises ImageError where it cannot be opened."""
    if file.problem:
        raise ImageError(file.problem, file.name)
    assert isinstance(file.path, Path)
    if file.entry is None:
        with open_file(file.path) as stream:
            yield stream if file.span is None else cast(IO[bytes], _Span(stream, *file.span))
        return
    try:
        archive = _open_zip(file.path)
        member = archive.open(archive.infolist()[file.entry])
    except (*DAMAGED, OSError, IndexError) as error:
        raise ImageError("unreadable", f"the ZIP's member cannot be opened: {error}") from error
    with member:
        yield member


def size(file: ImageFile) -> int:
    """Bytes of a file that is not at an address. Raises OSError, and IndexError where a ZIP has changed."""
    assert isinstance(file.path, Path)
    if file.span is not None:
        return file.span[1]
    return file.path.stat().st_size if file.entry is None else _open_zip(file.path).infolist()[file.entry].file_size


class _Span(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._place = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._place)
        self._file.seek(self._offset + self._place)
        content = self._file.read(left if size < 0 else min(size, left))
        self._place += len(content)
        return content


def _read_span(path: Path, offset: int, size: int, max_bytes: int) -> bytes:
    if size > max_bytes:
        raise ImageError("too large", f"{size:,} bytes are more than the limit of {max_bytes:,}")
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise ImageError("unreadable", error.strerror or str(error)) from error


@lru_cache(maxsize=8)
def _open_zip(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)  # kept open: a worker reads many members of few archives
