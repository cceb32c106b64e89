"""The same work by many machines: blocks of items as tasks of Ray, which runs on one machine as well as on a cluster.

A function of one item is computed for all of them, in their order, whatever the number of workers. What a worker or a
machine had in hand when it died is computed by another; an item whose worker dies each time is named. Blocks that have
come back can be kept in files, so that a run that was ended goes on where it was.
"""

import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from gan.errors import RequestError
from gan.runtime.console import say
from gan.runtime.files import atomic

Item = TypeVar("Item")
Value = TypeVar("Value")
Row = dict[str, Any]

BLOCK = 64  # items of a task
RETRIES = 2  # of a block whose worker died; then its items are computed one by one
TIMEOUT = 10  # seconds in which a cluster must answer
STORE = 512 * 1024**2  # bytes of shared memory of a Ray of one machine
_MAX_SCRATCH = 28  # bytes of its folder's path: a socket's may have 103 at least, of which Ray's names take 75
_SHORT_FOLDERS = ("/tmp", "/var/tmp")


@dataclass(frozen=True, kw_only=True)
class KeptBlocks(Generic[Item]):
    """A folder with the rows of each finished block, in a file of the block's name."""

    folder: Path
    name: Callable[[Sequence[Item]], str | None]  # says all that a block's rows depend on; None: it is not kept

    def read(self, items: Sequence[Item]) -> list[Row] | None:
        """The rows of a block; None where it is not finished."""
        path = self._path(items)
        try:
            rows: list[Row] = [] if path is None else pq.read_table(path).to_pylist()
        except (OSError, pa.ArrowInvalid):
            return None
        return rows if len(rows) == len(items) else None

    def write(self, items: Sequence[Item], rows: list[Row]) -> None:
        """Keep the rows of a block."""
        if path := self._path(items):
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic(path) as temporary:
                pq.write_table(pa.Table.from_pylist(rows), temporary)

    def remove(self) -> None:
        """When all that was made of the blocks is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, items: Sequence[Item]) -> Path | None:
        name = self.name(items)
        return None if name is None else self.folder / f"{name}.parquet"


class Cluster:
    """A Ray that this process is connected to; made by `connected`."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES)(_values)
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))

    def ordered_map(
        self,
        function: Callable[[Item], Value],
        items: Sequence[Item],
        crashed: Callable[[Item], Value],
        *,
        block: int | None = None,
        kept: KeptBlocks[Item] | None = None,
    ) -> Generator[Value]:
        """`function` of each item, in their order, a few blocks ahead; what can be pickled, and rows where it is kept.

        `crashed` gives the value of an item whose worker dies each time. Raises what `function` raises, and
        RequestError where the cluster fails.
        """
        shared = self._ray.put(function)
        size = block or BLOCK
        blocks = iter([items[start : start + size] for start in range(0, len(items), size)])
        window: deque[tuple[Sequence[Item], Any, list[Any] | None]] = deque()
        while True:
            while len(window) < 2 * self.workers + 2 and (some := next(blocks, None)) is not None:
                known = kept.read(some) if kept else None
                window.append((some, self._task.remote(shared, some) if known is None else None, known))
            if not window:
                return
            some, task, known = window.popleft()
            values: list[Any] = known if known is not None else self._result(task, shared, some, crashed)
            if kept and known is None:
                kept.write(some, values)
            yield from values

    def _result(self, task: Any, shared: Any, items: Sequence[Item], crashed: Callable[[Item], Value]) -> list[Value]:
        try:
            return list(self._ray.get(task))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except self._ray.exceptions.RayError as error:
            died = self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.OutOfMemoryError
            if not isinstance(error, died):  # the cluster's fault, and no item's
                raise RequestError(f"`engine` ray: the cluster lost its work: {error}") from error
            if len(items) == 1:
                return [crashed(items[0])]
            alone = [(item, self._task.remote(shared, [item])) for item in items]
            return [value for item, own in alone for value in self._result(own, shared, [item], crashed)]


def _values(function: Callable[[Item], Value], items: Sequence[Item]) -> list[Value]:
    return [function(item) for item in items]


@contextmanager
def connected(address: str | None = None, workers: int | None = None) -> Iterator[Cluster]:
    """Ray at HOST:PORT, or "auto" for the cluster that this machine belongs to; None: one of this machine's own.

    That has as many `workers` (None: one a core), asks for a random token, and ends with the block.
    Raises RequestError where Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    if address is None and "ray" not in sys.modules:  # it reads them when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # it listens on all interfaces, whatever it is told
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise RequestError(f"`engine` ray needs pip install 'salon[ray]': {error}") from error
    quiet: Row = {"log_to_driver": False, "logging_level": "ERROR"}
    scratch = _scratch() if address is None else None
    try:
        if address is None:
            own: Row = {"include_dashboard": False, "object_store_memory": STORE, "_temp_dir": scratch}
            try:
                ray.init(address="local", num_cpus=workers, _node_ip_address="127.0.0.1", **own, **quiet)
            except RuntimeError as error:
                raise RequestError(f"`engine` ray: Ray did not start on this machine: {error}") from error
        else:
            _connect(ray, address, quiet)
        cluster = Cluster(ray)
        nodes = sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
        say(f"Ray: {cluster.workers} worker{'s' * (cluster.workers > 1)} on {nodes} machine{'s' * (nodes > 1)}")
        yield cluster
    finally:
        ray.shutdown()
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def _scratch() -> str:
    # A folder for sockets, logs and what does not fit into memory.
    here = tempfile.gettempdir()
    for folder in [here] if len(os.fsencode(here)) <= _MAX_SCRATCH else _SHORT_FOLDERS:
        with suppress(OSError):
            return tempfile.mkdtemp(prefix="ray", dir=folder)
    return tempfile.mkdtemp(prefix="ray")


def _connect(ray: Any, address: str, quiet: Row) -> None:
    try:
        if address != "auto":  # Ray itself would wait for minutes
            host, _, port = address.rpartition(":")
            if not port.isdecimal():
                raise ValueError("there is no port")
            socket.create_connection((host, int(port)), timeout=TIMEOUT).close()
        ray.init(address=address, **quiet)
    except (OSError, ValueError) as error:  # Ray's ConnectionError is an OSError
        raise RequestError(
            f"`address` must be HOST:PORT of a Ray cluster, or auto on one of its machines; got {address}: {error}"
        ) from error
