"""Ordered parallel work in processes that survives the death of a worker.

A decoder may crash on a hostile file, and a machine short of memory kills processes: one image must not end a run.
"""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def fault_tolerant_map(
    function: Callable[[Item], Value], items: Iterable[Item], crashed: Callable[[Item], Value], workers: int
) -> Generator[Value]:
    """`function` of each item, in the items' order, computed in `workers` processes, a few results ahead.

    When a worker dies, each item that was under way is tried again, one after another, in a process of their own; for
    one whose process dies once more, the value is `crashed(item)`. The workers end with the generator, and with this
    process, however it ends.
    """
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


class _Pool(Generic[Item, Value]):
    """Worker processes that live as long as the pipe to this one."""

    def __init__(self, function: Callable[[Item], Value], workers: int) -> None:
        # A fork server: forking this process itself could copy locks that its threads hold.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["curation.prepare.resize"])  # imported once, for all workers
        self._function = function
        self._end, self._lifeline = context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(workers, context, _live_with, (self._end,))

    def submit(self, item: Item) -> "Future[Value]":
        return self._executor.submit(self._function, item)

    def stop(self) -> None:
        """End the workers at once, whatever they are doing."""
        self._lifeline.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._end.close()


def _live_with(parent: "Connection[None, None]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: "Connection[None, None]") -> None:
    with suppress(EOFError, OSError):
        parent.recv_bytes()  # nothing is ever sent: it ends when the other end is closed, or its process has died
    os._exit(1)
