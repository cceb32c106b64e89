"""The discriminator as a module that exports to ONNX, each image by itself, as in gan.rejection.discriminator_logits.

The groups of reference images that complete an image's own are constants of the graph: their features, for each class.

Axis legend: features [N, C, 4, 4]; G groups; M members of a group besides the image; K classes, one where there are
none.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from gan.data.images import Pixels, to_float
from gan.networks.discriminator import HALF, Discriminator, DiscriminatorBlock
from gan.networks.layers import Conv2d
from gan.ops.bias_act import GAINS, SLOPE
from gan.rejection.discriminator_logits import GROUPS, count_references
from serving.export.generator_graph import Linear


class ConvGraph(nn.Module):
    """A Conv2d with its gains folded into weight and bias. `gain` is that of the result."""

    blur: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, layer: Conv2d, gain: float = 1.0) -> None:
        super().__init__()
        self.size, self.inputs = layer.weight.shape[-1], layer.weight.shape[1]
        self.down = layer.down
        self.slope = SLOPE if layer.act == "lrelu" else None
        gain *= GAINS[layer.act]
        self.register_buffer("weight", layer.weight * (layer.weight_gain * gain))
        self.register_buffer("bias", None if layer.bias is None else layer.bias * gain)
        kernel = torch.outer(layer.resample_filter, layer.resample_filter)
        self.register_buffer("blur", kernel.expand(layer.weight.shape[1], 1, -1, -1).clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.down:
            y = F.conv2d(x, self.weight, self.bias, padding=self.size // 2)
        elif self.size == 1:
            y = F.conv2d(F.conv2d(x, self.blur, stride=2, padding=1, groups=self.inputs), self.weight, self.bias)
        else:
            y = F.conv2d(F.conv2d(x, self.blur, padding=2, groups=self.inputs), self.weight, self.bias, stride=2)
        return y if self.slope is None else F.leaky_relu(y, self.slope)


class BlockGraph(nn.Module):
    """A DiscriminatorBlock."""

    def __init__(self, block: DiscriminatorBlock) -> None:
        super().__init__()
        self.fromrgb = ConvGraph(block.fromrgb) if block.first else nn.Identity()
        self.conv0, self.conv1 = ConvGraph(block.conv0), ConvGraph(block.conv1, HALF)
        self.skip = ConvGraph(block.skip, HALF)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fromrgb(x)
        y: torch.Tensor = self.skip(x) + self.conv1(self.conv0(x))
        return y


class JudgeImage(nn.Module):
    """image uint8 [N, H, W, 3], label int64 [N, 1] where D knows classes -> logit float32 [N, 1].

    `references` are, for each of the K classes, count_references(D) images, uint8 [H, W, 3] each.
    """

    references: torch.Tensor
    table: torch.Tensor

    def __init__(self, D: Discriminator, references: Iterable[Iterable[Pixels]]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(BlockGraph(block) for block in D.blocks))
        self.conv, self.fc, self.out = ConvGraph(D.b4.conv), Linear(D.b4.fc), Linear(D.b4.out)
        self.width = D.cmap_dim or 1
        self.groups = GROUPS if D.b4.group_size > 1 else 1
        if count_references(D):
            features = [
                torch.cat([self.blocks(_to_img(torch.from_numpy(image)[None])) for image in images])
                for images in references
            ]
            # As gan.rejection.discriminator_logits lays them out: the members of a group stand GROUPS apart.
            stacked = torch.stack(features)  # [K, M * G, C, 4, 4]
            table = stacked.reshape(len(stacked), -1, self.groups, *stacked.shape[2:]).transpose(1, 2)
        else:
            table = torch.empty([max(D.config.num_classes, 1), 1, 0, D.config.channels(4), 4, 4])
        self.register_buffer("references", table.contiguous())  # [K, G, M, C, 4, 4]
        if D.config.num_classes:
            one_hot = torch.eye(D.config.num_classes)
            # Projection (Miyato & Koyama 2018), divided as Discriminator.judge divides.
            self.register_buffer("table", D.mapping(None, one_hot) / math.sqrt(D.cmap_dim))

    def forward(self, image: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        mine = self.blocks(_to_img(image))[:, None]  # [N, 1, C, 4, 4]
        others = self.references if label is None else self.references[label[:, 0]]  # [1 or N, G, M, C, 4, 4]
        mean = (mine + others.sum(dim=2)) / (others.shape[2] + 1)  # [N, G, C, 4, 4]
        squares = (mine - mean).square() + (others - mean[:, :, None]).square().sum(dim=2)
        # Minibatch standard deviation (Karras et al. 2018, section 3).
        deviation = (squares / (others.shape[2] + 1) + 1e-8).sqrt().mean(dim=[2, 3, 4], keepdim=True)
        group = [mine.expand(-1, self.groups, -1, -1, -1), deviation.expand(-1, -1, -1, 4, 4)]
        x = self.conv(torch.cat(group, dim=2).flatten(0, 1))  # [N * G, C, 4, 4]
        logits: torch.Tensor = self.out(self.fc(x.flatten(1)))  # [N * G, width]
        if label is not None:
            logits = (logits.reshape(-1, self.groups, self.width) * self.table[label]).sum(dim=2)
        return logits.reshape(-1, self.groups).mean(dim=1, keepdim=True)


def _to_img(image: torch.Tensor) -> torch.Tensor:
    return to_float(image).permute(0, 3, 1, 2)  # NHWC -> NCHW
