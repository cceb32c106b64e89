"""The directory of a ZIP as a table: zipfile makes Python objects of more than half a kilobyte of each member.

Numbers of sections are those of PKWARE's APPNOTE 6.3.
"""

import os
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

_END = struct.Struct("<4s8xLLH")  # 4.3.16: signature, bytes and offset of the directory, bytes of the comment
_END64 = struct.Struct("<4s36xQQ")  # 4.3.14: signature, bytes and offset of the directory
_LOCATOR64 = struct.Struct("<4s4xQL")  # 4.3.15: signature, offset of the record above, number of disks
# 4.3.12: signature, flags, method, CRC, sizes, lengths of name, extra field and comment, offset of the local header
_ENTRY = struct.Struct("<4s4xHH4xLLLHHH8xL")
_LONGEST_COMMENT = 65_535
_UTF8 = 1 << 11  # of the flags
_IN_EXTRA = 0xFFFFFFFF  # a number that does not fit, and stands in the extra field

MEMBER = np.dtype(
    [
        ("offset", np.uint64),  # of the local header in its file
        ("stored", np.uint64),  # bytes in the file
        ("size", np.uint64),  # bytes when decompressed
        ("crc", np.uint32),
        ("method", np.uint16),  # of compression
        ("flags", np.uint16),
    ]
)


class Entry(NamedTuple):
    """A member of a ZIP by its name, and the values of MEMBER."""

    name: str
    member: tuple[int, ...]


def entries(path: Path) -> Iterator[Entry]:
    """The members in the order of the directory, folders too. Raises BadZipFile where there is none, and OSError."""
    with open(path, "rb") as file:
        start, count, shift = _find(file)
        file.seek(start)
        content = file.read(count)
    at = 0
    try:
        while at < count:
            signature, flags, method, crc, stored, size, *lengths, offset = _ENTRY.unpack_from(content, at)
            if signature != b"PK\1\2":
                raise zipfile.BadZipFile("Bad magic number for central directory")
            at += _ENTRY.size
            name, extra = content[at : at + lengths[0]], content[at + lengths[0] : at + lengths[0] + lengths[1]]
            if _IN_EXTRA in (size, stored, offset):
                size, stored, offset = _from_extra(extra, size, stored, offset)
            at += sum(lengths)
            decoded = name.decode("utf-8" if flags & _UTF8 else "cp437").partition("\0")[0]
            yield Entry(decoded, (offset + shift, stored, size, crc, method, flags))
    except (struct.error, UnicodeDecodeError) as error:
        raise zipfile.BadZipFile("Truncated or damaged central directory") from error


def _find(file: BinaryIO) -> tuple[int, int, int]:
    # -> where the directory begins, its bytes, and how much what lies before the ZIP in the file adds to its offsets
    length = file.seek(0, os.SEEK_END)
    tail_at = max(length - _END.size - _LONGEST_COMMENT, 0)
    file.seek(tail_at)
    tail = file.read()
    place = len(tail) - _END.size  # without a comment; else the last signature that is there
    if place < 0 or tail[place : place + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        place = tail.rfind(b"PK\5\6")
    if not 0 <= place <= len(tail) - _END.size:
        raise zipfile.BadZipFile("File is not a zip file")
    _, count, offset, _ = _END.unpack_from(tail, place)
    end = tail_at + place
    if end >= _LOCATOR64.size + _END64.size:
        file.seek(end - _LOCATOR64.size - _END64.size)
        before = file.read(_END64.size + _LOCATOR64.size)
        if _LOCATOR64.unpack_from(before, _END64.size)[0] == b"PK\6\7" and before[:4] == b"PK\6\6":
            _, count, offset = _END64.unpack_from(before)
            end -= len(before)
    start = end - count
    if start < 0:
        raise zipfile.BadZipFile("Bad offset for central directory")
    return start, count, start - offset


def _from_extra(extra: bytes, size: int, stored: int, offset: int) -> Iterable[int]:
    # 4.5.3: those of the numbers that do not fit, in this order.
    while extra:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, 4))
            return [next(wide, number) if number == _IN_EXTRA else number for number in (size, stored, offset)]
        extra = extra[4 + length :]
    return size, stored, offset
