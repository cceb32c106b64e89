"""From an image's pixels to the size at which a network sees it. How that is done moves a metric by whole points
(Parmar et al. 2022), so each way has a name, and the name is part of every result's key.

`pixels` are uint8 NHWC in [0, 255]; what comes out is float32 NCHW in [0, 255], in channels-last memory.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from gan.data.images import Pixels
from gan.device.memory import upload

CPU = torch.device("cpu")
GROUND = 128  # around images that are not square, with pad
CROP = 0.875  # share of the shorter side that ImageNet networks are evaluated on


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named way to bring images to a network's size.

    `resize` maps uint8 pixels [N, H, W, 3] and a size to float32 [N, size, size, 3] in [0, 255]; of arrays on the CPU,
    or of `tensors` on any device.
    """

    name: str
    resize: Callable[[Any, int], torch.Tensor]
    tensors: bool = False

    def __call__(self, pixels: Pixels | Sequence[Pixels], size: int, device: torch.device = CPU) -> torch.Tensor:
        """uint8 [N, H, W, 3], or a list of N images [H, W, 3] of any sizes -> float32 [N, 3, size, size] on `device`.

        Raises ValueError for other shapes and dtypes.
        """
        batches = [pixels] if isinstance(pixels, np.ndarray) else [image[None] for image in pixels]
        for batch in batches:
            if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != 3 or 0 in batch.shape[1:]:
                shape = list(batch.shape if isinstance(pixels, np.ndarray) else batch.shape[1:])
                raise ValueError(f"pixels must be uint8 [N, H, W, 3]; got {batch.dtype} {shape} instead")
        if not batches:
            return torch.empty([0, 3, size, size], device=device)
        resized = [self._resized(batch, size, device) for batch in batches]
        return torch.cat(resized).permute(0, 3, 1, 2)  # NHWC -> NCHW; the memory stays as it is

    def _resized(self, batch: Pixels, size: int, device: torch.device) -> torch.Tensor:
        if self.tensors:
            return self.resize(upload(torch.from_numpy(np.require(batch, requirements=["C", "W"])), device), size)
        if device.type == "cpu":
            return self.resize(batch, size)
        # A GPU is faster than one thread of Pillow's.
        parts = _threads().map(self.resize, np.split(batch, len(batch)), itertools.repeat(size))
        return upload(torch.cat(list(parts)), device)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="resize")


def tf1(x: torch.Tensor, size: int) -> torch.Tensor:
    """Bilinear between the four nearest pixels, as TensorFlow 1 resized for the first FIDs (Heusel et al. 2017).

    Pixel i comes from i * side / size, without the half-pixel shift and without a low-pass filter.
    """
    for dim in (2, 1):  # columns first, so that rounding is that of the original
        side = x.shape[dim]
        if side == size:
            continue
        position = torch.arange(size, dtype=torch.float32) * torch.tensor(side / size, dtype=torch.float32)
        low = position.long()
        share = upload((position - low).reshape([size] + [1] * (3 - dim)), x.device)
        low = upload(low, x.device)
        before = x.index_select(dim, low).float()
        after = x.index_select(dim, (low + 1).clamp_max(side - 1))
        x = before + (after - before).mul_(share)
    return x.float()


def clean(pixels: Pixels, size: int) -> torch.Tensor:
    """Bicubic with a low-pass filter in floating point, by Pillow: clean-fid (Parmar et al. 2022)."""
    if pixels.shape[1:3] == (size, size):
        return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).float()
    out = np.empty([len(pixels), size, size, 3], np.float32)
    for image, target in zip(pixels, out, strict=True):
        for channel in range(3):
            plane = Image.fromarray(image[:, :, channel].astype(np.float32))  # mode F: no rounding to 8 bits
            target[:, :, channel] = plane.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(out.clip(0, 255, out=out))


def imagenet(pixels: Pixels, size: int) -> torch.Tensor:
    """The middle of the image, as ImageNet networks are evaluated: bicubic with a low-pass filter to 8 bits."""
    return _crop(pixels, size, CROP)


def clip(pixels: Pixels, size: int) -> torch.Tensor:
    """The largest square in the middle, bicubic with a low-pass filter to 8 bits: CLIP (Radford et al. 2021)."""
    return _crop(pixels, size, 1.0)


def dgm(pixels: Pixels, size: int) -> torch.Tensor:
    """The whole image, bicubic with a low-pass filter to 8 bits: dgm-eval (Stein et al. 2023)."""
    out = np.empty([len(pixels), size, size, 3], np.uint8)
    for image, target in zip(pixels, out, strict=True):
        target[:] = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(out).float()


def pad(pixels: Pixels, size: int) -> torch.Tensor:
    """The whole image in its own proportions, in the middle of a grey square; then as clean."""
    height, width = pixels.shape[1:3]
    side = max(height, width)
    square = np.full([len(pixels), side, side, 3], GROUND, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = pixels
    return clean(square, size)


PRESETS = {
    name: Preset(name=name, resize=resize, tensors=resize is tf1)
    for name, resize in (
        *(("tf1", tf1), ("clean", clean), ("pad", pad)),
        *(("imagenet", imagenet), ("clip", clip), ("dgm", dgm)),
    )
}


@dataclass
class FileProperties:
    """What files a set of images consists of: file formats such as "jpeg", and sizes (width, height), with counts."""

    formats: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, format: str, width: int, height: int) -> None:
        """Count one image; `format` is "array" for one that never was a file."""
        self.formats[format] += 1
        self.sizes[width, height] += 1


def differences(evaluated: FileProperties, real: FileProperties) -> list[str]:
    """What sets two sets apart that is no merit of a generator: one warning for each; none when there is nothing.

    Compression alone moves FID (Parmar et al. 2022, section 4), and so does resizing from another size.
    """
    warnings = []
    lossy = [_share(properties.formats, lambda format: format == "jpeg") for properties in (evaluated, real)]
    if abs(lossy[0] - lossy[1]) > 0.01:
        remedy = "prepare the dataset as PNGs from its source" if lossy[1] > lossy[0] else "evaluate PNGs"
        warnings.append(
            f"{lossy[0]:.0%} of the evaluated images are JPEGs and {lossy[1]:.0%} of the dataset's: "
            f"the metric sees the compression too; {remedy}"
        )
    common = [properties.sizes.most_common(1)[0][0] if properties.sizes else None for properties in (evaluated, real)]
    if None not in common and common[0] != common[1]:
        sizes = " and ".join(f"{size[0]}x{size[1]}" for size in common if size)
        warnings.append(f"the images' sizes differ, mostly {sizes}: the metric sees the resizing too")
    return warnings


def _share(counts: Counter[str], chosen: Callable[[str], bool]) -> float:
    return sum(n for name, n in counts.items() if chosen(name)) / max(counts.total(), 1)


def _crop(pixels: Pixels, size: int, share: float) -> torch.Tensor:
    out = np.empty([len(pixels), size, size, 3], np.uint8)
    for image, target in zip(pixels, out, strict=True):
        height, width = image.shape[:2]
        side = min(height, width) * share
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        target[:] = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return torch.from_numpy(out).float()
