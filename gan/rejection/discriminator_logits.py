"""Discriminator logits that depend on the image alone, not on the batch that it is in.

Minibatch standard deviation lets the other images of a group bear on a logit (Karras et al. 2018, section 3). Alone, an
image has a deviation of zero, which no group in training ever had; so each image takes one place in several groups
of fixed generated images instead, and gets the mean of its logits. The groups' features are computed once, and only
D's epilogue is computed anew for each image.

On a CPU images go through D one by one, since a convolution rounds differently in another batch. A GPU takes a batch at
a time, always of one size: the last one is filled up.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from gan.data.images import Pixels, to_float
from gan.device.determinism import deterministic
from gan.device.memory import Download, fitting, upload
from gan.errors import RequestError, SalonError
from gan.networks.discriminator import Discriminator
from gan.networks.labels import one_hot
from gan.rejection.algorithms import Array

GROUPS = 4
BATCH = 64  # images that a GPU takes at a time, where its memory is large enough


class DiscriminatorLogits:
    """Logits of images under a discriminator.

    `references` are count_references(D) images, uint8 [H, W, C] each, and `classes` theirs where D knows classes.
    """

    def __init__(self, D: Discriminator, references: Sequence[Pixels], classes: Sequence[int] | None = None) -> None:
        self._D, self._device = D, next(D.parameters()).device
        if len(references) != (needed := count_references(D)):
            raise ValueError(f"references must be {needed} images; got {len(references)} instead")
        self.batch_size = 1 if self._device.type == "cpu" else fitting(BATCH, lambda n: n * _needed(D), self._device)
        self._groups = 1 if D.scoring_group_size == 1 else GROUPS
        self._references: torch.Tensor | None = None  # [images of a group but one, groups, channels, 4, 4]
        self._classes: torch.Tensor | None = None  # [images of a group but one, groups, classes]
        if D.scoring_group_size > 1:
            c = self._one_hot(classes)
            features = torch.cat([self._features(part)[: len(part)] for part in self._batches(references)])
            self._references = features.reshape(-1, GROUPS, *features.shape[1:])
            self._classes = None if c is None else c.reshape(-1, GROUPS, *c.shape[1:])

    def __call__(self, pixels: Iterable[Pixels], classes: Sequence[int] | None = None) -> Array:
        """Images, uint8 [H, W, C] each -> float64 [N]. Raises SalonError when a logit is not finite."""
        return self.start(pixels, classes).result()

    def start(self, pixels: Iterable[Pixels], classes: Sequence[int] | None = None) -> "Logits":
        """The same; on a GPU it is only started, and result() of what this gives waits for it, once."""
        c, logits, count = self._one_hot(classes), [], 0
        for batch in self._batches(pixels):
            own = None if c is None else c[count : count + len(batch)]
            logits.append(self._logits(batch, own))
            count += len(batch)
        with torch.inference_mode():
            return Logits(Download(torch.cat(logits) if logits else torch.empty([0], dtype=torch.float64)))

    def _batches(self, pixels: Iterable[Pixels]) -> Iterator[NDArray[np.uint8]]:
        images = iter(pixels)
        while batch := list(islice(images, self.batch_size)):
            yield np.stack(batch)

    def _logits(self, pixels: NDArray[np.uint8], c: torch.Tensor | None) -> torch.Tensor:
        # [n, H, W, C], and c [n, classes] of these images -> logits, float64 [n], on D's device.
        with torch.inference_mode(), deterministic():
            mine = self._features(pixels)
            group = self._grouped(mine, self._references)
            if c is not None:
                c = self._grouped(c[torch.arange(len(mine), device=c.device) % len(c)], self._classes)
            # The images of a group stand `batch_size * groups` apart, so that the first logits are of these images.
            logits = self._D.logits(group, c, group_size=self._D.scoring_group_size)[: len(mine) * self._groups]
            return logits.double().view(-1, self._groups).mean(dim=1)[: len(pixels)]

    def _grouped(self, mine: torch.Tensor, references: torch.Tensor | None) -> torch.Tensor:
        # Of each image [batch, ...] as often as there are groups, and the references [others, groups, ...] for each.
        copies = mine.repeat_interleave(self._groups, dim=0)
        if references is None:
            return copies
        others = references[:, None].expand(-1, len(mine), *references.shape[1:])
        return torch.cat([copies, others.reshape(-1, *mine.shape[1:])])

    def _features(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        # [n, H, W, C] -> [batch, channels, *grid], of which those from n on are of no image.
        with torch.inference_mode(), deterministic():
            filled = np.resize(pixels, [self.batch_size, *pixels.shape[1:]])
            img = to_float(upload(torch.from_numpy(filled), self._device)).permute(0, 3, 1, 2)  # NHWC -> NCHW
            return self._D.features(img)

    def _one_hot(self, classes: Sequence[int] | None) -> torch.Tensor | None:
        number = self._D.config.num_classes
        if not number:
            return None
        if classes is None:
            raise RequestError(f"`classes` must be given: the discriminator knows {number}")
        return one_hot(classes, number, self._device)


class Logits:
    """Logits on their way from where they are computed."""

    def __init__(self, logits: Download) -> None:
        self._logits = logits

    def result(self) -> Array:
        """What DiscriminatorLogits gives."""
        array: Array = self._logits.result().numpy()
        if not np.isfinite(array).all():
            raise SalonError("the discriminator gives logits that are not finite; take another snapshot")
        return array


def count_references(D: Discriminator) -> int:
    """Images that complete the groups."""
    return (D.scoring_group_size - 1) * GROUPS


def _needed(D: Discriminator) -> int:
    # Bytes for an image: eight features of the first block, in float32.
    config = D.config
    return 8 * 4 * config.channels(config.resolution) * config.shape.area
