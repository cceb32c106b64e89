"""Cancellation of calls of the client: what is under way is ended, and what waits is never sent."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gan.errors import SalonError


class Cancelled(SalonError):
    """The call was cancelled by whoever made it."""


class Cancellation:
    """Of any number of calls that it is given to. cancel() may come from any thread, and again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: list[Callable[[], object]] = []
        self._cancelled = False

    def cancel(self) -> None:
        """End what is under way, and let nothing begin any more."""
        with self._lock:
            self._cancelled, ends, self._ends = True, self._ends, []
        for end in ends:
            end()

    def check(self) -> None:
        """Raises Cancelled when it was."""
        if self._cancelled:
            raise Cancelled("the call was cancelled")

    @contextmanager
    def ends_by(self, end: Callable[[], object]) -> Iterator[None]:
        """Something under way that `end` ends, from any thread. Raises Cancelled where it failed for that, and at once,
        with `end` called, where the cancellation came before it.
        """
        with self._lock:
            if not (late := self._cancelled):
                self._ends.append(end)
        if late:
            end()
            self.check()
        try:
            yield
        except Exception as error:
            if self._cancelled:
                raise Cancelled("the call was cancelled") from error
            raise
        finally:
            with self._lock:
                if end in self._ends:
                    self._ends.remove(end)
