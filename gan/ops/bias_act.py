"""Scale, noise, bias, activation and gain in one call, and one pass over memory where kernels serve.

The activation is piecewise linear: where its slope is known, from the sign of the output, the first derivatives are
linear in each of their arguments. So there are three operators, and each is differentiated by the other two, to any
order: bias_act, its gradients, and the gradient of these with respect to the incoming gradient (bias_act_tangent).

Axis legend: images [N, C, H, W]; scale [N, C]; noise [N or 1, 1, H, W]; strength, of the noise, [].
"""

import math
from typing import Any

import torch
import torch.nn.functional as F

from gan.ops import backend
from gan.ops.custom_op import CustomOp

SLOPE = 0.2  # of leaky ReLU below zero, in all of StyleGAN
GAINS = {"linear": 1.0, "lrelu": math.sqrt(2)}  # keep the variance of unit normal input


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    act: str = "linear",
    gain: float = 1.0,
    *,
    scale: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    strength: torch.Tensor | None = None,
) -> torch.Tensor:
    """act(x * scale + noise * strength + b) * GAINS[act] * gain, with b [C] along dimension 1 of x [N, C, ...].

    `act` is "linear" or "lrelu". `scale` and `noise` need an x of four dimensions; `strength` [] is one by default. The
    result has x's dtype; what is between is computed in the widest dtype of all. Raises ValueError when something does
    not fit x, and when `gain` is not above zero.
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
    if strength is not None and (strength.ndim or noise is None):
        raise ValueError(f"strength must be a number that goes with noise; got {tuple(strength.shape)} instead")
    if act == "linear" and gain == 1 and b is scale is noise is None:
        return x
    if x.ndim != 4 or torch.is_autocast_enabled(x.device.type):
        return bias_act_reference(x, b, act, gain, scale=scale, noise=noise, strength=strength)
    if noise is not None and strength is not None and noise.requires_grad:  # the operator gives the gradient of one
        noise, strength = noise * strength, None
    y: torch.Tensor = _bias_act(x, b, scale, noise, strength, act, gain)
    return y


def bias_act_reference(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    act: str = "linear",
    gain: float = 1.0,
    *,
    scale: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    strength: torch.Tensor | None = None,
) -> torch.Tensor:
    """What bias_act computes, step by step."""
    y = x
    if scale is not None:
        y = y * scale[:, :, None, None]
    if noise is not None:
        y = y + (noise if strength is None else noise * strength)
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
    strength: torch.Tensor | None,
    act: str,
    gain: float,
) -> torch.Tensor:
    kernels = backend.kernels(x, b, scale, noise, strength)
    if kernels is None:
        y = bias_act_reference(x, b, act, gain, scale=scale, noise=noise, strength=strength)
        return y.contiguous(memory_format=torch.channels_last)
    image: torch.Tensor = kernels.pointwise(x, scale, noise, strength, b, *_slope_and_gain(act, gain))
    return image


def _plain(
    x: torch.Tensor,
    b: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
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
        y = y + scaled(noise if strength is None else noise * strength)
    if b is not None:
        y = y + scaled(b)[:, None, None]
    return y if slope == 1 else F.leaky_relu(y, slope)


def _forward_fake(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, b, scale, noise, strength, ctx.act, ctx.gain = inputs
    # The gradients need the sign of what went into the activation, which y has, and with a scale also x.
    ctx.save_for_backward(
        None if scale is None else x,
        output if ctx.act == "lrelu" else None,
        scale,
        None if strength is None else noise,
    )
    ctx.one_noise = noise is not None and noise.shape[0] == 1
    ctx.dtypes = [None if t is None else t.dtype for t in (b, scale, noise, strength)]


def _backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    need_b, need_scale, *need_noise_or_strength = ctx.needs_input_grad[1:5]
    needs = [need_b, need_scale, any(need_noise_or_strength)]
    grad_x, *others = _bias_act_gradients(g, *ctx.saved_tensors, ctx.act, ctx.gain, needs)
    grad_b, grad_scale, grad_noise = (others.pop(0) if need else None for need in needs)
    grad_strength = None
    if need_noise_or_strength[1]:
        grad_noise, grad_strength = None, grad_noise
    if grad_noise is not None and ctx.one_noise:
        grad_noise = grad_noise.sum(dim=0, keepdim=True)
    found = (grad_b, grad_scale, grad_noise, grad_strength)
    inputs = (None if t is None else t.to(dtype) for t, dtype in zip(found, ctx.dtypes, strict=True))
    return grad_x, *inputs, None, None


def _gradients(
    g: torch.Tensor,
    x: torch.Tensor | None,
    y: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    act: str,
    gain: float,
    needs: list[bool],
) -> list[torch.Tensor]:
    # The gradients of x, and those needed of b [C], of each image's scale [N, C], and of each image's noise
    # [N, 1, H, W], or, where noise is given, of its strength [].
    need_b, need_scale, need_noise = needs
    t = g.to(_wide(g, scale)) * _factor(y, act, gain)
    found = [(t if scale is None else t * scale[:, :, None, None]).to(g.dtype)]
    if need_b:
        found.append(t.sum(dim=[0, 2, 3]))
    if need_scale:
        assert x is not None
        found.append((t * x).sum(dim=[2, 3]))
    if need_noise:
        found.append(t.sum(dim=1, keepdim=True) if noise is None else (t * noise).sum())
    return found


def _gradients_kernel(
    g: torch.Tensor,
    x: torch.Tensor | None,
    y: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    act: str,
    gain: float,
    needs: list[bool],
) -> list[torch.Tensor]:
    kernels = backend.kernels(g, scale, noise)
    if kernels is None:
        grad_x, *others = _gradients(g, x, y, scale, noise, act, gain, needs)
        return [grad_x.contiguous(memory_format=torch.channels_last), *others]
    found: list[torch.Tensor] = kernels.gradients(g, x, y, scale, noise, *_slope_and_gain(act, gain), needs)
    return found


def _gradients_fake(
    g: torch.Tensor,
    x: torch.Tensor | None,
    y: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    act: str,
    gain: float,
    needs: list[bool],
) -> list[torch.Tensor]:
    n, c, h, w = g.shape
    shapes = [
        shape
        for shape, need in zip(([c], [n, c], [] if noise is not None else [n, 1, h, w]), needs, strict=True)
        if need
    ]
    dtype = _wide(g, scale)
    grad_x = torch.empty_like(g, memory_format=torch.channels_last)
    return [grad_x, *(g.new_empty(shape, dtype=dtype) for shape in shapes)]


def _gradients_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.act, ctx.gain, ctx.needs = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _gradients_backward(ctx: Any, along: list[torch.Tensor | None]) -> tuple[torch.Tensor | None, ...]:
    g, x, y, scale, noise = ctx.saved_tensors
    v_x, *others = along
    v_b, v_scale, v_noise = (others.pop(0) if need else None for need in ctx.needs)
    grad_g = grad_x = grad_scale = None
    if ctx.needs_input_grad[0]:
        grad_g = _bias_act_tangent(g, v_x, x, y, scale, v_scale, noise, v_noise, v_b, ctx.act, ctx.gain)
    need_scale = v_x is not None and ctx.needs_input_grad[3]
    if need_scale or v_scale is not None:
        found = _bias_act_gradients(g, v_x, y, v_scale, None, ctx.act, ctx.gain, [False, need_scale, False])
        grad_x = found[0] if v_scale is not None and ctx.needs_input_grad[1] else None
        grad_scale = found[1] if need_scale else None
    return grad_g, grad_x, None, grad_scale, None, None, None, None


def _tangent(
    g: torch.Tensor,
    v_x: torch.Tensor | None,
    x: torch.Tensor | None,
    y: torch.Tensor | None,
    scale: torch.Tensor | None,
    v_scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    v_noise: torch.Tensor | None,
    v_b: torch.Tensor | None,
    act: str,
    gain: float,
) -> torch.Tensor:
    # The gradient of all that _gradients returns with respect to its g, of which only dtype and shape matter:
    # (v_x * scale + x * v_scale + noise * v_noise + v_b) times the slope at y.
    total = torch.zeros([], dtype=_wide(g, scale), device=g.device)
    if v_x is not None:
        total = total + (v_x if scale is None else v_x * scale[:, :, None, None])
    if v_scale is not None:
        assert x is not None
        total = total + x * v_scale[:, :, None, None]
    if v_noise is not None:
        total = total + (v_noise if noise is None else noise * v_noise)
    if v_b is not None:
        total = total + v_b[:, None, None]
    return (total * _factor(y, act, gain)).to(g.dtype).expand(g.shape)


def _tangent_kernel(
    g: torch.Tensor,
    v_x: torch.Tensor | None,
    x: torch.Tensor | None,
    y: torch.Tensor | None,
    scale: torch.Tensor | None,
    v_scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    v_noise: torch.Tensor | None,
    v_b: torch.Tensor | None,
    act: str,
    gain: float,
) -> torch.Tensor:
    kernels = backend.kernels(g, scale, v_scale, noise, v_noise, v_b)
    if v_x is None or kernels is None or not kernels.TANGENT:
        found = _tangent(g, v_x, x, y, scale, v_scale, noise, v_noise, v_b, act, gain)
        return found.contiguous(memory_format=torch.channels_last)
    if noise is None:
        noise, v_noise = v_noise, None
    second = (None, None) if v_scale is None else (x, v_scale)
    slope, gain = _slope_and_gain(act, gain)
    image: torch.Tensor = kernels.pointwise(v_x, scale, noise, v_noise, v_b, slope, gain, second=second, sign=y)
    return image


def _tangent_fake(g: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(g, memory_format=torch.channels_last)


def _tangent_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    *tensors, ctx.act, ctx.gain = inputs
    ctx.save_for_backward(*tensors[1:])


def _tangent_backward(ctx: Any, along: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    v_x, x, y, scale, v_scale, noise, _, _ = ctx.saved_tensors
    _, need_v_x, need_x, _, need_scale, need_v_scale, _, need_v_noise, need_v_b = ctx.needs_input_grad[:9]
    by_x = by_scale = by_v_x = by_v_scale = by_v_noise = by_v_b = None
    if need_v_x or need_scale or need_v_noise or need_v_b:
        needs = [need_v_b, need_scale and v_x is not None, need_v_noise]
        by_v_x, *others = _bias_act_gradients(along, v_x, y, scale, noise, ctx.act, ctx.gain, needs)
        by_v_b, by_scale, by_v_noise = (others.pop(0) if need else None for need in needs)
    if v_scale is not None and (need_x or need_v_scale):  # without it x plays no part
        needs = [False, need_v_scale, False]
        by_x, *others = _bias_act_gradients(along, x, y, v_scale, None, ctx.act, ctx.gain, needs)
        by_v_scale = others[0] if others else None
    return None, by_v_x if need_v_x else None, by_x, None, by_scale, by_v_scale, None, by_v_noise, by_v_b, None, None


def _slope_and_gain(act: str, gain: float) -> tuple[float, float]:
    return (SLOPE if act == "lrelu" else 1.0), float(GAINS[act] * gain)


def _wide(g: torch.Tensor, scale: torch.Tensor | None) -> torch.dtype:
    return torch.promote_types(
        torch.float32 if scale is None else scale.dtype, torch.promote_types(g.dtype, torch.float32)
    )


def _factor(y: torch.Tensor | None, act: str, gain: float) -> torch.Tensor | float:
    # The activation's slope times the gain; y's sign is a constant.
    slope, gain = _slope_and_gain(act, gain)
    return gain if y is None else torch.where(y.detach() > 0, gain, slope * gain)


# All give channels-last memory, whatever computes them: torch.compile relies on what the fakes say.
_bias_act = CustomOp(
    "bias_act",
    "(Tensor x, Tensor? b, Tensor? scale, Tensor? noise, Tensor? strength, str act, float gain) -> Tensor",
    _forward,
    _forward_fake,
    _plain,
    _setup,
    _backward,
)
_bias_act_gradients = CustomOp(
    "bias_act_gradients",
    "(Tensor g, Tensor? x, Tensor? y, Tensor? scale, Tensor? noise, str act, float gain, bool[] needs) -> Tensor[]",
    _gradients_kernel,
    _gradients_fake,
    _gradients,
    _gradients_setup,
    _gradients_backward,
)
_bias_act_tangent = CustomOp(
    "bias_act_tangent",
    "(Tensor g, Tensor? v_x, Tensor? x, Tensor? y, Tensor? scale, Tensor? v_scale, Tensor? noise, Tensor? v_noise, "
    "Tensor? v_b, str act, float gain) -> Tensor",
    _tangent_kernel,
    _tangent_fake,
    _tangent,
    _tangent_setup,
    _tangent_backward,
)
