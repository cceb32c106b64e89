"""Styles of synthetic paintings, and outliers that are no paintings, to be found among them."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

# Of fauvism, from dark to light.
FAUVE = np.array(
    [
        *([28, 30, 92], [84, 36, 120], [16, 110, 104], [196, 38, 64], [40, 130, 200]),
        *([240, 110, 40], [236, 130, 170], [250, 206, 70], [252, 238, 190]),
    ]
)


def impressionism(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Short strokes in the colour beneath them, a little off."""
    image, draw, pixels = _canvas(scene)
    for x, y, colour in _spots(pixels, rng, scene.width * scene.height // 40, 14):
        length, slope = rng.uniform(1, max(scene.width / 16, 1)), rng.normal(0, 0.25)
        draw.line([x, y, x + length, y + slope * length], fill=colour, width=max(1, scene.width // 64))
    return image.filter(ImageFilter.GaussianBlur(scene.width / 250))


def pointillism(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Dots of strong colours on a pale ground."""
    image = Image.new("RGB", scene.size, (238, 230, 210))
    draw, pixels = ImageDraw.Draw(image), np.asarray(scene).astype(int)
    strong = np.clip(pixels.mean(2, keepdims=True) + 1.6 * (pixels - pixels.mean(2, keepdims=True)), 0, 255)
    radius = max(scene.width / 70, 0.8)
    for x, y, colour in _spots(strong, rng, int(scene.width * scene.height / radius**2 / 2.5), 26):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return image


def cubism(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Facets in greys and browns, each shaded from one side to the other, with dark edges."""
    pixels = np.asarray(scene).astype(float)
    height, width = pixels.shape[:2]
    count = 45
    y, x = np.mgrid[:height, :width]
    centres = rng.uniform(0, 1, [count, 2]) * [height, width]
    slant = rng.normal(0, 1, [2, 2]) * 0.35 + np.eye(2)  # facets are stretched the same way
    offsets = np.stack([y, x], -1)[:, :, None] - centres  # [height, width, count, 2]
    distance = ((offsets @ slant) ** 2).sum(-1)
    facet = distance.argmin(-1)
    sizes = np.bincount(facet.ravel(), minlength=count).clip(1)
    means = np.stack([np.bincount(facet.ravel(), pixels[..., c].ravel(), count) / sizes for c in range(3)], -1)
    brown = np.array([150, 130, 105]) / 128
    colours = means * 0.45 + means.mean(1, keepdims=True) * brown * 0.55
    towards = rng.normal(0, 1, [count, 2])
    near = np.take_along_axis(offsets, facet[..., None, None], 2)[:, :, 0]  # [height, width, 2], from its own centre
    light = (near * towards[facet]).sum(-1) / width * 130
    pixels = colours[facet] + light[..., None]
    edges = (facet != np.roll(facet, 1, 0)) | (facet != np.roll(facet, 1, 1))
    pixels[edges] *= 0.45
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def woodblock(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Few flat colours on warm paper, with ink outlines."""
    smooth = scene.filter(ImageFilter.GaussianBlur(scene.width / 60))
    flat = smooth.quantize(7, Image.Quantize.MEDIANCUT).convert("RGB")
    ink = np.asarray(flat.convert("L").filter(ImageFilter.FIND_EDGES)) > 10
    ink[[0, -1]], ink[:, [0, -1]] = False, False  # where the filter only sees the frame
    paper = np.array([245, 228, 196]) / 255
    pixels = (np.asarray(flat) * 0.75 + 64) * paper + rng.normal(0, 2, [scene.height, scene.width, 1])
    pixels[ink] = (38, 36, 52)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def fauvism(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Broad dabs of pure colours, which are chosen by light and not by nature."""
    grey = np.asarray(scene.filter(ImageFilter.GaussianBlur(scene.width / 80)).convert("L")).astype(float)
    steps = np.quantile(grey, np.arange(1, len(FAUVE)) / len(FAUVE))
    pixels = FAUVE[np.searchsorted(steps, grey)]
    image = Image.fromarray(pixels.astype(np.uint8))
    draw, radius = ImageDraw.Draw(image), max(scene.width / 40, 1)
    for x, y, colour in _spots(pixels, rng, int(scene.width * scene.height / radius**2 / 2), 18):
        draw.ellipse([x - radius, y - radius / 2, x + radius, y + radius / 2], fill=colour)
    return image


STYLES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "impressionism": impressionism,
    "pointillism": pointillism,
    "cubism": cubism,
    "woodblock": woodblock,
    "fauvism": fauvism,
}


def text_sheet(rng: np.random.Generator, size: int) -> Image.Image:
    """A page of lines of text."""
    image = Image.new("RGB", (round(size * 0.75), size), (250, 250, 247))
    draw = ImageDraw.Draw(image)
    step = max(size // 18, 3)
    for y in range(step, size - step, step):
        x = image.width * 0.1
        while x < image.width * rng.uniform(0.7, 0.9):
            word = image.width * rng.uniform(0.02, 0.12)
            draw.rectangle([x, y, x + word, y + step * 0.4], fill=(40, 40, 45))
            x += word + image.width * 0.02
    return image


def colour_bars(rng: np.random.Generator, size: int) -> Image.Image:
    """Bars of pure colours."""
    colours = np.array(
        [[255, 255, 255], [255, 255, 0], [0, 255, 255], [0, 255, 0], [255, 0, 255], [255, 0, 0], [0, 0, 255]]
    )
    bars = colours[rng.permutation(7)][np.arange(size) * 7 // size].astype(np.uint8)
    return Image.fromarray(np.repeat(bars[None], size, 0))


def static(rng: np.random.Generator, size: int) -> Image.Image:
    """Nothing but noise."""
    return Image.fromarray(rng.integers(0, 256, [size, size, 3], np.uint8))


def chart(rng: np.random.Generator, size: int) -> Image.Image:
    """A bar chart on white, as of a screenshot."""
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, size, size * 0.08], fill=(60, 90, 160))
    draw.line([size * 0.1, size * 0.15, size * 0.1, size * 0.9, size * 0.95, size * 0.9], fill=(60, 60, 60))
    for bar in range(6):
        x = size * (0.15 + 0.13 * bar)
        draw.rectangle([x, size * rng.uniform(0.2, 0.8), x + size * 0.09, size * 0.9], fill=(70, 130, 220))
    return image


def negative(rng: np.random.Generator, size: int) -> Image.Image:
    """A blurred snapshot developed as its negative."""
    blobs = Image.fromarray(rng.integers(0, 256, [5, 5, 3], np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    return ImageOps.invert(blobs)


OUTLIERS: dict[str, Callable[[np.random.Generator, int], Image.Image]] = {
    "text_sheet": text_sheet,
    "colour_bars": colour_bars,
    "static": static,
    "chart": chart,
    "negative": negative,
}


def _canvas(scene: Image.Image) -> tuple[Image.Image, ImageDraw.ImageDraw, np.ndarray]:
    image = scene.copy()
    return image, ImageDraw.Draw(image), np.asarray(scene).astype(int)


def _spots(
    pixels: np.ndarray, rng: np.random.Generator, count: int, spread: float
) -> list[tuple[int, int, tuple[int, ...]]]:
    # Places in random order, each with the colour that lies there, a little off.
    height, width = pixels.shape[:2]
    x, y = rng.integers(width, size=count), rng.integers(height, size=count)
    colours = np.clip(pixels[y, x] + rng.normal(0, spread, [count, 3]), 0, 255).astype(int)
    return [(int(a), int(b), tuple(c)) for a, b, c in zip(x, y, colours.tolist(), strict=True)]
