"""Animations: MP4 through FFmpeg's libraries (PyAV), WebP and GIF through Pillow."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from gan.data.images import Pixels
from gan.data.recipe import Recipe
from gan.errors import RequestError
from gan.runtime.files import atomic
from gan.sampling.audio import TRACK_RATE, Sound

SUFFIXES = (".mp4", ".webp", ".gif")


def save(
    frames: Iterable[Pixels],
    path: Path,
    fps: float,
    hold: int = 1,
    recipe: Recipe | None = None,
    sound: Sound | None = None,
) -> None:
    """Write uint8 HWC frames of one size to `path`, atomically; its suffix gives the format. It loops where that can.

    The last frame is shown for `hold` frames. The file has the `recipe` of what it shows, and an MP4 the `sound`.
    Raises RequestError for a suffix that is none of .mp4, .webp, .gif, and for sound with another than .mp4.
    """
    suffix = check_suffix(path)
    if sound is not None:
        check_sound(path, "path")
    with atomic(path) as temporary:
        if suffix == ".mp4":
            _save_mp4(_held(frames, hold), temporary, fps, recipe, sound)
        else:
            images = [Image.fromarray(frame) for frame in _held(frames, hold)]
            options = {"save_all": True, "append_images": images[1:], "duration": round(1000 / fps), "loop": 0}
            options |= {} if recipe is None else recipe.save_options(suffix[1:])
            if suffix == ".webp":
                images[0].save(temporary, "WEBP", quality=90, method=4, **options)
            else:
                # Viewers take less than two hundredths of a second for a mistake, and show a tenth.
                images[0].save(temporary, "GIF", **options | {"duration": max(round(1000 / fps), 20)})


def check_suffix(path: Path, parameter: str = "path") -> str:
    """The suffix of an animation's file. Raises RequestError, which names `parameter`, when it is not of SUFFIXES."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise RequestError(f"`{parameter}` must end in one of {', '.join(SUFFIXES)}; got {path} instead")
    return suffix


def check_sound(path: Path, parameter: str = "out") -> None:
    """Raise RequestError, which names `parameter`, where a file has no place for sound."""
    if Path(path).suffix.lower() != ".mp4":
        raise RequestError(f"`{parameter}` must end in .mp4 with `audio`; got {path} instead, which has no sound")


def _held(frames: Iterable[Pixels], hold: int) -> Iterator[Pixels]:
    frame = None
    for frame in frames:
        yield frame
    for _ in range(hold - 1 if frame is not None else 0):
        assert frame is not None
        yield frame


def _save_mp4(frames: Iterable[Pixels], path: Path, fps: float, recipe: Recipe | None, sound: Sound | None) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        if recipe is not None:
            container.metadata["comment"] = recipe.comment()
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "16", "preset": "medium"}
        track = None if sound is None else _Track(container, sound)  # both streams come before the first packet
        for index, pixels in enumerate(frames):
            height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2  # 4:2:0 needs even sides
            if not stream.codec_context.is_open:  # the first frame gives the size
                stream.height, stream.width = height, width
            frame = av.VideoFrame.from_ndarray(pixels[:height, :width], format="rgb24")
            container.mux(stream.encode(frame))
            if track is not None:
                track.write_until((index + 1) / fps)  # beside the frames, where players look for it
        container.mux(stream.encode())
        if track is not None:
            track.write_until(float("inf"))


class _Track:
    # The sound of a video, written a part at a time.
    def __init__(self, container: Any, sound: Sound) -> None:
        self._container, self._blocks, self._written = container, sound.track(), 0.0
        self._stream = container.add_stream("aac", rate=TRACK_RATE, layout="stereo", bit_rate=192_000)

    def write_until(self, seconds: float) -> None:
        while self._written < seconds:
            block = next(self._blocks, None)
            self._container.mux(self._stream.encode(block))
            if block is None:
                self._written = float("inf")
            else:
                self._written += block.samples / TRACK_RATE
