"""The shape of a dataset's images, and the base from which networks of such images start.

Width and height are a base of 2 to 8 cells times one power of two, so that a constant of width x height cells, doubled
again and again, ends at the image: 384x256 is 6x4 cells times 64. Squares of a power of two start from 4x4, as in
StyleGAN2 (Karras et al. 2020).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from gan.errors import RequestError

CELLS = range(2, 9)  # that a base may have along a side
SQUARE = (4, 4)  # base of the StyleGAN2 family
RESOLUTIONS = [2**k for k in range(3, 11)]  # of networks: four cells of the base, in pixels
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> what Pillow calls such images
KINDS = {1: "grey", 3: "RGB", 4: "RGBA"}  # channels -> what people call them
Base = tuple[int, int]  # cells across and down


@dataclass(frozen=True)
class ImageShape:
    """Width and height in pixels, and channels: 1 grey, 3 RGB, 4 RGB with alpha."""

    width: int
    height: int
    channels: int = 3

    def __post_init__(self) -> None:
        if self.channels not in MODES:
            raise RequestError(f"`channels` must be 1 (grey), 3 (RGB) or 4 (RGBA); got {self.channels} instead")

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        return size if self.channels == 3 else f"{size} {KINDS[self.channels]}"

    @property
    def mode(self) -> str:
        """What Pillow calls it."""
        return MODES[self.channels]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as Pillow has it."""
        return self.width, self.height

    @property
    def area(self) -> int:
        """Pixels of an image."""
        return self.width * self.height

    @property
    def nbytes(self) -> int:
        """Of an image in bytes, one a channel."""
        return self.area * self.channels

    @property
    def chw(self) -> tuple[int, int, int]:
        """As tensors have it."""
        return self.channels, self.height, self.width

    @property
    def hwc(self) -> tuple[int, int, int]:
        """As pixels have it."""
        return self.height, self.width, self.channels


def base_of(width: int, height: int) -> tuple[Base, int]:
    """Base and resolution of networks for images of so many pixels: width = across * resolution / 4, and so down.

    Of several the base nearest to 16 cells is taken, the larger of two as near. Raises RequestError, which names
    `shape`, where there is none.
    """
    found = {
        (width // scale, height // scale): 4 * scale
        for scale in (resolution // 4 for resolution in RESOLUTIONS)
        if not width % scale and not height % scale and width // scale in CELLS and height // scale in CELLS
    }
    if not found:
        raise RequestError(
            f"`shape` must be 2 to 8 times one power of two in width and height, such as 384x256 (6x4 times 64) or "
            f"256x320 (4x5 times 64); got {width}x{height} instead"
        )
    base = min(found, key=_off)
    return base, found[base]


def base_of_ratio(ratio: Fraction) -> Base:
    """The base whose width : height is `ratio`; of several as base_of. Raises RequestError where there is none."""
    found = [(across, down) for across in CELLS for down in CELLS if Fraction(across, down) == ratio]
    if not found:
        raise RequestError(
            f"`shape` must have a ratio of whole numbers from 2 to 8, such as 3:2 or 4:5; got {ratio.numerator}:"
            f"{ratio.denominator} instead"
        )
    return min(found, key=_off)


def bases() -> Iterator[Base]:
    """One base for each ratio of width to height, of about as many cells as the square: half to twice."""
    ratios = {Fraction(across, down) for across in CELLS for down in CELLS}
    yield from (base for base in map(base_of_ratio, sorted(ratios)) if 8 <= base[0] * base[1] <= 32)


def _off(base: Base) -> tuple[float, int]:
    cells = base[0] * base[1]
    return abs(math.log2(cells / 16)), -cells
