"""What is to be found: the picture, the generator that is to show it, and how far images are from it."""

from collections.abc import Callable

import torch

from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.projection.latent_space import LatentSpace, measure

PIXEL_WEIGHT = 1.0  # of the mean squared difference of pixels in [-1, 1]

Distance = Callable[[torch.Tensor], torch.Tensor]  # img [N, C, H, W] -> perceptual distance [N] from an image
Toward = Callable[[torch.Tensor], Distance]  # img [1, C, H, W] -> what measures from it


class Problem:
    """A picture, `target` float32 [1, C, H, W] in [-1, 1], for a generator, of one class where it has classes.

    `toward` gives the perceptual distance from an image. Raises RequestError for a picture of another shape.
    """

    def __init__(
        self,
        G: Generator,
        target: torch.Tensor,
        toward: Toward,
        class_index: int | None = None,
        space: LatentSpace | None = None,
    ) -> None:
        if target.shape != (1, *G.config.shape.chw):
            wanted, got = ([1, *G.config.shape.chw], list(target.shape))
            raise RequestError(f"`target` must be of the generator's shape, {wanted}; got {got} instead")
        self.G, self.target, self.toward, self.class_index = G, target, toward, class_index
        self.space = space or measure(G, class_index)
        self._distance = toward(target)

    def loss(self, img: torch.Tensor) -> torch.Tensor:
        """The loss of an image [1, C, H, W] of the generator's: how far it is from the picture."""
        return image_loss(img, self.target, self._distance)


def image_loss(img: torch.Tensor, target: torch.Tensor, distance: Distance) -> torch.Tensor:
    """The perceptual distance from the target, and the mean squared difference of the pixels, of all channels."""
    return distance(img).sum() + PIXEL_WEIGHT * (img - target).square().mean()
