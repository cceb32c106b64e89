"""DINOv2's vision transformers (Oquab et al. 2024), as the published state dicts name their tensors.

Axis legend: tokens [N, 1 + rows * columns, D], the class token first.
"""

import torch
from torch import nn
from torch.nn import functional as F

PATCH, TRAINED_GRID = 14, 37  # pixels of a patch's side; patches of a side at the size it was trained at, 518
# Width, depth, heads; the largest has gated units (SwiGLU).
SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "g": (1536, 40, 24)}
_OFFSET = 0.1  # with which the published models interpolate their positions


class Dinov2(nn.Module):
    """Normalized img [N, 3, H, W], sides multiples of 14 -> the class token after the last norm [N, D], float32."""

    def __init__(self, size: str) -> None:
        super().__init__()
        width, depth, heads = SIZES[size]
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + TRAINED_GRID**2, width))
        self.mask_token = nn.Parameter(torch.empty(1, width))  # of the training; the file has it
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks = nn.ModuleList([Block(width, heads, gated=size == "g") for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalized img [N, 3, H, W] -> [N, D]."""
        patches = self.patch_embed["proj"](x)  # [N, D, rows, columns]
        rows, columns = (int(side) for side in patches.shape[2:])  # constants of an exported graph
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        tokens = tokens + self.positions(rows, columns)
        for block in self.blocks:
            tokens = block(tokens)
        features: torch.Tensor = self.norm(tokens[:, 0])
        return features

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """The position embedding for a grid of patches [1, 1 + rows * columns, D], interpolated from the trained."""
        if (rows, columns) == (TRAINED_GRID, TRAINED_GRID):
            return self.pos_embed
        first, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        grid = grid.reshape(1, TRAINED_GRID, TRAINED_GRID, -1).permute(0, 3, 1, 2)  # [1, D, 37, 37]
        scale = ((rows + _OFFSET) / TRAINED_GRID, (columns + _OFFSET) / TRAINED_GRID)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")  # [1, D, rows, columns]
        return torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)


class Block(nn.Module):
    """Attention and a perceptron, each with its norm before and its scale (LayerScale) behind."""

    def __init__(self, width: int, heads: int, gated: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": torch.empty(width)}) for _ in range(2))
        self.mlp = GatedPerceptron(width) if gated else Perceptron(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens -> tokens."""
        x = x + self.ls1["gamma"] * self.attn(self.norm1(x))
        out: torch.Tensor = x + self.ls2["gamma"] * self.mlp(self.norm2(x))
        return out


class Attention(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [N, T, D] -> [N, T, D]."""
        n, t, d = x.shape
        q, k, v = (
            self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        )  # 3 x [N, heads, T, -]
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
        out: torch.Tensor = self.proj(mixed)
        return out


class Perceptron(nn.Module):
    """Two layers around a GELU, four times as wide within."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens -> tokens."""
        out: torch.Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class GatedPerceptron(nn.Module):
    """Two layers around a SiLU that gates (Shazeer 2020), with as many weights as a Perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens -> tokens."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: torch.Tensor = self.w3(F.silu(gate) * value)
        return out
