"""Ordered parallel work that holds only a few results at a time, and processes to do it."""

import itertools
import multiprocessing
import multiprocessing.util
import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, TypeVar

from gan.errors import SalonError

Item = TypeVar("Item")
Value = TypeVar("Value")

_LOOK = 1  # seconds between two looks at whether a wait is still wanted
_MAX_SOCKET_FOLDER = 70  # bytes of the folder's path: a socket's may have 103 at least, of which its name takes 32
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def ordered_map(
    pool: Executor,
    function: Callable[[Item], Value],
    items: Iterable[Item],
    ahead: int = 64,
    stopped: Callable[[], bool] | None = None,
) -> Generator[Value]:
    """`function` of each item, in the items' order, with at most `ahead` results computed before they are asked for.

    It ends early where it has to wait for a result and `stopped()` becomes true.
    """
    source = iter(items)
    futures: deque[Future[Value]] = deque(pool.submit(function, item) for item in itertools.islice(source, ahead))
    try:
        while futures:
            while stopped and not wait([futures[0]], _LOOK).done:
                if stopped():
                    return
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


def lack_of_processes() -> str | None:
    """Why no worker processes can be had here; None where they can. Their semaphores lie in /dev/shm."""
    try:
        multiprocessing.get_context("fork").Lock()
    except (ImportError, OSError) as error:
        return f"no semaphores in /dev/shm: {getattr(error, 'strerror', None) or error}"
    return None


def start(preload: Sequence[str], function: Callable[..., object], *arguments: Any) -> ForkServerProcess:
    """Start `function(*arguments)` in a process of its own, with this one's environment.

    It is forked from a server that has imported the modules `preload`: only the first process waits for that.
    Raises SalonError where there can be no processes.
    """
    if reason := lack_of_processes():
        raise SalonError(f"processes cannot be had: {reason}")
    context = _fork_server(preload)
    hangup = signal.SIG_IGN if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else signal.SIG_DFL
    process = context.Process(target=_call, args=(dict(os.environ), hangup, function, arguments))
    process.start()
    return process


def _call(
    environment: dict[str, str], hangup: signal.Handlers, function: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    signal.signal(signal.SIGHUP, hangup)
    os.environ.clear()  # the server's is that of its own start
    os.environ.update(environment)
    function(*arguments)


def _fork_server(preload: Sequence[str]) -> ForkServerContext:
    # The server lives as long as this process, also where the terminal is closed.
    _keep_socket_paths_short()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with suppress(ValueError):  # in a thread, which sets no signals
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGHUP, before)
    return context


class Processes(ProcessPoolExecutor):
    """Worker processes that end with stop(), and with this process however it ends. `setup` runs in each at its start.

    They come from a fork server, which imports the modules `preload` once for all of them: forking this process itself
    could copy locks that its threads hold. With `preload` None it is forked all the same, at the first submit.
    Raises SalonError where there can be none.
    """

    def __init__(
        self, workers: int, preload: Sequence[str] | None, setup: Callable[..., object] | None = None, *arguments: Any
    ) -> None:
        if reason := lack_of_processes():
            raise SalonError(f"worker processes cannot be had: {reason}")
        context: Any = multiprocessing.get_context("fork") if preload is None else _fork_server(preload)
        self._end, self._lifeline = context.Pipe(duplex=False)
        super().__init__(workers, context, _live_with, (self._end, self._lifeline, setup, arguments))

    def stop(self) -> None:
        """End the workers at once, whatever they are doing."""
        self._lifeline.close()
        self.shutdown(wait=True, cancel_futures=True)
        self._end.close()


def _keep_socket_paths_short() -> None:
    # multiprocessing keeps its sockets in a folder below TMPDIR, which clusters make long. Newer Pythons look at it.
    if len(os.fsencode(tempfile.gettempdir())) <= _MAX_SOCKET_FOLDER:
        return
    before = tempfile.tempdir
    for folder in _SHORT_FOLDERS:
        tempfile.tempdir = folder
        with suppress(OSError):
            multiprocessing.util.get_temp_dir()  # made once, and kept
            break
    tempfile.tempdir = before


def _live_with(
    parent: "Connection[None, None]",
    lifeline: "Connection[None, None]",
    setup: Callable[..., object] | None,
    arguments: tuple[Any, ...],
) -> None:
    lifeline.close()  # the parent's end
    # Ctrl-C and the end of a terminal reach all processes; the parent decides. It may have handlers of its own.
    for number, action in (
        (signal.SIGINT, signal.SIG_IGN),
        (signal.SIGHUP, signal.SIG_IGN),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        signal.signal(number, action)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if setup is not None:
        setup(*arguments)


def _end_with(parent: "Connection[None, None]") -> None:
    with suppress(EOFError, OSError):
        parent.recv_bytes()  # nothing is ever sent: it ends when the other end is closed, or its process has died
    os._exit(1)
