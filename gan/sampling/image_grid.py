"""Image grids: several images of one size laid out as one, for a person to look at. Images are uint8 [H, W, C]."""

from collections.abc import Sequence

import numpy as np

from gan.data.images import Pixels, for_display, tile

GAP = 2  # pixels between the cells of a mixing grid


def grid(images: Sequence[Pixels], columns: int, rows: int) -> Pixels:
    """Images row by row -> one grid [rows*H, columns*W, 3]; cells that are left over are white."""
    shown = [for_display(image) for image in images]
    blank = [np.full_like(shown[0], 255)] * (columns * rows - len(shown))
    return tile(np.stack([*shown, *blank]), columns)


def mixing_grid(rows: Sequence[Pixels], columns: Sequence[Pixels], cells: Sequence[Pixels]) -> Pixels:
    """Style mixing with its sources: `columns` above, `rows` on the left, and rows x columns `cells` row by row."""
    rows, columns, cells = ([for_display(image) for image in images] for images in (rows, columns, cells))
    images = [np.full_like(cells[0], 255), *columns]
    for index, row in enumerate(rows):
        images += [row, *cells[index * len(columns) :][: len(columns)]]
    return tile(np.stack(images), len(columns) + 1, gap=GAP)
