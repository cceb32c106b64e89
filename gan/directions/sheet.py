"""A sheet of directions: what each does to some seeds, from one end of its amounts to the other."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from gan.data.images import Pixels, for_display
from gan.image_shape import ImageShape
from gan.networks.generator import Generator
from gan.runtime.console import progress
from gan.sampling.directions import Direction, Directions
from gan.sampling.generate import synthesize
from gan.sampling.origin import Origin, edit

AMOUNTS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # standard deviations
SHOWN = 72  # pixels that a side of an image has at least: smaller ones are enlarged by a whole factor
GAP, BAND, PAD, TEXT = 2, 12, 8, 13  # pixels: between images, between directions, around, height of letters
INK, PAPER, FAINT = (32, 32, 36), (255, 255, 255), (112, 112, 120)


def sheet(
    G: Generator, directions: Directions, origin: Origin, *, noise_mode: str = "const", batch_size: int = 8
) -> Pixels:
    """uint8 [H, W, 3]: a row for each direction and image of `origin`, a column for each of AMOUNTS, both named."""
    entries, count = list(directions.entries.values()), len(origin.ws)
    ws = torch.cat([edit(origin.ws, directions, {d.name: amount}) for d in entries for amount in AMOUNTS])
    seeds = list(origin.numbers) * (len(entries) * len(AMOUNTS))
    made = synthesize(G, ws, noise_mode=noise_mode, seeds=seeds, batch_size=batch_size)
    images = [for_display(image) for image in progress(made, "Generating", len(ws))]
    # Of one direction the images of an amount come one after the other: [direction, amount, image].
    cells = np.stack(images).reshape(len(entries), len(AMOUNTS), count, *images[0].shape)
    return lay_out(entries, cells.swapaxes(1, 2))


def lay_out(entries: Sequence[Direction], cells: Pixels) -> Pixels:
    """Images uint8 [directions, rows, amounts, H, W, 3] -> the sheet [H, W, 3]."""
    factor = enlargement(ImageShape(cells.shape[4], cells.shape[3], cells.shape[5]))
    cells = cells.repeat(factor, axis=3).repeat(factor, axis=4)
    rows, columns, height, width = cells.shape[1:5]
    font = ImageFont.load_default(TEXT)
    lines = [(d.name, *_told(d)) for d in entries]
    left = PAD + max(round(font.getlength(line)) for own in lines for line in own) + PAD
    top, band = PAD + TEXT + PAD, rows * (height + GAP) - GAP + BAND
    band = max(band, 3 * (TEXT + 4) + BAND)
    size = (left + columns * (width + GAP) - GAP + PAD, top + len(entries) * band - BAND + PAD)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((PAD, PAD), "amount", FAINT, font, anchor="lt")
    for column, amount in enumerate(AMOUNTS):
        place = left + column * (width + GAP) + width / 2
        draw.text((place, PAD), f"{amount:+g}" if amount else "0", INK, font, anchor="mt")
    for number, own in enumerate(lines):
        y = top + number * band
        for place, line in enumerate(own):
            draw.text((PAD, y + place * (TEXT + 4)), line, FAINT if place else INK, font)
        for row in range(rows):
            for column in range(columns):
                corner = (left + column * (width + GAP), y + row * (height + GAP))
                image.paste(Image.fromarray(cells[number, row, column]), corner)
    return np.asarray(image)


def enlargement(shape: ImageShape) -> int:
    """How many times images of a shape are enlarged on a sheet."""
    return max(1, -(-SHOWN // min(shape.width, shape.height)))


def _told(direction: Direction) -> tuple[str, str]:
    # A second and a third line beside a direction's rows.
    share = direction.explained_variance
    of = "of styles" if direction.method == "sefa" else "of variance"
    layers = f"layers {direction.first}-{direction.last}"
    return layers, "" if share is None else f"{share:.1%} {of}"
