"""A trunk made fast: batch norm folded into the convolutions, channels-last memory, minimal filtering.

A trunk is a module from normalized img, float32 NCHW, to features [N, dim]. Whatever is made of one is compared with
the original before it is used, and refused where it computes something else.
"""

import copy
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gan.errors import SalonError
from gan.ops import native
from gan.ops.conv3x3 import correlate, transformed

Run = Callable[[torch.Tensor], torch.Tensor]

MIN_CHANNELS = 32  # below, minimal filtering costs more than it saves
TOLERANCE = 1e-4  # largest difference of a feature, as a share of the largest feature
CHECK_SEED = 0


class MinimalConv2d(nn.Module):
    """A 3x3 convolution with stride 1 by Winograd's minimal filtering (gan.ops.conv3x3), with its bias, for float32."""

    u: torch.Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert applies(conv)
        self.register_buffer("u", transformed(conv.weight))
        self.bias = conv.bias
        self.trim = conv.padding == (0, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in, H, W] -> [N, out, H, W], or two rows and columns less without padding."""
        y = correlate(x, self.u)
        if self.trim:
            y = y[:, :, 1:-1, 1:-1]
        return y if self.bias is None else y.add_(self.bias[:, None, None])


def applies(module: nn.Module) -> bool:
    """Whether MinimalConv2d can stand for a module, and pays."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.stride == module.dilation == (1, 1)
        and module.groups == 1
        and module.padding in ((0, 0), (1, 1))
        and min(module.in_channels, module.out_channels) >= MIN_CHANNELS
    )


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy of a module in evaluation mode, in which each batch norm right behind a convolution is part of it."""
    folded = copy.deepcopy(module).eval()
    for parent in list(folded.modules()):
        for (name, conv), (next_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, next_name, nn.Identity())
    return folded.requires_grad_(False)


def fast(module: nn.Module, device: torch.device) -> nn.Module:
    """A fast copy of a trunk for float32: folded, channels-last, on `device`."""
    folded = fold_batch_norm(module)
    if device.type == "cpu" and native.library() is not None:
        for parent in list(folded.modules()):
            for name, child in list(parent.named_children()):
                if applies(child):
                    assert isinstance(child, nn.Conv2d)
                    setattr(parent, name, MinimalConv2d(child))
    return folded.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class Bfloat16(nn.Module):
    """A trunk that computes in bfloat16 up to the last average over the image, which is float32 again."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        super().__init__()
        folded = fold_batch_norm(module)
        layers = list(folded) if isinstance(folded, nn.Sequential) else [folded]
        pooled = next((i for i, layer in enumerate(layers) if isinstance(layer, nn.AdaptiveAvgPool2d)), len(layers))
        self.body = nn.Sequential(*layers[:pooled]).to(device, torch.bfloat16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.tail = nn.Sequential(*layers[pooled:]).to(device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalized img, float32 -> features, float32."""
        features: torch.Tensor = self.tail(self.body(x.bfloat16()).float())
        return features


def check(run: Run, module: nn.Module, size: int, tolerance: float = TOLERANCE) -> float:
    """Compare `run` with the trunk that it was made of, on three images of noise -> the largest difference, relative.

    Raises SalonError when it exceeds `tolerance` (a NaN does).
    """
    generator = torch.Generator().manual_seed(CHECK_SEED)
    x = torch.rand([3, 3, size, size], generator=generator).mul_(2).sub_(1)
    with torch.inference_mode():
        expected, actual = module(x), run(x.contiguous(memory_format=torch.channels_last)).float().cpu()
    difference = float((actual - expected).abs().max() / expected.abs().max())
    if not difference <= tolerance:
        raise SalonError(
            f"an extractor's fast form must agree with the plain one to {tolerance:.0e}; it differs by {difference:.1e}"
        )
    return difference
