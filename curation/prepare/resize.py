"""One image file -> encoded images of one shape. What the worker processes do."""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from curation.prepare.crops import Box, crop_boxes
from curation.prepare.image_files import ImageFile, read, size
from curation.prepare.video import frames, histograms, name_of
from gan.data.decode import MAX_BYTES_PER_PIXEL, Colour, DecodedImage, decode
from gan.data.images import encode
from gan.errors import ImageError, RequestError
from gan.image_shape import ImageShape

FILTERS = {  # Pillow widens each one's support when it makes an image smaller, so none of them aliases
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How images are made to fit."""

    shape: ImageShape
    fit: str  # stretch, crop or pad
    format: str  # jpeg, png or webp
    quality: int  # of JPEG, 1 to 100
    filter: str  # one of FILTERS
    background: Colour
    max_pixels: int  # larger originals are refused
    max_crop: float = 1  # share of a side that crop cuts off at most
    crops: int = 1  # parts that a large original gives; 1: it is fitted whole
    video_every: float | None = None  # seconds between a video's frames; None: videos are not read
    video_scenes: bool = False  # whether frames of one scene count once


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedImage:
    """An encoded image (`content`), or the `reason` why there is none."""

    content: bytes | None = None
    file_sha256: str | None = None
    pixel_sha256: str | None = None  # of the bytes before encoding
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
            # The filter then still has pixels to choose from. A grid of crops divides each side by the root at most.
            times = 2 * math.ceil(math.sqrt(settings.crops))
            decoded = decode(
                content,
                at_least=(times * settings.shape.width, times * settings.shape.height),
                background=settings.background,
                max_pixels=settings.max_pixels,
                channels=settings.shape.channels,
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
    if decoded.image.mode != settings.shape.mode:  # of a video
        decoded = replace(decoded, image=decoded.image.convert(settings.shape.mode))
    crops = crop_boxes(decoded.width, decoded.height, settings.crops, settings.shape.size)
    images = []
    for number, crop in enumerate(crops or [None], 1):
        fitted = _cut(decoded, crop, settings) if crop else fit(decoded.image, settings)
        image = EncodedImage(
            content=encode(fitted, settings.format, settings.quality),
            pixel_sha256=hashlib.sha256(fitted.tobytes()).hexdigest(),
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
    left, top, width, height = crop
    x, y = decoded.image.width / decoded.width, decoded.image.height / decoded.height  # a JPEG may be decoded smaller
    return _resized(decoded.image, settings, (left * x, top * y, (left + width) * x, (top + height) * y))


def colour(name: str) -> Colour:
    """The colour of a name or #rrggbb. Raises RequestError, which names `background`, for anything else."""
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise RequestError(f"`background` must be a colour such as white or #20304f; got {name} instead") from None
    return red, green, blue


def crashed(file: ImageFile) -> list[EncodedImage]:
    """The result for a file whose decoding killed its process twice."""
    return [EncodedImage(reason="decoder crashed", detail=f"the process that decoded {file.shown} died")]


def fit(image: Image.Image, settings: ImageSettings) -> Image.Image:
    """An image of any size -> one of the shape: the whole stretched, its middle, or the whole padded."""
    if settings.fit != "pad":
        kept_width, kept_height = kept(*image.size, settings)
        left, top = (image.width - kept_width) / 2, (image.height - kept_height) / 2
        return _resized(image, settings, (left, top, left + kept_width, top + kept_height))
    shape = settings.shape
    scale = min(shape.width / image.width, shape.height / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = Image.new("RGB", shape.size, settings.background).convert(shape.mode)
    if shape.channels == 4:
        canvas.putalpha(0)
    resized = image.resize(inner, FILTERS[settings.filter])
    canvas.paste(resized, ((shape.width - inner[0]) // 2, (shape.height - inner[1]) // 2))
    return _cleared(canvas)


def kept(width: int, height: int, settings: ImageSettings) -> tuple[float, float]:
    """Width and height of the middle of an image of this size that `fit` shows."""
    if settings.fit != "crop":
        return width, height
    aspect, most = settings.shape.width / settings.shape.height, settings.max_crop
    return (
        min(width, max(height * aspect, width * (1 - most))),
        min(height, max(width / aspect, height * (1 - most))),
    )


def _resized(image: Image.Image, settings: ImageSettings, box: tuple[float, float, float, float]) -> Image.Image:
    return _cleared(image.resize(settings.shape.size, FILTERS[settings.filter], box=box))


def _cleared(image: Image.Image) -> Image.Image:
    """The image with zeros where it is fully transparent: what cannot be seen makes no difference."""
    if image.mode != "RGBA":
        return image
    pixels = np.array(image)
    pixels[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)
