"""The StyleGAN2 residual discriminator, with projection for classes (Karras et al. 2020; Miyato & Koyama 2018).

Parameter names are those of the StyleGAN2-ADA family, so that weights can be exchanged by name.
"""

import math

import torch
from torch import nn

from gan.config import NetworkConfig
from gan.networks.generator import Mapping
from gan.networks.layers import Conv2d, FullyConnected

DEFAULT_GROUP_SIZE = 4  # of the papers (Karras et al. 2018, 2020)
HALF = math.sqrt(0.5)  # gain of each branch of a residual sum, to keep the variance


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a skip from one resolution to half of it; the first block also takes in the image.

    `clamp` limits the activations, as of config.conv_clamp; the skip has none.
    """

    def __init__(self, inputs: int, outputs: int, *, channels: int | None, clamp: float | None = None) -> None:
        super().__init__()
        self.first = channels is not None
        if channels is not None:
            self.fromrgb = Conv2d(channels, inputs, 1, clamp=clamp)
        self.conv0 = Conv2d(inputs, inputs, 3, clamp=clamp)
        self.conv1 = Conv2d(inputs, outputs, 3, down=True, gain=HALF, clamp=clamp)
        self.skip = Conv2d(inputs, outputs, 1, act="linear", bias=False, down=True, gain=HALF)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.first:
            x = self.fromrgb(x)
        y: torch.Tensor = self.skip(x)
        z: torch.Tensor = self.conv1(self.conv0(x))
        return y + z


class DiscriminatorEpilogue(nn.Module):
    """[N, in, *grid] -> [N, outputs]: minibatch standard deviation, a convolution, two fully connected layers."""

    def __init__(
        self, channels: int, outputs: int, grid: tuple[int, int], group_size: int | None, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.group_size = group_size
        self.conv = Conv2d(channels + 1, channels, 3, clamp=clamp)
        self.conv.in_trunk = False
        self.fc = FullyConnected(channels * grid[0] * grid[1], channels, act="lrelu")
        self.out = FullyConnected(channels, outputs)

    def forward(self, x: torch.Tensor, count: int | None = None, group_size: int | None = None) -> torch.Tensor:
        """`count`: only the outputs of so many images, the first of the batch. `group_size`: another one."""
        x = minibatch_stddev(x, self.group_size if group_size is None else group_size)
        x = self.conv(x if count is None else x[:count])
        logits: torch.Tensor = self.out(self.fc(x.contiguous().flatten(1)))
        return logits


class Discriminator(nn.Module):
    """img [N, C, H, W] of config.shape (and c [N, classes]) -> logits [N, 1]; above zero means real."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk_dtype: torch.dtype | None = None  # of the blocks above the base; None: that of the images
        self.blocks = []
        for resolution in reversed(config.resolutions()[1:]):
            images = config.image_channels if resolution == config.resolution else None
            inputs, outputs = config.channels(resolution), config.channels(resolution // 2)
            block = DiscriminatorBlock(inputs, outputs, channels=images, clamp=config.conv_clamp)
            setattr(self, f"b{resolution}", block)
            self.blocks.append(block)
        channels = config.channels(4)
        self.cmap_dim = channels if config.num_classes else 0
        outputs, group = self.cmap_dim or 1, config.mbstd_group_size
        self.b4 = DiscriminatorEpilogue(channels, outputs, config.grid(4), group, config.conv_clamp)
        if config.num_classes:
            layers = config.mapping_layers if config.D_mapping_layers is None else config.D_mapping_layers
            self.mapping = Mapping(0, config.num_classes, self.cmap_dim, 0, layers)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.logits(self.features(img), c)

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """[N, channels, *config.grid(4)] of images, each by itself."""
        x = img.contiguous(memory_format=torch.channels_last)
        if self.trunk_dtype:
            x = x.to(self.trunk_dtype)
        for block in self.blocks:
            x = block(x)
        return x.to(img.dtype)

    @property
    def scoring_group_size(self) -> int:
        """Images a group where images are scored: a number where in training the whole batch is one."""
        return DEFAULT_GROUP_SIZE if self.b4.group_size is None else self.b4.group_size

    def logits(
        self,
        features: torch.Tensor,
        c: torch.Tensor | None = None,
        count: int | None = None,
        group_size: int | None = None,
    ) -> torch.Tensor:
        """Logits [N, 1] of features; the images of a group bear on each other's.

        `count`: only the logits of so many images, the first of the batch, whose classes c are. `group_size`: images a
        group, where not as in training.
        """
        logits: torch.Tensor = self.b4(features, count, group_size)
        if self.cmap_dim:
            # Projection: how well the image's features agree with those of the class.
            logits = (logits * self.mapping(None, c)).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
        return logits


def minibatch_stddev(x: torch.Tensor, group_size: int | None) -> torch.Tensor:
    """Append one channel: the mean standard deviation within groups of images (Karras et al. 2018, section 3).

    [N, C, H, W] -> [N, C + 1, H, W]; a group is of min(group_size, N) images (None: N). Raises ValueError when N is no
    multiple of that.
    """
    n, c, h, w = x.shape
    group = n if group_size is None else min(group_size, n)
    if n % group:
        raise ValueError(f"the batch must be a multiple of the group of {group}; got {n} images instead")
    y = x.reshape(group, n // group, c, h, w)  # images of a group are n // group apart
    deviation = (y.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=[1, 2, 3])  # [n // group]
    return torch.cat([x, deviation.reshape(-1, 1, 1, 1).repeat(group, 1, h, w)], dim=1)
