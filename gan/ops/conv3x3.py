"""3x3 convolution of the same size, on a CPU by Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016).

That needs 36 multiplications where the definition needs 144, and rounds to about 1e-5 of the largest value.
Everywhere the derivatives are again such convolutions, their transposes, and weight gradients: torch's own second
derivatives convolve with kernels as large as the image.
Axis legend: images [N, C, H, W] in channels-last memory; weights [out, in, 3, 3]; t tiles of 4x4 pixels.
"""

from typing import Any

import torch
import torch.nn.functional as F

from gan.ops import native
from gan.ops.custom_op import CustomOp
from gan.ops.weight_cache import cached

MIN_CHANNELS, MIN_TILES = 64, 32  # below, transforming costs more than it saves
_CHUNK = 6_000_000  # floats in the transformed domain at a time, in training
INFERENCE_CHUNK = 1_500_000  # and where only this convolution runs


def conv3x3(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Correlate x with 3x3 kernels, padding by one: [N, in, H, W] -> [N, out, H, W]. Differentiable to any order."""
    if torch.is_autocast_enabled(x.device.type):
        return F.conv2d(x, weight, padding=1)
    y: torch.Tensor = _conv3x3(x, weight)
    return y


def applies(x: torch.Tensor, outputs: int) -> bool:
    """Whether the native form serves x, and pays."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32  # in bfloat16 torch's own is as fast
        and min(x.shape[1], outputs) >= MIN_CHANNELS
        and _tiles(x) >= MIN_TILES
        and native.library() is not None
    )


def transformed(weight: torch.Tensor) -> torch.Tensor:
    """A weight [out, in, 3, 3], float32 on a CPU, in the transformed domain: [36, in, out]. Needs native.library()."""
    outputs, inputs = weight.shape[:2]
    u = torch.empty([36, inputs, outputs])
    native.call("salon_winograd_weight", weight, u, outputs, inputs, *weight.stride())
    return u


def correlate(x: torch.Tensor, u: torch.Tensor, chunk: int = INFERENCE_CHUNK) -> torch.Tensor:
    """What conv3x3 computes of x, float32 on a CPU, from a transformed weight; without gradients.

    `chunk` floats are transformed at a time.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    _, inputs, outputs = u.shape
    y = torch.empty([len(x), outputs, *x.shape[2:]], memory_format=torch.channels_last)
    for first, count in _chunks(x, inputs + outputs, chunk):
        v = torch.empty([36, count, inputs])
        _transform("input", x, v, first)
        _transform("output", torch.bmm(v, u), y, first)
    return y


def _convolve(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if not applies(x, len(weight)):
        return _plain(x, weight).contiguous(memory_format=torch.channels_last)
    return correlate(x, cached(weight, "transformed", lambda: transformed(weight)), _CHUNK)


def _plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, weight, padding=1)


def _convolve_fake(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    n, _, h, w = x.shape
    shape = [n, weight.shape[0], h, w]
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _transpose(y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    # The transpose of conv3x3: y [N, out, H, W] -> [N, in, H, W]. A GPU's library takes the weight as it is.
    if y.device.type == "cpu":
        return _convolve(y, weight.flip([2, 3]).transpose(0, 1))
    return _plain_transpose(y, weight).contiguous(memory_format=torch.channels_last)


def _plain_transpose(y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv_transpose2d(y, weight, padding=1)


def _transpose_fake(y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return _convolve_fake(y, weight.transpose(0, 1))


def _weight_gradient(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    # x [N, in, H, W], gradient of the output [N, out, H, W] -> gradient of the weight [out, in, 3, 3]
    if not applies(x, gradient.shape[1]):
        return _plain_weight_gradient(x, gradient)
    x, gradient = (t.contiguous(memory_format=torch.channels_last) for t in (x, gradient))
    inputs, outputs = x.shape[1], gradient.shape[1]
    total = torch.zeros([36, outputs, inputs])
    for first, count in _chunks(x, inputs + outputs, _CHUNK):
        v, m = torch.empty([36, count, inputs]), torch.empty([36, count, outputs])
        _transform("input", x, v, first)
        _transform("gradient", gradient, m, first)
        total.baddbmm_(m.transpose(1, 2), v)
    weight = torch.empty([outputs, inputs, 3, 3])
    native.call("salon_winograd_weight_gradient", total, weight, outputs, inputs)
    return weight


def _plain_weight_gradient(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return weight_gradient(x, gradient, stride=1, padding=1)


def weight_gradient_fake(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """An empty tensor like the gradient of a weight, from the input and the gradient of the output."""
    return x.new_empty([gradient.shape[1], x.shape[1], 3, 3])


def setup(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
    """Keep both inputs for the derivatives of something that is linear in each."""
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    x, weight = ctx.saved_tensors
    # All are linear in both arguments, so derivatives of any order are built from these three operators.
    grad_x = _conv3x3_transpose(gradient, weight) if ctx.needs_input_grad[0] else None
    return grad_x, _conv3x3_weight_gradient(x, gradient) if ctx.needs_input_grad[1] else None


def _transpose_backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    y, weight = ctx.saved_tensors
    grad_y = conv3x3(gradient, weight) if ctx.needs_input_grad[0] else None
    return grad_y, _conv3x3_weight_gradient(gradient, y) if ctx.needs_input_grad[1] else None


def _weight_gradient_backward(ctx: Any, weight: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    x, gradient = ctx.saved_tensors  # and `weight`, which has the shape of one
    grad_x = _conv3x3_transpose(gradient, weight) if ctx.needs_input_grad[0] else None
    return grad_x, conv3x3(x, weight) if ctx.needs_input_grad[1] else None


_conv3x3 = CustomOp(
    "conv3x3", "(Tensor x, Tensor weight) -> Tensor", _convolve, _convolve_fake, _plain, setup, _backward
)
_conv3x3_transpose = CustomOp(
    "conv3x3_transpose",
    "(Tensor y, Tensor weight) -> Tensor",
    _transpose,
    _transpose_fake,
    _plain_transpose,
    setup,
    _transpose_backward,
)
_conv3x3_weight_gradient = CustomOp(
    "conv3x3_weight_gradient",
    "(Tensor x, Tensor gradient) -> Tensor",
    _weight_gradient,
    weight_gradient_fake,
    _plain_weight_gradient,
    setup,
    _weight_gradient_backward,
)


def weight_gradient(x: torch.Tensor, gradient: torch.Tensor, *, stride: int, padding: int) -> torch.Tensor:
    """torch's gradient of the weight [out, in, 3, 3] of a convolution, from its input and its output's gradient."""
    weight = x.new_empty(1).expand(gradient.shape[1], x.shape[1], 3, 3)  # only its shape matters
    found: torch.Tensor = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]
    return found.contiguous()


def _transform(what: str, source: torch.Tensor, target: torch.Tensor, first: int) -> None:
    image, domain = (source, target) if source.ndim == 4 else (target, source)
    _, channels, height, width = image.shape
    native.call(f"salon_winograd_{what}", source, target, height, width, channels, first, domain.shape[1])


def _chunks(x: torch.Tensor, channels: int, chunk: int) -> list[tuple[int, int]]:
    # (first tile, number of tiles) of each part, so that what is transformed at a time stays near the caches
    tiles = _tiles(x)
    parts = max(1, round(tiles * 36 * channels / chunk))
    size = -(-tiles // parts)
    return [(first, min(size, tiles - first)) for first in range(0, tiles, size)]


def _tiles(x: torch.Tensor) -> int:
    return len(x) * -(-x.shape[2] // 4) * -(-x.shape[3] // 4)
