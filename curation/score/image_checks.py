"""Measures of what may be wrong with an image's pixels: padding, frames, greyscale, text, emptiness, size.

`pixels` are uint8 [H, W, 3]. Each measure is one number; `flags` turns them into codes, and where a fault is a matter
of degree it looks at the whole set. Blur is no fault: an impressionist blurs on purpose.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gan.data.images import Pixels

Floats = NDArray[np.float32]

MIN_SIDE = 64  # px; padding and frames are looked for from here on
SIDE = 128  # px; images are measured at this size, so that a threshold means the same for all
PADDING, FRAME, GREYSCALE, TEXT = "padding", "frame", "greyscale", "text"
UNIFORM, SMALL, ASPECT = "uniform", "small", "aspect"
CODES = (PADDING, FRAME, GREYSCALE, TEXT, UNIFORM, SMALL, ASPECT)
OF_THE_SET = EXACT, NEAR, MISLABELLED = "duplicate-exact", "duplicate-near", "mislabelled"  # told by other images

PLAIN_RANGE = 10.0  # grey levels by which a row of plain padding may vary
MIN_STEP = 20.0  # grey levels in which padding ends, at least
MIN_PADDING = 0.02  # of a side
MIN_FRAME = 5.0  # a frame's edge, in median gradients of the image
MAX_CHROMA = 12.0  # levels by which the channels of a grey image differ, after compression
MIN_TEXT = 0.4
MAX_ASPECT = 2.0
EMPTY_Z, EMPTY_SPREAD = -4.0, 16.0  # uniform: an outlier of the set, and in absolute grey levels too


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """Measures of one image."""

    padding: float  # share of the longer padded side that is plain, 0 to 1; 0 below 64 px
    frame: float  # the weakest but one of four edges along the sides, in median gradients; 0 below 64 px
    chroma: float  # 98th percentile of the difference of channels, in grey levels
    text: float  # share of lines that look written, 0 to 1
    spread: float  # standard deviation of the luminance, in grey levels


def measure(pixels: Pixels) -> Measures:
    """All measures of one image."""
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    luma = small.mean(axis=2)
    top, bottom, left, right = padding(small)
    inside = luma[top : SIDE - bottom or None, left : SIDE - right or None]
    # In an image that is plain throughout, padding means nothing; in one of few pixels a row is a part of the image.
    large = min(pixels.shape[:2]) >= MIN_SIDE
    share = max(top + bottom, left + right) / SIDE if large and inside.size else 0.0
    return Measures(
        padding=share,
        frame=frame(inside) if large and min(inside.shape) >= SIDE // 4 else 0.0,
        chroma=float(np.percentile(small.max(axis=2) - small.min(axis=2), 98)),
        text=text(pixels),
        spread=float(luma.std()),
    )


def padding(img: Floats) -> tuple[int, int, int, int]:
    """Rows and columns of one plain colour along the top, bottom, left and right of float32 [H, W, 3]."""
    counts = []
    for lines in (img, img[::-1], img.transpose(1, 0, 2), img.transpose(1, 0, 2)[::-1]):
        low, high = np.percentile(lines, [5, 95], axis=1)  # [H, 3]; the ends of a line may lie outside of a photograph
        first = np.median(lines[0], axis=0)
        plain = ((high - low).max(axis=1) < PLAIN_RANGE) & (np.abs(lines - first).mean(axis=(1, 2)) < PLAIN_RANGE)
        count = len(plain) if plain.all() else int(np.argmin(plain))
        # Padding ends in a step; a sky that is plain at the top goes over into something else.
        steps = np.abs(lines[count : count + 3] - first).mean(axis=(1, 2))
        counts.append(count if count and (not len(steps) or steps.max() > MIN_STEP) else 0)
    top, bottom, left, right = counts
    return top, bottom, left, right


def frame(luma: Floats) -> float:
    """How strongly straight edges run along the sides of float32 [H, W], as those of a photographed frame do.

    For each side, the strongest line in its outer fifth: the gradient across it that 75 % of its middle exceed, in
    median gradients of the image. The second weakest of the four sides counts. An edge at the very margin is no frame.
    """
    strongest = []
    for lines in (luma, luma[::-1], luma.T, luma.T[::-1]):
        height, width = lines.shape
        middle = lines[:, width // 5 : width - width // 5]
        across = np.abs(middle[2:] - middle[:-2])  # [H - 2, W]
        typical = max(float(np.median(across[height // 4 : -(height // 4)])), 2.0)
        outer = across[5 : max(height // 5, 7)]  # a torn edge of the canvas is no frame
        strongest.append(float(np.percentile(outer, 25, axis=1).max()) / typical)
    return sorted(strongest)[1]


def text(pixels: Pixels) -> float:
    """How much of an image looks like a written page: 0 to 1.

    A page has one light ground over most of it. Its lines are rows that change between ground and ink often, with rows
    of bare ground between them.
    """
    grey = Image.fromarray(pixels).convert("L")
    page = np.asarray(grey.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BOX), np.float32)
    ground = float(np.percentile(page, 75))
    bare = np.abs(page - ground) < 24
    if ground < 140 or bare.mean() < 0.5:
        return 0.0
    ink = page < ground - 40
    changes = np.abs(np.diff(ink.astype(np.int8), axis=1)).sum(axis=1)  # [rows]
    written = changes > 20
    # Between lines of writing the page is bare: count how often rows alternate, against an alternation every 8 rows.
    alternations = np.abs(np.diff(written.astype(np.int8))).sum() / (2 * SIDE / 8)
    return float(min(alternations, 1.0) * min(2 * written.mean() / max(bare.mean(), 0.5), 1.0) ** 0.5)


def flags(
    measures: list[Measures], width: NDArray[np.int64], height: NDArray[np.int64], resolution: int
) -> list[list[str]]:
    """Codes of what is suspect about each image, from its measures and the original's size in pixels (0: unknown).

    "uniform" is relative to the set: an image far less varied than the others, and hardly varied at all.
    """
    column = {f.name: np.array([getattr(m, f.name) for m in measures], np.float64) for f in fields(Measures)}
    known = (width > 0) & (height > 0)
    longer, shorter = np.maximum(width, height), np.minimum(width, height)
    spread = np.log(np.maximum(column["spread"], 1e-3))
    suspects = {
        PADDING: column["padding"] > MIN_PADDING,
        FRAME: column["frame"] > MIN_FRAME,
        GREYSCALE: column["chroma"] <= MAX_CHROMA,
        TEXT: column["text"] > MIN_TEXT,
        UNIFORM: (column["spread"] < EMPTY_SPREAD) & ((robust_z(spread) < EMPTY_Z) | (column["spread"] < 2)),
        SMALL: known & (shorter < resolution),
        ASPECT: known & (longer > MAX_ASPECT * shorter),
    }
    return [[code for code, flagged in suspects.items() if flagged[index]] for index in range(len(measures))]


def robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(value - median) / (1.4826 * median absolute deviation): z of a set that has outliers; 0 for a constant set."""
    if not len(values):
        return values
    centred = values - np.median(values)
    scale = 1.4826 * np.median(np.abs(centred))
    return centred / scale if scale > 0 else np.zeros_like(values)
