"""Thumbnails of many images in a few large JPEGs: one file's worth of data for a page."""

import base64
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageOps

from gan.data.images import Pixels, encode, tile

# Side of the thumbnails in pixels, for up to so many images: the page grows slower than its images. All are multiples
# of 8, the side of JPEG's blocks: no thumbnail colours its neighbour.
SIDES = ((1_000, 128), (2_500, 96), (6_000, 64), (20_000, 56))
QUALITY = 72
GROUND = (128, 128, 128)  # around thumbnails of images that are not square
SHEET = 2048  # pixels of a sheet's side at most: any browser can draw it


def side_for(count: int, resolution: int) -> int:
    """Side of the thumbnails of `count` images, px; not more than the images have, in whole blocks."""
    side = next((side for most, side in SIDES if count <= most), SIDES[-1][1])
    return max(8, min(side, resolution // 8 * 8))


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """A thumbnail of an image [H, W, 3] -> uint8 [side, side, 3]; what is not square lies on grey."""
    if pixels.shape[:2] == (side, side):
        return pixels
    image = Image.fromarray(pixels)
    if image.width == image.height:
        return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
    return np.asarray(ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, color=GROUND))


def per_sheet(side: int) -> tuple[int, int]:
    """Columns of a sheet, and thumbnails on a full one."""
    across = SHEET // side
    return across, across * across


def sheets(thumbnails: Iterable[Pixels], side: int) -> Iterator[str]:
    """Thumbnails [side, side, 3] -> data URIs of sheets, filled row by row; the last has fewer rows."""
    across, full = per_sheet(side)
    waiting: list[Pixels] = []
    for thumbnail in thumbnails:
        waiting.append(thumbnail)
        if len(waiting) == full:
            yield _sheet(waiting, across)
            waiting = []
    if waiting:
        yield _sheet(waiting, across)


def _sheet(thumbnails: list[Pixels], across: int) -> str:
    body = encode(Image.fromarray(tile(np.stack(thumbnails), across)), "jpeg", QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(body).decode()
