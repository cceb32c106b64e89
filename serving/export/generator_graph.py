"""What a served generator does around gan's own: truncation and classes image by image, uint8 images out.

Axis legend: images [N, C, H, W]; ws [N, L, w_dim].
"""

import copy

import torch
from torch import nn

from gan.networks.generator import Generator, Synthesis
from serving.contract import PSI_RANGE


class MappingGraph(nn.Module):
    """z [N, z_dim], truncation_psi [N, 1], label [N, 1] where there are classes -> ws [N, L, w_dim], all float32.

    truncation_psi is clamped to the contract's range; the label is int64.
    """

    one_hot: torch.Tensor

    def __init__(self, G: Generator) -> None:
        super().__init__()
        self.mapping = G.mapping
        self.register_buffer("one_hot", torch.eye(G.config.num_classes))

    def forward(self, z: torch.Tensor, truncation_psi: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        ws = self.mapping(z, None if label is None else self.one_hot[label[:, 0]])
        psi = truncation_psi.clamp(*PSI_RANGE)[:, :, None]
        truncated: torch.Tensor = self.mapping.w_avg + psi * (ws - self.mapping.w_avg)
        return truncated


class SynthesisGraph(nn.Module):
    """ws [N, L, w_dim] -> img float32 [N, C, H, W], about [-1, 1], with the constant noise.

    `dtype` is that of features and convolutions; all else is float32.
    """

    def __init__(self, synthesis: Synthesis, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.synthesis = copy.copy(synthesis)  # the same weights
        self.synthesis.trunk_dtype = dtype

    def forward(self, ws: torch.Tensor) -> torch.Tensor:
        img: torch.Tensor = self.synthesis(ws, "const")
        return img


def to_image(img: torch.Tensor) -> torch.Tensor:
    """img float32 NCHW -> image uint8 NHWC, rounded as gan.data.images.to_pixels does. NaN becomes grey."""
    # One zero for all: zeros of img's shape would hide from the graph's shapes that there is one channel.
    img = torch.where(torch.isnan(img), torch.zeros([]), img)
    return (img * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class ImageFromWs(nn.Module):
    """ws -> image, and img beside it, by which the export is checked."""

    def __init__(self, synthesis: SynthesisGraph) -> None:
        super().__init__()
        self.synthesis = synthesis

    def forward(self, ws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        img = self.synthesis(ws)
        return to_image(img), img


class ImageFromZ(nn.Module):
    """z, truncation_psi and label -> image and img."""

    def __init__(self, mapping: MappingGraph, synthesis: SynthesisGraph) -> None:
        super().__init__()
        self.mapping, self.from_ws = mapping, ImageFromWs(synthesis)

    def forward(
        self, z: torch.Tensor, truncation_psi: torch.Tensor, label: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image, img = self.from_ws(self.mapping(z, truncation_psi, label))
        return image, img
