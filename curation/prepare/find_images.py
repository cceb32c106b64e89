"""Where images come from: folders, searched deep, archives, Parquet files, and what lies at addresses.

All stays as it is. Only regular files are opened. Links to files are read, also where they leave the folder. A link to
a folder is followed once, after all that lies in the folder itself; one that leads back to a folder that holds it is a
loop.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from curation.prepare import find_remote
from curation.prepare.addresses import Source
from curation.prepare.image_files import ImageFile, Listing, is_video
from curation.prepare.request import KINDS_OF_SOURCES as KINDS
from gan.data.names import printable
from gan.errors import RequestError


def find(
    sources: Sequence[Source],
    scratch: Path,
    exclude: Iterable[Path] = (),
    label_column: str | None = None,
    limit: int | None = None,
    *,
    videos: bool = False,
) -> Listing:
    """List the image files in the sources, with `videos` those too; hidden files and those of `exclude` are left out.

    `scratch` is a folder that is made for archives that have to be fetched or unpacked; it must stay until the images
    are read. `label_column` is that of Parquet files; None: the one that can be meant. Once there are `limit` files,
    nothing more is fetched to be listed. Raises RequestError for a source that is missing, or is none.
    """
    listing = Listing(scratch=scratch, label_column=label_column, with_videos=videos)
    passed_over = {_identity(path.stat()) for path in exclude if path.exists()}
    names = [source.resolve().name for source in sources if isinstance(source, Path)]
    for source in sources:
        if isinstance(source, str):
            find_remote.find(source, listing, limit)
            continue
        name = source.resolve().name
        shown = printable(name if names.count(name) == 1 and name else source.as_posix())
        if source.is_dir():
            _find_in_folder(source, shown, passed_over, listing)
        elif source.is_file() and source.suffix.lower() == ".txt":
            find_remote.find_listed(source, listing, limit)
        elif source.is_file() and is_video(source.name):
            listing.require_videos(str(source))
            listing.add(ImageFile(shown, "", source))
        elif source.is_file():
            listing.add_source(source, shown, str(source), paths=True)
        else:
            raise RequestError(f"`sources` {KINDS}; got {source} instead, which is none")
    return listing


def _find_in_folder(folder: Path, shown: str, passed_over: set[tuple[int, int]], listing: Listing) -> None:
    visited = set(passed_over)
    links = [folder]
    while links:  # first all that truly lies in the folder, then what links lead to, in order
        inner_links: list[Path] = []
        for start in links:
            for path, problem in _walk(start, passed_over, visited, inner_links):
                name = printable(path.relative_to(folder).as_posix())
                listing.add_found(ImageFile(shown, name, path, problem=problem))
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


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
