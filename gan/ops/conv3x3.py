"""3x3 convolution of the same size on a CPU, by Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016).

It needs 36 multiplications where the definition needs 144, and rounds to about 1e-5 of the largest value.
Axis legend: images [N, C, H, W] in channels-last memory; weights [out, in, 3, 3]; t tiles of 4x4 pixels.
"""

from ctypes import c_int, c_long, c_void_p
from typing import Any

import torch
import torch.nn.functional as F

from gan.ops import native

MIN_CHANNELS, MIN_TILES = 64, 32  # below, transforming costs more than it saves
_CHUNK = 6_000_000  # floats in the transformed domain at a time, in training
INFERENCE_CHUNK = 1_500_000  # and where only this convolution runs


def conv3x3(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Correlate x with 3x3 kernels, padding by one: [N, in, H, W] -> [N, out, H, W]. Differentiable to any order."""
    if not applies(x, weight):
        return F.conv2d(x, weight, padding=1)
    y: torch.Tensor = _Conv3x3.apply(x, weight)  # type: ignore[no-untyped-call]
    return y


def applies(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the native form serves these inputs, and pays."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and min(weight.shape[:2]) >= MIN_CHANNELS
        and _tiles(x) >= MIN_TILES
        and not torch.is_autocast_enabled("cpu")
        and native.library() is not None
    )


def transformed(weight: torch.Tensor) -> torch.Tensor:
    """Weights [out, in, 3, 3] in the transformed domain [36, in, out], for correlate(). Needs the native library."""
    library = native.library()
    assert library is not None
    outputs, inputs = weight.shape[:2]
    u = torch.empty([36, inputs, outputs])
    strides = (c_long * 4)(*weight.stride())
    library.salon_winograd_weight(
        *(c_void_p(t.data_ptr()) for t in (weight, u)), c_long(outputs), c_long(inputs), strides, _threads()
    )
    return u


def correlate(x: torch.Tensor, u: torch.Tensor, chunk: int = INFERENCE_CHUNK) -> torch.Tensor:
    """conv3x3 without gradients, with weights that were transformed once: [N, in, H, W] -> [N, out, H, W]."""
    library = native.library()
    assert library is not None
    x = x.contiguous(memory_format=torch.channels_last)
    _, inputs, outputs = u.shape
    y = torch.empty([len(x), outputs, *x.shape[2:]], memory_format=torch.channels_last)
    for first, count in _chunks(x, inputs + outputs, chunk):
        v = torch.empty([36, count, inputs])
        _transform(library.salon_winograd_input, x, v, first)
        _transform(library.salon_winograd_output, torch.bmm(v, u), y, first)
    return y


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return correlate(x, transformed(weight), _CHUNK)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        # Both are again convolutions, so derivatives of any order are built from these two functions.
        grad_x = conv3x3(gradient, _turned(weight)) if ctx.needs_input_grad[0] else None
        grad_weight = _WeightGradient.apply(x, gradient) if ctx.needs_input_grad[1] else None  # type: ignore[no-untyped-call]
        return grad_x, grad_weight


class _WeightGradient(torch.autograd.Function):
    """x [N, in, H, W], gradient of the output [N, out, H, W] -> gradient of the weight [out, in, 3, 3]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, gradient)
        return _weight_gradient(x, gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (weight,) = gradients  # of the shape of a weight
        x, gradient = ctx.saved_tensors
        grad_x = conv3x3(gradient, _turned(weight)) if ctx.needs_input_grad[0] else None
        grad_gradient = conv3x3(x, weight) if ctx.needs_input_grad[1] else None
        return grad_x, grad_gradient


def _weight_gradient(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    library = native.library()
    assert library is not None
    x, gradient = (t.contiguous(memory_format=torch.channels_last) for t in (x, gradient))
    inputs, outputs = x.shape[1], gradient.shape[1]
    total = torch.zeros([36, outputs, inputs])
    for first, count in _chunks(x, inputs + outputs, _CHUNK):
        v, m = torch.empty([36, count, inputs]), torch.empty([36, count, outputs])
        _transform(library.salon_winograd_input, x, v, first)
        _transform(library.salon_winograd_gradient, gradient, m, first)
        total.baddbmm_(m.transpose(1, 2), v)
    weight = torch.empty([outputs, inputs, 3, 3])
    library.salon_winograd_weight_gradient(
        *(c_void_p(t.data_ptr()) for t in (total, weight)), c_long(outputs), c_long(inputs), _threads()
    )
    return weight


def _transform(function: Any, source: torch.Tensor, target: torch.Tensor, first: int) -> None:
    image = source if source.ndim == 4 else target
    domain = target if source.ndim == 4 else source
    _, channels, height, width = image.shape
    function(
        c_void_p(source.data_ptr()),
        c_void_p(target.data_ptr()),
        *map(c_long, (height, width, channels, first, domain.shape[1])),
        _threads(),
    )


def _threads() -> c_int:
    return c_int(torch.get_num_threads())


def _chunks(x: torch.Tensor, channels: int, chunk: int) -> list[tuple[int, int]]:
    # (first tile, number of tiles) of each part, so that what is transformed at a time stays near the caches
    tiles = _tiles(x)
    parts = max(1, round(tiles * 36 * channels / chunk))
    size = -(-tiles // parts)
    return [(first, min(size, tiles - first)) for first in range(0, tiles, size)]


def _tiles(x: torch.Tensor) -> int:
    return len(x) * -(-x.shape[2] // 4) * -(-x.shape[3] // 4)


def _turned(weight: torch.Tensor) -> torch.Tensor:
    return weight.flip([2, 3]).transpose(0, 1)
