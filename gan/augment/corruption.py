"""Image-space filtering, noise and cutout (Karras et al. 2020, ADA, appendix B)."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from gan.augment.geometry import Size, reflect
from gan.augment.random_draws import log_normal, normal, sometimes

Taps = NDArray[np.float64]

# Low-pass filter of the symlet with two vanishing moments: orthonormal, sum sqrt(2).
SYM2 = tuple((a + b * 3**0.5) / (4 * 2**0.5) for a, b in ((1, -1), (3, -1), (3, 1), (1, 1)))
# Expected share of a natural image's power in each band, [0, pi/8], [pi/8, pi/4], [pi/4, pi/2], [pi/2, pi].
POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)
CUTOUT = 0.5  # sides of the rectangle that is cut out, as a share of the image's


def draw_filter(n: int, size: Size, p: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Amplify each of four octave bands with probability p, keeping the power -> which images, gains [N, 4]."""
    gains = torch.ones(n, len(POWER))
    for band in range(len(POWER)):
        factors = torch.ones(n, len(POWER))
        factors[:, band] = sometimes(p, log_normal(n, 1), 1)
        power = (factors.square() * _power(factors.device)).sum(1, keepdim=True)
        gains = torch.where(factors[:, band, None] == 1, gains, gains * factors / power.sqrt())
    return (gains != 1).any(1), gains


def filter_bands(img: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """Filter [N, C, H, W] along both axes with the sum of the bands' filters by their gains [N, 4]."""
    gains = gains.to(img.device, img.dtype)
    down, across = (
        torch.einsum("nb,bij->nij", gains, _band_matrices(side, img.device, img.dtype))[:, None]  # [N, 1, side, side]
        for side in img.shape[2:]
    )
    return down @ img @ across.mT


def draw_noise(n: int, size: Size, p: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """With probability p, noise -> which images, its standard deviation [N]."""
    sigma = sometimes(p, normal(n).abs() * 0.1, 0)
    return sigma != 0, sigma


def add_noise(img: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Add white Gaussian noise of standard deviation [N]."""
    return img + torch.randn_like(img) * sigma.to(img.device, img.dtype)[:, None, None, None]


def draw_cutout(n: int, size: Size, p: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """With probability p, a rectangle at a random place -> which images, the centres [N, 2] in [0, 1)."""
    centre = torch.rand(n, 2)
    return sometimes(p, torch.ones(n), 0) != 0, centre


def cut_out(img: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Zero rectangles around centres [N, 2] (x, y), as shares of the image's sides, as far as they lie in it."""
    y, x = (
        ((torch.arange(size, device=img.device) + 0.5) / size - middle[:, None]).abs() < CUTOUT / 2  # [N, size]
        for size, middle in zip(img.shape[2:], centre.to(img.device).flip(1).unbind(1), strict=True)
    )
    return img.masked_fill((y[:, :, None] & x[:, None, :])[:, None], 0)


def octave_filters() -> Taps:
    """Symmetric filters [4, taps] of the octave bands, lowest first; their sum is the identity."""
    # Half-band filters whose responses sum to one: |H(w)|^2 / 2 and |H(w + pi)|^2 / 2 of the symlet H.
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    high = low * (-1.0) ** (np.arange(len(low)) - len(low) // 2)
    bands: list[Taps] = []
    rest: Taps = np.ones(1)
    for level in range(len(POWER) - 1):
        bands.insert(0, np.convolve(rest, _spread(high, 2**level)))
        rest = np.convolve(rest, _spread(low, 2**level))
    bands.insert(0, rest)
    return np.stack([np.pad(band, (len(rest) - len(band)) // 2) for band in bands])


def _spread(taps: Taps, step: int) -> Taps:
    # step - 1 zeros between taps: the same response at a frequency `step` times lower
    wide = np.zeros((len(taps) - 1) * step + 1)
    wide[::step] = taps
    return wide


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is kept must serve training later
def _power(device: torch.device) -> torch.Tensor:
    return torch.tensor(POWER, device="cpu").to(device)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _band_matrices(size: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    # [4, size, size]: each band's filter applied to a reflected signal
    filters = torch.from_numpy(octave_filters())
    taps = filters.shape[1]
    matrices = filters.new_zeros([len(filters), size, size])
    rows = torch.arange(size)
    for k in range(taps):
        columns = reflect(rows + k - taps // 2, size)
        matrices[:, rows, columns] += filters[:, k, None]
    return matrices.to(device, dtype)
