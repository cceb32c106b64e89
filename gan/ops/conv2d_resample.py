"""Convolution that doubles or halves the image, with the low-pass filter where it belongs.

Axis legend: weights [out, in, kh, kw].
"""

import torch
import torch.nn.functional as F

from gan.ops import conv3x3_stride2
from gan.ops.conv3x3 import conv3x3
from gan.ops.upfirdn2d import downsample2d, upfirdn2d, upsample2d
from gan.ops.weight_cache import cached


def conv2d_resample(
    x: torch.Tensor, weight: torch.Tensor, f: torch.Tensor | None = None, *, up: bool = False, down: bool = False
) -> torch.Tensor:
    """Convolve [N, in, H, W] with a kernel of 1x1 or 3x3 -> [N, out, H, W], or twice (`up`) or half (`down`) that size.

    When upsampling, the kernel is applied as a true convolution, otherwise as a correlation, as StyleGAN2 does.
    """
    size = int(weight.shape[-1])  # a constant of a traced graph
    if up and down:
        raise ValueError("one of up and down must be false")
    if not (up or down):
        return conv3x3(x, weight) if size == 3 else F.conv2d(x, weight, padding=size // 2)
    assert f is not None
    taps = int(f.shape[0])
    if up:
        if size == 1:
            return upsample2d(F.conv2d(x, weight), f)
        # Zero insertion and convolution at once; then the filter, which also trims to the doubled size.
        y = conv3x3_stride2.up(x, cached(weight, "transposed", lambda: _transposed(weight)))
        before, after = (taps + 1) // 2 + size // 2 - (size - 1), (taps - 2) // 2 + size // 2 - (size - 2)
        return upfirdn2d(y, f, padding=(before, after), gain=4)
    if size == 1:
        return F.conv2d(downsample2d(x, f), weight)
    padding = ((taps - 1) // 2 + size // 2, (taps - 2) // 2 + size // 2)
    return conv3x3_stride2.down(upfirdn2d(x, f, padding=padding), weight)


def _transposed(weight: torch.Tensor) -> torch.Tensor:
    weight = weight.transpose(0, 1)
    return weight if weight.is_contiguous(memory_format=torch.channels_last) else weight.contiguous()
