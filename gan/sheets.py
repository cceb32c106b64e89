"""Sheets: several pictures of one size on one, for a person to look at. Pictures are uint8 [H, W, 3]."""

from collections.abc import Sequence

import numpy as np

from gan.errors import RequestError
from gan.images import Pixels, tile

_GAP = 2  # pixels between the cells of a mixing table


def parse_grid(grid: str, count: int) -> tuple[int, int]:
    """ "4x3" -> 4 columns, 3 rows. Raises RequestError for anything else, or when `count` pictures do not fit."""
    columns, _, rows = grid.lower().partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
        raise RequestError(f"--grid must be columns x rows such as 4x4; got {grid} instead")
    cells = int(columns) * int(rows)
    if count > cells:
        raise RequestError(f"--grid {grid} has {cells} cells; there are {count} images to paint")
    return int(columns), int(rows)


def grid_sheet(pictures: Sequence[Pixels], columns: int, rows: int) -> Pixels:
    """Pictures row by row -> one sheet [rows*H, columns*W, 3]; cells that are left over are white."""
    blank = [np.full_like(pictures[0], 255)] * (columns * rows - len(pictures))
    return tile(np.stack([*pictures, *blank]), columns)


def mixing_sheet(rows: Sequence[Pixels], columns: Sequence[Pixels], cells: Sequence[Pixels]) -> Pixels:
    """A mixing table with its heads: `columns` above, `rows` on the left, and rows x columns `cells` row by row."""
    laid = [np.full_like(cells[0], 255), *columns]
    for index, head in enumerate(rows):
        laid += [head, *cells[index * len(columns) :][: len(columns)]]
    return tile(np.stack(laid), len(columns) + 1, gap=_GAP)
