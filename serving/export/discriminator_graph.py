"""The discriminator as a module that exports to ONNX, each image by itself, as in gan.rejection.discriminator_logits.

The groups of reference images that complete an image's own are constants of the graph: their features, for each class.

Axis legend: features [N, C, h, w], h = w = 4 of square images; G groups; M members of a group besides the image;
K classes, one where there are none.
"""

from collections.abc import Iterable

import torch
from torch import nn

from gan.data.images import Pixels, to_float
from gan.networks.discriminator import Discriminator
from gan.rejection.discriminator_logits import GROUPS, count_references


class LogitOfImage(nn.Module):
    """image uint8 [N, H, W, channels], label int64 [N, 1] where D knows classes -> logit float32 [N, 1].

    `references` are, for each of the K classes, count_references(D) images, uint8 [H, W, channels] each.
    """

    references: torch.Tensor
    one_hot: torch.Tensor

    def __init__(self, D: Discriminator, references: Iterable[Iterable[Pixels]]) -> None:
        super().__init__()
        self.D = D
        self.groups = GROUPS if D.scoring_group_size > 1 else 1
        self.register_buffer("one_hot", torch.eye(D.config.num_classes))
        if count_references(D):
            features = [
                torch.cat([D.features(_to_img(torch.from_numpy(image)[None])) for image in images])
                for images in references
            ]
            # As gan.rejection.discriminator_logits lays them out: the members of a group stand GROUPS apart.
            stacked = torch.stack(features)  # [K, M * G, C, h, w]
            table = stacked.reshape(len(stacked), -1, self.groups, *stacked.shape[2:])
        else:
            table = torch.empty([max(D.config.num_classes, 1), 0, self.groups, D.config.channels(4), *D.config.grid(4)])
        self.register_buffer("references", table)  # [K, M, G, C, h, w]

    def forward(self, image: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        mine = self.D.features(_to_img(image))[:, None, None]  # [N, 1, 1, C, h, w]
        mine = mine.expand(-1, -1, self.groups, -1, -1, -1)
        if label is None:
            others, c = self.references.expand(mine.shape[0], -1, -1, -1, -1, -1), None
        else:
            others, c = self.references[label[:, 0]], self.one_hot[label.expand(-1, self.groups).flatten()]
        # The N * G groups stand side by side, as minibatch_stddev wants them, the images first.
        members = torch.cat([mine, others], dim=1).transpose(0, 1).flatten(0, 2)  # [(M + 1) * N * G, C, h, w]
        logits = self.D.logits(members, c, image.shape[0] * self.groups, self.D.scoring_group_size)
        return logits.reshape(-1, self.groups).mean(dim=1, keepdim=True)


def _to_img(image: torch.Tensor) -> torch.Tensor:
    return to_float(image).permute(0, 3, 1, 2)  # NHWC -> NCHW
