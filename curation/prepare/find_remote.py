"""Image files at addresses: folders in buckets, single files, archives, and lists of addresses.

Archives, Parquet files and videos are fetched first, since they are sought in; images only by who prepares them.
"""

from pathlib import Path, PurePosixPath

from PIL import Image

from curation.prepare import remote
from curation.prepare.addresses import BUCKETS, require_known, scheme_of, shown, split
from curation.prepare.archives import unused
from curation.prepare.image_files import ImageFile, Listing, is_container, is_video
from gan.data.names import is_hidden, is_ignored, printable
from gan.errors import ImageError, RequestError
from gan.runtime.console import progress


def find(address: str, listing: Listing, limit: int | None) -> None:
    """List what is at an address. Raises RequestError where nothing is, or it cannot be had."""
    remote.require_extra(address)
    if _is_folder(address):
        _find_in_folder(address, listing, limit)
    elif is_container(_file_name(address)):
        path = unused(listing.scratch)
        try:
            remote.download(address, path)
        except ImageError as error:
            raise remote.refused(address, error) from error
        listing.add_source(path, shown(address), shown(address), paths=False)
    else:
        if is_video(_file_name(address)):
            listing.require_videos(shown(address))
        _add(ImageFile(*split(address), address), listing, limit)


def find_listed(path: Path, listing: Listing, limit: int | None) -> None:
    """List what is at the addresses in a text file, one a line; empty lines and lines that begin with # count not.

    Raises RequestError for a file that cannot be read, and a line that is no address.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"`sources`: {path} must be a list of addresses; it cannot be read: {error}") from error
    for number, line in enumerate(progress(lines, "Fetching archives", len(lines), "line"), 1):
        if not line or line.startswith("#"):
            continue
        try:
            require_known(line)
        except RequestError as error:
            raise RequestError(f"{error}; it is line {number} of {path}") from error
        remote.require_extra(line)
        if _is_folder(line):
            _find_in_folder(line, listing, limit)
        else:
            _add(ImageFile(*split(line), line), listing, limit)


def _find_in_folder(address: str, listing: Listing, limit: int | None) -> None:
    if limit is not None and len(listing.files) >= limit:
        return
    try:
        files = remote.list_folder(address)
    except ImageError as error:
        raise remote.refused(address, error) from error
    for name, file in progress(files, "Fetching archives", len(files), "file"):
        if not is_hidden(name):
            source, inside = (shown(address).rstrip("/"), printable(name)) if name else split(file)
            _add(ImageFile(source, inside, file), listing, limit)


def _add(file: ImageFile, listing: Listing, limit: int | None) -> None:
    """Sort in a file at an address; an archive or a video is fetched."""
    if not is_container(file.name) and not (file.is_video and listing.with_videos):
        listing.add(file)
        return
    if limit is not None and len(listing.files) >= limit:
        return
    assert isinstance(file.path, str)
    path = unused(listing.scratch)
    try:
        remote.download(file.path, path)
    except ImageError as error:
        listing.add(ImageFile(file.source, file.name, file.path, problem=error.reason))
    else:
        listing.add_found(ImageFile(file.source, file.name, path))


def _is_folder(address: str) -> bool:
    """Whether an address has to be listed: in a bucket, and not named like a file."""
    name = _file_name(address)
    suffix = PurePosixPath(name).suffix.lower()
    is_file = suffix in Image.registered_extensions() or is_container(name) or is_video(name) or is_ignored(name)
    return scheme_of(address) in BUCKETS and not is_file


def _file_name(address: str) -> str:
    return "" if address.endswith("/") else split(address)[1].rpartition("/")[2]
