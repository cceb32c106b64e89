"""Decoding of many image files in processes, for a network on a GPU: one process does not decode as fast as it sees."""

import os
from collections.abc import Callable, Iterator, Sequence

from gan.data.images import Pixels
from gan.runtime.parallel import Processes, lack_of_processes, ordered_map

CHUNK = 16  # images that a process gives at a time
MANY = 2048  # images from which on it pays to start processes
MAX_PROCESSES = 16

Read = Callable[[int], Pixels | None]  # position -> uint8 [H, W, 3]; None: it cannot be read and need not be


def decoded(read: Read, positions: Sequence[int], processes: int) -> Iterator[Pixels | None]:
    """read(position) of each, in order, computed in so many processes. `read` is a method of what can be pickled."""
    pool = Processes(processes, [__name__, "eval.data.image_sources"], _keep, read)
    chunks = (positions[start : start + CHUNK] for start in range(0, len(positions), CHUNK))
    try:
        for images in ordered_map(pool, _read, chunks, ahead=4 * processes):
            yield from images
    finally:
        pool.stop()


def processes_for(count: int) -> int:
    """How many processes are to decode so many images; 0: none, threads are there sooner, or there can be none."""
    if count < MANY or lack_of_processes():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's processes share them
    return min(cores - 1, MAX_PROCESSES) if cores > 2 else 0


_kept: list[Read] = []  # in a process: what it was started for


def _keep(read: Read) -> None:
    _kept[:] = [read]


def _read(positions: Sequence[int]) -> list[Pixels | None]:
    return [_kept[0](position) for position in positions]
