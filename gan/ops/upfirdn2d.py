"""Upsample, filter with a separable FIR filter, downsample (Karras et al. 2019/2020).

Axis legend: images [N, C, H, W]; a filter is its 1-D factor [taps], applied along both axes.
"""

from typing import Any

import torch
import torch.nn.functional as F

from gan.ops import native
from gan.ops.bias_act import NAMES

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
    if _applies(x):
        y: torch.Tensor = _Upfirdn2d.apply(x, f, up, down, padding, gain)  # type: ignore[no-untyped-call]
        return y
    taps, channels = f.shape[0], x.shape[1]
    before, after = padding
    kernel = (torch.outer(f, f) * gain).to(x.dtype).expand(channels, 1, taps, taps)
    if up == 1:
        kernel = kernel.flip([2, 3])  # conv2d correlates
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


def _applies(x: torch.Tensor) -> bool:
    kind = x.device.type
    return kind in ("cpu", "cuda") and x.dtype in NAMES and x.numel() > 0 and native.library(kind) is not None


class _Upfirdn2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, f: torch.Tensor, up: int, down: int, padding: Padding, gain: float
    ) -> torch.Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        n, c, *sizes = x.shape
        out = [(size * up + sum(padding) - len(f)) // down + 1 for size in sizes]
        y = torch.empty([n, c, *out], dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        taps = f.flip(0).float() * gain**0.5  # the native code correlates, once along each axis
        native.call(f"salon_upfirdn2d_{NAMES[x.dtype]}", x, y, taps, len(f), up, down, padding[0], n, *sizes, c, *out)
        ctx.save_for_backward(f)
        ctx.rest = up, down, padding, gain, sizes, out
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (f,) = ctx.saved_tensors
        up, down, (before, _), gain, sizes, out = ctx.rest
        # The transpose: insertion and decimation change places, the filter is turned round.
        first = len(f) - 1 - before
        last = max((size - 1) * up + len(f) - length * down - first for size, length in zip(sizes, out, strict=True))
        grad = upfirdn2d(gradients[0], f.flip(0), up=down, down=up, padding=(first, last), gain=gain)
        # With sides of different parity `last` is one too many for one of them.
        grad = grad if list(grad.shape[2:]) == sizes else grad[:, :, : sizes[0], : sizes[1]]
        return grad, None, None, None, None, None


def upsample2d(x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Double the size of x, keeping its brightness."""
    taps = f.shape[0]
    return upfirdn2d(x, f, up=2, padding=((taps + 1) // 2, (taps - 2) // 2), gain=4)


def downsample2d(x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Halve the size of x, keeping its brightness."""
    taps = f.shape[0]
    return upfirdn2d(x, f, down=2, padding=((taps - 1) // 2, (taps - 2) // 2))
