"""Layers with equalised learning rate (Karras et al. 2018, section 4.1): weights are drawn from N(0, 1) and scaled
to He's standard deviation when they are used.
"""

import torch
import torch.nn.functional as F
from torch import nn

from gan.networks.equalised import Equalised
from gan.ops.bias_act import GAINS, SLOPE, bias_act
from gan.ops.conv2d_resample import conv2d_resample
from gan.ops.upfirdn2d import setup_filter


class FullyConnected(Equalised):
    """act(x W^T + b) * gain, [N, in] -> [N, out]. `lr_multiplier` slows learning, the initial function is the same."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        act: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.act, self.lr_multiplier, self.gain = act, lr_multiplier, gain
        self.weight = nn.Parameter(torch.randn([outputs, inputs]) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([outputs], bias_init))
        self.weight_gain = lr_multiplier / inputs**0.5

    def factors(self) -> dict[str, float]:
        """With the gains, which leaky ReLU lets through."""
        gain = GAINS[self.act] * self.gain
        return {"weight": self.weight_gain * gain, "bias": self.lr_multiplier * gain}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.prepared is not None:
            y = torch.addmm(self.prepared["bias"], x, self.prepared["weight"].t())
            return F.leaky_relu(y, SLOPE) if self.act == "lrelu" else y
        bias = self.bias * self.lr_multiplier if self.lr_multiplier != 1 else self.bias
        y = bias_act(x @ (self.weight * self.weight_gain).t(), bias, self.act)
        return y if self.gain == 1 else y * self.gain


class Conv2d(Equalised):
    """act(convolution + b) * gain, [N, in, H, W] -> [N, out, H, W], or half that size with `down`; in x's dtype.

    `clamp` limits the magnitude of what comes out, before the gain.
    """

    resample_filter: torch.Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        act: str = "lrelu",
        bias: bool = True,
        down: bool = False,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.act, self.down, self.gain = act, down, gain
        self.limit = None if clamp is None else clamp * gain
        self.linear = act == "linear" and not bias
        self.weight = nn.Parameter(torch.randn([outputs, inputs, size, size]))
        self.bias = nn.Parameter(torch.zeros([outputs])) if bias else None
        self.weight_gain = 1 / (inputs * size * size) ** 0.5
        self.register_buffer("resample_filter", setup_filter(), persistent=False)

    def factors(self) -> dict[str, float]:
        """With the gain, where nothing comes after the convolution."""
        return {"weight": self.weight_gain * self.gain if self.linear else self.weight_gain}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight * self.factors()["weight"] if self.prepared is None else self.prepared["weight"]
        y = conv2d_resample(x, weight.to(x.dtype), self.resample_filter, down=self.down)
        return clamped(y if self.linear else bias_act(y, self.bias, self.act, self.gain), self.limit)


def clamped(x: torch.Tensor, limit: float | None) -> torch.Tensor:
    """x with its magnitude limited (Karras et al. 2020, ADA, appendix: "mixed-precision training"); None: x."""
    return x if limit is None else x.clamp(-limit, limit)


def normalize_second_moment(x: torch.Tensor) -> torch.Tensor:
    """Scale each row of [N, features] to a mean square of one."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
