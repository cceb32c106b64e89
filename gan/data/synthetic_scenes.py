"""Synthetic paintings, so that everything can be tried without any data: genres here, styles in synthetic_styles.

Each image depends on its seed alone. A few may be outliers, which are no paintings; a list says which.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gan.data import images
from gan.data.synthetic_styles import OUTLIERS, STYLES
from gan.errors import RequestError
from gan.runtime.console import progress
from gan.runtime.files import atomic, disk_error

LIST = "paintings.csv"  # in the folder: name, style, genre, outlier

Colour = tuple[int, ...]


def painting(genre: str, style: str, seed: int, size: int) -> Image.Image:
    """An image of one of GENRES in one of STYLES: RGB, the longer side `size` pixels, upright, square or broad."""
    rng = np.random.default_rng(seed)
    scene = GENRES[genre](rng, size)
    return STYLES[style](scene, rng)


def write_paintings(
    folder: Path, count: int, size: int, seed: int, genres: Sequence[str], styles: Sequence[str], outliers: int = 0
) -> int:
    """Write `count` images as JPEG into a folder a style, leaving those that are there -> how many were new.

    Genres and styles alternate, round robin. `outliers` of the images, spread evenly, are no paintings, but carry a
    style's and a genre's name all the same; paintings.csv says which.

    Raises RequestError for a folder with other images; that or SalonError where nothing can be written.
    """
    made, rows = 0, []
    kinds = list(OUTLIERS)
    planted = {int((k + 0.5) * count / outliers): kinds[k % len(kinds)] for k in range(outliers)}
    made_here = re.compile(rf"({'|'.join(STYLES)})/({'|'.join(GENRES)})-\d+-\d+\.jpg")
    names = (
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.suffix.lower() in images.SUFFIXES
    )
    if strange := next((name for name in names if not made_here.fullmatch(name)), None):
        raise RequestError(
            f"`folder` must hold no images but those made here; {folder} holds {strange}: choose another"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error
    for number in progress(range(count), "Making images"):
        genre, style = genres[number % len(genres)], styles[number // len(genres) % len(styles)]
        name = f"{style}/{genre}-{seed}-{number:05d}.jpg"
        kind = planted.get(number, "")
        rows.append([name, style, genre, kind])
        if (folder / name).exists():
            continue
        own = seed * 1_000_003 + number
        image = OUTLIERS[kind](np.random.default_rng(own), size) if kind else painting(genre, style, own, size)
        images.save(np.asarray(image), folder / name, quality=92)
        made += 1
    text = io.StringIO()
    csv.writer(text).writerows([["name", "style", "genre", "outlier"], *rows])
    with atomic(folder / LIST) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return made


def landscape(rng: np.random.Generator, size: int) -> Image.Image:
    """Sky, sun, hills, water or fields."""
    height = round(size * rng.choice([0.75, 1.0, 1.0, 0.8]))
    horizon = round(height * rng.uniform(0.35, 0.65))
    warmth = rng.uniform(-1, 1)
    sky = np.array([110 + 70 * warmth, 150 + 10 * warmth, 215 - 70 * warmth])
    low = np.array([235 + 15 * warmth, 215 - 10 * warmth, 200 - 70 * warmth])
    field = rng.choice([[96, 130, 60], [70, 110, 140], [170, 140, 70]]) + rng.normal(0, 12, 3)
    canvas = np.concatenate([_fade(sky, low, horizon, size), _fade(field * 1.15, field * 0.6, height - horizon, size)])
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    x, y, radius = rng.uniform(0.1, 0.9) * size, rng.uniform(0.15, 0.9) * horizon, size * rng.uniform(0.03, 0.07)
    _disc(draw, x, y, radius, radius, (255, 240, int(190 - 40 * warmth)))
    for layer in range(int(rng.integers(1, 4))):
        _hills(draw, rng, size, horizon, layer)
    return image


def still_life(rng: np.random.Generator, size: int) -> Image.Image:
    """Fruit and a bottle or a bowl on a table before a wall."""
    height = round(size * rng.choice([0.8, 1.0, 1.0]))
    edge = round(height * rng.uniform(0.45, 0.6))
    wall = rng.choice([[120, 105, 90], [90, 110, 110], [140, 120, 80]]) + rng.normal(0, 12, 3)
    cloth = rng.choice([[200, 190, 175], [130, 80, 50], [110, 120, 140]]) + rng.normal(0, 10, 3)
    canvas = np.concatenate(
        [_fade(wall * 0.7, wall * 1.1, edge, size), _fade(cloth, cloth * 0.75, height - edge, size)]
    )
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    glass = _shade(rng.choice([[40, 80, 60], [50, 60, 100], [110, 50, 40]]), rng, 10)
    x, width = rng.uniform(0.2, 0.8) * size, rng.uniform(0.06, 0.11) * size
    foot, shoulder, top = edge + 0.12 * height, edge - 0.12 * height, edge - 0.34 * height
    neck = width * rng.uniform(0.3, 0.8)
    outline = [(x - width, foot), (x - width, shoulder), (x - neck, shoulder - 0.06 * height), (x - neck, top)]
    draw.polygon([*outline, *((2 * x - px, py) for px, py in reversed(outline))], fill=glass)
    for _ in range(int(rng.integers(3, 7))):
        x, y, radius = (
            rng.uniform(0.12, 0.88) * size,
            edge + rng.uniform(0.08, 0.3) * height,
            rng.uniform(0.05, 0.1) * size,
        )
        ripe = rng.choice([[205, 60, 45], [225, 150, 40], [170, 175, 60], [215, 190, 70]])
        _disc(draw, x + radius * 0.4, y + radius * 0.75, radius * 1.2, radius * 0.45, _shade(cloth * 0.5, rng, 4))
        _disc(draw, x, y, radius, radius, _shade(ripe * 0.8, rng, 8))
        _disc(draw, x - radius * 0.2, y - radius * 0.2, radius * 0.7, radius * 0.7, _shade(ripe, rng, 8))
        _disc(draw, x - radius * 0.35, y - radius * 0.35, radius * 0.22, radius * 0.22, _shade(ripe + 45, rng, 4))
    return image


def portrait(rng: np.random.Generator, size: int) -> Image.Image:
    """Head and shoulders before a plain ground; upright or square."""
    width = round(size * rng.choice([0.75, 0.8, 1.0]))
    ground = rng.choice([[95, 80, 65], [70, 90, 85], [110, 75, 70], [85, 95, 120]]) + rng.normal(0, 10, 3)
    image = Image.fromarray(_fade(ground * 0.75, ground * 1.15, size, width))
    draw = ImageDraw.Draw(image)
    x, y = width * rng.uniform(0.42, 0.58), size * rng.uniform(0.38, 0.45)
    w, h = size * rng.uniform(0.14, 0.18), size * rng.uniform(0.19, 0.23)
    skin = rng.choice([[235, 195, 165], [215, 170, 135], [165, 115, 85]]) + rng.normal(0, 6, 3)
    hair = _shade(rng.choice([[60, 40, 30], [150, 105, 55], [30, 28, 30], [170, 165, 160]]), rng, 8)
    dress = _shade(rng.choice([[120, 40, 45], [45, 60, 105], [35, 35, 40], [190, 180, 165]]), rng, 10)
    _disc(draw, x, y - h * 0.12, w * rng.uniform(1.15, 1.5), h * rng.uniform(1.1, 1.35), hair)
    _disc(draw, x, size * 1.05, width * 0.42, size * 0.36, dress)
    draw.rectangle([x - w * 0.4, y + h * 0.6, x + w * 0.4, y + h * 1.45], fill=_shade(skin * 0.85, rng, 3))
    _disc(draw, x, y, w, h, _shade(skin, rng, 3))
    _disc(draw, x + w * 0.45, y + h * 0.1, w * 0.5, h * 0.75, _shade(skin * 0.9, rng, 3))
    draw.chord([x - w, y - h * 1.05, x + w, y + h * 0.4], 180, 360, fill=hair)
    gaze = rng.uniform(-0.08, 0.08) * w
    for side in (-1, 1):
        _disc(draw, x + side * w * 0.42 + gaze, y + h * 0.02, w * 0.17, h * 0.08, (240, 235, 225))
        _disc(draw, x + side * w * 0.42 + gaze * 2, y + h * 0.02, w * 0.09, h * 0.08, (45, 40, 40))
    stroke = max(1, size // 80)
    draw.line(
        [x, y + h * 0.1, x + w * 0.12, y + h * 0.4, x - w * 0.02, y + h * 0.42],
        fill=_shade(skin * 0.7, rng, 3),
        width=stroke,
    )
    _disc(draw, x, y + h * 0.65, w * rng.uniform(0.25, 0.4), h * 0.06, (165, 70, 65))
    return image


GENRES: dict[str, Callable[[np.random.Generator, int], Image.Image]] = {
    "landscape": landscape,
    "still_life": still_life,
    "portrait": portrait,
}


def _fade(top: np.ndarray, bottom: np.ndarray, height: int, width: int) -> images.Pixels:
    t = np.linspace(0, 1, height)[:, None, None]
    rows = np.clip(top * (1 - t) + bottom * t, 0, 255)
    return np.broadcast_to(rows, [height, width, 3]).astype(np.uint8)


def _shade(colour: np.ndarray, rng: np.random.Generator, spread: float) -> Colour:
    return tuple(np.clip(colour + rng.normal(0, spread, 3), 0, 255).astype(int).tolist())


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
    draw.ellipse([x - rx, y - ry, x + rx, y + ry], fill=colour)


def _hills(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: int, horizon: int, layer: int) -> None:
    xs = np.linspace(0, size, 24)
    waves = np.zeros_like(xs)
    for _ in range(3):
        waves += np.sin(xs / size * rng.uniform(2, 9) + rng.uniform(0, 7)) * rng.uniform(0.02, 0.07)
    ys = horizon - size * (0.10 - 0.03 * layer) + waves * size
    outline = [(float(x), float(min(y, horizon))) for x, y in zip(xs, ys, strict=True)]
    shade = _shade(np.array([90, 110, 130]) - 22 * layer, rng, 10)
    draw.polygon([(0.0, float(horizon)), *outline, (float(size), float(horizon))], fill=shade)
