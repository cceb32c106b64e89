"""Ordered parallel work that holds only a few results at a time, and processes to do it."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def ordered_map(
    pool: Executor, function: Callable[[Item], Value], items: Iterable[Item], ahead: int = 64
) -> Iterator[Value]:
    """`function` of each item, in the items' order, with at most `ahead` results computed before they are asked for."""
    source = iter(items)
    futures: deque[Future[Value]] = deque(pool.submit(function, item) for item in itertools.islice(source, ahead))
    try:
        while futures:
            value = futures.popleft().result()
            for item in itertools.islice(source, 1):
                futures.append(pool.submit(function, item))
            yield value
    finally:
        for future in futures:
            future.cancel()


def delayed(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The items in order, each given only when `count` more have been taken: what those started is under way then."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def start(preload: Sequence[str], function: Callable[..., object], *arguments: Any) -> ForkServerProcess:
    """Start `function(*arguments)` in a process of its own, with this one's environment.

    It is forked from a server that has imported the modules `preload`: only the first process waits for that.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    process = context.Process(target=_call, args=(dict(os.environ), function, arguments))
    process.start()
    return process


def _call(environment: dict[str, str], function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    os.environ.clear()  # the server's is that of its own start
    os.environ.update(environment)
    function(*arguments)


class Processes(ProcessPoolExecutor):
    """Worker processes that end with stop(), and with this process however it ends. `preload` names modules to import
    once for all of them; `setup` runs in each at its start.
    """

    def __init__(
        self, workers: int, preload: Sequence[str], setup: Callable[..., object] | None = None, *arguments: Any
    ) -> None:
        # A fork server: forking this process itself could copy locks that its threads hold.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(preload))
        self._end, self._lifeline = context.Pipe(duplex=False)
        super().__init__(workers, context, _live_with, (self._end, setup, arguments))

    def stop(self) -> None:
        """End the workers at once, whatever they are doing."""
        self._lifeline.close()
        self.shutdown(wait=True, cancel_futures=True)
        self._end.close()


def _live_with(
    parent: "Connection[None, None]", setup: Callable[..., object] | None, arguments: tuple[Any, ...]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if setup is not None:
        setup(*arguments)


def _end_with(parent: "Connection[None, None]") -> None:
    with suppress(EOFError, OSError):
        parent.recv_bytes()  # nothing is ever sent: it ends when the other end is closed, or its process has died
    os._exit(1)
