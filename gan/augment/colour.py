"""Colour augmentations as one affine map of RGB values (Karras et al. 2020, ADA, appendix B).

Matrices [N, 4, 4] act on (r, g, b, 1) with values in [-1, 1].
"""

from functools import lru_cache

import torch

from gan.augment.geometry import Size
from gan.augment.random_draws import log_normal, normal, sometimes, uniform

_GREY = 3**-0.5  # each component of the luma axis, the unit vector along r = g = b


def draw_colour(n: int, size: Size, p: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Brightness, contrast, luma flip, hue, saturation, in this order, each with probability p.

    -> which images are chosen [N], matrices [N, 4, 4]
    """
    brightness = sometimes(p, normal(n) * 0.2, 0)
    contrast = sometimes(p, log_normal(n, 0.5), 1)
    flip = sometimes(p, torch.randint(2, [n]).float(), 0)
    hue = sometimes(p, uniform(n) * torch.pi, 0)
    saturation = sometimes(p, log_normal(n, 1), 1)
    chosen = (brightness != 0) | (contrast != 1) | (flip != 0) | (hue != 0) | (saturation != 1)
    matrix = _saturation(saturation) @ _hue(hue) @ _luma_flip(flip) @ _contrast(contrast) @ _brightness(brightness)
    return chosen, matrix


def recolour(img: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Map the colours of [N, C, H, W] by matrices [N, 4, 4]: of grey the mean of the colours; an alpha stays."""
    matrix = matrix.to(img.device, img.dtype)
    if img.shape[1] == 1:
        return recolour(img.expand(-1, 3, -1, -1), matrix).mean(1, keepdim=True)
    if img.shape[1] == 4:
        return torch.cat([recolour(img[:, :3], matrix), img[:, 3:]], dim=1)
    return (matrix[:, :3, :3] @ img.flatten(2) + matrix[:, :3, 3:]).view(img.shape)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is kept must serve training later
def _projections(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    # On the luma axis, on the plane across it, and the cross product with the axis; each [3, 3].
    luma = torch.full([3, 3], 1 / 3, device="cpu", dtype=torch.float32)
    chroma = torch.eye(3, device="cpu", dtype=torch.float32) - luma
    cross = torch.tensor([[0, -_GREY, _GREY], [_GREY, 0, -_GREY], [-_GREY, _GREY, 0]], device="cpu").to(luma)
    return luma.to(device), chroma.to(device), cross.to(device)


def _brightness(offset: torch.Tensor) -> torch.Tensor:
    matrix = torch.eye(4).repeat(len(offset), 1, 1)
    matrix[:, :3, 3] = offset[:, None]
    return matrix


def _contrast(factor: torch.Tensor) -> torch.Tensor:
    return _linear(factor[:, None, None] * torch.eye(3))


def _luma_flip(flip: torch.Tensor) -> torch.Tensor:
    # Reflection in the plane across the luma axis.
    luma, _, _ = _projections(flip.device)
    return _linear(torch.eye(3) - 2 * flip[:, None, None] * luma)


def _hue(angle: torch.Tensor) -> torch.Tensor:
    # Rotation about the luma axis (Rodrigues' formula).
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    luma, chroma, cross = _projections(angle.device)
    return _linear(luma + cos * chroma + sin * cross)


def _saturation(factor: torch.Tensor) -> torch.Tensor:
    luma, chroma, _ = _projections(factor.device)
    return _linear(luma + factor[:, None, None] * chroma)


def _linear(matrix: torch.Tensor) -> torch.Tensor:
    # [N, 3, 3] -> [N, 4, 4]
    affine = torch.eye(4).repeat(len(matrix), 1, 1)
    affine[:, :3, :3] = matrix
    return affine
