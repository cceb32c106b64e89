"""3x3 convolutions that halve or double an image, with a weight gradient that is fast in channels-last memory.

`down` takes big [N, C, 2H+1, 2W+1] to small [N, O, H, W]; `up`, its transpose, takes small to big. Both share one
weight [O, C, 3, 3]. The derivatives of each are the other and the weight gradient, whose derivatives are these again:
all of them differentiate to any order.
"""

from typing import Any

import torch
import torch.nn.functional as F

from gan.ops.conv3x3 import weight_gradient

MIN_CHANNELS = 64  # below, torch's own weight gradient is as fast


def down(big: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Correlate with stride 2, without padding."""
    if torch.is_autocast_enabled(big.device.type):
        return F.conv2d(big, weight, stride=2)
    small: torch.Tensor = _Down.apply(big, weight)  # type: ignore[no-untyped-call]
    return small


def up(small: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The transpose of `down`: zero insertion, then a true convolution."""
    if torch.is_autocast_enabled(small.device.type):
        return F.conv_transpose2d(small, weight, stride=2)
    big: torch.Tensor = _Up.apply(small, weight)  # type: ignore[no-untyped-call]
    return big


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, big: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(big, weight)
        return F.conv2d(big, weight, stride=2)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (small,) = gradients
        big, weight = ctx.saved_tensors
        return _gradients(ctx, lambda: up(small, weight), big, small)


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, small: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(small, weight)
        return F.conv_transpose2d(small, weight, stride=2)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (big,) = gradients
        small, weight = ctx.saved_tensors
        return _gradients(ctx, lambda: down(big, weight), big, small)


class _WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, big: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(big, small)
        return _weight_gradient(big, small)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (weight,) = gradients
        big, small = ctx.saved_tensors
        grad_big = up(small, weight) if ctx.needs_input_grad[0] else None
        return grad_big, down(big, weight) if ctx.needs_input_grad[1] else None


def _gradients(ctx: Any, of_input: Any, big: torch.Tensor, small: torch.Tensor) -> Any:
    grad_input = of_input() if ctx.needs_input_grad[0] else None
    grad_weight = _WeightGradient.apply(big, small) if ctx.needs_input_grad[1] else None  # type: ignore[no-untyped-call]
    return grad_input, grad_weight


def _weight_gradient(big: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
    if big.device.type != "cpu" or min(big.shape[1], small.shape[1]) < MIN_CHANNELS:
        return weight_gradient(big, small, stride=2, padding=0)
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
