"""The augmentation pipeline of ADA (Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data").

Every stage draws for each image on its own whether and how it acts, so that a fraction that grows with p is changed
and the others stay as they are, to the bit. All stages differentiate to any order.
"""

from collections.abc import Callable

import torch

from gan.augment.colour import draw_colour, recolour
from gan.augment.corruption import add_noise, cut_out, draw_cutout, draw_filter, draw_noise, filter_bands
from gan.augment.geometry import Size, blit, draw_blit, draw_warp, warp
from gan.config import AUGMENT_CATEGORIES
from gan.image_shape import MODES

# images, their height and width, p -> which images, parameters
Draw = Callable[[int, Size, float | torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Apply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # images, parameters -> images

# In the paper's order (appendix B, figure 20).
STAGES: dict[str, tuple[Draw, Apply]] = {
    "blit": (draw_blit, blit),
    "geom": (draw_warp, warp),
    "color": (draw_colour, recolour),
    "filter": (draw_filter, filter_bands),
    "noise": (draw_noise, add_noise),
    "cutout": (draw_cutout, cut_out),
}


class AugmentPipe:
    """The stages of a preset: one of blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn, bgcfnc."""

    def __init__(self, categories: str = "bgc") -> None:
        if categories not in AUGMENT_CATEGORIES:
            raise ValueError(f"categories must be one of {', '.join(AUGMENT_CATEGORIES)}; got {categories!r} instead")
        self.stages = [STAGES[name] for name in AUGMENT_CATEGORIES[categories]]

    def __call__(self, img: torch.Tensor, p: float | torch.Tensor) -> torch.Tensor:
        """Images, floating [N, C, H, W] in [-1, 1], each transform with probability p -> the same shape.

        p = 0 returns `img` itself and draws nothing. Values may leave [-1, 1]. Random numbers are the CPU's, and only
        the images that are chosen are computed.
        """
        p = float(p)
        if not 0 <= p <= 1:
            raise ValueError(f"p must be in [0, 1]; got {p} instead")
        _require_images(img)
        if p == 0:
            return img
        for draw, apply in self.stages:
            img = _on_chosen(img, apply, *draw(len(img), _size(img), p))
        return img

    def on_device(self, img: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """The same with p, a scalar on the images' device, and random numbers of that device, where nothing waits.

        All images are computed, whatever p.
        """
        _require_images(img)
        for draw, apply in self.stages:
            with img.device:
                chosen, parameters = draw(len(img), _size(img), p)
            img = torch.where(chosen[:, None, None, None], apply(img, parameters), img)
        return img


def _require_images(img: torch.Tensor) -> None:
    if img.ndim != 4 or img.shape[1] not in MODES or min(img.shape[2:]) < 2:
        raise ValueError(f"img must be images [N, C, H, W] of 1, 3 or 4 channels; got {tuple(img.shape)} instead")


def _size(img: torch.Tensor) -> Size:
    return img.shape[2], img.shape[3]


def _on_chosen(img: torch.Tensor, apply: Apply, chosen: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    index = chosen.nonzero().squeeze(1)
    if len(index) == 0:
        return img
    if len(index) == len(img):
        return apply(img, parameters)
    there = index.to(img.device)
    return img.index_copy(0, there, apply(img.index_select(0, there), parameters[index]))
