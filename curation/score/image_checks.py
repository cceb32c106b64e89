"""Measures of what may be wrong with an image's pixels: padding, frames, greyscale, text, emptiness, size.

`pixels` are uint8 [H, W, 3]. Each measure is one number; `flags` turns them into codes, and where a fault is a matter
of degree it looks at the whole set. Blur is no fault: an impressionist blurs on purpose.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gan.data.images import Pixels
from gan.image_shape import ImageShape

Floats = NDArray[np.float32]

MIN_SIDE = 64  # px; padding and frames are looked for from here on
SIDE = 128  # px; images are measured at this size, so that a threshold means the same for all
PADDING, FRAME, GREYSCALE, TEXT = "padding", "frame", "greyscale", "text"
UNIFORM, SMALL, ASPECT = "uniform", "small", "aspect"
CODES = (PADDING, FRAME, GREYSCALE, TEXT, UNIFORM, SMALL, ASPECT)
EXACT, NEAR, KNOWN = "duplicate-exact", "duplicate-near", "duplicate-known"
MISLABELLED = "mislabelled"
OF_THE_SET = (EXACT, NEAR, KNOWN, MISLABELLED)  # told by other images

PLAIN_RANGE = 10.0  # grey levels by which a row of plain padding may vary
MIN_STEP = 20.0  # grey levels in which padding ends, at least
MIN_PADDING = 0.02  # of a side
MIN_FRAME = 2.0  # a frame's edge, in median gradients of the image
MAX_CHROMA = 12.0  # levels by which the channels of a grey image differ, after compression
MIN_TEXT = 0.6
STRIPS, LINES = 8, 8  # of a page, and lines in a strip that are enough
MAX_ASPECT = 2.0
MIN_INSIDE = SIDE // 4  # of a picture within a border: paintings may be four times as long as high
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
        if not _plain(lines[:1]).all():  # nearly always: the others need not be looked at
            counts.append(0)
            continue
        first = np.median(lines[0], axis=0)
        plain = _plain(lines) & (np.abs(lines - first).mean(axis=(1, 2)) < PLAIN_RANGE)
        count = len(plain) if plain.all() else int(np.argmin(plain))
        # Padding ends in a step; a sky that is plain at the top goes over into something else.
        steps = np.abs(lines[count : count + 3] - first).mean(axis=(1, 2))
        counts.append(count if count and (not len(steps) or steps.max() > MIN_STEP) else 0)
    top, bottom, left, right = counts
    return top, bottom, left, right


def _plain(lines: Floats) -> NDArray[np.bool_]:
    # Which lines [N, W, 3] hardly vary; their ends may lie outside of a photograph.
    low, high = np.percentile(lines, [5, 95], axis=1)  # [N, 3]
    return np.asarray((high - low).max(axis=1) < PLAIN_RANGE)


def frame(luma: Floats) -> float:
    """How strongly straight edges run along the sides of float32 [H, W], as those of a photographed frame do.

    For each side, the strongest line in its outer fifth: the gradient across it that 75 % of its middle exceed, in
    median gradients of the image. The second weakest of the four sides counts. An edge at the very margin is no frame.
    """
    # An edge at the very margin is no frame: a torn edge of the canvas, say.
    return sorted(float(edge[5:].max()) for edge in _edges(luma, 5))[1]


def _edges(luma: Floats, share: int) -> list[Floats]:
    # Edges along the top, bottom, left and right, by their distance from that side, up to 1 / `share` of it.
    edges = []
    for lines in (luma, luma[::-1], luma.T, luma.T[::-1]):
        height, width = lines.shape
        middle = lines[:, width // 5 : width - width // 5]
        across = np.abs(middle[2:] - middle[:-2])  # [H - 2, W]
        typical = max(float(np.median(across[height // 4 : -(height // 4)])), 2.0)
        edges.append(np.percentile(across[: max(height // share, 7)], 25, axis=1) / typical)
    return edges


def inside(pixels: Pixels) -> tuple[int, int, int, int] | None:
    """The box (left, top, right, bottom) of what lies inside of a border, a frame and a mat; None without any."""
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        return None
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    top, bottom, left, right = 0, SIDE, 0, SIDE
    for cut in (padding, _frame_width, padding):
        # The line in which a border ends belongs to both.
        rim = [line and line + 1 for line in cut(small[top:bottom, left:right])]
        box = top + rim[0], bottom - rim[1], left + rim[2], right - rim[3]
        if min(box[1] - box[0], box[3] - box[2]) >= MIN_INSIDE:  # else too little would be left
            top, bottom, left, right = box
    if (top, bottom, left, right) == (0, SIDE, 0, SIDE):
        return None
    across, down = width / SIDE, height / SIDE
    return round(left * across), round(top * down), round(right * across), round(bottom * down)


def _frame_width(img: Floats) -> tuple[int, int, int, int]:
    # Rows and columns up to the innermost edge of a frame, where three sides have one.
    edges = _edges(img.mean(axis=2), 4)
    widths = [int(np.flatnonzero(edge > MIN_FRAME)[-1]) + 1 if (edge > MIN_FRAME).any() else 0 for edge in edges]
    top, bottom, left, right = widths if np.count_nonzero(widths) >= 3 else [0] * 4
    return top, bottom, left, right


def text(pixels: Pixels) -> float:
    """How much of an image looks like a written page: 0 to 1.

    A page has one light ground over most of it. Down each of its upright strips, rows with several changes between
    ground and ink take turns with rows of bare ground; most of a painting is neither.
    """
    grey = Image.fromarray(pixels).convert("L")
    page = np.asarray(grey.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BOX), np.float32)
    ground = float(np.percentile(page, 75))
    if ground < 120 or (np.abs(page - ground) < 24).mean() < 0.5:
        return 0.0
    shares = []
    for strip in np.split(page < ground - 30, STRIPS, axis=1):
        changes = (strip[:, 1:] != strip[:, :-1]).sum(axis=1)  # [rows]
        written, bare = changes >= 4, (changes == 0) & (strip.mean(axis=1) < 0.05)
        lines = np.count_nonzero(np.diff(written[written | bare].astype(np.int8)) == 1)
        shares.append(min(lines / LINES, 1.0) * (written | bare).mean())
    return float(np.median(shares))


def flags(
    measures: list[Measures], width: NDArray[np.int64], height: NDArray[np.int64], shape: ImageShape
) -> list[list[str]]:
    """Codes of what is suspect about each image of a shape, by its measures and the original's size (0: unknown).

    "uniform" is relative to the set: an image far less varied than the others, and hardly varied at all. Grey is not
    suspect where all images are, nor are plain borders where they are what an alpha leaves out.
    """
    column = {f.name: np.array([getattr(m, f.name) for m in measures], np.float64) for f in fields(Measures)}
    known = (width > 0) & (height > 0)
    across, down = width * shape.height, height * shape.width  # as many where it has the shape's aspect
    spread = np.log(np.maximum(column["spread"], 1e-3))
    suspects = {
        PADDING: (column["padding"] > MIN_PADDING) & (shape.channels != 4),
        FRAME: column["frame"] > MIN_FRAME,
        GREYSCALE: (column["chroma"] <= MAX_CHROMA) & (shape.channels != 1),
        TEXT: column["text"] > MIN_TEXT,
        UNIFORM: (column["spread"] < EMPTY_SPREAD) & ((robust_z(spread) < EMPTY_Z) | (column["spread"] < 2)),
        SMALL: known & ((width < shape.width) | (height < shape.height)),
        ASPECT: known & (np.maximum(across, down) > MAX_ASPECT * np.minimum(across, down)),
    }
    return [[code for code, flagged in suspects.items() if flagged[index]] for index in range(len(measures))]


def robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(value - median) / (1.4826 * median absolute deviation): z of a set that has outliers; 0 for a constant set."""
    if not len(values):
        return values
    centred = values - np.median(values)
    scale = 1.4826 * np.median(np.abs(centred))
    return centred / scale if scale > 0 else np.zeros_like(values)
