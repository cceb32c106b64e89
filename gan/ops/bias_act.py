"""Scale, noise, bias, activation and gain in one call, and one pass over memory where native code serves.

Axis legend: images [N, C, H, W]; scale [N, C]; noise [N or 1, 1, H, W].
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from gan.ops import native
from gan.ops.custom_op import CustomOp

SLOPE = 0.2  # of leaky ReLU below zero, in all of StyleGAN
GAINS = {"linear": 1.0, "lrelu": math.sqrt(2)}  # keep the variance of unit normal input
CHUNK = 256  # pixels whose sums the native backward takes at a time: the same whatever the number of threads
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}  # what native code reads and writes


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    act: str = "linear",
    gain: float = 1.0,
    *,
    scale: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """act(x * scale + noise + b) * GAINS[act] * gain, with the bias b [C] along dimension 1 of x [N, C, ...].

    `act` is "linear" or "lrelu". `scale` and `noise` need an x of four dimensions. The result has x's dtype; what is
    between is computed in the widest dtype of all. Raises ValueError when something does not fit x, and when `gain` is
    not above zero.
    """
    if act not in GAINS:
        raise ValueError(f"act must be one of {', '.join(GAINS)}; got {act!r} instead")
    if not gain > 0:
        raise ValueError(
            f"gain must be above zero; got {gain} instead"
        )  # the gradients take the sign of what was below
    if b is not None and (b.ndim != 1 or x.ndim < 2 or b.shape[0] != x.shape[1]):
        raise ValueError(f"b must be a vector as long as dimension 1 of x {tuple(x.shape)}; got {tuple(b.shape)}")
    if scale is not None and (x.ndim != 4 or scale.shape != x.shape[:2]):
        raise ValueError(f"scale must have the first two dimensions of x {tuple(x.shape)}; got {tuple(scale.shape)}")
    if noise is not None and (x.ndim != 4 or noise.shape not in [(n, 1, *x.shape[2:]) for n in (1, x.shape[0])]):
        raise ValueError(f"noise must be [N or 1, 1, H, W] for x {tuple(x.shape)}; got {tuple(noise.shape)}")
    if act == "linear" and gain == 1 and b is scale is noise is None:
        return x
    if x.ndim != 4 or torch.is_autocast_enabled(x.device.type):
        return bias_act_reference(x, b, act, gain, scale=scale, noise=noise)
    y: torch.Tensor = _bias_act(x, b, scale, noise, act, gain)
    return y


def bias_act_reference(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    act: str = "linear",
    gain: float = 1.0,
    *,
    scale: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """What bias_act computes, step by step."""
    y = x
    if scale is not None:
        y = y * scale[:, :, None, None]
    if noise is not None:
        y = y + noise
    if b is not None:
        y = y + b.reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])
    if act == "lrelu":
        y = F.leaky_relu(y, SLOPE)
    total = GAINS[act] * gain
    return (y if total == 1 else y * total).to(x.dtype)


def _forward(
    x: torch.Tensor,
    b: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    act: str,
    gain: float,
) -> torch.Tensor:
    if not _native_serves(x, b, scale, noise):
        y = bias_act_reference(x, b, act, gain, scale=scale, noise=noise)
        return y.contiguous(memory_format=torch.channels_last)
    image = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(image)
    scale, noise, b = (None if t is None else t.contiguous() for t in (scale, noise, b))
    images = 0 if noise is None else len(noise)
    sizes = *_sizes(x), *_slope_and_gain(act, gain)
    native.call(f"salon_bias_act_{NAMES[x.dtype]}", image, scale, noise, images, b, y, *sizes)
    return y


def _plain(
    x: torch.Tensor,
    b: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    act: str,
    gain: float,
) -> torch.Tensor:
    # All of it in x's dtype. The activation lets a positive factor through, so the gain joins what is small, and a
    # runtime can fold it into the convolution before.
    slope, gain = _slope_and_gain(act, gain)

    def scaled(t: torch.Tensor) -> torch.Tensor:
        t = t if gain == 1 else t * gain
        return t if t.dtype == x.dtype else t.to(x.dtype)

    y = x
    if scale is not None:
        y = y * scaled(scale)[:, :, None, None]
    elif gain != 1:
        y = y * gain
    if noise is not None:
        y = y + scaled(noise)
    if b is not None:
        y = y + scaled(b)[:, None, None]
    return y if slope == 1 else F.leaky_relu(y, slope)


def _forward_fake(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _gradients_kernel(
    g: torch.Tensor,
    x: torch.Tensor | None,
    y: torch.Tensor | None,
    scale: torch.Tensor | None,
    act: str,
    gain: float,
    needs: list[bool],
) -> list[torch.Tensor]:
    # What _gradients computes.
    need_b, need_scale, need_noise = needs
    g = g.contiguous(memory_format=torch.channels_last)
    if not _native_serves(g, scale):
        grad_x, *others = _gradients(g, x, y, scale, act, gain, needs)
        return [grad_x.contiguous(memory_format=torch.channels_last), *others]
    x = None if x is None else x.contiguous(memory_format=torch.channels_last)
    scale = None if scale is None else scale.contiguous()
    images, pixels, channels = _sizes(g)
    chunks = -(-pixels // CHUNK)
    grad_x, sums = torch.empty_like(g), g.new_empty([images, chunks, 2, channels], dtype=torch.float32)
    grad_noise = sums.new_empty([images, 1, *g.shape[2:]]) if need_noise else None
    sizes = images, pixels, channels, *_slope_and_gain(act, gain)
    native.call(f"salon_bias_act_backward_{NAMES[g.dtype]}", g, x, y, scale, grad_x, grad_noise, sums, CHUNK, *sizes)
    found = [grad_x]
    if need_b:
        found.append(sums[:, :, 1].sum(dim=1))
    if need_scale:
        found.append(sums[:, :, 0].sum(dim=1))
    return found if grad_noise is None else [*found, grad_noise]


def _gradients_fake(
    g: torch.Tensor,
    x: torch.Tensor | None,
    y: torch.Tensor | None,
    scale: torch.Tensor | None,
    act: str,
    gain: float,
    needs: list[bool],
) -> list[torch.Tensor]:
    n, c, h, w = g.shape
    shapes = [shape for shape, need in zip(([n, c], [n, c], [n, 1, h, w]), needs, strict=True) if need]
    dtype = _wide(g, scale)
    grad_x = torch.empty_like(g, memory_format=torch.channels_last)
    return [grad_x, *(g.new_empty(shape, dtype=dtype) for shape in shapes)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, b, scale, noise, ctx.act, ctx.gain = inputs
    # The gradients need the sign of what went into the activation, which y has, and with a scale also x.
    ctx.save_for_backward(None if scale is None else x, output if ctx.act == "lrelu" else None, scale)
    ctx.one_noise = noise is not None and noise.shape[0] == 1
    ctx.dtypes = [None if t is None else t.dtype for t in (b, scale, noise)]


def _backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    needs = list(ctx.needs_input_grad[1:4])
    # Gradients that are to be differentiated themselves are made of operations that torch differentiates.
    gradients: Callable[..., Any] = _gradients if torch.is_grad_enabled() else _bias_act_backward
    grad_x, *others = gradients(g, *ctx.saved_tensors, ctx.act, ctx.gain, needs)
    grad_b, grad_scale, grad_noise = (others.pop(0) if need else None for need in needs)
    if grad_b is not None:
        grad_b = grad_b.sum(dim=0)
    if grad_noise is not None and ctx.one_noise:
        grad_noise = grad_noise.sum(dim=0, keepdim=True)
    inputs = (None if t is None else t.to(d) for t, d in zip((grad_b, grad_scale, grad_noise), ctx.dtypes, strict=True))
    return grad_x, *inputs, None, None


def _gradients(
    g: torch.Tensor,
    x: torch.Tensor | None,
    y: torch.Tensor | None,
    scale: torch.Tensor | None,
    act: str,
    gain: float,
    needs: list[bool],
) -> list[torch.Tensor]:
    # The gradients of each image: of x, and those needed of b [N, C], scale [N, C] and noise [N, 1, H, W].
    # The activation is piecewise linear: y's sign is a constant.
    need_b, need_scale, need_noise = needs
    slope, gain = _slope_and_gain(act, gain)
    t = g.to(_wide(g, scale)) * (gain if y is None else torch.where(y.detach() > 0, gain, slope * gain))
    found = [(t if scale is None else t * scale[:, :, None, None]).to(g.dtype)]
    if need_b:
        found.append(t.sum(dim=[2, 3]))
    if need_scale:
        assert x is not None
        found.append((t * x).sum(dim=[2, 3]))
    if need_noise:
        found.append(t.sum(dim=1, keepdim=True))
    return found


def _native_serves(x: torch.Tensor, *others: torch.Tensor | None) -> bool:
    return (
        x.device.type in ("cpu", "cuda")
        and x.dtype in NAMES
        and x.numel() > 0
        and all(other is None or other.dtype == torch.float32 for other in others)
        and native.library(x.device.type) is not None
    )


def _slope_and_gain(act: str, gain: float) -> tuple[float, float]:
    return (SLOPE if act == "lrelu" else 1.0), float(GAINS[act] * gain)


def _wide(g: torch.Tensor, scale: torch.Tensor | None) -> torch.dtype:
    return torch.promote_types(
        torch.float32 if scale is None else scale.dtype, torch.promote_types(g.dtype, torch.float32)
    )


def _sizes(x: torch.Tensor) -> tuple[int, int, int]:
    return len(x), x.shape[2] * x.shape[3], x.shape[1]  # images, pixels, channels


# Both give channels-last memory, whatever computes them: torch.compile relies on what the fakes say.
_bias_act = CustomOp(
    "bias_act",
    "(Tensor x, Tensor? b, Tensor? scale, Tensor? noise, str act, float gain) -> Tensor",
    _forward,
    _forward_fake,
    _plain,
    _setup,
    _backward,
)
_bias_act_backward = CustomOp(
    "bias_act_backward",
    "(Tensor g, Tensor? x, Tensor? y, Tensor? scale, str act, float gain, bool[] needs) -> Tensor[]",
    _gradients_kernel,
    _gradients_fake,
    _gradients,
)
