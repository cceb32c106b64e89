"""1x1 convolution with kernels of each image's own: a matrix product an image, which reads features as they lie.

Axis legend: images [N, C, H, W] in channels-last memory; kernels [N, out, in].
"""

from typing import Any

import torch

from gan.ops.custom_op import CustomOp


def conv1x1(x: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """[N, in, H, W] -> [N, out, H, W], both of one dtype. Differentiable to any order."""
    y: torch.Tensor = _conv1x1(x, kernels)
    return y


def _forward(x: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    pixels = _pixels(x)
    if x.device.type == "cpu" and kernels.shape[1] < kernels.shape[2]:  # several times as fast in bfloat16
        y = torch.bmm(kernels, pixels.transpose(1, 2)).transpose(1, 2).contiguous()
    else:
        y = torch.bmm(pixels, kernels.transpose(1, 2))
    return y.view(len(x), *x.shape[2:], kernels.shape[1]).permute(0, 3, 1, 2)


def _fake(x: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    shape = [x.shape[0], kernels.shape[1], *x.shape[2:]]
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _plain(x: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    # Runtimes have each channel's pixels side by side.
    y = torch.matmul(kernels, x.flatten(2))
    return y.reshape(-1, int(kernels.shape[1]), int(x.shape[2]), int(x.shape[3]))


def _setup(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    x, kernels = ctx.saved_tensors
    grad_x = conv1x1(g, kernels.transpose(1, 2)) if ctx.needs_input_grad[0] else None
    return grad_x, _conv1x1_kernel_gradient(x, g) if ctx.needs_input_grad[1] else None


def _kernel_gradient(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    return torch.bmm(_pixels(g).transpose(1, 2), _pixels(x))


def _kernel_gradient_fake(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    return x.new_empty([x.shape[0], g.shape[1], x.shape[1]])


def _plain_kernel_gradient(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    return torch.matmul(g.flatten(2), x.flatten(2).transpose(1, 2))


def _kernel_gradient_backward(ctx: Any, kernels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    x, g = ctx.saved_tensors  # and `kernels`, which has the shape of such
    grad_x = conv1x1(g, kernels.transpose(1, 2)) if ctx.needs_input_grad[0] else None
    return grad_x, conv1x1(x, kernels) if ctx.needs_input_grad[1] else None


def _pixels(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(1, 2)  # [N, H * W, C]


_conv1x1 = CustomOp("conv1x1", "(Tensor x, Tensor kernels) -> Tensor", _forward, _fake, _plain, _setup, _backward)
_conv1x1_kernel_gradient = CustomOp(
    "conv1x1_kernel_gradient",
    "(Tensor x, Tensor g) -> Tensor",
    _kernel_gradient,
    _kernel_gradient_fake,
    _plain_kernel_gradient,
    _setup,
    _kernel_gradient_backward,
)
