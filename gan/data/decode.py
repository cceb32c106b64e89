"""Any image file -> an upright 8-bit image in sRGB or grey, or an ImageError that says in one short code why not.

Pixel values: grey of more than 8 bits is scaled from its full range, never cut off; transparency is kept, or laid over
a background; an embedded colour profile is converted to sRGB; of an animation the first frame counts.
"""

import errno
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from PIL import Image, ImageChops, ImageCms, UnidentifiedImageError

from gan.errors import ImageError

MAX_PIXELS = 200_000_000
MAX_BYTES_PER_PIXEL = 8  # 16-bit RGBA, uncompressed
Colour = tuple[int, int, int]

# In the order in which they are tried. EPS, PDF and WMF are left out: to read them, Pillow starts other programs.
Image.init()
FORMATS: list[str] = [
    name
    for name in (
        *("PNG", "JPEG", "WEBP", "AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "IM", "JPEG2000", "PCX", "PPM"),
        *("PSD", "QOI", "SGI", "SUN", "TGA", "TIFF", "XBM", "XPM"),
    )
    if name in Image.OPEN  # some depend on how Pillow was built; MPO comes with JPEG
]
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"8BPS", b"\0\0\0\x0cjP")

_FIRST = max(map(len, MAGIC))
_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_UPRIGHT = {  # EXIF orientation -> what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """An image that was read: `image` is L, RGB or RGBA, 8 bits, upright; the rest describes the original."""

    image: Image.Image
    width: int  # of the original, upright, in pixels
    height: int
    mode: str  # of the original, as Pillow names it
    format: str


def read_file(path: Path, max_bytes: int = MAX_PIXELS * MAX_BYTES_PER_PIXEL) -> bytes:
    """The bytes of a regular file. Raises ImageError as `open_file`, or with the reason "too large"."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ImageError("too large", f"{size:,} bytes are more than the limit of {max_bytes:,}")
        return file.read(max_bytes)


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; FIFOs, sockets and devices are never opened, since that could wait forever.

    Raises ImageError with the reason "symlink loop", "unreadable" (also while it is read) or "not a regular file".
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError("not a regular file", f"{path.name} is a FIFO, a socket, a device or a folder")
        # Not blocking, and looked at once more, in case the file was exchanged for a FIFO meanwhile.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ImageError("not a regular file", f"{path.name} is a FIFO, a socket or a device")
            yield file
    except OSError as error:
        reason = "symlink loop" if error.errno == errno.ELOOP else "unreadable"
        raise ImageError(reason, error.strerror or str(error)) from error


def decode(
    file: Path | bytes,
    *,
    at_least: tuple[int, int] | None = None,
    background: Colour = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    channels: int = 3,
) -> DecodedImage:
    """Read an image file, or the bytes of one -> its pixels, upright, in sRGB: grey, RGB, or RGBA by its `channels`.

    With `at_least`, a width and a height, a JPEG that is much larger is decoded at 1/2, 1/4 or 1/8 of its size, upright
    still at least that wide and that high. Without alpha, `background` shows through what is transparent. Pillow's
    limits are set for the whole process meanwhile; threads with the same `max_pixels` decode side by side, others wait
    for each other.

    Raises ImageError; `reason` is "empty", "not an image", "truncated", "corrupt", "too large", "out of memory", or one
    of those of `read_file`.
    """
    content = file if isinstance(file, bytes) else read_file(file, max_pixels * MAX_BYTES_PER_PIXEL)
    with _opened(content, max_pixels) as image:
        return _decode(image, at_least, background, channels)


def size_and_mode(content: bytes | IO[bytes], *, max_pixels: int = MAX_PIXELS) -> tuple[int, int, str]:
    """Width and height, upright, and mode of an image file, by its header: Pillow's, or RGBA where alpha is no channel.

    Of a stream, which must be one to seek in, little more than the header is read. Raises ImageError.
    """
    with _opened(content, max_pixels) as image:
        width, height = image.size
        mode = "RGBA" if image.has_transparency_data and image.mode not in ("LA", "La", "PA") else image.mode
        turned = _orientation(image) >= 5 and image.format != "TIFF"  # of which Pillow has the upright size
        return (height, width, mode) if turned else (width, height, mode)


def format_of(content: bytes, *, max_pixels: int = MAX_PIXELS) -> str:
    """The format of an image file's bytes, as Pillow names it, by its header alone. Raises ImageError as `decode`."""
    with _opened(content, max_pixels) as image:
        return str(image.format)


@contextmanager
def _opened(content: bytes | IO[bytes], max_pixels: int) -> Iterator[Image.Image]:
    # An image whose header was read; what goes wrong with it until it is closed is an ImageError.
    first = b""
    try:
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        first = file.read(_FIRST)
        if not first:
            raise ImageError("empty", "the file has no bytes")
        with _limits(max_pixels), Image.open(file, formats=FORMATS) as image:
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if first.startswith(MAGIC):
            raise ImageError("corrupt", "it begins like an image, but its header cannot be read") from error
        raise ImageError("not an image", "no known image format begins like this") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too large", f"it has more than {max_pixels:,} pixels") from error
    except MemoryError as error:
        raise ImageError("out of memory", "there was not enough memory to decode it") from error
    except Exception as error:  # a hostile file can make a decoder raise anything
        truncated = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise ImageError("truncated" if truncated else "corrupt", f"{type(error).__name__}: {error}") from error


class _Limits:
    """Pillow's limit and Python's filters of warnings, which a process has one of, while threads decode.

    Pillow looks at its limit also where formats hold a second, larger size inside (ICO, TIFF, GIF frames).
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0  # threads that decode
        self._max_pixels = 0  # for all of them
        self._restore = ExitStack()

    @contextmanager
    def __call__(self, max_pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._inside or self._max_pixels == max_pixels)
            if not self._inside:
                self._set(max_pixels)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                if not self._inside:
                    self._restore.close()
                    self._changed.notify_all()

    def _set(self, max_pixels: int) -> None:
        self._restore.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of odd EXIF, odd palettes and the like: the pixels are read all the same
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        self._restore.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = self._max_pixels = max_pixels


_limits = _Limits()


def _decode(image: Image.Image, at_least: tuple[int, int] | None, background: Colour, channels: int) -> DecodedImage:
    mode, format, (width, height) = image.mode, str(image.format), image.size
    if at_least and format in ("JPEG", "MPO"):
        image.draft(None, at_least[::-1] if _orientation(image) >= 5 else at_least)
    image.load()
    if not width or not height:
        raise ImageError("corrupt", f"it has {width}x{height} pixels")
    orientation = _orientation(image)
    profile = image.info.get("icc_profile")
    if channels == 4 and mode == "RGBA" and not profile:
        upright = image  # as it is: a large one is not in memory twice
    else:
        upright, alpha = _split(image)
        upright = _to_srgb(upright, profile)
        if channels == 4:
            upright.putalpha(255 if alpha is None else alpha)
        elif alpha is not None:
            upright.paste(background, (0, 0, *upright.size), ImageChops.invert(alpha))
    if channels == 1:
        upright = upright.convert("L")
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    if orientation >= 5:  # a quarter turn
        width, height = height, width
    return DecodedImage(image=upright, width=width, height=height, mode=mode, format=format)


def _orientation(image: Image.Image) -> int:
    # Asked after loading: Pillow turns TIFFs itself while it loads them, and then forgets the tag.
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF raises many things, and costs the image nothing but its orientation
        return 1
    return value if isinstance(value, int) else 1


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An image of any mode -> its colours as L, RGB or CMYK, and its alpha as L or None."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(image), None
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        return image.convert("L") if image.mode in ("L", "LA") else rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return (image if image.mode in _PROFILE_SPACES else image.convert("RGB")), None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floats -> L: the full range becomes 0..255; below 0 and NaN are black.

    The full range of 32-bit integers and floats is not written in the file: it is taken to be the smallest usual one
    (1 for floats, 255, 65535, 2^31 - 1) that holds the largest value.
    """
    values = np.asarray(image).astype(np.float32)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        full = 65535.0
    else:
        scales = [255.0, 65535.0, 2.0**31 - 1] if image.mode == "I" else [1.0, 255.0, 65535.0, 2.0**31 - 1]
        largest = float(values.max(initial=0, where=np.isfinite(values)))
        full = next((scale for scale in scales if largest <= scale), largest)
    values = np.nan_to_num(values, copy=False, nan=0.0, posinf=full, neginf=0.0)
    values = np.multiply(np.clip(values, 0, full, out=values), 255 / full, out=values)
    return Image.fromarray(np.rint(values, out=values).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """L, RGB or CMYK -> RGB, through the embedded profile where that is sound and made for this mode."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space.strip() == _PROFILE_SPACES[image.mode]:
                converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            pass  # a broken profile: the plain conversion is the best that is left
    return image if image.mode == "RGB" else image.convert("RGB")  # of RGB it would be a copy
