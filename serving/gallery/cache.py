"""What was used last, up to a number of bytes."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values by key, of at most `limit` bytes together, each of `size(value)`; the least recently used go first."""

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self.limit, self.size = limit, size
        self.bytes = 0
        self._values: OrderedDict[str, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> Value | None:
        """The value, which was used just now; None: it is not here."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def keep(self, key: str, value: Value) -> None:
        """Keep a value, in the place of what was here."""
        self.drop(key)
        self._values[key] = value
        self.bytes += self.size(value)
        while self.bytes > self.limit:
            self.drop(next(iter(self._values)))

    def drop(self, key: str) -> None:
        """Forget a value, where it is here."""
        if key in self._values:
            self.bytes -= self.size(self._values.pop(key))

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.bytes = 0
