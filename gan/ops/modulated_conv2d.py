"""Style-modulated convolution (Karras et al. 2020, equations 1-3).

Axis legend: weights [out, in, kh, kw]; styles [N, in].
"""

import torch

from gan.ops.bias_act import bias_act
from gan.ops.conv2d_resample import conv2d_resample
from gan.ops.frozen import cast, derived

EPSILON = 1e-8


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    f: torch.Tensor | None = None,
    *,
    demodulate: bool = True,
    up: bool = False,
) -> torch.Tensor:
    """Convolve each image x[n] with weight * styles[n], scaled to unit norm per output channel when demodulating.

    Convolution is linear: scaling its input channels and then its output channels is the same as building one kernel
    an image, and lets one ordinary convolution, in x's dtype, serve the whole batch.
    """
    y = conv2d_resample(bias_act(x, scale=styles), cast(weight, x.dtype), f, up=up)
    return bias_act(y, scale=demodulation(weight, styles)) if demodulate else y


def demodulation(weight: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """What scales the output channels to unit norm (equation 3); [N, out] in the dtype of `weight`."""
    squares = derived(weight, "squares", lambda: weight.square().sum([2, 3]))  # [out, in]
    energy = styles.square() @ squares.t()  # the sum over in, kh, kw of (styles * weight)^2
    return (energy + EPSILON).rsqrt()


def modulated_conv2d_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    f: torch.Tensor | None = None,
    *,
    demodulate: bool = True,
    up: bool = False,
) -> torch.Tensor:
    """The same with one kernel an image, literally as equations 1-3 say; slow."""
    images = []
    for image, style in zip(x, styles, strict=True):
        kernel = weight * style[None, :, None, None]
        if demodulate:
            kernel = kernel * (kernel.square().sum([1, 2, 3], keepdim=True) + EPSILON).rsqrt()
        images.append(conv2d_resample(image[None], kernel, f, up=up))
    return torch.cat(images)
