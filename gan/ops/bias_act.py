"""Bias, activation and gain in one call."""

import math

import torch
import torch.nn.functional as F

SLOPE = 0.2  # of leaky ReLU below zero, in all of StyleGAN
GAINS = {"linear": 1.0, "lrelu": math.sqrt(2)}  # keep the variance of unit normal input


def bias_act(x: torch.Tensor, b: torch.Tensor | None, act: str = "linear", gain: float = 1.0) -> torch.Tensor:
    """act(x + b) * GAINS[act] * gain, with the bias b [C] along dimension 1 of x [N, C, ...].

    `act` is "linear" or "lrelu". Raises ValueError when b does not fit x.
    """
    if act not in GAINS:
        raise ValueError(f"act must be one of {', '.join(GAINS)}; got {act!r} instead")
    if b is not None:
        if b.ndim != 1 or x.ndim < 2 or b.shape[0] != x.shape[1]:
            raise ValueError(f"b must be a vector as long as dimension 1 of x {tuple(x.shape)}; got {tuple(b.shape)}")
        x = x + b.reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])
    if act == "lrelu":
        x = F.leaky_relu(x, SLOPE)
    total = GAINS[act] * gain
    return x if total == 1 else x * total
