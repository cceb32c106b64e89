"""Frames of videos: the first of every so many seconds, and how much one differs from another.

A video is read in parts of at least some seconds, so that workers share it and seek rarely; a frame is found by its
time, so that the parts make no difference. It is opened as what its first bytes say, by no other format: playlists,
which name other files, are none. PyAV is imported where it is needed, which is seldom.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.prepare.image_files import Clip, ImageFile, opened
from gan.data.decode import DecodedImage
from gan.errors import ImageError

SAME_SCENE = 0.2  # difference of frames up to which they are of one scene
_SIDE, _BINS = 32, 8  # of the image and of each channel's histogram, by which frames are compared
_SECONDS, _MOST = 20, 64  # length of a part, about that between two keyframes, and its frames at most
_LONGEST = 1_000_000  # frames that may be taken of a video
_TOLERANCE = Fraction(1)  # seconds by which a file may promise more than it has
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, -180: Image.Transpose.ROTATE_180}
_TURNS |= {-90: Image.Transpose.ROTATE_270, 270: Image.Transpose.ROTATE_270}


def clips(file: ImageFile, every: float) -> list[ImageFile]:
    """The parts of a video that has a frame to be taken every so many seconds; itself with its problem, if it has one.

    Its header is read, no frame decoded.
    """
    try:
        with _video(file) as (container, stream):
            count = max(1, math.ceil(_duration(container, stream) / _fraction(every)))
            if count > _LONGEST:
                raise ImageError("corrupt", f"it claims to have {count:,} frames to take")
    except ImageError as error:
        return [replace(file, problem=error.reason)]
    size = min(max(1, round(_SECONDS / every)), _MOST)
    return [replace(file, clip=Clip(first, min(size, count - first))) for first in range(0, count, size)]


def frames(file: ImageFile, every: float, max_pixels: int) -> Iterator[tuple[str, DecodedImage]]:
    """The frames of a part of a video, upright, each with its time as its name: the first of every so many seconds.

    Raises ImageError, maybe after some frames: "truncated" where the file promises more of them.
    """
    assert file.clip is not None
    first, end, step = file.clip.first, file.clip.first + file.clip.count, _fraction(every)
    with _video(file) as (container, stream):
        if stream.width * stream.height > max_pixels:
            raise ImageError("too large", f"its frames have more than {max_pixels:,} pixels")
        start = (stream.start_time or 0) * stream.time_base
        _seek(container, stream, start + first * step)
        wanted, time, gap = first, first * step, Fraction(0)
        for frame in container.decode(stream):
            if frame.pts is None or frame.is_corrupt:
                continue
            gap, time = abs(frame.pts * frame.time_base - start - time), frame.pts * frame.time_base - start
            number = math.floor(time / step)
            if number >= end:
                return
            if number >= wanted:
                yield name_of(time), _decoded(frame, stream)
                wanted = number + 1
                if wanted == end:
                    return
        missing: Fraction = min(_duration(container, stream), end * step) - time
        if missing > max(_TOLERANCE, 2 * gap):
            raise ImageError("truncated", f"it has no frames after {name_of(time)}")


def name_of(seconds: Fraction | float) -> str:
    """A time as the name of a frame: 00h01m02.500s."""
    milliseconds = max(0, round(seconds * 1000))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}h{minutes % 60:02d}m{rest // 1000:02d}.{rest % 1000:03d}s"


def histograms(image: Image.Image) -> NDArray[np.float32]:
    """RGB of any size -> a histogram of each channel, [3, bins], each of sum 1; two bins share a value between them."""
    small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32).reshape(-1, 3)
    place = np.clip((small + 0.5) * _BINS / 256 - 0.5, 0, _BINS - 1)  # [pixels, channels], in bins
    centres = np.arange(_BINS, dtype=np.float32)
    shares = np.clip(1 - np.abs(place[:, :, None] - centres), 0, None)  # [pixels, channels, bins]
    return np.asarray(shares.mean(axis=0), np.float32)


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of histograms: the share of pixels that would have to change their bin, the mean of the channels; 0 to 1."""
    return float(np.abs(one - other).sum(axis=1).mean() / 2)


@contextmanager
def _video(file: ImageFile) -> Iterator[tuple[Any, Any]]:
    """A video's container and its first stream of pictures. Raises ImageError, also for faults while it is open."""
    import av

    with opened(file) as content:
        format = _format(content.read(16))
        content.seek(0)
        try:
            with av.open(content, format=format) as container:
                if not container.streams.video:
                    raise ImageError("not a video", "it has no pictures")
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise ImageError("unreadable", "no decoder for it is known")
                stream.codec_context.thread_count = 1  # the workers share the cores
                yield container, stream
        except (ImageError, MemoryError):
            raise
        except av.error.EOFError as error:
            raise ImageError("truncated", str(error.strerror)) from error
        except Exception as error:  # a hostile file can make a decoder raise anything
            raise ImageError("corrupt", f"{type(error).__name__}: {getattr(error, 'strerror', error)}") from error


def _format(first: bytes) -> str:
    if first.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if first[:4] == b"RIFF" and first[8:12] == b"AVI ":
        return "avi"
    if first[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    raise ImageError(
        "not a video" if first else "empty", "it does not begin like MP4, QuickTime, Matroska, WebM or AVI"
    )


def _duration(container: Any, stream: Any) -> Fraction:
    """Seconds that a video lasts, by its header, or where that does not say, by its last packet."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    if container.duration:
        return Fraction(container.duration, 1_000_000)
    start = stream.start_time or 0
    last = start
    for packet in container.demux(stream):
        last = max(last, packet.pts or last)
    return Fraction((last - start + 1) * stream.time_base)


def _seek(container: Any, stream: Any, seconds: Fraction) -> None:
    """Go to the keyframe before a time; where it cannot be found, everything is read from the beginning on."""
    import av

    if seconds > 0:
        try:
            container.seek(math.floor(seconds / stream.time_base), stream=stream, backward=True)
        except av.error.FFmpegError:
            container.seek(0)


def _decoded(frame: Any, stream: Any) -> DecodedImage:
    # Pixels of some videos are not square.
    width = round(frame.width * (stream.sample_aspect_ratio or 1))
    image = frame.reformat(width=width, height=frame.height, format="rgb24").to_image()
    turn = _TURNS.get(getattr(frame, "rotation", 0))
    image = image if turn is None else image.transpose(turn)
    return DecodedImage(image=image, width=image.width, height=image.height, mode=frame.format.name, format="video")


def _fraction(seconds: float) -> Fraction:
    return Fraction(seconds).limit_denominator(1_000_000)
