"""Styles, demodulation and ToRGB's kernels of all layers at once, for weights prepared by gan.networks.equalised.

Each is one batched product, where layer by layer there would be one of each kind for every layer. Layers with fewer
channels than the widest are padded with zeros, which add nothing to any sum.

Axis legend: L layers; N images; I and O the most channels that a layer takes and gives.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from gan.ops.custom_op import leads_to
from gan.ops.modulated_conv2d import EPSILON


def padded(*groups: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Stack each group of L tensors to one [L, ...] of their largest sizes; last comes a zero, [].

    Gradients reach the tensors, but not those of gradients.
    """
    pad: Any = _Pad.apply
    return list(pad([len(group) for group in groups], *(tensor for group in groups for tensor in group)))


def affine(ws: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Styles [L, N, I] of ws [N, L, w_dim], with weight [L, I, w_dim] and bias [L, I]."""
    # With the weights first, their gradients come out as they themselves lie in memory; below, too.
    return torch.baddbmm(bias[:, :, None], weight, ws.permute(1, 2, 0)).transpose(1, 2)


def demodulation(styles: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Equation 3 of Karras et al. 2020 -> the scales of what comes out, [L, N, O]. Differentiable to any order.

    `squares` [L, O, I] are the sums of the kernels' squares over their area.
    """
    demodulate: Any = _Demodulate.apply
    scales: torch.Tensor = demodulate(styles.transpose(1, 2), squares)
    return scales.transpose(1, 2)


def narrowed(block: torch.Tensor, widths: Sequence[int], zero: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Each layer's own part of a block [L, N, ..., I]: L views [N, ..., width]. Differentiable to any order."""
    narrow: Any = _Narrow.apply
    parts: tuple[torch.Tensor, ...] = narrow(block.contiguous(), widths, zero)
    return parts


class _Pad(torch.autograd.Function):
    # Linear: nothing is kept, so that several backward passes may go through it.
    @staticmethod
    def forward(ctx: Any, counts: list[int], *tensors: torch.Tensor) -> Any:
        left = iter(tensors)
        ctx.groups = [[next(left).shape for _ in range(count)] for count in counts]
        shapes = [(len(group), *map(max, zip(*group, strict=True))) for group in ctx.groups]
        sizes = [math.prod(shape) for shape in shapes]
        *parts, zero = torch.split(tensors[0].new_zeros([sum(sizes) + 1]), [*sizes, 1])
        blocks = tuple(part.view(shape) for part, shape in zip(parts, shapes, strict=True))
        torch._foreach_copy_(_places(blocks, ctx.groups), tensors)
        zero = zero.view([])
        ctx.mark_non_differentiable(zero)
        ctx.set_materialize_grads(False)
        return *blocks, zero

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        results: list[torch.Tensor | None] = []
        for gradient, shapes in zip(gradients[:-1], ctx.groups, strict=True):
            results += [None] * len(shapes) if gradient is None else _places([gradient.contiguous()], [shapes])
        return None, *results


def _places(blocks: Sequence[torch.Tensor], groups: list[list[torch.Size]]) -> list[torch.Tensor]:
    return [
        part[tuple(slice(size) for size in shape)]
        for block, shapes in zip(blocks, groups, strict=True)
        for part, shape in zip(block, shapes, strict=True)
    ]


class _Demodulate(torch.autograd.Function):
    # (squares @ styles^2 + epsilon)^(-1/2), with styles [L, I, N] -> [L, O, N]; in few operations.
    @staticmethod
    def forward(ctx: Any, styles: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
        scales = torch.bmm(squares, styles.square()).add_(EPSILON).rsqrt_()
        ctx.save_for_backward(styles, squares, scales)
        return scales

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        styles, squares, scales = ctx.saved_tensors
        t = scales.pow(3) * g
        # Of styles -styles * (squares^T @ t), of squares -t @ (styles^2)^T / 2.
        of_styles = styles * torch.baddbmm(styles, squares.transpose(1, 2), t, beta=0, alpha=-1)
        if not leads_to(ctx.next_functions[1][0]):
            return of_styles, None
        return of_styles, torch.baddbmm(squares, t, styles.square().transpose(1, 2), beta=0, alpha=-0.5)


class _Narrow(torch.autograd.Function):
    # The gradient of a block is put together at once; torch's own is a block of zeros for each view of it.
    @staticmethod
    def forward(ctx: Any, block: torch.Tensor, widths: Sequence[int], zero: torch.Tensor) -> Any:
        ctx.widths, ctx.width, ctx.zero = widths, block.shape[-1], zero
        return tuple(part[..., :width] for part, width in zip(block, widths, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        nothing = ctx.zero.to(gradients[0].dtype).expand(*gradients[0].shape[:-1], ctx.width)
        parts = [part for g, width in zip(gradients, ctx.widths, strict=True) for part in (g, nothing[..., width:])]
        block = torch.cat(parts, dim=-1).view(*gradients[0].shape[:-1], len(gradients), ctx.width)  # [N, ..., L, I]
        return block.movedim(-2, 0), None, None
