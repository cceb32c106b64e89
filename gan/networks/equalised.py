"""Weights with equalised learning rate (Karras et al. 2018, section 4.1), scaled and cast once for a phase of training.

A network has about two hundred small weights, and scaling each where it is used is a kernel each, forwards and
backwards. Here all are scaled at once, in a step that autograd sees as one operation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn


class Equalised(nn.Module):
    """A layer with parameters that are multiplied by constants when they are used."""

    prepared: dict[str, torch.Tensor] | None = None  # within `prepared`: name -> the parameter as it is used
    in_trunk = True  # whether its convolution has the precision of the trunk
    transposed = False  # whether its kernels are used with inputs and outputs exchanged
    demodulated = False  # whether it needs "squares" beside "weight": sums over the kernel's area, [out, in]

    def factors(self) -> dict[str, float]:
        """Names of the parameters that can be prepared, each with its constant."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Add to `prepared` what follows from its parameters and those of the layers in it, which are there."""


@contextmanager
def prepared(*networks: tuple[nn.Module, torch.dtype | None]) -> Iterator[None]:
    """In the block, the layers of each network use weights that were scaled on entry, kernels in the dtype beside it.

    The parameters must not change meanwhile. Gradients reach them; not those of gradients.
    """
    dtypes = {
        layer: dtype for network, dtype in networks for layer in network.modules() if isinstance(layer, Equalised)
    }
    layers = list(dtypes)
    places = [(layer, name) for layer in layers for name in layer.factors()]
    gains = [layer.factors()[name] for layer, name in places]
    squared = [i for i, (layer, name) in enumerate(places) if layer.demodulated and name == "weight"]
    forms = [_form(layer, getattr(layer, name), dtypes[layer]) for layer, name in places]
    weights = [getattr(layer, name) for layer, name in places]
    places += [(places[i][0], "squares") for i in squared]
    try:
        for layer in layers:
            layer.prepared = {}
        scale: Any = _Scale.apply
        for (layer, name), weight in zip(places, scale(gains, forms, squared, *weights), strict=True):
            assert layer.prepared is not None
            layer.prepared[name] = weight
        for layer in layers:
            layer.prepare()
        yield
    finally:
        for layer in layers:
            layer.prepared = None


class _Scale(torch.autograd.Function):
    # The weights are kept beside autograd's books, so that several backward passes may go through it.
    @staticmethod
    def forward(ctx: Any, gains: list[float], forms: list["_Form"], squared: list[int], *weights: torch.Tensor) -> Any:
        ctx.gains, ctx.squared, ctx.weights = gains, squared, weights
        ctx.set_materialize_grads(False)
        results = _cast(torch._foreach_mul(weights, gains), forms) + _sum_squares([weights[i] for i in squared])
        sources = [*weights, *(weights[i] for i in squared)]
        ctx.mark_non_differentiable(
            *(r for r, weight in zip(results, sources, strict=True) if not weight.requires_grad)
        )
        return tuple(results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        there = [i for i, weight in enumerate(ctx.weights) if gradients[i] is not None]
        results: list[torch.Tensor | None] = [None] * len(ctx.weights)
        if there:
            forms = [_Form(ctx.weights[i].dtype) for i in there]
            some = _cast([gradients[i] for i in there], forms)
            for i, gradient in zip(there, torch._foreach_mul(some, [ctx.gains[i] for i in there]), strict=True):
                results[i] = gradient
        if ctx.squared and gradients[-1] is not None:  # all or none
            of_squares = [
                gradient[:, :, None, None] for gradient in gradients[len(ctx.weights) :] if gradient is not None
            ]
            for i in ctx.squared:  # float16 uses the squares alone
                results[i] = torch.zeros_like(ctx.weights[i]) if results[i] is None else results[i]
            own = [results[i] for i in ctx.squared]
            torch._foreach_addcmul_(own, [ctx.weights[i] for i in ctx.squared], of_squares, 2)
        return None, None, None, *results


def _sum_squares(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    # Over their area, which all share, for equation 3 of Karras et al. 2020.
    if not weights:
        return []
    sums = torch.cat([weight.flatten(2).flatten(0, 1) for weight in weights]).square().sum(dim=1)  # [all out * in]
    parts = torch.split(sums, [weight.shape[:2].numel() for weight in weights])
    return [part.view(weight.shape[:2]) for part, weight in zip(parts, weights, strict=True)]


class _Form(NamedTuple):
    # How a tensor lies in memory: its dtype, and the order of its dimensions; None: as they are.
    dtype: torch.dtype
    order: tuple[int, ...] | None = None


CHANNELS_LAST = (0, 2, 3, 1)  # of kernels [out, in, h, w], as convolutions of such images want them
TRANSPOSED = (1, 2, 3, 0)  # the same for inputs and outputs exchanged


def _form(layer: Equalised, parameter: torch.Tensor, trunk_dtype: torch.dtype | None) -> _Form:
    if parameter.ndim < 4:
        return _Form(parameter.dtype)
    dtype = trunk_dtype if trunk_dtype and layer.in_trunk else parameter.dtype
    return _Form(dtype, TRANSPOSED if layer.transposed else CHANNELS_LAST)


def _cast(tensors: Any, forms: list[_Form]) -> list[torch.Tensor]:
    # Those of another dtype are copied into one piece of memory.
    results = list(tensors)
    for dtype in {form.dtype for tensor, form in zip(results, forms, strict=True) if tensor.dtype != form.dtype}:
        which = [i for i, tensor in enumerate(results) if forms[i].dtype == dtype != tensor.dtype]
        sizes = [results[i].numel() for i in which]
        flat = torch.empty([sum(sizes)], dtype=dtype, device=results[which[0]].device)
        targets = []
        for i, part in zip(which, torch.split(flat, sizes), strict=True):
            shape, order = results[i].shape, forms[i].order or range(results[i].ndim)
            lies = part.view([shape[axis] for axis in order])
            targets.append(lies.permute([list(order).index(axis) for axis in range(len(shape))]))
        torch._foreach_copy_(targets, [results[i] for i in which])
        for i, target in zip(which, targets, strict=True):
            results[i] = target
    return results
