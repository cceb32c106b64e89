"""The generator as modules that export to ONNX: the weights of gan.networks.generator, in plain torch operations alone.

What follows from the weights is computed here, once, in float32. Activations are modulated, not weights, as in
gan.ops.modulated_conv2d, so that one ordinary convolution serves any batch.

Axis legend: weights [out, in, kh, kw]; images [N, C, H, W]; styles [N, in]; ws [N, L, w_dim].

In half precision (`dtype` float16) features and convolutions are float16; the mapping, styles, demodulation and the sum
of the colours stay float32. Styles and weights are scaled to at most one before they meet features, and the scale is
made good in float32 (Karras et al. 2020, ADA, appendix: "mixed-precision training"), so that no product overflows.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from gan.networks.generator import Generator, Mapping, Synthesis, SynthesisLayer, ToRGB
from gan.networks.layers import FullyConnected, normalize_second_moment
from gan.ops.bias_act import GAINS, SLOPE
from gan.ops.modulated_conv2d import EPSILON
from serving.contract import PSI_RANGE


class Linear(nn.Module):
    """A FullyConnected with its gains folded into weight and bias; of a leaky ReLU also the activation's."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, layer: FullyConnected, gain: float = 1.0) -> None:
        super().__init__()
        self.slope = SLOPE if layer.act == "lrelu" else None
        gain *= GAINS[layer.act]
        self.register_buffer("weight", layer.weight * (layer.weight_gain * gain))
        self.register_buffer("bias", layer.bias * (layer.lr_multiplier * gain))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.linear(x, self.weight, self.bias)
        return x if self.slope is None else F.leaky_relu(x, self.slope)


def classes_table(mapping: Mapping) -> torch.Tensor:
    """What a mapping makes of each class before its layers: float32 [classes, w_dim]."""
    one_hot = torch.eye(mapping.num_classes)
    return normalize_second_moment(mapping.embed(one_hot))


class MappingGraph(nn.Module):
    """z [N, z_dim], truncation_psi [N, 1], label [N, 1] where there are classes -> ws [N, L, w_dim], all float32.

    truncation_psi is clamped to the contract's range; the label is int64.
    """

    w_avg: torch.Tensor
    table: torch.Tensor

    def __init__(self, G: Generator) -> None:
        super().__init__()
        mapping = G.mapping
        self.num_ws = mapping.num_ws
        if mapping.num_classes:
            self.register_buffer("table", classes_table(mapping))
        self.layers = nn.Sequential(*(Linear(getattr(mapping, f"fc{index}")) for index in range(mapping.layers)))
        self.register_buffer("w_avg", mapping.w_avg.clone())

    def forward(self, z: torch.Tensor, truncation_psi: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        x = normalize_second_moment(z)
        if label is not None:
            x = torch.cat([x, self.table[label[:, 0]]], dim=1)
        w: torch.Tensor = self.w_avg + truncation_psi.clamp(*PSI_RANGE) * (self.layers(x) - self.w_avg)
        return w.unsqueeze(1).repeat(1, self.num_ws, 1)  # [N, L, w_dim]


class ModulatedConv(nn.Module):
    """Modulation and convolution without what follows. Gives also what the result is to be multiplied by, [N, 1]."""

    weight: torch.Tensor

    def __init__(self, affine: FullyConnected, weight: torch.Tensor, dtype: torch.dtype, gain: float = 1.0) -> None:
        super().__init__()
        self.affine = Linear(affine, gain)
        self.dtype, self.scaled = dtype, dtype == torch.float16
        self.padding = weight.shape[-1] // 2
        # Scaled so that a sum of as many products as there are weights cannot overflow.
        self.scale = float(weight.abs().max()) * math.sqrt(weight[0].numel()) if self.scaled else 1.0
        self.register_buffer("weight", (weight / self.scale).to(dtype))

    def forward(self, x: torch.Tensor, styles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        largest = None
        if self.scaled:
            largest = styles.abs().amax(dim=1, keepdim=True) + EPSILON  # [N, 1]
            styles = styles / largest
            largest = largest * self.scale
        return self.convolve(x * styles.to(self.dtype)[:, :, None, None]), largest

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight, padding=self.padding)


class UpConv(ModulatedConv):
    """The same at twice the resolution: zero insertion and a true convolution, then the low-pass filter."""

    blur: torch.Tensor

    def __init__(self, layer: SynthesisLayer, dtype: torch.dtype) -> None:
        super().__init__(layer.affine, layer.weight, dtype)
        self.outputs = len(layer.weight)
        kernel = 4 * torch.outer(layer.resample_filter, layer.resample_filter)
        self.register_buffer("blur", kernel.expand(self.outputs, 1, -1, -1).clone().to(dtype))

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        y = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)  # [N, out, 2H + 1, 2W + 1]
        return F.conv2d(y, self.blur, padding=1, groups=self.outputs)


class LayerGraph(nn.Module):
    """A SynthesisLayer with its constant noise."""

    squares: torch.Tensor
    shift: torch.Tensor
    noise: torch.Tensor

    def __init__(self, layer: SynthesisLayer, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv = UpConv(layer, dtype) if layer.up else ModulatedConv(layer.affine, layer.weight, dtype)
        self.dtype = dtype
        gain = GAINS["lrelu"]  # leaky ReLU lets a positive factor through, so it joins what comes before
        self.gain = gain
        self.register_buffer("squares", layer.weight.square().sum([2, 3]))  # [out, in]
        self.register_buffer("noise", (layer.noise_const * layer.noise_strength * gain)[None, None].to(dtype))
        self.register_buffer("shift", (layer.bias * gain)[None, :, None, None].to(dtype))

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        styles = self.conv.affine(w)
        x, factor = self.conv(x, styles)
        # Equation 3 of Karras et al. 2020.
        demodulation = (F.linear(styles.square(), self.squares) + EPSILON).rsqrt() * self.gain  # [N, out]
        if factor is not None:
            demodulation = demodulation * factor
        return F.leaky_relu(x * demodulation.to(self.dtype)[:, :, None, None] + self.noise + self.shift, SLOPE)


class ToRGBGraph(nn.Module):
    """A ToRGB; gives float32."""

    bias: torch.Tensor

    def __init__(self, torgb: ToRGB, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv = ModulatedConv(torgb.affine, torgb.weight, dtype, torgb.weight_gain)
        self.register_buffer("bias", torgb.bias[None, :, None, None].clone())

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y, factor = self.conv(x, self.conv.affine(w))
        if factor is not None:
            y = y.float() * factor[:, :, None, None]
        img: torch.Tensor = y + self.bias
        return img


class SynthesisGraph(nn.Module):
    """ws [N, L, w_dim] -> img float32 [N, 3, H, W], about [-1, 1], with the constant noise."""

    const: torch.Tensor
    kernel: torch.Tensor

    def __init__(self, synthesis: Synthesis, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        blocks = synthesis.blocks
        self.register_buffer("const", blocks[0].const[None].to(dtype))
        self.layers = nn.ModuleList(
            nn.ModuleList(LayerGraph(layer, dtype) for layer in block.layers) for block in blocks
        )
        self.torgbs = nn.ModuleList(ToRGBGraph(block.torgb, dtype) for block in blocks)
        f = blocks[0].resample_filter
        self.register_buffer("kernel", (4 * torch.outer(f, f)).expand(3, 1, -1, -1).clone())

    def forward(self, ws: torch.Tensor) -> torch.Tensor:
        x, index = self.const, 0
        img: torch.Tensor | None = None
        for layers, torgb in zip(self.layers, self.torgbs, strict=True):
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                x = layer(x, ws[:, index])
                index += 1
            y = torgb(x, ws[:, index])
            img = y if img is None else F.conv_transpose2d(img, self.kernel, stride=2, padding=1, groups=3) + y
        assert img is not None
        return img


def to_image(img: torch.Tensor) -> torch.Tensor:
    """img float32 NCHW -> image uint8 NHWC, rounded as gan.data.images.to_pixels does. NaN becomes grey."""
    img = torch.where(torch.isnan(img), torch.zeros_like(img), img)
    return (img * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class PaintWs(nn.Module):
    """ws -> image, and img beside it, by which the export is checked."""

    def __init__(self, synthesis: SynthesisGraph) -> None:
        super().__init__()
        self.synthesis = synthesis

    def forward(self, ws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        img = self.synthesis(ws)
        return to_image(img), img


class PaintZ(nn.Module):
    """z, truncation_psi and label -> image and img."""

    def __init__(self, mapping: MappingGraph, synthesis: SynthesisGraph) -> None:
        super().__init__()
        self.mapping, self.paint = mapping, PaintWs(synthesis)

    def forward(
        self, z: torch.Tensor, truncation_psi: torch.Tensor, label: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image, img = self.paint(self.mapping(z, truncation_psi, label))
        return image, img
