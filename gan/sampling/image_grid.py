"""Sheets: several pictures of one size on one, for a person to look at. Pictures are uint8 [H, W, 3]."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gan.data.images import SUFFIXES, Pixels, check_suffix, tile
from gan.errors import RequestError

MAX_PIXELS = 500_000_000  # of a sheet, which is laid out in memory
MAX_SIDE = {"jpeg": 65_500, "png": MAX_PIXELS, "webp": 16_383}  # pixels that a file format can hold
GAP = 2  # between the cells of a mixing table


def parse_grid(grid: str, count: int) -> tuple[int, int]:
    """ "4x3" -> 4 columns, 3 rows. Raises RequestError for anything else, or when `count` pictures do not fit."""
    columns, _, rows = grid.lower().partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
        raise RequestError(f"--grid must be columns x rows such as 4x4; got {grid} instead")
    cells = int(columns) * int(rows)
    if count > cells:
        raise RequestError(f"--grid {grid} has {cells} cells; there are {count} images to paint")
    return int(columns), int(rows)


def check_size(out: Path, columns: int, rows: int, side: int) -> None:
    """Raise RequestError when a sheet of so many pictures, `side` pixels wide, is too large for memory or its file."""
    width, height = columns * side, rows * side
    most = MAX_SIDE[check_suffix(out, "--out")]
    if width * height > MAX_PIXELS or max(width, height) > most:
        raise RequestError(
            f"--out {out} must be a sheet of at most {MAX_PIXELS:,} pixels, and {most:,} a side; {columns}x{rows} "
            f"pictures make {width:,}x{height:,}"
        )


def check_folder(out: Path) -> None:
    """Raise RequestError when --out, a folder for one file a seed, is named like a picture."""
    if out.suffix.lower() in SUFFIXES and not out.is_dir():
        raise RequestError(f"--out must be a folder, for one file a seed; got {out} instead: for one sheet add --grid")


def grid_sheet(pictures: Sequence[Pixels], columns: int, rows: int) -> Pixels:
    """Pictures row by row -> one sheet [rows*H, columns*W, 3]; cells that are left over are white."""
    blank = [np.full_like(pictures[0], 255)] * (columns * rows - len(pictures))
    return tile(np.stack([*pictures, *blank]), columns)


def mixing_sheet(rows: Sequence[Pixels], columns: Sequence[Pixels], cells: Sequence[Pixels]) -> Pixels:
    """A mixing table with its heads: `columns` above, `rows` on the left, and rows x columns `cells` row by row."""
    laid = [np.full_like(cells[0], 255), *columns]
    for index, head in enumerate(rows):
        laid += [head, *cells[index * len(columns) :][: len(columns)]]
    return tile(np.stack(laid), len(columns) + 1, gap=GAP)
