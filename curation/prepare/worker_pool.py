"""Ordered parallel work in processes that survives the death of a worker.

A decoder may crash on a hostile file, and a machine short of memory kills processes: one image must not end a run.
"""

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Generic, TypeVar

from gan.runtime.console import say
from gan.runtime.parallel import Processes, lack_of_processes

Item = TypeVar("Item")
Value = TypeVar("Value")


def cores() -> int:
    """How many processes can compute side by side."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fault_tolerant_map(
    function: Callable[[Item], Value], items: Iterable[Item], crashed: Callable[[Item], Value], workers: int
) -> Generator[Value]:
    """`function` of each item, in the items' order, computed in `workers` processes, a few results ahead.

    When a worker dies, each item that was under way is tried again, one after another, in a process of their own; for
    one whose process dies once more, the value is `crashed(item)`. The workers end with the generator, and with this
    process, however it ends. Where there can be none, all is computed in this process.
    """
    if reason := lack_of_processes():
        say(f"Images are prepared one by one, without workers: {reason}")
        yield from map(function, items)
        return
    source = iter(items)
    window: deque[tuple[Item, Future[Value]]] = deque()
    pool: _Pool[Item, Value] = _Pool(function, workers)
    lone: _Pool[Item, Value] | None = None  # one process, for those that were under way when a worker died
    try:
        while True:
            for item in itertools.islice(source, 4 * workers + 4 - len(window)):
                try:
                    future = pool.submit(item)
                except BrokenProcessPool:
                    pool.stop()
                    pool = _Pool(function, workers)
                    future = pool.submit(item)
                window.append((item, future))
            if not window:
                return
            item, future = window.popleft()
            try:
                value = future.result()
            except BrokenProcessPool:
                try:
                    lone = lone or _Pool(function, 1)
                    value = lone.submit(item).result()
                except BrokenProcessPool:
                    assert lone
                    lone.stop()
                    lone, value = None, crashed(item)
            yield value
    finally:
        pool.stop()
        if lone:
            lone.stop()


def _adopt(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


class _Pool(Generic[Item, Value]):
    """One function in worker processes."""

    def __init__(self, function: Callable[[Item], Value], workers: int) -> None:
        # The server that they are forked from has the environment of its own start: credentials may have come later.
        self._processes = Processes(workers, ["curation.prepare.resize"], _adopt, dict(os.environ))
        self._function = function
        self.stop = self._processes.stop

    def submit(self, item: Item) -> "Future[Value]":
        return self._processes.submit(self._function, item)
