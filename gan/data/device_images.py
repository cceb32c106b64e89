"""A dataset's pixels on the training's device: decoded once, uploaded once, drawn from there as the loader would."""

import itertools
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from gan.data.loader import DrawSequence, TrainingImages
from gan.device.memory import free_memory
from gan.device.selection import cores
from gan.errors import RequestError
from gan.runtime.console import progress
from gan.runtime.parallel import ordered_map

SHARE = 0.25  # of the free memory that pixels may take with "auto"; networks, gradients and features need the rest
_AT_ONCE = 64  # images decoded before they are uploaded together


def wanted(choice: str, count: int, nbytes: int, device: torch.device) -> bool:
    """Whether the pixels of `count` images of `nbytes` bytes shall lie on the device.

    "yes", "no", or "auto": on a GPU where they take at most SHARE of its free memory; on a CPU never.
    Raises RequestError when they do not fit and "yes" was asked for.
    """
    if choice == "no" or (choice == "auto" and device.type == "cpu"):
        return False
    needed, free = count * nbytes, free_memory(device)
    if choice == "yes" and needed > free:
        raise RequestError(
            f"`data_on_device` yes needs {needed / 1e9:.1f} GB for the pixels of {count} images; {free / 1e9:.1f} GB "
            "are free there: choose auto or no"
        )
    return choice == "yes" or needed <= SHARE * free


class DeviceImages:
    """Images of a dataset on a device: pixels uint8 [K, C, H, W] and classes int64 [K] of the images `indices` [K]."""

    def __init__(self, pixels: torch.Tensor, classes: torch.Tensor, indices: NDArray[np.int64]) -> None:
        self.pixels, self.classes = pixels, classes
        self._row = np.full(indices.max() + 1, -1, np.int64)  # of each image of the dataset
        self._row[indices] = np.arange(len(indices))

    @classmethod
    def upload(cls, images: TrainingImages, indices: NDArray[np.int64], device: torch.device) -> "DeviceImages":
        """Decode the images `indices`, a few at a time. Raises ImageError for an image that cannot be read."""
        pixels = torch.empty([len(indices), *images.dataset.shape.chw], dtype=torch.uint8, device=device)
        draws, classes = [(index, False) for index in indices.tolist()], []
        with ThreadPoolExecutor(cores()) as pool:
            decoded = iter(progress(ordered_map(pool, images.__getitem__, draws), "Decoding images", len(draws)))
            for start in range(0, len(draws), _AT_ONCE):
                chunk = list(itertools.islice(decoded, _AT_ONCE))
                pixels[start : start + len(chunk)] = torch.stack([image for image, _ in chunk]).to(device)
                classes += [label for _, label in chunk]
        return cls(pixels, torch.tensor(classes, device=device), indices)

    def batches(self, draws: DrawSequence) -> Generator[tuple[torch.Tensor, torch.Tensor]]:
        """Endless batches (pixels uint8 [n, C, H, W], classes int64 [n]), as gan.data.loader.batches gives them.

        Nothing waits for the device: an index of a draw is all that travels.
        """
        for batch in draws:
            chosen = torch.tensor([[self._row[index], flip] for index, flip in batch])  # int64 [n, 2]
            if self.pixels.is_cuda:
                chosen = chosen.pin_memory().to(self.pixels.device, non_blocking=True)
            rows, flips = chosen.unbind(dim=1)
            pixels = self.pixels.index_select(0, rows)
            if draws.mirror:
                pixels = torch.where(flips.bool().view(-1, 1, 1, 1), pixels.flip(3), pixels)
            yield pixels, self.classes.index_select(0, rows)
