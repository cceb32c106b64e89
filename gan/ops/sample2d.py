"""Bilinear sampling at given locations, differentiable to any order with respect to the image.

Sampling is linear in the image, so its gradient is the adjoint map, whose gradient is sampling again. torch's own
gradient of grid_sample has no gradient in all versions. The locations are constants: they get none.

Axis legend: images [N, C, H, W]; locations [N, h, w, 2] as (x, y) in pixels, (0, 0) the centre of the first pixel.
"""

from typing import Any

import torch
import torch.nn.functional as F

from gan.ops.custom_op import CustomOp

_BILINEAR, _ZEROS, _ALIGN_CORNERS = 0, 0, True  # as aten numbers them


def sample2d(img: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """The image [N, C, H, W] at locations [N, h, w, 2] -> [N, C, h, w]; zero beyond the outermost pixels."""
    axes = (at[..., axis] * (2 / (size - 1)) - 1 for axis, size in enumerate((img.shape[3], img.shape[2])))
    grid = torch.stack(tuple(axes), dim=-1).to(img.dtype)  # corners' centres become -1 and 1
    sampled: torch.Tensor = _sample(img, grid)
    return sampled


def sample2d_reference(img: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """What sample2d computes, as the sum of four neighbours by their weights; slow."""
    height, width = img.shape[2:]
    x0, y0 = at[..., 0].floor().long(), at[..., 1].floor().long()
    total = img.new_zeros([*img.shape[:2], *at.shape[1:3]])
    for x, y in ((x0, y0), (x0 + 1, y0), (x0, y0 + 1), (x0 + 1, y0 + 1)):
        weight = (1 - (at[..., 0] - x).abs()) * (1 - (at[..., 1] - y).abs())
        weight = weight * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
        index = (
            (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten(1)[:, None].expand(-1, img.shape[1], -1)
        )
        total = total + img.flatten(2).gather(2, index).view(total.shape) * weight[:, None]
    return total


def _forward(img: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    sampled = F.grid_sample(img, grid, mode="bilinear", padding_mode="zeros", align_corners=_ALIGN_CORNERS)
    return sampled.contiguous()


def _forward_fake(img: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return img.new_empty([*img.shape[:2], *grid.shape[1:3]])


def _setup(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
    img, grid = inputs
    ctx.save_for_backward(grid)
    ctx.sides = img.shape[2:]


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
    (grid,) = ctx.saved_tensors
    return _adjoint(gradient, grid, *ctx.sides), None


def _adjoint_forward(gradient: torch.Tensor, grid: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if gradient.is_cuda and torch.are_deterministic_algorithms_enabled():
        return adjoint_by_index(gradient, grid, height, width)
    # only its shape matters when the grid gets no gradient
    img = gradient.new_zeros(1).expand(*gradient.shape[:2], height, width)
    adjoint: torch.Tensor = torch.ops.aten.grid_sampler_2d_backward(
        gradient, img, grid, _BILINEAR, _ZEROS, _ALIGN_CORNERS, [True, False]
    )[0]
    return adjoint.contiguous()


def adjoint_by_index(gradient: torch.Tensor, grid: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The adjoint of sampling at a grid, each pixel's sum in one order; slower than torch's, whose order is chance.

    `gradient` [N, C, h, w], `grid` [N, h, w, 2] with corners at -1 and 1 -> [N, C, height, width].
    """
    count, channels = gradient.shape[:2]
    x, y = ((at + 1) / 2 * (side - 1) for at, side in zip(grid.unbind(-1), (width, height), strict=True))
    first = torch.arange(count, device=grid.device).reshape(-1, 1, 1) * (height * width)
    values = gradient.permute(0, 2, 3, 1)  # [N, h, w, C]
    places, parts = [], []
    for column, row in ((x.floor() + right, y.floor() + below) for below in (0, 1) for right in (0, 1)):
        weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
        weight = weight * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
        columns, rows = column.clamp(0, width - 1).long(), row.clamp(0, height - 1).long()
        places.append((first + rows * width + columns).flatten())
        parts.append((values * weight.unsqueeze(-1)).reshape(-1, channels))
    total = gradient.new_zeros([count * height * width, channels])
    total.index_put_((torch.cat(places),), torch.cat(parts), accumulate=True)  # torch sorts the places on a GPU
    return (
        total.reshape(count, height, width, channels).permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    )


def _adjoint_fake(gradient: torch.Tensor, grid: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return gradient.new_empty([*gradient.shape[:2], height, width])


def _adjoint_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _adjoint_backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
    (grid,) = ctx.saved_tensors
    return _sample(gradient, grid), None, None, None


_sample = CustomOp(
    "sample2d", "(Tensor img, Tensor grid) -> Tensor", _forward, _forward_fake, _forward, _setup, _backward
)
_adjoint = CustomOp(
    "sample2d_adjoint",
    "(Tensor gradient, Tensor grid, int height, int width) -> Tensor",
    _adjoint_forward,
    _adjoint_fake,
    _adjoint_forward,
    _adjoint_setup,
    _adjoint_backward,
)
