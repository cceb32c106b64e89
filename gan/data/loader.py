"""The endless stream of real images. Its order depends on the seed and the position alone, so it resumes exactly."""

import itertools
import math
import mmap
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gan.data.dataset import ImageDataset
from gan.device.selection import cores
from gan.errors import SalonError
from gan.runtime.console import say
from gan.runtime.parallel import Processes, lack_of_processes, ordered_map

Draw = tuple[int, bool]  # index in the dataset, flipped or not
MAX_WORKERS = 16  # a core decodes some hundred JPEGs of 256 pixels a second: these feed any GPU of today
_AHEAD = 4  # batches that each worker makes ahead
_MAX_BYTES_AHEAD = 2 << 30  # of all workers together


class DrawSequence:
    """Batches of draws from position `position` on: each epoch is one permutation of `indices`.

    With `members` only the draws at these places of each batch are given: those of one process.
    """

    def __init__(
        self,
        indices: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int,
        mirror: bool,
        position: int = 0,
        members: Sequence[int] | None = None,
    ) -> None:
        self.indices, self.batch_size, self.seed, self.mirror = indices, batch_size, seed, mirror
        self.position = position
        self.members = range(batch_size) if members is None else members

    def __iter__(self) -> Iterator[list[Draw]]:
        batch: list[Draw] = []
        epoch, offset = divmod(self.position, len(self.indices))
        while True:
            rng = np.random.default_rng([self.seed, epoch])
            order = self.indices[rng.permutation(len(self.indices))]
            flips = rng.random(len(order)) < 0.5 if self.mirror else np.zeros(len(order), bool)
            for index, flip in zip(order[offset:].tolist(), flips[offset:].tolist(), strict=True):
                batch.append((index, flip))
                if len(batch) == self.batch_size:
                    yield [batch[member] for member in self.members]
                    batch = []
            epoch, offset = epoch + 1, 0


class TrainingImages:
    """Draw -> (pixels uint8 CHW, class), from the dataset or from its decoded memory map."""

    def __init__(self, dataset: ImageDataset, cache: Path | None = None) -> None:
        self.dataset = dataset
        self.cache = None if cache is None else np.load(cache, mmap_mode="r")

    def __getitem__(self, draw: Draw) -> tuple[torch.Tensor, int]:
        index, flip = draw
        pixels = torch.from_numpy(np.array(self.dataset.pixels(index) if self.cache is None else self.cache[index]))
        return pixels.flip(2) if flip else pixels, self.dataset.label(index)  # torch flips ten times as fast as numpy


def workers_that_keep_up(device: torch.device, batch_nbytes: int, processes: int = 1) -> int:
    """How many processes shall load images: on a CPU one, which its training never waits for; for a GPU one a core.

    One core is left to the training; at most MAX_WORKERS, and no more than make two GB of batches of `batch_nbytes`
    bytes ahead. `processes` train on this machine and share the cores.
    """
    if device.type == "cpu":
        return 1
    fitting = _MAX_BYTES_AHEAD // processes // (_AHEAD * batch_nbytes)
    return max(1, min(cores() // processes - 1, MAX_WORKERS, fitting))


def batches(
    images: TrainingImages,
    draws: DrawSequence,
    *,
    workers: int,
    pin_memory: bool,
    stopped: Callable[[], bool] | None = None,
) -> Generator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches (pixels uint8 [N, C, H, W], classes int64 [N]), made ahead by `workers` processes (0: none).

    It ends early where it has to wait for a worker and `stopped()` becomes true. Raises SalonError when a worker dies.
    """
    if workers and (reason := lack_of_processes()):
        say(f"Images are loaded without workers: {reason}")
        workers = 0
    if not workers:
        return _without_workers(images, draws, pin_memory)
    # One more place than there are batches ahead: for the batch that is being copied out.
    shape = [_AHEAD * workers + 1, len(draws.members), *images.dataset.shape.chw]
    memory = mmap.mmap(-1, math.prod(shape))  # shared with what is forked; /dev/shm is small in many containers
    places = torch.frombuffer(memory, dtype=torch.uint8).view(shape)
    pool = Processes(workers, None, _keep, images, places)
    pool.submit(len, ())  # forks all of them, before there are more threads in this process
    return _from_workers(pool, places, draws, pin_memory, stopped)


def _without_workers(
    images: TrainingImages, draws: DrawSequence, pin_memory: bool
) -> Generator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in draws:
        loaded = [images[draw] for draw in batch]
        pixels = torch.stack([image for image, _ in loaded])
        yield pixels.pin_memory() if pin_memory else pixels, torch.tensor([label for _, label in loaded])


def _from_workers(
    pool: Processes,
    places: torch.Tensor,
    draws: DrawSequence,
    pin_memory: bool,
    stopped: Callable[[], bool] | None,
) -> Generator[tuple[torch.Tensor, torch.Tensor]]:
    try:
        jobs = zip(itertools.cycle(range(len(places))), draws, strict=False)
        for place, classes in ordered_map(pool, _load, jobs, len(places) - 1, stopped):
            yield places[place].pin_memory() if pin_memory else places[place].clone(), torch.tensor(classes)
    except BrokenProcessPool as error:
        raise SalonError(
            "a process that loads images died, perhaps for want of memory; `workers` 0 does without such processes"
        ) from error
    finally:
        pool.stop()


_kept: list[tuple[TrainingImages, torch.Tensor]] = []  # in a worker: the images, and where batches go


def _keep(images: TrainingImages, places: torch.Tensor) -> None:
    torch.set_num_threads(1)  # a forked process has none of the threads that OpenMP counts on
    _kept[:] = [(images, places)]


def _load(job: tuple[int, list[Draw]]) -> tuple[int, list[int]]:
    # The place of a batch, and its draws -> the place, and the batch's classes.
    place, batch = job
    images, places = _kept[0]
    classes = []
    for row, draw in zip(places[place], batch, strict=True):
        pixels, label = images[draw]
        row.copy_(pixels)
        classes.append(label)
    return place, classes
