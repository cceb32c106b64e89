"""The shape of a dataset: what a person calls it, what each would lose of a collection, and buckets of one. Light."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from gan.errors import RequestError
from gan.image_shape import CELLS, RESOLUTIONS, SQUARE, Base, base_of, base_of_ratio, bases

AUTO = "auto"
BUCKETS = ("portrait", "landscape", "square")  # in the order in which they are prepared
NEARLY_SQUARE = Fraction(11, 10)  # longer side / shorter, up to which an image is in the bucket of squares
Size = tuple[int, int]  # width and height, pixels
_SIZE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})")
_RATIO = re.compile(r"([1-9]\d{0,5}):([1-9]\d{0,5})")


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A base, and what a collection would lose in images of its shape."""

    base: Base
    cropped: float  # mean share of an image that cropping cuts off, 0 to 1
    stretched: float  # mean factor by which stretching instead changes width : height, from 1 on


def size_of(shape: str, resolution: int | None) -> Size:
    """Width and height that a shape names: WxH in pixels, or A:B, a ratio, with the `resolution` of its networks.

    Raises RequestError, which names `shape` or `resolution`, for what cannot be meant.
    """
    if match := _SIZE.fullmatch(shape):
        width, height = int(match[1]), int(match[2])
        _, own = base_of(width, height)
        if resolution not in (None, own):
            raise RequestError(f"`resolution` must be left out, or {own} for `shape` {shape}; got {resolution} instead")
        return width, height
    if match := _RATIO.fullmatch(shape):
        return scaled(_base_of_ratio(Fraction(int(match[1]), int(match[2]))), require_resolution(resolution))
    raise RequestError(f"`shape` must be auto, a size such as 384x256, or a ratio such as 3:2; got {shape} instead")


def require_resolution(resolution: int | None) -> int:
    """`resolution` itself. Raises RequestError for what is none of networks."""
    if resolution not in RESOLUTIONS:
        got = "none" if resolution is None else f"{resolution} instead"
        raise RequestError(f"`resolution` must be a power of two from 8 to 1024; got {got}")
    assert resolution is not None
    return resolution


def scaled(base: Base, resolution: int) -> Size:
    """Width and height of images of a base, four cells of which are `resolution` pixels."""
    return base[0] * resolution // 4, base[1] * resolution // 4


def proposals(sizes: Sequence[Size]) -> list[Proposal]:
    """What images of so many sizes, upright, would lose in the shape of each base, that which loses least first.

    That is by the share cut off, which is also what a border would take; of equals the one nearer to a square comes
    first. Without sizes the square is the only one.
    """
    if not sizes:
        return [Proposal(base=SQUARE, cropped=0, stretched=1)]
    aspects = Counter(width / height for width, height in sizes)
    found = [_proposal(base, aspects) for base in bases()]
    return sorted(found, key=lambda one: (one.cropped, abs(one.base[0] - one.base[1]), one.base))


def cropped_in_buckets(sizes: Sequence[Size]) -> float:
    """Mean share of an image that cropping would cut off if each bucket had the shape that loses least of it."""
    lost = 0.0
    for bucket in BUCKETS:
        own = [size for size in sizes if bucket_of(*size) == bucket]
        lost += len(own) * next(one.cropped for one in proposals(own) if bucket != "square" or one.base == SQUARE)
    return lost / max(len(sizes), 1)


def bucket_of(width: int, height: int) -> str:
    """The bucket of an image of this size, upright."""
    if max(width, height) <= NEARLY_SQUARE * min(width, height):
        return "square"
    return "portrait" if height > width else "landscape"


def _proposal(base: Base, aspects: "Counter[float]") -> Proposal:
    factors = [(aspect * base[1] / base[0], count) for aspect, count in aspects.items()]
    factors = [(max(factor, 1 / factor), count) for factor, count in factors]
    total = aspects.total()
    return Proposal(
        base=base,
        cropped=sum((1 - 1 / factor) * count for factor, count in factors) / total,
        stretched=sum(factor * count for factor, count in factors) / total,
    )


def _base_of_ratio(ratio: Fraction) -> Base:
    try:
        return base_of_ratio(ratio)
    except RequestError as error:
        near = min((Fraction(a, b) for a in CELLS for b in CELLS), key=lambda one: max(one / ratio, ratio / one))
        raise RequestError(f"{error}; the nearest is {near.numerator}:{near.denominator}") from error
