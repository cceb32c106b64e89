"""Writes pickles of plain values, arrays and objects of named classes, an instruction at a time.

Python's pickler writes classes that it can import, and NumPy's names as the version at hand has them. Here the classes
are the reader's, and the bytes are the same on every machine: protocol 3, and the names that every NumPy knows.
"""

import struct
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

PROTOCOL = 3  # the first that has bytes


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An object of a class that the reader has: made without arguments, then its state is set."""

    module: str
    name: str
    state: dict[str, Any] = field(repr=False)


def dump(value: Any, file: IO[bytes]) -> None:
    """Write a pickle of `value`: None, bool, int, float, str, tuple, list, dict, float32 or float64 array, Instance.

    An Instance in two places is one object for the reader. Raises TypeError for anything else, ValueError for an int
    beyond 32 bits and an array of 4 GiB or more.
    """
    file.write(b"\x80" + bytes([PROTOCOL]))
    _Writer(file).write(value)
    file.write(b".")  # STOP


class _Writer:
    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.memo: dict[int, int] = {}  # id of an Instance -> its number

    def write(self, value: Any) -> None:
        put = self.file.write
        if value is None:
            put(b"N")
        elif isinstance(value, bool):
            put(b"\x88" if value else b"\x89")
        elif type(value) is int:
            put(b"J" + _packed("<i", value))
        elif isinstance(value, float):
            put(b"G" + struct.pack(">d", value))
        elif isinstance(value, str):
            put(b"X" + _sized(value.encode()))
        elif isinstance(value, tuple):
            self._items(b"(", value, b"t")
        elif isinstance(value, list):
            self._items(b"](", value, b"e")
        elif isinstance(value, dict):
            self._items(b"}(", [part for item in value.items() for part in item], b"u")
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif isinstance(value, Instance):
            self._instance(value)
        else:
            raise TypeError(f"value must be plain, an array or an Instance; got {type(value).__name__} instead")

    def _items(self, start: bytes, items: Any, end: bytes) -> None:
        self.file.write(start)  # with a MARK
        for item in items:
            self.write(item)
        self.file.write(end)

    def _global(self, module: str, name: str) -> None:
        self.file.write(b"c" + f"{module}\n{name}\n".encode("ascii"))

    def _array(self, array: NDArray[Any]) -> None:
        # As NumPy's own arrays are pickled: an empty one is made, then shape, dtype and bytes are set.
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"array must be float32 or float64; got {array.dtype} instead")
        self._global("numpy.core.multiarray", "_reconstruct")
        self._global("numpy", "ndarray")
        self.write((0,))
        self.file.write(b"B" + _sized(b"b") + b"\x87R")  # TUPLE3, REDUCE
        self.file.write(b"(")
        self.write(1)
        self.write(array.shape)
        self._global("numpy", "dtype")
        self.write((f"f{array.itemsize}", False, True))
        self.file.write(b"R")
        self.write((3, "<", None, None, None, -1, -1, 0))
        self.file.write(b"b")  # BUILD
        self.write(False)  # rows first
        self.file.write(b"B" + _sized(array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()))
        self.file.write(b"tb")  # TUPLE, BUILD

    def _instance(self, instance: Instance) -> None:
        if (number := self.memo.get(id(instance))) is not None:
            self.file.write(b"h" + bytes([number]))
            return
        self._global(instance.module, instance.name)
        self.file.write(b")\x81")  # EMPTY_TUPLE, NEWOBJ
        self.write(instance.state)
        self.file.write(b"b")  # BUILD
        self.memo[id(instance)] = len(self.memo)
        self.file.write(b"q" + bytes([self.memo[id(instance)]]))


def _packed(form: str, number: int) -> bytes:
    try:
        return struct.pack(form, number)
    except struct.error as error:
        raise ValueError(f"number must have at most 32 bits; got {number} instead") from error


def _sized(content: bytes) -> bytes:
    return _packed("<I", len(content)) + content
