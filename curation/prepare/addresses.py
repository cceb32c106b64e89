"""Addresses of images that lie elsewhere: s3://bucket/folder, gs://bucket/folder, https://host/file. Light."""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from gan.errors import RequestError

EXTRAS = {"s3": "s3", "gs": "gs", "https": "http", "http": "http"}  # scheme -> the extra of Salon's that reads it
BUCKETS = ("s3", "gs")  # schemes whose folders can be listed
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_COLLAPSED = re.compile(r"(s3|gs|https?):/[^/]")  # what pathlib makes of an address

Source = Path | str  # a file or folder, or an address


def is_address(text: str) -> bool:
    """Whether a text is an address and no path."""
    return _ADDRESS.fullmatch(text) is not None


def scheme_of(address: str) -> str:
    """What stands before ://, in small letters."""
    return address.partition("://")[0].lower()


def require_known(source: Source) -> None:
    """Raise RequestError for an address of another kind than those of EXTRAS, and for a text that is none."""
    match = _ADDRESS.fullmatch(source) if isinstance(source, str) else None
    if match is None and (isinstance(source, str) or _COLLAPSED.match(str(source))):
        raise RequestError(f"`sources` must be paths, and addresses as texts like s3://bucket/folder; got {source!r}")
    if match and (match[1].lower() not in EXTRAS or not _host(match[0])):
        known = ", ".join(f"{scheme}://" for scheme in EXTRAS)
        raise RequestError(f"`sources` must be addresses such as {known}...; got {match[1]}:// instead")


def shown(source: Source) -> str:
    """A source as reports and manifests have it: of a web address without user, password, query and fragment."""
    if not isinstance(source, str) or scheme_of(source) in BUCKETS:
        return str(source)
    parts = urlsplit(source)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError:  # an IPv6 address that is none
        return ""


def split(address: str) -> tuple[str, str]:
    """Bucket or host with the scheme, and what comes after it, both as shown: ("https://host", "folder/1.jpg")."""
    scheme, _, rest = shown(address).partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}", path.lstrip("/") or "index"
