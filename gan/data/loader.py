"""The endless stream of real images. Its order depends on the seed and the position alone, so it resumes exactly."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from gan.data.dataset import ImageDataset

Draw = tuple[int, bool]  # index in the dataset, flipped or not
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
        pixels = self.dataset.pixels(index) if self.cache is None else self.cache[index]
        return torch.from_numpy(np.array(pixels[:, :, ::-1] if flip else pixels)), self.dataset.label(index)


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
            prefetch_factor=4 if workers else None,
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
