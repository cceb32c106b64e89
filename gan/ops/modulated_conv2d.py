"""Style-modulated convolution (Karras et al. 2020, equations 1-3).

Axis legend: weights [out, in, kh, kw]; styles [N, in].
"""

import math

import torch

from gan.ops.bias_act import bias_act
from gan.ops.conv2d_resample import conv2d_resample
from gan.ops.weight_cache import cached, cast

EPSILON = 1e-8


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    f: torch.Tensor | None = None,
    *,
    up: bool = False,
) -> torch.Tensor:
    """Convolve each image x[n] with weight * styles[n]; not demodulated.

    Convolution is linear: scaling its input channels and then its output channels, by demodulation(), is the same as
    building one kernel an image, and lets one ordinary convolution, in x's dtype, serve the whole batch.
    """
    return conv2d_resample(bias_act(x, scale=styles), cast(weight, x.dtype), f, up=up)


def demodulation(weight: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """The scale of the output channels for kernels of unit norm (equation 3); [N, out] in the dtype of `weight`."""
    squares = cached(weight, "squares", lambda: weight.square().sum([2, 3]))  # [out, in]
    energy = styles.square() @ squares.t()  # the sum over in, kh, kw of (styles * weight)^2
    return (energy + EPSILON).rsqrt()


def within_float16(weight: torch.Tensor, styles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weight, in float16, and styles scaled down for features in float16, and the factor [N, 1] that undoes it.

    Both become at most one in such a way that no sum of products of features up to 256 overflows (Karras et al. 2020,
    ADA, appendix: "mixed-precision training"). The scales are constants to autograd: they cancel, whatever they are.
    """
    scale = cached(weight, "float16 scale", lambda: (_largest(weight) + EPSILON) * math.sqrt(weight[0].numel()))
    largest = _largest(styles, dim=1) + EPSILON  # [N, 1]
    return cached(weight, "float16", lambda: (weight / scale).half()), styles / largest, largest * scale


def _largest(x: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    largest: torch.Tensor = torch.linalg.vector_norm(x.detach(), float("inf"), dim, keepdim=dim is not None)
    return largest


def modulated_conv2d_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    f: torch.Tensor | None = None,
    *,
    demodulate: bool = True,
    up: bool = False,
) -> torch.Tensor:
    """The convolution, then demodulated, with one kernel an image, literally as equations 1-3 say; slow."""
    images = []
    for image, style in zip(x, styles, strict=True):
        kernel = weight * style[None, :, None, None]
        if demodulate:
            kernel = kernel * (kernel.square().sum([1, 2, 3], keepdim=True) + EPSILON).rsqrt()
        images.append(conv2d_resample(image[None], kernel, f, up=up))
    return torch.cat(images)
