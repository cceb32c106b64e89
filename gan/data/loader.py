"""The endless stream of real images. Its order depends on the seed and the position alone, so it resumes exactly."""

import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from gan.data.dataset import ImageDataset
from gan.device.selection import cores

Draw = tuple[int, bool]  # index in the dataset, flipped or not
MAX_WORKERS = 16  # a core decodes some hundred JPEGs of 256 pixels a second: these feed any GPU of today
_AHEAD = 4  # batches that each worker makes ahead
_MAX_BYTES_AHEAD = 2 << 30  # of all workers together, in shared and pinned memory
_SHARED_MEMORY = Path("/dev/shm")  # through which workers hand batches over; small in many containers
_SET_PARENT_DEATH_SIGNAL = 1  # of Linux's prctl


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


class TrainingImages(Dataset[tuple[torch.Tensor, int]]):
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

    One core is left to the training; at most MAX_WORKERS, and no more than fit into shared memory with their batches of
    `batch_nbytes` bytes. `processes` train on this machine and share the cores.
    """
    if device.type == "cpu":
        return 1
    most = _MAX_BYTES_AHEAD
    if _SHARED_MEMORY.is_dir():
        most = min(most, shutil.disk_usage(_SHARED_MEMORY).free // 2)
    fitting = most // processes // (_AHEAD * batch_nbytes)
    return max(1, min(cores() // processes - 1, MAX_WORKERS, fitting))


def batches(
    images: TrainingImages, draws: DrawSequence, *, workers: int, pin_memory: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches (pixels uint8 [N, 3, H, W], classes int64 [N]), made ahead by `workers` processes (0: none)."""
    with warnings.catch_warnings():  # torch warns of more workers than cores, which is the user's choice
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader = DataLoader(
            images,
            batch_sampler=draws,
            num_workers=workers,
            pin_memory=pin_memory,
            prefetch_factor=_AHEAD if workers else None,
            worker_init_fn=_follow_parent,
            generator=torch.Generator(),  # the default would draw from the training's generator
        )
        return iter(loader)


def _follow_parent(_worker: int) -> None:
    # Ctrl-C reaches the whole process group; the main process finishes its iteration and then ends the workers.
    # When it is killed nobody else would end them.
    import ctypes
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
