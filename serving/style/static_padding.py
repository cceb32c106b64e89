"""Convolutions that pad to one side only, for the ONNX graph: the padding is an attribute of the node itself.

TensorFlow's padding depends on the input's side. Traced as it is it becomes a subgraph and a Pad in front of each
convolution, between which ONNX Runtime reorders all features: more than half of the network's time. A network's sides
are known, so the graph needs none of that.
"""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from eval.features.efficientnet_lite import SameConv2d


class _PaddedConvolution(torch.autograd.Function):
    """A convolution with padding (left, right, top, bottom); one Conv in ONNX, which torch's own cannot be."""

    @staticmethod
    def forward(
        _: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: list[int], stride: int, groups: int
    ) -> torch.Tensor:
        return functional.conv2d(functional.pad(x, padding), weight, bias, stride, groups=groups)

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, bias: Any, padding: list[int], stride: int, groups: int) -> Any:
        left, right, top, bottom = padding
        pads = [top, left, bottom, right]
        return g.op("Conv", x, weight, bias, pads_i=pads, strides_i=[stride, stride], group_i=groups)


class StaticConv2d(nn.Module):
    """A SameConv2d for inputs of one size."""

    def __init__(self, conv: SameConv2d, height: int, width: int) -> None:
        super().__init__()
        self.weight, self.stride, self.groups = conv.weight, conv.stride[0], conv.groups
        self.bias = conv.bias if conv.bias is not None else nn.Parameter(torch.zeros(conv.out_channels), False)
        self.padding: list[int] = []
        for side, kernel in zip((width, height), conv.kernel_size[::-1], strict=True):
            total = max((-(-side // self.stride) - 1) * self.stride + kernel - side, 0)
            self.padding += [total // 2, total - total // 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in, H, W] -> [N, out, ceil(H / stride), ceil(W / stride)]."""
        y: torch.Tensor = _PaddedConvolution.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, self.padding, self.stride, self.groups
        )
        return y


def with_static_padding(trunk: nn.Module, size: int) -> nn.Module:
    """A copy of a trunk for normalized img [N, 3, size, size] whose convolutions know their inputs' sides."""
    trunk = copy.deepcopy(trunk)
    sides: dict[nn.Module, torch.Size] = {}
    hooks = [
        module.register_forward_hook(lambda conv, given, _: sides.__setitem__(conv, given[0].shape[2:]))
        for module in trunk.modules()
        if isinstance(module, SameConv2d)
    ]
    with torch.inference_mode():
        trunk(torch.zeros([1, 3, size, size]))
    for hook in hooks:
        hook.remove()
    for parent in list(trunk.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, SameConv2d):
                setattr(parent, name, StaticConv2d(conv, *sides[conv]))
    return trunk.requires_grad_(False)
