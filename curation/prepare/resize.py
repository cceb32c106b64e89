"""One image file -> square, encoded images. What the worker processes do."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.prepare.crops import Box, crop_boxes
from curation.prepare.image_files import ImageFile, read, size
from curation.prepare.video import frames, histograms, name_of
from gan.data.decode import MAX_BYTES_PER_PIXEL, Colour, DecodedImage, decode
from gan.data.images import encode
from gan.errors import ImageError

FILTERS = {  # Pillow widens each one's support when it makes an image smaller, so none of them aliases
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How images are made to fit."""

    resolution: int  # px
    fit: str  # stretch, crop or pad
    format: str  # jpeg, png or webp
    quality: int  # of JPEG, 1 to 100
    filter: str  # one of FILTERS
    background: Colour
    max_pixels: int  # larger originals are refused
    crops: int = 1  # squares that a large original gives; 1: it is fitted whole
    video_every: float | None = None  # seconds between a video's frames; None: videos are not read
    video_scenes: bool = False  # whether frames of one scene count once


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedImage:
    """An encoded image (`content`), or the `reason` why there is none."""

    content: bytes | None = None
    file_sha256: str | None = None
    pixel_sha256: str | None = None  # of the RGB bytes before encoding
    width: int | None = None  # of the original
    height: int | None = None
    mode: str | None = None
    bytes_in: int = 0
    reason: str | None = None
    detail: str | None = None
    frame: str | None = None  # of a video: its name, which is its time
    crop: Box | None = None  # of the original; None: all of it, as `fit` has it
    number: int | None = None  # of the crop, from 1 on
    histograms: NDArray[np.float32] | None = None  # of the frame, where scenes count

    def shown(self, file: ImageFile) -> str:
        """Where it came from: the file, in a video the frame, and the crop."""
        name = file.shown if self.frame is None else f"{file.shown}/{self.frame}"
        return name if self.number is None else f"{name}#crop{self.number}"


def prepare(file: ImageFile, settings: ImageSettings) -> list[EncodedImage]:
    """Read, decode, fit and encode what is in one file: an image or its crops, or frames of a part of a video.

    What is wrong with it is the `reason` of the last one, never raised.
    """
    images: list[EncodedImage] = []
    known: dict[str, Any] = {}  # of the file, as long as its image is not there
    try:
        if file.clip is not None:
            assert settings.video_every is not None
            every, first = settings.video_every, file.clip.first
            known["frame"] = name_of(first * every)
            for count, (name, decoded) in enumerate(frames(file, every, settings.max_pixels), 1):
                video_bytes = size(file) if first + count == 1 else 0  # once
                images += _encoded(decoded, settings, {"frame": name}, video_bytes)
                known["frame"] = name_of((first + count) * every)
        else:
            content = read(file, settings.max_pixels * MAX_BYTES_PER_PIXEL)
            known["file_sha256"] = hashlib.sha256(content).hexdigest()
            decoded = decode(
                content,
                # The filter then still has pixels to choose from. A square grid of crops divides each side by the root.
                at_least=2 * settings.resolution * math.ceil(math.sqrt(settings.crops)),
                background=settings.background,
                max_pixels=settings.max_pixels,
            )
            images += _encoded(decoded, settings, known, len(content))
    except ImageError as error:
        images.append(EncodedImage(**known, reason=error.reason, detail=error.detail))
    except MemoryError:
        images.append(EncodedImage(**known, reason="out of memory", detail="there was not enough memory for it"))
    return images


def _encoded(
    decoded: DecodedImage, settings: ImageSettings, known: dict[str, Any], bytes_in: int
) -> list[EncodedImage]:
    """The crops of an image, or where it gives none, the whole image fitted; the bytes are those of the first."""
    colours = histograms(decoded.image) if settings.video_scenes and "frame" in known else None
    crops = crop_boxes(decoded.width, decoded.height, settings.crops, settings.resolution)
    images = []
    for number, crop in enumerate(crops or [None], 1):
        square = _cut(decoded, crop, settings) if crop else fit(decoded.image, settings)
        image = EncodedImage(
            content=encode(square, settings.format, settings.quality),
            pixel_sha256=hashlib.sha256(square.tobytes()).hexdigest(),
            width=decoded.width,
            height=decoded.height,
            mode=decoded.mode,
            bytes_in=bytes_in if number == 1 else 0,
            histograms=colours,
            crop=crop,
            number=number if crop else None,
            **known,
        )
        images.append(image)
    return images


def _cut(decoded: DecodedImage, crop: Box, settings: ImageSettings) -> Image.Image:
    left, top, side = crop
    x, y = decoded.image.width / decoded.width, decoded.image.height / decoded.height  # a JPEG may be decoded smaller
    box = (left * x, top * y, (left + side) * x, (top + side) * y)
    return decoded.image.resize((settings.resolution, settings.resolution), FILTERS[settings.filter], box=box)


def crashed(file: ImageFile) -> list[EncodedImage]:
    """The result for a file whose decoding killed its process twice."""
    return [EncodedImage(reason="decoder crashed", detail=f"the process that decoded {file.shown} died")]


def fit(image: Image.Image, settings: ImageSettings) -> Image.Image:
    """RGB of any size -> RGB, resolution x resolution: the whole stretched, the middle square, or the whole padded."""
    size, filter = settings.resolution, FILTERS[settings.filter]
    width, height = image.size
    if settings.fit == "stretch":
        return image.resize((size, size), filter)
    if settings.fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), filter, box=(left, top, left + side, top + side))
    scale = size / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = Image.new("RGB", (size, size), settings.background)
    canvas.paste(image.resize(inner, filter), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas
