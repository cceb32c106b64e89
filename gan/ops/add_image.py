"""The sum of an image, another of lower precision, and a bias: one pass over memory where kernels serve.

Axis legend: images [N, C, H, W]; bias [C].
"""

from typing import Any

import torch

from gan.ops import backend
from gan.ops.custom_op import CustomOp


def add_image(x: torch.Tensor, image: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """x + image + b, in x's dtype."""
    y: torch.Tensor = _add_image(x, image, b)
    return y


def _forward(x: torch.Tensor, image: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    kernels = backend.kernels(x, b)
    if kernels is None or not kernels.TANGENT:
        return _plain(x, image, b).contiguous(memory_format=torch.channels_last)
    y: torch.Tensor = kernels.pointwise(x, None, None, None, b, 1.0, 1.0, second=(image, None))
    return y


def _plain(x: torch.Tensor, image: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return x + (image + b[:, None, None])


def _fake(x: torch.Tensor, image: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _setup(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    ctx.dtypes = [t.dtype for t in inputs]


def _backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    _, of_image, of_b = ctx.needs_input_grad
    _, dtype, b_dtype = ctx.dtypes
    return g, g.to(dtype) if of_image else None, g.sum(dim=[0, 2, 3]).to(b_dtype) if of_b else None


_add_image = CustomOp(
    "add_image", "(Tensor x, Tensor image, Tensor b) -> Tensor", _forward, _fake, _plain, _setup, _backward
)
