"""The operators of bias_act.py and upfirdn2d.py as Triton kernels: one pass over memory each, compiled at first use.

Triton comes inside torch's CUDA wheels, so a GPU needs no compiler of CUDA. Images lie in channels-last memory, so that
neighbouring threads read neighbouring channels, sixteen bytes at a time where the number of channels allows it. What is
computed is float32, whatever the images are. Offsets within a program's tile have 32 bits, that of the tile itself 64.

No call allocates anything but its results and their partial sums, reads from the device or draws on the host: all can
be captured in a CUDA graph once they have run. Sums have a fixed order, so that the same input gives the same bits.

Axis legend: images [N, C, H, W], in memory [N, H, W, C]; a "pixel" is one of all H * W, with its channels.
"""

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl

TANGENT = True  # pointwise adds a second image and goes by the sign of another
TILE = 4096  # elements that a program has in its registers at a time
FIR_TILE = 1024  # elements of one output row of the filter
MOST_CHANNELS = 1024  # of a tile
PROGRAMS = 2048  # that share the sums of a gradient: some for each of a GPU's processors


@triton.jit(do_not_specialize=["pixels", "groups", "noise_step"])
def _pointwise(
    x, scale, x2, scale2, noise, strength, b, sign, y,
    pixels, groups, scale_step, scale2_step, noise_step, slope, gain,
    VEC: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    # y = act(v) * gain with v = x * scale + x2 * scale2 + noise * strength + b, each part only where it is given.
    # The activation goes by the sign of v, or of `sign` where that is given.
    chunks = tl.cdiv(pixels, BLOCK_P)
    n = tl.program_id(0) // chunks
    first = tl.program_id(0) % chunks * BLOCK_P
    channels = groups * VEC  # which tells the compiler what divides it
    p = tl.arange(0, BLOCK_P)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    here = first + p < pixels
    inside = here[:, None] & (c < channels)[None, :]
    start = (n.to(tl.int64) * pixels + first) * channels
    at = p[:, None] * channels + c[None, :]
    v = tl.load(x + start + at, mask=inside, other=0).to(tl.float32)
    if scale is not None:
        v *= tl.load(scale + n * scale_step + c, mask=c < channels, other=0)[None, :]
    if x2 is not None:
        v2 = tl.load(x2 + start + at, mask=inside, other=0).to(tl.float32)
        if scale2 is not None:
            v2 *= tl.load(scale2 + n * scale2_step + c, mask=c < channels, other=0)[None, :]
        v += v2
    if noise is not None:
        e = tl.load(noise + n.to(tl.int64) * noise_step + first + p, mask=here, other=0)
        v += (e if strength is None else e * tl.load(strength))[:, None]
    if b is not None:
        v += tl.load(b + c, mask=c < channels, other=0)[None, :]
    positive = v > 0
    if sign is not None:
        positive = tl.load(sign + start + at, mask=inside, other=0) > 0
    tl.store(y + start + at, (v * tl.where(positive, gain, slope * gain)).to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["pixels", "groups", "noise_step", "chunk"])
def _gradients(
    g, x, y, scale, noise, grad_x, grad_noise, sums_b, sums_scale, sums_strength,
    pixels, groups, scale_step, noise_step, chunk, slope, gain,
    VEC: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    # t = g * gain * (slope where y <= 0). A program sums over one chunk of an image's pixels: t for b and grad_noise,
    # t * x for scale, t * noise for strength; grad_noise needs all channels within one tile.
    chunks = tl.cdiv(pixels, chunk)
    n = tl.program_id(0) // chunks
    first = tl.program_id(0) % chunks * chunk
    channels = groups * VEC
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    start = n.to(tl.int64) * pixels
    s = None
    if scale is not None:
        s = tl.load(scale + n * scale_step + c, mask=c < channels, other=0)[None, :]
    of_b = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    of_scale = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    of_strength = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for step in range(0, chunk, BLOCK_P):
        p = tl.arange(0, BLOCK_P)
        here = first + step + p < pixels
        inside = here[:, None] & (c < channels)[None, :]
        row = start + first + step
        tile = row * channels
        at = p[:, None] * channels + c[None, :]
        t = tl.load(g + tile + at, mask=inside, other=0).to(tl.float32)
        if y is None:
            t *= gain
        else:
            t *= tl.where(tl.load(y + tile + at, mask=inside, other=0) > 0, gain, slope * gain)
        tl.store(grad_x + tile + at, (t if s is None else t * s).to(grad_x.dtype.element_ty), mask=inside)
        if sums_b is not None:
            of_b += t
        if sums_scale is not None:
            of_scale += t * tl.load(x + tile + at, mask=inside, other=0).to(tl.float32)
        if sums_strength is not None:
            e = tl.load(noise + n.to(tl.int64) * noise_step + first + step + p, mask=here, other=0)
            of_strength += t * e[:, None]
        if grad_noise is not None:
            tl.store(grad_noise + row + p, tl.sum(t, axis=1), mask=here)
    mine = tl.program_id(0).to(tl.int64) * channels + c
    if sums_b is not None:
        tl.store(sums_b + mine, tl.sum(of_b, axis=0), mask=c < channels)
    if sums_scale is not None:
        tl.store(sums_scale + mine, tl.sum(of_scale, axis=0), mask=c < channels)
    if sums_strength is not None:
        total = tl.sum(tl.sum(of_strength, axis=1), axis=0)
        tl.store(sums_strength + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), total)


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width", "groups", "before"])
def _fir(
    x, f, y,
    height, width, out_height, out_width, groups, before, gain,
    UP: tl.constexpr, DOWN: tl.constexpr, TAPS: tl.constexpr, FLIP: tl.constexpr,
    VEC: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    # A program makes four rows of a tile of columns and channels, from input rows that it filters once each. Of the
    # input with zeros inserted, it takes in only those pixels that are not such zeros.
    channels = groups * VEC
    columns = tl.cdiv(out_width, BLOCK_W)
    rows = tl.cdiv(out_height, 4)
    pid = tl.program_id(0)
    left = pid % columns * BLOCK_W
    top = pid // columns % rows * 4
    n = (pid // (columns * rows)).to(tl.int64)
    w = left + tl.arange(0, BLOCK_W)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    # First input column and row, and the tap (below UP) that falls on it; the sums are lifted above zero to be divided.
    lift = tl.maximum(before, 0)
    first_column = (w * DOWN - before + UP - 1 + lift * UP) // UP - lift
    first_row = (top * DOWN - before + UP - 1 + lift * UP) // UP - lift
    column_tap = first_column * UP - (w * DOWN - before)
    row_tap = first_row * UP - (top * DOWN - before)
    if UP == 1:
        row_tap = 0  # which the compiler cannot see
    # Convolution turns the filter round.
    last: tl.constexpr = 0 if FLIP else TAPS - 1
    way: tl.constexpr = 1 if FLIP else -1

    y0 = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
    y1 = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
    y2 = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
    y3 = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
    for k in tl.static_range((3 * DOWN + TAPS - 1) // UP + 1):
        row = first_row + k
        row_width = tl.where((row >= 0) & (row < height), width, 0)  # none outside of the image
        start = (n * height + row) * width * channels
        line = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
        for m in tl.static_range((TAPS + UP - 1) // UP):
            column = first_column + m
            inside = ((column >= 0) & (column < row_width))[:, None] & (c < channels)[None, :]
            v = tl.load(x + start + column[:, None] * channels + c[None, :], mask=inside, other=0).to(tl.float32)
            if UP == 1:
                line += v * tl.load(f + last + way * m)
            else:
                a = column_tap + m * UP
                line += v * tl.load(f + last + way * a, mask=a < TAPS, other=0)[:, None]
        # Onto the output rows that it can reach, whichever row_tap there is.
        a = row_tap + k * UP
        if k * UP < TAPS:
            y0 += line * tl.load(f + last + way * a, mask=a < TAPS, other=0)
        a -= DOWN
        if k * UP + UP > DOWN and k * UP < TAPS + DOWN:
            y1 += line * tl.load(f + last + way * a, mask=(a >= 0) & (a < TAPS), other=0)
        a -= DOWN
        if k * UP + UP > 2 * DOWN and k * UP < TAPS + 2 * DOWN:
            y2 += line * tl.load(f + last + way * a, mask=(a >= 0) & (a < TAPS), other=0)
        a -= DOWN
        if k * UP + UP > 3 * DOWN:
            y3 += line * tl.load(f + last + way * a, mask=(a >= 0) & (a < TAPS), other=0)

    step = out_width * channels
    start = ((n * out_height + top) * out_width + left) * channels
    at = tl.arange(0, BLOCK_W)[:, None] * channels + c[None, :]
    kind: tl.constexpr = y.dtype.element_ty
    for j in tl.static_range(4):
        v = y0 if j == 0 else y1 if j == 1 else y2 if j == 2 else y3
        inside = (w < tl.where(top + j < out_height, out_width, 0))[:, None] & (c < channels)[None, :]
        tl.store(y + start + j * step + at, (v * gain).to(kind), mask=inside)


def pointwise(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    slope: float,
    gain: float,
    *,
    second: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None),
    sign: torch.Tensor | None = None,
) -> torch.Tensor:
    """act(x * scale + noise * strength + b) * gain, channels last in x's dtype; act: `slope` times what is below zero.

    second: another image, of any dtype, and its scale or None, whose product is added. sign: goes by the sign of this
    image instead.
    """
    x2, scale2 = second
    x, x2, sign = (_channels_last(t) for t in (x, x2, sign))
    (scale, scale_step), (scale2, scale2_step) = _rows(scale), _rows(scale2)
    noise, b = _contiguous(noise), _contiguous(b)
    y = torch.empty_like(x)
    images, pixels = len(x), x.shape[2] * x.shape[3]
    groups, vec, block_c = _channels(x.shape[1])
    block_p = _power_of_two(pixels, TILE // block_c)
    grid = (images * triton.cdiv(pixels, block_p), triton.cdiv(x.shape[1], block_c))
    with _device(x):
        _pointwise[grid](
            x, scale, x2, scale2, noise, strength, b, sign, y,
            pixels, groups, scale_step, scale2_step, _step(noise), slope, gain,
            VEC=vec, BLOCK_P=block_p, BLOCK_C=block_c, **_options(block_p * block_c),
        )  # fmt: skip
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
    g, x, y = (_channels_last(t) for t in (g, x, y))
    (scale, scale_step), noise = _rows(scale), _contiguous(noise)
    images, channels, pixels = len(g), g.shape[1], g.shape[2] * g.shape[3]
    groups, vec, block_c = _channels(channels, channels if need_noise and noise is None else MOST_CHANNELS)
    block_p = _power_of_two(pixels, TILE // 2 // block_c)
    blocks = triton.cdiv(pixels, block_p)
    chunk = triton.cdiv(blocks, min(max(PROGRAMS // images, 1), blocks)) * block_p
    chunks = triton.cdiv(pixels, chunk)
    grid = (images * chunks, triton.cdiv(channels, block_c))

    def sums(needed: bool, *shape: int) -> torch.Tensor | None:
        return g.new_empty(shape, dtype=torch.float32) if needed else None

    grad_x = torch.empty_like(g)
    grad_noise = sums(need_noise and noise is None, images, 1, *g.shape[2:])
    of_b, of_scale = sums(need_b, images, chunks, channels), sums(need_scale, images, chunks, channels)
    of_strength = sums(need_noise and noise is not None, *grid)
    with _device(g):
        _gradients[grid](
            g, x if need_scale else None, y, scale, noise, grad_x, grad_noise, of_b, of_scale, of_strength,
            pixels, groups, scale_step, _step(noise), chunk, slope, gain,
            VEC=vec, BLOCK_P=block_p, BLOCK_C=block_c, **_options(block_p * block_c),
        )  # fmt: skip
    found = [
        None if of_b is None else of_b.sum(dim=(0, 1)),
        None if of_scale is None else of_scale.sum(dim=1),
        grad_noise if of_strength is None else of_strength.sum(),
    ]
    return [grad_x, *(t for t in found if t is not None)]


def upfirdn2d(
    x: torch.Tensor, f: torch.Tensor, y: torch.Tensor, up: int, down: int, before: int, gain: float, flip: bool
) -> None:
    """Fill y, channels last, with what upfirdn2d.upfirdn2d says of x; `flip`: with the filter turned round."""
    x = _channels_last(x)
    images, channels, height, width = x.shape
    out_height, out_width = y.shape[2:]
    groups, vec, block_c = _channels(channels, most=64)
    block_w = _power_of_two(out_width, FIR_TILE // block_c)
    grid = (images * triton.cdiv(out_height, 4) * triton.cdiv(out_width, block_w), triton.cdiv(channels, block_c))
    with _device(x):
        _fir[grid](
            x, f.contiguous(), y, height, width, out_height, out_width, groups, before, gain,
            UP=up, DOWN=down, TAPS=len(f), FLIP=flip,
            VEC=vec, BLOCK_W=block_w, BLOCK_C=block_c, **_options(block_w * block_c),
        )  # fmt: skip


def _channels(channels: int, most: int = MOST_CHANNELS) -> tuple[int, int, int]:
    # groups, vec, block: channels are `groups` times `vec`, a power of two; a tile has `block` or all of them.
    vec = next(vec for vec in (16, 8, 4, 2, 1) if channels % vec == 0)
    return channels // vec, vec, triton.next_power_of_2(min(channels, most))


def _power_of_two(size: int, most: int) -> int:
    return max(min(int(triton.next_power_of_2(size)), most), 1)


def _options(tile: int) -> dict[str, Any]:
    # Eight elements or more for each of up to four warps of 32 threads. Multiplying and adding at once is asked for,
    # since Triton's versions differ in what they do unasked.
    return {"num_warps": min(max(tile // 256, 1), 4), "enable_fp_fusion": True}


def _channels_last(t: torch.Tensor | None) -> Any:
    return None if t is None else t.contiguous(memory_format=torch.channels_last)


def _contiguous(t: torch.Tensor | None) -> torch.Tensor | None:
    return None if t is None else t.contiguous()


def _rows(scale: torch.Tensor | None) -> tuple[torch.Tensor | None, int]:
    # A part of a wider matrix is taken as it lies -> scale, the elements from one of its rows to the next.
    if scale is None:
        return None, 0
    scale = scale if scale.stride(1) == 1 else scale.contiguous()
    return scale, scale.stride(0)


def _step(noise: torch.Tensor | None) -> int:
    return 0 if noise is None or len(noise) == 1 else noise[0].numel()


def _device(t: torch.Tensor) -> Any:
    return torch.cuda.device(t.device) if t.is_cuda else contextlib.nullcontext()  # a CPU's: Triton's interpreter
