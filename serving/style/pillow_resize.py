"""Pillow's bicubic resize as two matrix products, so that any runtime of ONNX computes what training saw.

ONNX has a Resize of its own, but neither a box with fractions of pixels nor Pillow's rounding between its two passes,
and not every runtime has its low-pass filter. Axis legend: N images, H and W sides of the input, S side of the output.
"""

import torch
from torch import nn

SUPPORT, A = 2.0, -0.5  # of the cubic convolution kernel (Keys 1981)


class Resize(nn.Module):
    """The square in the middle with `share` of the shorter side, brought to `size` x `size`."""

    def __init__(self, size: int, share: float) -> None:
        super().__init__()
        self.size, self.share = size, share

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [N, H, W, 3] -> float32 [N, 3, S, S], whole numbers in [0, 255]."""
        height, width = pixels.shape[1], pixels.shape[2]
        x = pixels.permute(0, 3, 1, 2).float()  # [N, 3, H, W]
        rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
        box = torch.minimum(rows[-1], columns[-1]).add(1).mul(self.share)  # side of what is seen, in pixels
        # Along rows first, as Pillow goes, save for tall images in recent versions: that moves roundings alone.
        x = _rounded(x @ weights(columns, box, self.size).T)  # [N, 3, H, S]
        return _rounded(weights(rows, box, self.size) @ x)  # [N, 3, S, S]


def weights(positions: torch.Tensor, box: torch.Tensor, size: int) -> torch.Tensor:
    """How much each of L pixels at 0, 1, ... counts in each of `size` results -> [size, L]; each row's sum is 1.

    The results cover `box` pixels in the middle. Where they are fewer than that the kernel widens to a low-pass filter.
    """
    step = box / size
    start = (positions[-1] + 1 - box) / 2
    centre = start + (torch.arange(size, dtype=torch.float32) + 0.5) * step  # [size]
    widened = torch.clamp(step, min=1.0)
    x = ((positions[None, :] + 0.5 - centre[:, None]) / widened).abs()  # [size, L]
    near = ((A + 2) * x - (A + 3)) * x * x + 1
    far = ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
    kernel = torch.where(x < 1, near, torch.where(x < SUPPORT, far, torch.zeros_like(x)))
    return kernel / kernel.sum(1, keepdim=True)


def _rounded(x: torch.Tensor) -> torch.Tensor:
    # To the nearest whole number, halves up, as 8 bits hold it.
    return torch.clamp(torch.floor(x + 0.5), 0, 255)
