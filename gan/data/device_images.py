"""A dataset's pixels on the training's device: decoded once, uploaded once, drawn from there as the loader would."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from gan.data.loader import DrawSequence, TrainingImages
from gan.device import cores, free_memory
from gan.errors import RequestError
from gan.runtime.console import progress
from gan.runtime.parallel import ordered_map

SHARE = 0.25  # of the free memory that pixels may take with "auto"; networks, gradients and features need the rest
_AT_ONCE = 64  # images decoded before they are uploaded together


def wanted(choice: str, count: int, resolution: int, device: torch.device) -> bool:
    """Whether the pixels of `count` images shall lie on the device.

    "yes", "no", or "auto": on a GPU where they take at most SHARE of its free memory; on a CPU never.
    Raises RequestError when they do not fit and "yes" was asked for.
    """
    if choice == "no" or (choice == "auto" and device.type == "cpu"):
        return False
    needed, free = count * 3 * resolution**2, free_memory(device)
    if choice == "yes" and needed > free:
        raise RequestError(
            f"`data_on_device` yes needs {needed / 1e9:.1f} GB for the pixels of {count} images; {free / 1e9:.1f} GB "
            "are free there: choose auto or no"
        )
    return choice == "yes" or needed <= SHARE * free


class DeviceImages:
    """The images `indices` of a dataset, uint8 [K, 3, H, W], and their classes, int64 [K], on a device.

    Raises ImageError for an image that cannot be read.
    """

    def __init__(self, images: TrainingImages, indices: NDArray[np.int64], device: torch.device) -> None:
        self.device = device
        side = images.dataset.resolution
        self.pixels = torch.empty([len(indices), 3, side, side], dtype=torch.uint8, device=device)
        self.classes = torch.tensor([images.dataset.label(index) for index in indices.tolist()], device=device)
        self._row = np.full(len(images.dataset), -1, np.int64)  # of each image of the dataset
        self._row[indices] = np.arange(len(indices))
        draws = [(index, False) for index in indices.tolist()]
        with ThreadPoolExecutor(cores()) as pool:
            decoded = progress(ordered_map(pool, images.__getitem__, draws), "Decoding images", len(draws))
            chunk: list[torch.Tensor] = []
            for row, (pixels, _) in enumerate(decoded, 1):
                chunk.append(pixels)
                if len(chunk) == _AT_ONCE or row == len(draws):
                    self.pixels[row - len(chunk) : row] = torch.stack(chunk).to(device)
                    chunk = []

    def batches(self, draws: DrawSequence) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Endless batches (pixels uint8 [n, 3, H, W], classes int64 [n]), as gan.data.loader.batches gives them.

        Nothing waits for the device: an index of a draw is all that travels.
        """
        for batch in draws:
            chosen = torch.tensor([[self._row[index], flip] for index, flip in batch])  # int64 [n, 2]
            if self.device.type == "cuda":
                chosen = chosen.pin_memory().to(self.device, non_blocking=True)
            rows, flips = chosen.unbind(dim=1)
            pixels = self.pixels.index_select(0, rows)
            if draws.mirror:
                pixels = torch.where(flips.bool()[:, None, None, None], pixels.flip(3), pixels)
            yield pixels, self.classes.index_select(0, rows)
