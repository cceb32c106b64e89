"""Upsample, filter with a separable FIR filter, downsample (Karras et al. 2019/2020).

Axis legend: images [N, C, H, W]; a filter is its 1-D factor [taps], applied along both axes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gan.ops import backend
from gan.ops.custom_op import CustomOp

Padding = tuple[int, int]  # before and after, on both axes


def setup_filter(taps: tuple[float, ...] = (1, 3, 3, 1)) -> torch.Tensor:
    """The 1-D factor of a separable filter, scaled to sum 1; float32 [taps]."""
    f = torch.tensor(taps, dtype=torch.float32)
    return f / f.sum()


def upfirdn2d(
    x: torch.Tensor, f: torch.Tensor, *, up: int = 1, down: int = 1, padding: Padding = (0, 0), gain: float = 1.0
) -> torch.Tensor:
    """Insert up-1 zeros after each pixel, pad, convolve with gain * f f^T, keep every `down`-th pixel.

    Negative padding crops. Output size along an axis: (size*up + padding[0] + padding[1] - taps) // down + 1.
    """
    y: torch.Tensor = _upfirdn2d(x, f, up, down, list(padding), gain, False)
    return y


def upfirdn2d_convolution(
    x: torch.Tensor, f: torch.Tensor, up: int, down: int, padding: Sequence[int], gain: float, flip: bool = False
) -> torch.Tensor:
    """The same as one convolution of torch's; `flip`: with the filter turned round."""
    taps, channels = int(f.shape[0]), int(x.shape[1])  # constants of a traced graph
    before, after = padding
    f = f.flip(0) if (up == 1) != flip else f  # conv2d correlates
    kernel = (torch.outer(f, f) * gain).to(x.dtype).expand(channels, 1, taps, taps)
    if up == 1:
        if before == after >= 0:
            return F.conv2d(x, kernel, stride=down, padding=before, groups=channels)
        return F.conv2d(F.pad(x, (before, after) * 2), kernel, stride=down, groups=channels)
    # A transposed convolution is zero insertion with all taps-1 of padding; it lacks only the last up-1 zeros.
    crop = (taps - 1 - before, taps - up - after)
    if crop[0] == crop[1] >= 0:
        y = F.conv_transpose2d(x, kernel, stride=up, padding=crop[0], groups=channels)
    else:
        y = F.pad(F.conv_transpose2d(x, kernel, stride=up, groups=channels), (-crop[0], -crop[1]) * 2)
    return y if down == 1 else y[:, :, ::down, ::down]


def upfirdn2d_reference(
    x: torch.Tensor, f: torch.Tensor, *, up: int = 1, down: int = 1, padding: Padding = (0, 0), gain: float = 1.0
) -> torch.Tensor:
    """What upfirdn2d computes, step by step as its definition says; slow."""
    n, c, h, w = x.shape
    y = x.new_zeros([n, c, h * up, w * up])
    y[:, :, ::up, ::up] = x
    y = F.pad(y, padding * 2)
    out_h, out_w = y.shape[2] - len(f) + 1, y.shape[3] - len(f) + 1
    total = y.new_zeros([n, c, out_h, out_w])
    for i, a in enumerate(f.flip(0).to(x.dtype)):
        for j, b in enumerate(f.flip(0).to(x.dtype)):
            total = total + gain * a * b * y[:, :, i : i + out_h, j : j + out_w]
    return total[:, :, ::down, ::down]


def _forward(
    x: torch.Tensor, f: torch.Tensor, up: int, down: int, padding: list[int], gain: float, flip: bool
) -> torch.Tensor:
    kernels = backend.kernels(x)
    if kernels is None:
        y = upfirdn2d_convolution(x, f, up, down, padding, gain, flip)
        return y.to(x.dtype).contiguous(memory_format=torch.channels_last)
    y = _fake(x, f, up, down, padding, gain, flip)
    kernels.upfirdn2d(x, f, y, up, down, padding[0], gain, flip)
    return y


def _fake(
    x: torch.Tensor, f: torch.Tensor, up: int, down: int, padding: list[int], gain: float, flip: bool
) -> torch.Tensor:
    n, c, *sizes = x.shape
    out = [(size * up + sum(padding) - len(f)) // down + 1 for size in sizes]
    return torch.empty([n, c, *out], dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, f, *ctx.rest = inputs
    ctx.save_for_backward(f)
    ctx.sizes, ctx.out = x.shape[2:], output.shape[2:]


def _backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (f,) = ctx.saved_tensors
    up, down, (before, _), gain, flip = ctx.rest
    # The transpose: insertion and decimation change places, the filter is turned round.
    first = len(f) - 1 - before
    last = max((size - 1) * up + len(f) - out * down - first for size, out in zip(ctx.sizes, ctx.out, strict=True))
    grad = _upfirdn2d(g, f, down, up, [first, last], gain, not flip)
    # With sides of different parity `last` is one too many for one of them.
    grad = grad if grad.shape[2:] == ctx.sizes else grad[:, :, : ctx.sizes[0], : ctx.sizes[1]]
    return grad, None, None, None, None, None, None


_upfirdn2d = CustomOp(
    "upfirdn2d",
    "(Tensor x, Tensor f, int up, int down, int[] padding, float gain, bool flip) -> Tensor",
    _forward,
    _fake,
    upfirdn2d_convolution,
    _setup,
    _backward,
)


def upsample2d(x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Double the size of x, keeping its brightness."""
    taps = int(f.shape[0])
    return upfirdn2d(x, f, up=2, padding=((taps + 1) // 2, (taps - 2) // 2), gain=4)


def downsample2d(x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Halve the size of x, keeping its brightness."""
    taps = int(f.shape[0])
    return upfirdn2d(x, f, down=2, padding=((taps - 1) // 2, (taps - 2) // 2))
