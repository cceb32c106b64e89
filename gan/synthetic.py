"""Landscapes made by rule, so that everything can be tried without any data."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from gan import images
from gan.console import progress
from gan.files import disk_error


def landscape(seed: int, size: int) -> Image.Image:
    """A painting-like landscape: sky, sun, hills, water or fields, in dabs; RGB, `size` wide, 3:4 or square or 4:3."""
    rng = np.random.default_rng(seed)
    height = round(size * rng.choice([0.75, 1.0, 1.0, 0.8]))
    horizon = round(height * rng.uniform(0.35, 0.65))
    warmth = rng.uniform(-1, 1)
    top = np.array([110 + 70 * warmth, 150 + 10 * warmth, 215 - 70 * warmth])
    low = np.array([235 + 15 * warmth, 215 - 10 * warmth, 200 - 70 * warmth])
    t = np.linspace(0, 1, horizon)[:, None, None]
    canvas = np.zeros([height, size, 3])
    canvas[:horizon] = top * (1 - t) + low * t
    field = np.array([[96, 130, 60], [70, 110, 140], [170, 140, 70]])[rng.integers(3)] + rng.normal(0, 12, 3)
    depth = np.linspace(1.15, 0.6, height - horizon)[:, None, None]
    canvas[horizon:] = field * depth
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x, y, radius = rng.uniform(0.1, 0.9) * size, rng.uniform(0.15, 0.9) * horizon, size * rng.uniform(0.03, 0.07)
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(255, 240, int(190 - 40 * warmth)))
    for layer in range(int(rng.integers(1, 4))):
        _hills(draw, rng, size, horizon, layer)
    _dabs(draw, rng, image)
    return image.filter(ImageFilter.GaussianBlur(size / 250))


def write_landscapes(folder: Path, count: int, size: int, seed: int) -> int:
    """Write `count` landscapes as JPEG into `folder`, leaving those that are there -> how many were new."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error
    made = 0
    for number in progress(range(count), "Painting landscapes"):
        path = folder / f"landscape-{seed}-{number:05d}.jpg"
        if not path.exists():
            images.save(np.asarray(landscape(seed * 1_000_003 + number, size)), path, quality=92)
            made += 1
    return made


def _hills(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: int, horizon: int, layer: int) -> None:
    xs = np.linspace(0, size, 24)
    waves = np.zeros_like(xs)
    for _ in range(3):
        waves += np.sin(xs / size * rng.uniform(2, 9) + rng.uniform(0, 7)) * rng.uniform(0.02, 0.07)
    ys = horizon - size * (0.10 - 0.03 * layer) + waves * size
    shade = np.clip(np.array([90, 110, 130]) - 22 * layer + rng.normal(0, 10, 3), 0, 255).astype(int)
    outline = [(float(x), float(min(y, horizon))) for x, y in zip(xs, ys, strict=True)]
    draw.polygon([(0.0, float(horizon)), *outline, (float(size), float(horizon))], fill=tuple(shade.tolist()))


def _dabs(draw: ImageDraw.ImageDraw, rng: np.random.Generator, image: Image.Image) -> None:
    # Short strokes in the colour beneath them, a little off, as an impressionist would.
    pixels = np.asarray(image).astype(int)
    for _ in range(image.width * image.height // 40):
        x, y = int(rng.integers(image.width)), int(rng.integers(image.height))
        colour = np.clip(pixels[y, x] + rng.normal(0, 14, 3), 0, 255).astype(int)
        length, slope = rng.uniform(1, image.width / 16), rng.normal(0, 0.25)
        draw.line([x, y, x + length, y + slope * length], fill=tuple(colour.tolist()), width=max(1, image.width // 64))
