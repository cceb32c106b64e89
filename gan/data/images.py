"""Pixels and tensors: the one place where they are turned into each other, tiled and encoded.

`pixels` are uint8 in [0, 255]; `img` is float32 NCHW in [-1, 1]. C is 1 of grey images, 3 of RGB, 4 of RGB with alpha.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gan.data.recipe import Recipe
from gan.errors import RequestError
from gan.runtime.files import atomic

if TYPE_CHECKING:
    import torch  # only named here: commands that prepare images start without it

Pixels = NDArray[np.uint8]

FORMATS = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
WHITE = 255
CHECKS = (8, 204, 255)  # of the ground that transparency is shown on: their side in pixels, and their two greys
SEEN_AS = {1: "grey as RGB", 4: "alpha over white"}  # channels -> what to_rgb does; it stands in keys of results
SUFFIXES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}


def to_float(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels of any shape -> float32 of that shape in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def to_pixels(img: torch.Tensor) -> Pixels:
    """Float NCHW in [-1, 1] (clamped) -> uint8 NHWC, rounded to the nearest."""
    return to_bytes(img).cpu().numpy()


def to_bytes(img: torch.Tensor) -> torch.Tensor:
    """What to_pixels gives, as a tensor on the device of `img`."""
    pixels = img.detach().float().mul(127.5).add_(127.5).round_().clamp_(0, 255).byte()
    return pixels.permute(0, 2, 3, 1).contiguous()  # NCHW -> NHWC


def to_image(pixels: Pixels) -> Image.Image:
    """Pixels [H, W, C] -> an image of mode L, RGB or RGBA."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def to_rgb(pixels: Pixels) -> Pixels:
    """Pixels [..., C] -> [..., 3], as networks that judge images take them: grey thrice, alpha laid over white."""
    return _laid_over(pixels, np.array(WHITE))


def for_display(pixels: Pixels) -> Pixels:
    """Pixels [..., H, W, C] -> [..., H, W, 3], as people look at them: grey thrice, alpha over a checked ground."""
    if pixels.shape[-1] != 4:
        return to_rgb(pixels)
    side, dark, light = CHECKS
    rows, columns = (np.arange(size) // side for size in pixels.shape[-3:-1])
    odd = (rows[:, None] + columns) % 2 == 1
    return _laid_over(pixels, np.where(odd, dark, light)[..., None])


def _laid_over(pixels: Pixels, ground: NDArray[np.int64]) -> Pixels:
    if pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    if pixels.shape[-1] == 3:
        return pixels
    colour, alpha = pixels[..., :3].astype(np.int64), pixels[..., 3:].astype(np.int64)
    return ((colour * alpha + ground * (255 - alpha) + 127) // 255).astype(np.uint8)


def tile(pixels: Pixels, columns: int, gap: int = 0, background: int = 255) -> Pixels:
    """Lay N images [N, H, W, C] out row by row -> one image [rows*(H+gap)-gap, columns*(W+gap)-gap, C]."""
    count, height, width, channels = pixels.shape
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    grid = np.full(shape, background, np.uint8)
    for index, image in enumerate(pixels):
        y, x = (index // columns) * (height + gap), (index % columns) * (width + gap)
        grid[y : y + height, x : x + width] = image
    return grid


def encode(image: Image.Image, format: str, quality: int = 95, recipe: Recipe | None = None) -> bytes:
    """An image file's bytes, the same for the same pixels: JPEG with full colour resolution, PNG, or lossless WebP.

    JPEG has no alpha, which is laid over white. A generated image's file says so, and how, by its `recipe`.
    """
    buffer = io.BytesIO()
    options = {} if recipe is None else recipe.save_options(format)
    if format == "jpeg" and image.mode == "RGBA":
        image = Image.fromarray(to_rgb(np.asarray(image)))
    image = image.copy()
    image.info.pop("icc_profile", None)  # sRGB's, as decoding makes it, says when it was made
    if format == "jpeg":
        image.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True, **options)
    elif format == "png":
        image.save(buffer, "PNG", **options)
    elif format == "webp":
        # exact: what lies behind full transparency stays as it is
        image.save(buffer, "WEBP", lossless=True, quality=quality, method=4, **_exact(image), **options)
    else:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}; got {format!r} instead")
    return buffer.getvalue()


def _exact(image: Image.Image) -> dict[str, bool]:
    return {"exact": True} if image.mode == "RGBA" else {}


def check_suffix(path: Path, parameter: str = "path", when: str = "") -> str:
    """The format that an image file's name asks for. Raises RequestError, which names `parameter`, for another suffix.

    `when` goes on: of which requests this is so.
    """
    format = SUFFIXES.get(Path(path).suffix.lower())
    if format is None:
        raise RequestError(f"`{parameter}` must end in one of {', '.join(SUFFIXES)}{when}; got {path} instead")
    return format


def save(pixels: Pixels, path: Path, quality: int = 95, recipe: Recipe | None = None) -> None:
    """Write HWC pixels to `path`, atomically, with the `recipe` of generated ones; its suffix gives the format.

    Raises RequestError for a suffix that is none of .jpg, .jpeg, .png, .webp.
    """
    format = check_suffix(path)
    with atomic(path) as temporary:
        temporary.write_bytes(encode(to_image(pixels), format, quality, recipe))


def refuse_images(out: Path) -> None:
    """Raise RequestError when `out`, which Salon made nothing in yet, holds images or folders of images."""
    for file in (file for pattern in ("*", "*/*") for file in out.glob(pattern)):
        if file.suffix.lower() in SUFFIXES:
            raise RequestError(f"`out` must be a folder of its own; {out} holds images, as {file}: choose another")
