"""A million names as one array instead of a million Python objects."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import pyarrow as pa

_BLOCK = 65_536  # names that are Python objects at a time while all are gone through
_NONE = pa.array([], pa.large_binary())


class NameTable(Sequence[str]):
    """Sorted names, each once, which are found by bisection. `array` holds them in UTF-8, in the same order.

    Names of files that are no UTF-8 have lone surrogates, as Python writes them, which arrays of strings do not take.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = (name.encode("utf-8", "surrogatepass") for name in names)
        blocks = iter(lambda: pa.array(list(islice(encoded, _BLOCK)), pa.large_binary()), _NONE)
        self.array = _concatenated(blocks)

    @classmethod
    def joined(cls, tables: Iterable["NameTable"]) -> "NameTable":
        """The names of tables that follow one another in the order of names."""
        table = cls([])
        table.array = _concatenated(part.array for part in tables)
        return table

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return _decoded(self.array[int(index)].as_py())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from map(_decoded, self.array.slice(start, _BLOCK).to_pylist())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._place(name) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """Where the name is. Raises ValueError where it is not."""
        place = self._place(value)
        if place is None or place not in range(*slice(start, stop).indices(len(self))):
            raise ValueError(f"there is no {value}")
        return place

    def _place(self, name: str) -> int | None:
        place = bisect_left(self, name)
        return place if place < len(self) and self[place] == name else None


def _concatenated(arrays: Iterable[pa.LargeBinaryArray]) -> pa.LargeBinaryArray:
    joined = pa.concat_arrays([_NONE, *arrays])
    pa.default_memory_pool().release_unused()  # what the pieces took
    return joined


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
