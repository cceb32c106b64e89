"""The operators of bias_act.py and upfirdn2d.py by the library of native.py: C++ on a CPU, cuda.cu on a GPU.

The same functions as triton_kernels.py, for float32 and bfloat16.
"""

import torch

from gan.ops import native

TANGENT = False  # whether pointwise adds a second image and goes by the sign of another
CHUNK = 256  # pixels whose sums the backward takes at a time: the same whatever the number of threads
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def pointwise(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    slope: float,
    gain: float,
) -> torch.Tensor:
    """act(x * scale + noise * strength + b) * gain, channels last; act: `slope` times what is below zero."""
    image = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(image)
    if noise is not None and strength is not None:
        noise = noise * strength
    scale, noise, b = (None if t is None else t.contiguous() for t in (scale, noise, b))
    images = 0 if noise is None else len(noise)
    name = f"salon_bias_act_{NAMES[x.dtype]}"
    native.call(name, image, scale, noise, images, b, y, *_sizes(x), slope, gain)
    return y


def gradients(
    g: torch.Tensor,
    x: torch.Tensor | None,
    y: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    slope: float,
    gain: float,
    needs: list[bool],
) -> list[torch.Tensor]:
    """What bias_act._gradients computes."""
    need_b, need_scale, need_noise = needs
    g = g.contiguous(memory_format=torch.channels_last)
    x, y = (None if t is None else t.contiguous(memory_format=torch.channels_last) for t in (x, y))
    scale = None if scale is None else scale.contiguous()
    images, pixels, channels = _sizes(g)
    chunks = -(-pixels // CHUNK)
    grad_x, sums = torch.empty_like(g), g.new_empty([images, chunks, 2, channels], dtype=torch.float32)
    grad_noise = sums.new_empty([images, 1, *g.shape[2:]]) if need_noise else None
    # The library sums for scale whenever there is one, and needs an x for it.
    x = g if scale is not None and x is None else x
    name = f"salon_bias_act_backward_{NAMES[g.dtype]}"
    native.call(name, g, x, y, scale, grad_x, grad_noise, sums, CHUNK, images, pixels, channels, slope, gain)
    found = [grad_x]
    if need_b:
        found.append(sums[:, :, 1].sum(dim=1).sum(dim=0))
    if need_scale:
        found.append(sums[:, :, 0].sum(dim=1))
    if grad_noise is not None:
        found.append(grad_noise if noise is None else (grad_noise * noise).sum())
    return found


def upfirdn2d(
    x: torch.Tensor, f: torch.Tensor, y: torch.Tensor, up: int, down: int, before: int, gain: float, flip: bool
) -> None:
    """Fill y, channels last, with what upfirdn2d.upfirdn2d says of x; `flip`: with the filter turned round."""
    x = x.contiguous(memory_format=torch.channels_last)
    n, c, *sizes = x.shape
    taps = (f if flip else f.flip(0)).float() * gain**0.5  # the native code correlates, once along each axis
    native.call(f"salon_upfirdn2d_{NAMES[x.dtype]}", x, y, taps, len(f), up, down, before, n, *sizes, c, *y.shape[2:])


def _sizes(x: torch.Tensor) -> tuple[int, int, int]:
    return len(x), x.shape[2] * x.shape[3], x.shape[1]  # images, pixels, channels
