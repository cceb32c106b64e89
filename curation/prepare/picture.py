"""One picture for a generator of a shape, fitted as `prepare` fits a collection of pictures."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.prepare.request import MAX_CROP
from curation.prepare.resize import ImageSettings, colour, fit
from gan.data.decode import MAX_PIXELS, decode, read_file
from gan.data.images import Pixels
from gan.errors import ImageError, RequestError
from gan.image_shape import ImageShape


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that was read and fitted."""

    path: Path
    sha256: str  # of its file
    width: int  # of the original, upright
    height: int
    pixels: Pixels  # uint8 [H, W, C] of the shape


def read_picture(path: Path, shape: ImageShape, fitting: str | None = None, background: str = "white") -> Picture:
    """Read an image file, turn it upright, and make it fit a shape: stretched, cropped or padded.

    `fitting` None: as `prepare` has it, stretched into a square, into other shapes cropped by a quarter of a side at
    most. `background` shows through what is transparent where the shape has no alpha. Raises RequestError, which names
    `pictures`, for what is no image.
    """
    settings = ImageSettings(
        shape=shape,
        fit=fitting or ("stretch" if shape.width == shape.height else "crop"),
        max_crop=1 if fitting else MAX_CROP,
        format="png",
        quality=95,
        filter="lanczos",
        background=colour(background),
        max_pixels=MAX_PIXELS,
    )
    try:
        content = read_file(path)
        decoded = decode(
            content,
            at_least=(2 * shape.width, 2 * shape.height),  # the filter then still has pixels to choose from
            background=settings.background,
            max_pixels=settings.max_pixels,
            channels=shape.channels,
        )
    except ImageError as error:
        raise RequestError(f"`pictures` must be image files; {path} is none that can be read: {error}") from error
    pixels = np.asarray(fit(decoded.image, settings)).reshape(shape.hwc)
    digest = hashlib.sha256(content).hexdigest()
    return Picture(path=path, sha256=digest, width=decoded.width, height=decoded.height, pixels=pixels)
