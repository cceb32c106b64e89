"""Turns at what does one thing at a time, shared out fairly among visitors."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """One turn at a time. The visitors who wait come round one after the other, however much each of them wants."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._taken = False
        self._last = ""  # visitor whose turn it is or was

    def waiting(self, visitor: str) -> int:
        """For how many turns a visitor waits."""
        return len(self._waiting.get(visitor, ()))

    @asynccontextmanager
    async def turn(self, visitor: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it. Whoever is cancelled while waiting has left the queue."""
        if self._taken:
            mine = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(visitor, deque()).append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if not mine.cancelled():  # the turn came at the same time
                    self._next()
                raise
        self._taken, self._last = True, visitor
        try:
            yield
        finally:
            self._next()

    def _next(self) -> None:
        # The first visitor who is not the last one, and so in a circle: whoever had a turn goes to the end.
        self._taken = False
        while self._waiting:
            visitor = next((each for each in self._waiting if each != self._last), self._last)
            queue = self._waiting[visitor]
            mine = queue.popleft()
            if queue:
                self._waiting.move_to_end(visitor)
            else:
                del self._waiting[visitor]
            if not mine.done():  # else cancelled
                self._taken = True
                mine.set_result(None)
                return
