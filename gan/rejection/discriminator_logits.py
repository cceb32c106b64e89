"""Discriminator logits that depend on the image alone, not on the batch that it is in.

Minibatch standard deviation lets the other images of a group bear on a logit (Karras et al. 2018, section 3). Alone, an
image has a deviation of zero, which no group in training ever had; so each image takes one place in several groups
of fixed generated images instead, and gets the mean of its logits. The groups' features are computed once, and only
D's epilogue is computed anew for each image.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gan.data.images import Pixels, to_float
from gan.device.determinism import deterministic
from gan.device.memory import upload
from gan.errors import RequestError, SalonError
from gan.networks.discriminator import Discriminator
from gan.networks.labels import one_hot
from gan.rejection.algorithms import Array

GROUPS = 4


class DiscriminatorLogits:
    """Logits of images under a discriminator.

    `references` are count_references(D) images, uint8 [H, W, 3] each, and `classes` theirs where D knows classes.
    """

    def __init__(self, D: Discriminator, references: Sequence[Pixels], classes: Sequence[int] | None = None) -> None:
        self._D, self._device = D, next(D.parameters()).device
        if len(references) != (needed := count_references(D)):
            raise ValueError(f"references must be {needed} images; got {len(references)} instead")
        if D.b4.group_size == 1:
            self._groups, self._classes = 1, None
            self._references = torch.empty([0, 1, 1, 1], device=self._device)
            return
        self._groups = GROUPS
        self._classes = self._one_hot(classes)
        self._references = torch.cat([self._features(image[None]) for image in references])

    def __call__(self, pixels: Iterable[Pixels], classes: Sequence[int] | None = None) -> Array:
        """Images, uint8 [H, W, 3] each -> float64 [N]. Raises SalonError when a logit is not finite."""
        c = self._one_hot(classes)
        with torch.inference_mode(), deterministic():
            logits = [self._logit(image, None if c is None else c[i]) for i, image in enumerate(pixels)]
        # Waited for once, and not for each image.
        array: NDArray[np.float64] = torch.stack(logits).cpu().numpy() if logits else np.empty(0)
        if not np.isfinite(array).all():
            raise SalonError("the discriminator gives logits that are not finite; take another snapshot")
        return array

    def _logit(self, image: Pixels, c: torch.Tensor | None) -> torch.Tensor:
        # -> the logit, float64, on D's device. Images one by one: a convolution rounds differently in another batch.
        mine = self._features(image[None])  # [1, channels, 4, 4]
        group = torch.cat([mine.expand(self._groups, -1, -1, -1), self._references.reshape(-1, *mine.shape[1:])])
        if c is not None:
            others = c.new_empty([0, len(c)]) if self._classes is None else self._classes
            c = torch.cat([c.expand(self._groups, -1), others])
        # The images of a group stand `groups` apart, so that the first `groups` logits are the image's.
        return self._D.logits(group, c)[: self._groups].double().mean()

    def _features(self, image: Pixels) -> torch.Tensor:
        with torch.inference_mode(), deterministic():
            img = to_float(upload(torch.from_numpy(np.array(image)), self._device)).permute(0, 3, 1, 2)  # NHWC -> NCHW
            return self._D.features(img)

    def _one_hot(self, classes: Sequence[int] | None) -> torch.Tensor | None:
        number = self._D.config.num_classes
        if not number:
            return None
        if classes is None:
            raise RequestError(f"`classes` must be given: the discriminator knows {number}")
        return one_hot(classes, number, self._device)


def count_references(D: Discriminator) -> int:
    """Images that complete the groups."""
    return (D.b4.group_size - 1) * GROUPS
