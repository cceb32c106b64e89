"""Layers with equalised learning rate (Karras et al. 2018, section 4.1): weights are drawn from N(0, 1) and scaled
to He's standard deviation when they are used.
"""

import torch
from torch import nn

from gan.ops.bias_act import bias_act
from gan.ops.conv2d_resample import conv2d_resample
from gan.ops.upfirdn2d import setup_filter


class FullyConnected(nn.Module):
    """act(x W^T + b), [N, in] -> [N, out]. `lr_multiplier` slows learning without changing the initial function."""

    def __init__(
        self, inputs: int, outputs: int, *, act: str = "linear", lr_multiplier: float = 1.0, bias_init: float = 0.0
    ) -> None:
        super().__init__()
        self.act, self.lr_multiplier = act, lr_multiplier
        self.weight = nn.Parameter(torch.randn([outputs, inputs]) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([outputs], bias_init))
        self.weight_gain = lr_multiplier / inputs**0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = self.bias * self.lr_multiplier if self.lr_multiplier != 1 else self.bias
        return bias_act(x @ (self.weight * self.weight_gain).t(), bias, self.act)


class Conv2d(nn.Module):
    """act(convolution + b) * gain, [N, in, H, W] -> [N, out, H, W], or half that size with `down`; in x's dtype."""

    resample_filter: torch.Tensor

    def __init__(
        self, inputs: int, outputs: int, size: int, *, act: str = "lrelu", bias: bool = True, down: bool = False
    ) -> None:
        super().__init__()
        self.act, self.down = act, down
        self.weight = nn.Parameter(torch.randn([outputs, inputs, size, size]))
        self.bias = nn.Parameter(torch.zeros([outputs])) if bias else None
        self.weight_gain = 1 / (inputs * size * size) ** 0.5
        self.register_buffer("resample_filter", setup_filter(), persistent=False)

    def forward(self, x: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        linear = self.bias is None and self.act == "linear"
        weight = self.weight * (self.weight_gain * gain if linear else self.weight_gain)
        y = conv2d_resample(x, weight.to(x.dtype), self.resample_filter, down=self.down)
        return y if linear else bias_act(y, self.bias, self.act, gain)


def normalize_second_moment(x: torch.Tensor) -> torch.Tensor:
    """Scale each row of [N, features] to a mean square of one."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
