"""Random numbers of augmentations: one row an image, on torch's default device, from its global generator."""

import torch


def sometimes(p: float | torch.Tensor, value: torch.Tensor, otherwise: float) -> torch.Tensor:
    """Each row of `value` with probability p, else `otherwise`."""
    chosen = torch.rand([len(value)]) < p
    return torch.where(chosen.view(-1, *[1] * (value.ndim - 1)), value, otherwise)


def uniform(*shape: int) -> torch.Tensor:
    """Uniform in [-1, 1)."""
    return torch.rand(shape) * 2 - 1


def normal(*shape: int) -> torch.Tensor:
    """Of mean 0 and variance 1."""
    return torch.randn(shape)


def log_normal(n: int, octaves: float) -> torch.Tensor:
    """A positive factor [n] whose logarithm to base 2 has mean 0 and standard deviation `octaves`."""
    return torch.exp2(torch.randn([n]) * octaves)
