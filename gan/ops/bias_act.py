"""Scale, noise, bias, activation and gain in one call, and one pass over memory where native code serves.

Axis legend: images [N, C, H, W]; scale [N, C]; noise [N or 1, 1, H, W].
"""

import math
from typing import Any

import torch
import torch.nn.functional as F

from gan.ops import native

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
    between is computed in the widest dtype of all. Raises ValueError when something does not fit x.
    """
    if act not in GAINS:
        raise ValueError(f"act must be one of {', '.join(GAINS)}; got {act!r} instead")
    if b is not None and (b.ndim != 1 or x.ndim < 2 or b.shape[0] != x.shape[1]):
        raise ValueError(f"b must be a vector as long as dimension 1 of x {tuple(x.shape)}; got {tuple(b.shape)}")
    if scale is not None and (x.ndim != 4 or scale.shape != x.shape[:2]):
        raise ValueError(f"scale must have the first two dimensions of x {tuple(x.shape)}; got {tuple(scale.shape)}")
    if noise is not None and (x.ndim != 4 or noise.shape not in [(n, 1, *x.shape[2:]) for n in (1, len(x))]):
        raise ValueError(f"noise must be [N or 1, 1, H, W] for x {tuple(x.shape)}; got {tuple(noise.shape)}")
    if act == "linear" and gain == 1 and b is scale is noise is None:
        return x
    if _applies(x, b, scale, noise):
        y: torch.Tensor = _BiasAct.apply(x, b, scale, noise, act, gain)  # type: ignore[no-untyped-call]
        return y
    return bias_act_reference(x, b, act, gain, scale=scale, noise=noise)


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


def _applies(x: torch.Tensor, *others: torch.Tensor | None) -> bool:
    return (
        x.ndim == 4
        and x.device.type in ("cpu", "cuda")
        and x.dtype in NAMES
        and x.numel() > 0
        and all(other is None or other.dtype == torch.float32 for other in others)
        and not torch.is_autocast_enabled(x.device.type)
        and native.library(x.device.type) is not None
    )


class _BiasAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        b: torch.Tensor | None,
        scale: torch.Tensor | None,
        noise: torch.Tensor | None,
        act: str,
        gain: float,
    ) -> torch.Tensor:
        image = x.contiguous(memory_format=torch.channels_last)
        y = torch.empty_like(image)
        ctx.slope, ctx.gain = (SLOPE if act == "lrelu" else 1.0), GAINS[act] * gain
        count = 0 if noise is None else len(noise)
        name = f"salon_bias_act_{NAMES[x.dtype]}"
        scales, noises, biases = (None if t is None else t.contiguous() for t in (scale, noise, b))
        native.call(name, image, scales, noises, count, biases, y, *_sizes(x), ctx.slope, ctx.gain)
        # The gradients need the sign of what went into the activation, which y has, and with a scale also x.
        ctx.save_for_backward(None if scale is None else x, y if act == "lrelu" else None, scale)
        ctx.noise_images = count
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (g,) = gradients
        x, y, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # they are to be differentiated themselves
            return (*_gradients(ctx, g, x, y, scale), None, None)
        _, need_b, need_scale, need_noise = ctx.needs_input_grad[:4]
        g = g.contiguous(memory_format=torch.channels_last)
        x = None if x is None else x.contiguous(memory_format=torch.channels_last)
        scale = None if scale is None else scale.contiguous()
        images, pixels, channels = _sizes(g)
        chunks = -(-pixels // CHUNK)
        grad_x, sums = torch.empty_like(g), g.new_empty([images, chunks, 2, channels], dtype=torch.float32)
        grad_noise = g.new_empty([images, 1, *g.shape[2:]], dtype=torch.float32) if need_noise else None
        sizes = images, pixels, channels, float(ctx.slope), float(ctx.gain)
        native.call(
            f"salon_bias_act_backward_{NAMES[g.dtype]}", g, x, y, scale, grad_x, grad_noise, sums, CHUNK, *sizes
        )
        of_scale, of_bias = sums.sum(dim=1).unbind(dim=1)  # [N, C] each
        if grad_noise is not None and ctx.noise_images == 1:
            grad_noise = grad_noise.sum(dim=0, keepdim=True)
        return grad_x, of_bias.sum(dim=0) if need_b else None, of_scale if need_scale else None, grad_noise, None, None


def _gradients(
    ctx: Any, g: torch.Tensor, x: torch.Tensor | None, y: torch.Tensor | None, scale: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    # The same in operations that torch differentiates. The activation is piecewise linear: y's sign is a constant.
    _, need_b, need_scale, need_noise = ctx.needs_input_grad[:4]
    wide = g.float()
    t = wide * ctx.gain if y is None else wide * torch.where(y.detach() > 0, ctx.gain, ctx.slope * ctx.gain)
    grad_scale = grad_noise = None
    if need_scale:
        assert x is not None
        grad_scale = (t * x).sum(dim=[2, 3])
    if need_noise:
        grad_noise = t.sum(dim=1, keepdim=True)
        grad_noise = grad_noise.sum(dim=0, keepdim=True) if ctx.noise_images == 1 else grad_noise
    grad_x = (t if scale is None else t * scale[:, :, None, None]).to(g.dtype)
    return grad_x, t.sum(dim=[0, 2, 3]) if need_b else None, grad_scale, grad_noise


def _sizes(x: torch.Tensor) -> tuple[int, int, int]:
    return len(x), x.shape[2] * x.shape[3], x.shape[1]  # images, pixels, channels
