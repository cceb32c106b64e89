"""Noise maps that are searched for: they begin as noise, and are held to be noise.

Axis legend: a map [1, 1, height, width].
"""

from collections.abc import Sequence

import torch

SMALLEST = 8  # pixels of a map's shorter side, below which it is not averaged down further


def regularization(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """What is not noise in maps: squared autocorrelation by one pixel, at all resolutions from theirs down.

    Karras et al. 2020, appendix D, eq. 10: each map is averaged down by 2 down to 8 pixels, keeping a deviation of one.
    """
    total = maps[0].new_zeros([])
    for noise in maps:
        while True:
            for dim in (2, 3):
                total = total + (noise * noise.roll(1, dims=dim)).mean().square()
            if min(noise.shape[2:]) // 2 < SMALLEST:
                break
            noise = torch.nn.functional.avg_pool2d(noise, 2) * 2  # means of four have half of the deviation
    return total


def normalize_(maps: Sequence[torch.Tensor]) -> None:
    """Give each map a mean of zero and a deviation of one, in place."""
    with torch.no_grad():
        for noise in maps:
            noise.sub_(noise.mean())
            noise.mul_(noise.square().mean().add_(1e-20).rsqrt_())
