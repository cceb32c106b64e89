"""3x3 convolutions that halve or double an image, with a weight gradient that is fast in channels-last memory.

`down` takes big [N, C, 2H+1, 2W+1] to small [N, O, H, W]; `up`, its transpose, takes small to big. Both share one
weight [O, C, 3, 3]. The derivatives of each are the other and the weight gradient, whose derivatives are these again:
all of them differentiate to any order.
"""

from typing import Any

import torch
import torch.nn.functional as F

from gan.ops.conv3x3 import setup, weight_gradient, weight_gradient_fake
from gan.ops.custom_op import CustomOp

MIN_CHANNELS = 64  # below, torch's own weight gradient is as fast


def down(big: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Correlate with stride 2, without padding."""
    if torch.is_autocast_enabled(big.device.type):
        return _plain_down(big, weight)
    small: torch.Tensor = _down(big, weight)
    return small


def up(small: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The transpose of `down`: zero insertion, then a true convolution."""
    if torch.is_autocast_enabled(small.device.type):
        return _plain_up(small, weight)
    big: torch.Tensor = _up(small, weight)
    return big


def _down_kernel(big: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return _plain_down(big, weight).contiguous(memory_format=torch.channels_last)


def _plain_down(big: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv2d(big, weight, stride=2)


def _down_fake(big: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    n, _, h, w = big.shape
    return _empty(big, n, weight.shape[0], (h - 3) // 2 + 1, (w - 3) // 2 + 1)


def _down_backward(ctx: Any, small: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    big, weight = ctx.saved_tensors
    grad_big = up(small, weight) if ctx.needs_input_grad[0] else None
    return grad_big, _weight_gradient(big, small) if ctx.needs_input_grad[1] else None


def _up_kernel(small: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return _plain_up(small, weight).contiguous(memory_format=torch.channels_last)


def _plain_up(small: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv_transpose2d(small, weight, stride=2)


def _up_fake(small: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    n, _, h, w = small.shape
    return _empty(small, n, weight.shape[1], 2 * h + 1, 2 * w + 1)


def _up_backward(ctx: Any, big: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    small, weight = ctx.saved_tensors
    grad_small = down(big, weight) if ctx.needs_input_grad[0] else None
    return grad_small, _weight_gradient(big, small) if ctx.needs_input_grad[1] else None


def _weight_gradient_backward(ctx: Any, weight: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    big, small = ctx.saved_tensors  # and `weight`, which has the shape of one
    grad_big = up(small, weight) if ctx.needs_input_grad[0] else None
    return grad_big, down(big, weight) if ctx.needs_input_grad[1] else None


def _empty(like: torch.Tensor, *shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _weight_gradient_kernel(big: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
    if big.device.type != "cpu" or min(big.shape[1], small.shape[1]) < MIN_CHANNELS:
        return _plain_weight_gradient(big, small)
    # Big's pixels of one parity form an image on small's grid, plus one row and column. With small padded to that grid
    # too, the products of each tap of the kernel lie a constant distance apart: one matrix product a tap.
    outputs, inputs, width = small.shape[1], big.shape[1], small.shape[3]
    left = F.pad(small.permute(0, 2, 3, 1), (0, 0, 0, 1, 0, 1)).reshape(-1, outputs)  # [N*(H+1)*(W+1), out]
    weight = torch.empty([3, 3, outputs, inputs], dtype=small.dtype)
    for a in (0, 1):
        for b in (0, 1):
            phase = F.pad(big[:, :, a::2, b::2].permute(0, 2, 3, 1), (0, 0, 0, b, 0, a)).reshape(-1, inputs)
            for i in range(a, 3, 2):
                for j in range(b, 3, 2):
                    shift = i // 2 * (width + 1) + j // 2
                    torch.mm(left[: len(left) - shift].t(), phase[shift:], out=weight[i, j])
    return weight.permute(2, 3, 0, 1).contiguous()


def _plain_weight_gradient(big: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
    return weight_gradient(big, small, stride=2, padding=0)


_down = CustomOp(
    "conv3x3_down",
    "(Tensor big, Tensor weight) -> Tensor",
    _down_kernel,
    _down_fake,
    _plain_down,
    setup,
    _down_backward,
)
_up = CustomOp(
    "conv3x3_up", "(Tensor small, Tensor weight) -> Tensor", _up_kernel, _up_fake, _plain_up, setup, _up_backward
)
_weight_gradient = CustomOp(
    "conv3x3_stride2_weight_gradient",
    "(Tensor big, Tensor small) -> Tensor",
    _weight_gradient_kernel,
    weight_gradient_fake,
    _plain_weight_gradient,
    setup,
    _weight_gradient_backward,
)
