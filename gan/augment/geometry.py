"""Augmentations that move pixels: blitting and geometric transforms (Karras et al. 2020, ADA, appendix B).

Locations are (x, y) in pixels from the image's centre. Matrices [N, 3, 3] map a location of the result to the location
of the source that it shows, so the transform that is applied first stands leftmost. Images continue by reflection.
"""

from functools import lru_cache

import torch

from gan.augment.random_draws import log_normal, normal, sometimes, uniform
from gan.ops.sample2d import sample2d

# Low-pass filter of the symlet with six vanishing moments: orthonormal, sum sqrt(2) (Daubechies 1992, table 8.3).
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
Size = tuple[int, int]  # height and width of images, in pixels
_CENTROID = sum(k * tap for k, tap in enumerate(SYM6)) / sum(SYM6)  # where the filter's output lies, in taps
SHIFT = 0.125  # translations, as a share of the image


def draw_blit(n: int, size: Size, p: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal flip, quarter turns, whole-pixel translation, each with probability p -> which images, matrices.

    Images that are not square are turned by halves: a quarter turn would show what lies outside of them.
    """
    flip = sometimes(p, torch.randint(2, [n]).float(), 0)
    quarters = torch.randint(4, [n]).float()
    turns = sometimes(p, quarters if size[0] == size[1] else 2 * (quarters // 2), 0)
    shift = sometimes(p, _shift(uniform(n, 2), size).round(), 0)
    matrix = _scale(1 - 2 * flip, torch.ones(n)) @ _rotate(turns * (torch.pi / 2)).round() @ _translate(-shift)
    return _moves(matrix), matrix


def blit(img: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Rearrange the pixels of [N, C, H, W] by matrices that map pixels to pixels; copies values, exactly."""
    height, width = img.shape[2:]
    rows, columns = (torch.arange(side, device=img.device) for side in (height, width))
    at = _source(matrix.to(img.device), rows, columns, (height, width)).round().long()  # [N, H, W, 2]
    index = (at[..., 1] * width + at[..., 0]).flatten(1)  # [N, H*W]
    return img.flatten(2).gather(2, index[:, None].expand(-1, img.shape[1], -1)).view(img.shape)


def draw_warp(n: int, size: Size, p: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale, rotation before and after stretching, stretching, translation -> which images are chosen, matrices."""
    # Two rotations, each with this probability, rotate an image with probability p.
    p_rotate = 1 - (1 - p) ** 0.5
    scale = sometimes(p, log_normal(n, 0.2), 1)
    before = sometimes(p_rotate, uniform(n) * torch.pi, 0)
    stretch = sometimes(p, log_normal(n, 0.2), 1)
    after = sometimes(p_rotate, uniform(n) * torch.pi, 0)
    shift = sometimes(p, _shift(normal(n, 2), size), 0)
    matrix = _scale(1 / scale, 1 / scale) @ _rotate(-before) @ _scale(1 / stretch, stretch) @ _rotate(-after)
    matrix = matrix @ _translate(-shift)
    return _moves(matrix), matrix


def warp(img: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Resample [N, C, H, W] by affine matrices: to twice the size, bilinear sampling there, and back.

    The filters are each other's adjoint and orthonormal, so that without a transform in between nothing is blurred.
    """
    height, width = img.shape[2:]
    (up, down), (up_across, down_across) = (_resampling(side, img.device, img.dtype) for side in (height, width))
    # Sample j of the doubled image lies at pixel (j - centroid) / 2.
    rows, columns = ((torch.arange(len(one), device=img.device) - _CENTROID) / 2 for one in (up, up_across))
    at = _source(matrix.to(img.device), rows, columns, (height, width)) * 2 + _CENTROID
    return down @ sample2d(up @ img @ up_across.mT, at) @ down_across.mT


def reflect(index: torch.Tensor, size: int) -> torch.Tensor:
    """Fold indices of any sign into [0, size - 1] as if mirrors stood on the outermost pixels."""
    period = 2 * (size - 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is kept must serve training later
def _resampling(size: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    # -> up [2*size + taps - 2, size], which doubles a reflected signal, and down, which halves one that is so long.
    taps, count = len(SYM6), 2 * size + len(SYM6) - 2
    down = torch.zeros(size, count, dtype=torch.float64)
    up = torch.zeros(count, size, dtype=torch.float64)
    for k, tap in enumerate(SYM6):
        rows = torch.arange(size)
        down[rows, 2 * rows + k] = tap / 2**0.5
        pixels = torch.arange(-taps, size + taps)
        rows, columns = 2 * pixels + k, reflect(pixels, size)
        inside = (rows >= 0) & (rows < count)
        up.index_put_((rows.clamp(0, count - 1), columns), inside.double() * (tap * 2**0.5), accumulate=True)
    return up.to(device, dtype), down.to(device, dtype)


def _source(matrix: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, size: Size) -> torch.Tensor:
    # The pixels (x, y) that pixels at [R] rows and [K] columns show, reflected into the image -> [N, R, K, 2].
    height, width = size
    x, y = columns[None, None, :] - (width - 1) / 2, rows[None, :, None] - (height - 1) / 2
    a, b, t = matrix[:, :2, :, None, None].unbind(2)  # [N, 2, 1, 1] each
    there = (a * x + b * y + t).unbind(1)  # [N, R, K] each
    return torch.stack(
        [reflect(at + (side - 1) / 2, side) for at, side in zip(there, (width, height), strict=True)], -1
    )


def _shift(draws: torch.Tensor, size: Size) -> torch.Tensor:
    # Draws [N, 2] -> translations (x, y) in pixels.
    across, down = draws.unbind(1)
    return torch.stack([across * (SHIFT * size[1]), down * (SHIFT * size[0])], dim=1)


def _translate(shift: torch.Tensor) -> torch.Tensor:
    matrix = torch.eye(3).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = shift
    return matrix


def _scale(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.stack([x, y, torch.ones_like(x)], dim=1).diag_embed()


def _rotate(angle: torch.Tensor) -> torch.Tensor:
    matrix = torch.eye(3).repeat(len(angle), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0] = angle.sin()
    matrix[:, 0, 1] = -angle.sin()
    return matrix


def _moves(matrix: torch.Tensor) -> torch.Tensor:
    return (matrix != torch.eye(3)).flatten(1).any(1)
