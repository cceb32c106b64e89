"""Exponential moving average of the generator's weights, G_ema, which samples are drawn from (Karras et al. 2018)."""

import torch
from torch import nn


def half_life(ema_kimg: float, rampup: float | None, cur_nimg: int) -> float:
    """Half-life in images: `ema_kimg`, or less while fewer than ema_kimg / rampup images have been seen.

    `cur_nimg` is the count before the iteration: after the first one the average is G itself.
    """
    images = ema_kimg * 1000
    return images if rampup is None else min(images, cur_nimg * rampup)


@torch.no_grad()
def update(average: nn.Module, module: nn.Module, batch_size: int, half_life: float) -> None:
    """Move the parameters of `average` towards those of `module` by one batch; copy the buffers."""
    beta = 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - beta)
    if buffers := list(average.buffers()):
        torch._foreach_copy_(buffers, list(module.buffers()))
