"""Weights with equalised learning rate (Karras et al. 2018, section 4.1), scaled and cast once for a phase of training.

A network has about two hundred small weights, and scaling each where it is used is a kernel each, forwards and
backwards. Here all are scaled at once, in a step that autograd sees as one operation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Equalised(nn.Module):
    """A layer with parameters that are multiplied by constants when they are used."""

    prepared: dict[str, torch.Tensor] | None = None  # within `prepared`: name -> the parameter as it is used
    in_trunk = True  # whether its convolution has the precision of the trunk
    demodulated = False  # whether it needs "squares" beside "weight": sums over the kernel's area, [out, in]

    def factors(self) -> dict[str, float]:
        """Names of the parameters that can be prepared, each with its constant."""
        raise NotImplementedError


@contextmanager
def prepared(network: nn.Module, trunk_dtype: torch.dtype | None) -> Iterator[None]:
    """In the block, the layers of a network use weights that were scaled on entry, kernels in `trunk_dtype`.

    The parameters must not change meanwhile. Gradients reach them; not those of gradients.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, Equalised)]
    places: list[tuple[Equalised, str]] = []
    gains: list[float] = []
    dtypes: list[torch.dtype] = []
    for layer in layers:
        layer.prepared = {}
        for name, gain in layer.factors().items():
            parameter: torch.Tensor = getattr(layer, name)
            layer.prepared[name] = parameter
            dtype = trunk_dtype if trunk_dtype and layer.in_trunk and parameter.ndim == 4 else parameter.dtype
            if gain != 1 or dtype != parameter.dtype:
                places.append((layer, name))
                gains.append(gain)
                dtypes.append(dtype)
    try:
        if places:
            scale: Any = _Scale.apply
            weights = scale(gains, dtypes, *(getattr(layer, name) for layer, name in places))
            for (layer, name), weight in zip(places, weights, strict=True):
                assert layer.prepared is not None
                layer.prepared[name] = weight
        _prepare_squares([layer for layer in layers if layer.demodulated])
        yield
    finally:
        for layer in layers:
            layer.prepared = None


def _prepare_squares(layers: list[Equalised]) -> None:
    # Of equation 3 in Karras et al. 2020, for all layers in one pass; their kernels have the same area.
    if not layers:
        return
    sum_squares: Any = _SumSquares.apply
    for layer, squares in zip(layers, sum_squares(*(layer.weight for layer in layers)), strict=True):
        assert layer.prepared is not None
        layer.prepared["squares"] = squares


class _Scale(torch.autograd.Function):
    # Linear: nothing is kept, so that several backward passes may go through it.
    @staticmethod
    def forward(ctx: Any, gains: list[float], dtypes: list[torch.dtype], *weights: torch.Tensor) -> Any:
        ctx.gains, ctx.dtypes = gains, [weight.dtype for weight in weights]
        ctx.set_materialize_grads(False)
        return tuple(_cast(torch._foreach_mul(weights, gains), dtypes, channels_last=True))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        there = [i for i, gradient in enumerate(gradients) if gradient is not None]
        results: list[torch.Tensor | None] = [None] * len(gradients)
        if there:
            some = _cast([gradients[i] for i in there], [ctx.dtypes[i] for i in there])
            for i, gradient in zip(there, torch._foreach_mul(some, [ctx.gains[i] for i in there]), strict=True):
                results[i] = gradient
        return None, None, *results


class _SumSquares(torch.autograd.Function):
    # The weights are kept beside autograd's books, again for several backward passes.
    @staticmethod
    def forward(ctx: Any, *weights: torch.Tensor) -> Any:
        ctx.flat = torch.cat([weight.flatten(2).flatten(0, 1) for weight in weights])  # [all out * in, kh * kw]
        ctx.shapes = [weight.shape for weight in weights]
        return _parts(ctx.flat.square().sum(dim=1), [shape[:2] for shape in ctx.shapes])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        gradient = torch.cat([part.flatten() for part in gradients])
        return _parts(ctx.flat * (2 * gradient[:, None]), ctx.shapes)


def _parts(flat: torch.Tensor, shapes: list[torch.Size]) -> tuple[torch.Tensor, ...]:
    parts = torch.split(flat.view(-1), [shape.numel() for shape in shapes])
    return tuple(part.view(shape) for part, shape in zip(parts, shapes, strict=True))


def _cast(tensors: Any, dtypes: list[torch.dtype], *, channels_last: bool = False) -> list[torch.Tensor]:
    # Those of another dtype are copied into one piece of memory; kernels [out, in, h, w] with their channels last,
    # as convolutions of such images want them.
    results = list(tensors)
    for dtype in {dtype for tensor, dtype in zip(results, dtypes, strict=True) if tensor.dtype != dtype}:
        which = [i for i, tensor in enumerate(results) if dtypes[i] == dtype != tensor.dtype]
        sizes = [results[i].numel() for i in which]
        flat = torch.empty([sum(sizes)], dtype=dtype, device=results[which[0]].device)
        targets = []
        for i, part in zip(which, torch.split(flat, sizes), strict=True):
            shape = results[i].shape
            if channels_last and len(shape) == 4:
                o, c, h, w = shape
                targets.append(part.view(o, h, w, c).permute(0, 3, 1, 2))
            else:
                targets.append(part.view(shape))
        torch._foreach_copy_(targets, [results[i] for i in which])
        for i, target in zip(which, targets, strict=True):
            results[i] = target
    return results
