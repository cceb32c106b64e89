"""Microbatches: the global batch split over processes, and on each over forward passes. Gradients do not depend on it.

Images that D compares with one another (minibatch_stddev) are never parted: each process takes whole groups.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan.config import TrainingConfig
from gan.errors import RequestError
from gan.runtime import distributed


@dataclass(frozen=True)
class Microbatch:
    """The images of one forward pass."""

    positions: NDArray[np.int64]  # in the global batch, [n]
    local: slice  # the same images among those of this process
    total: int  # images of the global batch

    @property
    def weight(self) -> float:
        """Means over microbatches, weighted so, add up to the mean over the batch."""
        return len(self.positions) / self.total


def divide(count: int, *, group: int = 1, largest: int | None = None) -> list[Microbatch]:
    """This process's microbatches of `count` images, each of at most `largest` (None: one for all).

    Images that lie count // group apart stay together.
    """
    groups = np.arange(count).reshape(group, -1)  # a column is a group, as in minibatch_stddev
    mine = np.array_split(groups, distributed.world_size(), axis=1)[distributed.rank()]
    passes = 1 if largest is None else math.ceil(mine.size / largest)
    microbatches, start = [], 0
    for part in np.array_split(mine, passes, axis=1):
        positions = part.reshape(-1)
        microbatches.append(Microbatch(positions, slice(start, start + len(positions)), count))
        start += len(positions)
    return microbatches


def of_batch(config: TrainingConfig, batch_gpu: int | None) -> list[Microbatch]:
    """This process's microbatches of an iteration's batch. Raises RequestError when it cannot be divided evenly."""
    processes = distributed.world_size()
    group = config.network.group_size(config.batch_size)
    if config.batch_size % (processes * group):
        raise RequestError(
            f"`batch_size` must be a multiple of {processes * group} ({processes} processes, each with whole groups "
            f"of mbstd_group_size {group}); got {config.batch_size} instead"
        )
    if batch_gpu is not None and (batch_gpu < 1 or batch_gpu % group):
        raise RequestError(f"`batch_gpu` must be a multiple of mbstd_group_size, {group}; got {batch_gpu} instead")
    if config.pl_weight and config.batch_size // config.pl_batch_shrink < processes > 1:
        raise RequestError(
            f"`pl_batch_shrink` must leave an image to each of {processes} processes; got {config.pl_batch_shrink}"
        )
    return divide(config.batch_size, group=group, largest=batch_gpu)


def of_path_lengths(config: TrainingConfig, batch_gpu: int | None) -> list[Microbatch]:
    """This process's microbatches of the smaller batch of a path length step."""
    count = max(config.batch_size // config.pl_batch_shrink, 1)
    largest = None if batch_gpu is None else max(batch_gpu // config.pl_batch_shrink, 1)
    return divide(count, largest=largest)
