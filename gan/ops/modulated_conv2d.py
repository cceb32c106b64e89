"""Style-modulated convolution (Karras et al. 2020, equations 1-3).

Axis legend: weights [out, in, kh, kw]; styles [N, in].
"""

import torch

from gan.ops.conv2d_resample import conv2d_resample

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
    an image, and lets one ordinary convolution serve the whole batch.
    """
    y = conv2d_resample(x * styles[:, :, None, None], weight, f, up=up)
    if demodulate:
        # Equation 3: the sum over in, kh, kw of (styles * weight)^2 for each image and output channel.
        energy = styles.square() @ weight.square().sum([2, 3]).t()  # [N, out]
        y = y * (energy + EPSILON).rsqrt()[:, :, None, None]
    return y


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
