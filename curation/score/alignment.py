"""Whether one picture lies in another: the details of the two, laid over each other at the best place and scale.

`details` are float32 [SIDE, SIDE]: what is finer than a smooth image, so that two paintings of one composition differ.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from gan.data.images import Pixels

Floats = NDArray[np.float32]

SIDE = 64  # px
SMALLEST = 48  # px: a crop shows three quarters of each side at least
SMOOTH = 4.0  # px, standard deviation of the smooth image
RIM = 2  # px that are left out at the edges of a crop


def details(pixels: Pixels) -> Floats:
    """uint8 [H, W, 3] -> details."""
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    return np.asarray(grey - ndimage.gaussian_filter(grey, SMOOTH, mode="nearest"), np.float32)


def oriented(image: Floats, orientation: int) -> Floats:
    """One of eight orientations of [N, N]: 4 transposes, then 1 mirrors and 2 turns upside down; their sums do both."""
    if orientation & 4:
        image = image.T
    return image[:: -1 if orientation & 2 else 1, :: -1 if orientation & 1 else 1]


def aligned(a: Floats, b: Floats) -> float:
    """The largest correlation, -1 to 1, of two images' details, one of them as the other or a crop of it."""
    return max(_best_crop(a, b), _best_crop(b, a))


def _best_crop(whole: Floats, crop: Floats) -> float:
    # Lewis 1995, "Fast normalized cross-correlation", equation 2, for the crop at every place and scale.
    spectrum = fft.rfft2(whole)
    sums, squares = (np.pad(x, ((1, 0), (1, 0))).cumsum(0).cumsum(1) for x in (whole.astype(np.float64), whole**2.0))
    best = -1.0
    image = Image.fromarray(np.ascontiguousarray(crop))
    for side in range(SMALLEST, SIDE + 1):
        scaled = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))[RIM:-RIM, RIM:-RIM]
        template = scaled - scaled.mean()
        n = len(template)
        products = fft.irfft2(spectrum * fft.rfft2(template, whole.shape).conj(), whole.shape)
        places = slice(0, SIDE - n + 1)
        variance = _boxes(squares, n) - _boxes(sums, n) ** 2 / n**2
        scale = np.sqrt(np.maximum(variance * np.square(template, dtype=np.float64).sum(), 1e-3))
        best = max(best, float((products[places, places] / scale).max()))
    return best


def _boxes(sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    # Sums over all boxes of n x n, of the sums over all boxes that begin at the corner.
    return sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]
