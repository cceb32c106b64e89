"""One image file -> one square, encoded image. What the worker processes do."""

import hashlib
from dataclasses import dataclass

from PIL import Image

from curation.prepare.image_files import ImageFile, read
from gan.data.decode import MAX_BYTES_PER_PIXEL, Colour, decode
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


def prepare(file: ImageFile, settings: ImageSettings) -> EncodedImage:
    """Read, decode, fit and encode one image; what is wrong with it is the `reason` of the result, never raised."""
    file_sha256 = None
    try:
        content = read(file, settings.max_pixels * MAX_BYTES_PER_PIXEL)
        file_sha256 = hashlib.sha256(content).hexdigest()
        decoded = decode(
            content,
            at_least=2 * settings.resolution,  # the filter then still has pixels to choose from
            background=settings.background,
            max_pixels=settings.max_pixels,
        )
        square = fit(decoded.image, settings)
        return EncodedImage(
            content=encode(square, settings.format, settings.quality),
            file_sha256=file_sha256,
            pixel_sha256=hashlib.sha256(square.tobytes()).hexdigest(),
            width=decoded.width,
            height=decoded.height,
            mode=decoded.mode,
            bytes_in=len(content),
        )
    except ImageError as error:
        return EncodedImage(file_sha256=file_sha256, reason=error.reason, detail=error.detail)
    except MemoryError:
        return EncodedImage(
            file_sha256=file_sha256, reason="out of memory", detail="there was not enough memory for it"
        )


def crashed(file: ImageFile) -> EncodedImage:
    """The result for an image whose decoding killed its process twice."""
    return EncodedImage(reason="decoder crashed", detail=f"the process that decoded {file.name} died")


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
