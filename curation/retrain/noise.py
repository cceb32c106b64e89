"""What a generator must beat to have learned anything: noise with the colours and the spectrum of training images."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from curation.retrain.splits import Indices
from gan.data.dataset import ImageDataset
from gan.data.images import Pixels

NOISE = "noise"  # folder of its evaluation


class NoiseSource:
    """Random phase noise (Galerne, Gousseau & Morel 2011): image i is a training image, drawn by seed and i, with the
    phases of white noise. Its mean colour, its spectrum and how its channels go together stay; no shape does.

    A source of images as eval.data.image_sources.Source. `indices` are of the images to draw from.
    """

    name = NOISE

    def __init__(self, dataset: ImageDataset, indices: Indices, count: int, *, seed: int, drawn_from: str) -> None:
        self._dataset, self._indices, self._count, self._seed = dataset, indices, count, seed
        self.identity: dict[str, Any] = {"kind": "random phase noise", "drawn_from": drawn_from, "seed": seed}

    def __len__(self) -> int:
        return self._count

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end, uint8 [H, W, C]."""
        for index in range(first, end):
            rng = np.random.default_rng([self._seed, index])
            yield random_phases(self._dataset.pixels(int(rng.choice(self._indices))), rng).transpose(1, 2, 0)

    def format(self, index: int) -> str:
        """Never a file's."""
        return "array"

    def label(self, index: int) -> str | None:
        """Unknown."""
        return None


def random_phases(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """uint8 [C, H, W] -> the same shape, with phases of white noise added, to all channels alike.

    Values beyond the range of uint8 are clipped.
    """
    spectrum = np.fft.rfft2(pixels.astype(np.float64))
    white = np.fft.rfft2(rng.normal(size=pixels.shape[1:]))
    phases = white / np.abs(white)
    phases[0, 0] = 1  # the mean stays
    noise: Pixels = np.fft.irfft2(spectrum * phases, pixels.shape[1:]).round().clip(0, 255).astype(np.uint8)
    return noise
