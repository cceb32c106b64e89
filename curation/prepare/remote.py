"""Files at addresses, through fsspec: listed, read, and fetched whole.

What goes wrong is an ImageError: "not found", "no access" or "not reachable". Faults of networks and servers are waited
out first, a few times. No message has more of an address than `shown` does: its query may hold a secret.
"""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from curation.prepare.addresses import BUCKETS, EXTRAS, scheme_of, shown
from gan.errors import ImageError, RequestError, SalonError

PAUSES = (0.5, 1.0, 2.0)  # seconds before another attempt
_PIECE = 2**20  # bytes
_PASSING = (408, 425, 429)  # HTTP's codes below 500 of what may be there a little later
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FINAL = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG)  # what s3fs makes of S3's refusals
_CREDENTIALS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; FSSPEC_S3_ANON=true reads public buckets",
    "gs": "run gcloud auth application-default login; FSSPEC_GS_TOKEN=anon reads public buckets",
}
Value = TypeVar("Value")


def require_extra(address: str) -> None:
    """Raise RequestError where a package is missing that reads such addresses."""
    try:
        _filesystem(address)
    except ImportError as error:
        scheme = scheme_of(address)
        raise RequestError(f"`sources` {scheme}:// needs pip install 'salon[{EXTRAS[scheme]}]': {error}") from error


def read(address: str, max_bytes: int) -> bytes:
    """The bytes of a file. Raises ImageError, also for more than `max_bytes`, which are not fetched."""
    content = _attempt(address, lambda: _read(address, max_bytes + 1))
    if len(content) > max_bytes:
        raise ImageError("too large", f"it has more bytes than the limit of {max_bytes:,}")
    return content


def read_head(address: str, size: int) -> bytes:
    """The first bytes of a file, `size` at most. Raises ImageError."""
    return _attempt(address, lambda: _read(address, size))


def download(address: str, path: Path) -> None:
    """Fetch a file to `path`. Raises ImageError, and SalonError when the disk is full."""
    try:
        _attempt(address, lambda: _filesystem(address).get_file(_path(address), str(path)))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def list_folder(address: str) -> list[tuple[str, str]]:
    """The files below a folder in a bucket, or that file: path inside and address of each, by their paths.

    Like a folder's on a disk, they are ordered by one part of the path after the other. A file has no path inside.
    Raises ImageError.
    """
    scheme, folder = scheme_of(address), _path(address).rstrip("/")
    found = _attempt(address, lambda: _filesystem(address).find(folder, detail=True))
    if not found:
        raise ImageError("not found", "there is nothing")
    files = [
        (name.removeprefix(folder).removeprefix("/"), f"{scheme}://{name}")
        for name, info in found.items()
        if info.get("type") == "file" and not name.endswith("/")  # such objects stand for folders
    ]
    return sorted(files, key=lambda file: file[0].split("/"))


def refused(address: str, error: ImageError) -> RequestError:
    """The error to raise where a source cannot be had at all."""
    remedy = _CREDENTIALS.get(scheme_of(address)) if error.reason == "no access" else None
    text = f"`sources` must be there and readable; {shown(address)} is not: {error}"
    return RequestError(f"{text}. For access, {remedy}" if remedy else text)


def _filesystem(address: str) -> Any:
    import fsspec  # takes a while, and few need it

    scheme = scheme_of(address)
    if scheme == "s3":  # botocore waits much longer by itself
        return fsspec.filesystem(scheme, use_listings_cache=False, config_kwargs={"retries": {"max_attempts": 1}})
    if scheme == "gs":
        return fsspec.filesystem(scheme, use_listings_cache=False)
    import aiohttp

    # The default ends every download after five minutes. The environment may name a proxy.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    return fsspec.filesystem(scheme, client_kwargs={"timeout": timeout, "trust_env": True})


def _path(address: str) -> str:
    """What fsspec calls a file: bucket/key, or a web address as it is."""
    return address.partition("://")[2] if scheme_of(address) in BUCKETS else address


def _read(address: str, most: int) -> bytes:
    files = _filesystem(address)
    if scheme_of(address) in BUCKETS:
        try:
            return bytes(files.cat_file(_path(address), start=0, end=most))
        except OSError:  # S3 refuses to give a part of an empty object
            if files.size(_path(address)) != 0:
                raise
            return b""
    pieces, left = [], most
    # As a stream, since few servers give parts; with any `size`, so that it is not asked for first.
    with files.open(address, "rb", block_size=0, size=most) as stream:
        while left > 0 and (piece := stream.read(min(left, _PIECE))):
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)


def _attempt(address: str, action: Callable[[], Value]) -> Value:
    for pause in (*PAUSES, None):
        try:
            return action()
        except MemoryError:
            raise
        except Exception as error:  # of fsspec, aiohttp, botocore and others
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise SalonError(f"there is no room to fetch {shown(address)}: {error.strerror}") from error
            fault, passing = _fault(error)
            if not passing or pause is None:
                raise fault from error
            time.sleep(pause)
    raise AssertionError


def _fault(error: Exception) -> tuple[ImageError, bool]:
    """What to call an error, and whether another attempt may help."""
    told = getattr(error, "status", None) or getattr(error, "code", None)  # aiohttp's and gcsfs's
    status = int(str(told)) if str(told).isdigit() else None
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return ImageError("not found", f"HTTP {status or 404}"), False
    if isinstance(error, PermissionError) or status in (401, 403):
        return ImageError("no access", f"HTTP {status or 403}"), False
    if "Credentials" in type(error).__name__:
        return ImageError("no access", "there are no credentials"), False
    if status is not None:
        return ImageError("not reachable", f"HTTP {status}"), status >= 500 or status in _PASSING
    number = error.errno if isinstance(error, OSError) else None
    detail = f"{type(error).__name__}, {error.strerror}" if isinstance(error, OSError) else type(error).__name__
    return ImageError("not reachable", detail), number not in _FINAL
