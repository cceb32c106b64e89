"""What the headers of a collection's files say, before any image is decoded: sizes, and whether grey or transparent."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from curation.prepare import remote
from curation.prepare.image_files import ImageFile, opened, read
from curation.prepare.shapes import AUTO, Proposal, Size, cropped_in_buckets, proposals, scaled
from curation.prepare.video import frames
from curation.prepare.worker_pool import fault_tolerant_map
from gan.data.decode import MAX_BYTES_PER_PIXEL, decode, size_and_mode
from gan.errors import ImageError
from gan.image_shape import KINDS, ImageShape
from gan.runtime.console import progress

LOOKED_AT = 2000  # files from which a shape or channels are found
SHOWN = 3  # shapes that the report names
_HEAD = 2**16  # bytes that are read first of a file at an address; few headers are longer
_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_GREY = ("1", "L", "LA", "La", "I", "F")  # and those of 16 bits


@dataclass(frozen=True, slots=True)
class Header:
    """An image's width and height, upright, and the channels that hold all of it."""

    width: int
    height: int
    channels: int


@dataclass(frozen=True)
class Look:
    """What was seen of a collection."""

    headers: list[Header]  # of those files looked at that can be read
    files: int  # of the collection

    @property
    def channels(self) -> int:
        """Alpha where an image is transparent, grey where all are grey."""
        found = {header.channels for header in self.headers}
        return 4 if 4 in found else 1 if found == {1} else 3

    @property
    def proposals(self) -> list[Proposal]:
        """What shapes lose of it, that which loses least first."""
        return proposals(self.sizes)

    @property
    def sizes(self) -> list[Size]:
        """Width and height of some evenly spaced images."""
        return [(header.width, header.height) for header in drawn(self.headers)]

    def figures(self, resolution: int | None) -> dict[str, Any]:
        """For the report: how many files were looked at, and their kinds; with a `resolution` also the best shapes."""
        kinds = Counter(header.channels for header in self.headers)
        shapes = [] if resolution is None else [_figures(one, resolution) for one in self.proposals[:SHOWN]]
        return {
            "looked_at": len(self.headers),
            "of": self.files,
            "kinds": {KINDS[channels]: kinds[channels] for channels in KINDS},
            "shapes": shapes,
            "cropped_in_buckets": round(cropped_in_buckets(self.sizes), 4),
        }


def _figures(proposal: Proposal, resolution: int) -> dict[str, Any]:
    return {
        "shape": str(ImageShape(*scaled(proposal.base, resolution))),
        "cropped": round(proposal.cropped, 4),
        "stretched": round(proposal.stretched, 4),
    }


def drawn(items: Sequence[Any]) -> list[Any]:
    """All of them, or LOOKED_AT that are evenly spaced."""
    count = min(len(items), LOOKED_AT)
    return [items[place * len(items) // count] for place in range(count)]


def read_headers(
    files: Sequence[ImageFile], *, every: float | None, max_pixels: int, channels: str, workers: int
) -> list[Header | None]:
    """The header of each file, None where there is no image to be had; for `channels` auto, alpha itself is looked at.

    Of a video one frame is decoded: the first of its part, one of those that are `every` seconds apart.
    """
    function = partial(_header, every=every, max_pixels=max_pixels, alpha=channels == AUTO)
    with closing(fault_tolerant_map(function, files, _crashed, workers)) as headers:
        return list(progress(headers, "Reading sizes", len(files)))


def _header(file: ImageFile, *, every: float | None, max_pixels: int, alpha: bool) -> Header | None:
    try:
        if file.clip is not None:
            assert every is not None
            _, frame = next(frames(file, every, max_pixels))
            return Header(frame.width, frame.height, 3)
        (width, height), mode = _size_and_mode(file, max_pixels)
        transparent = mode in _ALPHA and (not alpha or _is_transparent(file, max_pixels))
    except (ImageError, MemoryError, StopIteration):  # preparing it says what is wrong
        return None
    return Header(width, height, 4 if transparent else 1 if mode in _GREY or mode.startswith("I;16") else 3)


def _size_and_mode(file: ImageFile, max_pixels: int) -> tuple[Size, str]:
    if isinstance(file.path, str) and not file.problem:
        head = remote.read_head(file.path, _HEAD)
        try:
            width, height, mode = size_and_mode(head, max_pixels=max_pixels)
        except ImageError:
            if len(head) < _HEAD:
                raise
            content = read(file, max_pixels * MAX_BYTES_PER_PIXEL)  # its header is longer, or lies at the end
            width, height, mode = size_and_mode(content, max_pixels=max_pixels)
    else:
        with opened(file) as stream:
            width, height, mode = size_and_mode(stream, max_pixels=max_pixels)
    return (width, height), mode


def _is_transparent(file: ImageFile, max_pixels: int) -> bool:
    # Many files have an alpha that is opaque everywhere.
    image = decode(read(file, max_pixels * MAX_BYTES_PER_PIXEL), max_pixels=max_pixels, channels=4).image
    return any(image.getchannel("A").histogram()[:255])


def _crashed(file: ImageFile) -> None:
    return None
