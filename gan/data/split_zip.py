"""ZIPs that were cut into several files, which Python's zipfile opens and then finds corrupt. Light."""

import re
import struct
from pathlib import Path

from gan.errors import RequestError

_END, _LONGEST_END = b"PK\5\6", 22 + 65_535  # record at the end of a ZIP, and its length with the longest comment
_SPANNED = b"PK\7\x08"  # first bytes of the first of several parts
_PART = re.compile(r"\.(z\d\d|zip\.\d{3})$", re.IGNORECASE)


def require_whole(path: Path) -> None:
    """Raise RequestError where a file is one part of a split ZIP, and OSError where it cannot be read."""
    with open(path, "rb") as file:
        first = file.read(4)
        file.seek(max(file.seek(0, 2) - _LONGEST_END, 0))
        tail = file.read()
    end = tail.rfind(_END)
    # A ZIP64 may have 65535 here, and its numbers elsewhere; those that are split are beyond all limits anyway.
    number = struct.unpack_from("<H", tail, end + 4)[0] if 0 <= end <= len(tail) - 22 else 0
    if _PART.search(path.name) or first == _SPANNED or number not in (0, 65_535):
        raise RequestError(
            f"{path} must be a whole ZIP; it is one part of several. Join them first, with zip -s 0 {path.stem}.zip "
            "-O whole.zip, or with cat where they end in .001, .002, ..."
        )
