"""Sound: decoded by FFmpeg's libraries (PyAV), what it says in each frame of a video, and its way into the video.

Features of a frame are from 0 to 1. onset: how suddenly the spectrum grows, the spectral flux (Dixon 2006, section
2.1), which falls off slowly after each. low, mid, high: how loud three bands of frequencies are, smoothed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan.errors import RequestError
from gan.sampling.latents import Floats

if TYPE_CHECKING:
    import av

RATE = 22_050  # samples a second of what is analysed, one channel
TRACK_RATE = 48_000  # of what a video gets, two channels
TRACK_BLOCK = 1024  # samples that AAC takes at a time
LONGEST = 3600  # seconds
FORMATS = "wav,w64,aiff,mp3,flac,ogg,aac,mov,mp4,m4a,matroska,webm"  # of files; none that name other files
BANDS = {"low": (20.0, 250.0), "mid": (250.0, 2000.0), "high": (2000.0, 8000.0)}  # Hz
WINDOW, HOP = 1024, 128  # samples, of the spectra whose growth is an onset
BAND_WINDOW, BAND_HOP = 2048, 512
LOG_GAIN = 100.0  # of magnitudes before the logarithm
MEAN_SECONDS = 0.5  # around a moment, whose mean flux is no onset
RELEASE = 0.12  # seconds in which an onset falls to 1/e
SMOOTHING = 0.12  # seconds that loudness is averaged over
AT_A_TIME = 4096  # spectra that are in memory
LEAST_ONSET = 5.0  # spectral flux that counts as an onset of 1 where none is stronger
SILENCE = 1e-4  # of full scale; what is below has no features
QUIETEST = 0.02  # of the loudest band: a band that never gets as loud counts as that loud


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A sound that was decoded."""

    path: Path
    samples: Floats  # [S], RATE a second, mean of the channels
    seconds: Fraction  # of it that are used

    def track(self) -> Iterator["av.AudioFrame"]:
        """It for a video: two channels, TRACK_RATE a second, in blocks of TRACK_BLOCK and a shorter last one."""
        import av

        left, fifo, start = round(self.seconds * TRACK_RATE), av.AudioFifo(), 0
        for frame in _resampled(self.path, "fltp", "stereo", TRACK_RATE):
            fifo.write(frame)
            while left and fifo.samples >= min(TRACK_BLOCK, left):
                block = fifo.read(min(TRACK_BLOCK, left))
                assert block is not None
                block.pts, block.time_base = start, Fraction(1, TRACK_RATE)
                start, left = start + block.samples, left - block.samples
                yield block
            if not left:
                return


def read(path: Path, seconds: float | None = None) -> Sound:
    """Decode a file. `seconds`: how much of it is used; None: all.

    Raises RequestError, which names `audio` or `seconds`, for what is no sound, or is too short or too long.
    """
    parts, count, most = [np.zeros(0, np.float32)], 0, LONGEST * RATE
    for frame in _resampled(path, "flt", "mono", RATE):
        parts.append(frame.to_ndarray().reshape(-1).astype(np.float32))
        count += frame.samples
        if count > most:
            raise RequestError(f"`audio` must be at most {LONGEST} seconds long; {path} is longer")
    samples = np.concatenate(parts)
    if not count:
        raise RequestError(f"`audio` must hold sound; {path} holds none")
    if not np.isfinite(samples).all():
        raise RequestError(f"`audio` must hold finite samples; those of {path} are not")
    whole = Fraction(count, RATE)
    wanted = whole if seconds is None else Fraction(str(seconds))
    if wanted > whole:
        raise RequestError(f"`seconds` must be at most those of the sound, {float(whole):.3f}; got {seconds} instead")
    return Sound(path=path, samples=samples[: round(wanted * RATE)], seconds=wanted)


def features(sound: Sound, fps: Fraction, count: int) -> dict[str, Floats]:
    """What a sound says in each of `count` frames, from 0 to 1 each: onset, low, mid, high."""
    edges = np.array([float(index / fps) for index in range(count + 1)])
    onset = _released(_largest(_flux(sound.samples), HOP, edges), fps)
    bands = _loudness(sound.samples)
    centres = (edges[:-1] + edges[1:]) / 2
    times = np.arange(len(next(iter(bands.values())))) * BAND_HOP / RATE
    return {
        "onset": _scaled(onset, LEAST_ONSET),
        **{name: np.interp(centres, times, band).astype(np.float32) for name, band in bands.items()},
    }


def _flux(samples: Floats) -> Floats:
    # Spectral flux at each HOP, less its mean around it.
    lag, before, parts = 2, None, []
    for magnitudes in _spectra(samples, WINDOW, HOP):
        logs = np.log1p(LOG_GAIN * np.where(magnitudes < SILENCE, 0, magnitudes))
        logs = np.concatenate([logs[:1].repeat(lag, axis=0) if before is None else before, logs])
        parts.append(np.maximum(logs[lag:] - logs[:-lag], 0).sum(axis=1))
        before = logs[-lag:]
    # A click is nearest the middle of its window a quarter of it after the steepest growth, which the lag puts off.
    late = np.zeros(WINDOW // 4 // HOP - lag // 2, np.float32)
    flux = np.concatenate([late, *parts])[: -(-len(samples) // HOP)]
    width = max(round(MEAN_SECONDS * RATE / HOP), 1)
    return np.maximum(flux - _averaged(flux, np.ones(width)), 0)


def _loudness(samples: Floats) -> dict[str, Floats]:
    # Of each band at each BAND_HOP: root of its power, smoothed, from 0 to 1.
    frequencies = np.fft.rfftfreq(BAND_WINDOW, 1 / RATE)
    inside = np.array([(frequencies >= least) & (frequencies < most) for least, most in BANDS.values()])
    powers = [magnitudes**2 @ inside.T.astype(np.float32) for magnitudes in _spectra(samples, BAND_WINDOW, BAND_HOP)]
    loudness = np.sqrt(np.concatenate(powers))  # [n, bands]
    kernel = np.hanning(max(round(SMOOTHING * RATE / BAND_HOP), 1) + 2)
    found = {name: _averaged(loudness[:, index], kernel) for index, name in enumerate(BANDS)}
    loudest = max(float(band.max(initial=0)) for band in found.values())
    return {name: _scaled(band, max(QUIETEST * loudest, SILENCE)) for name, band in found.items()}


def _spectra(samples: Floats, window: int, hop: int) -> Iterator[Floats]:
    # Magnitudes around every hop-th sample [n, window / 2 + 1], some at a time; 1 is a sine of full scale.
    shape = np.hanning(window + 1)[:-1].astype(np.float32)
    shape *= 2 / shape.sum()
    padded = np.pad(samples, window // 2)
    for start in range(0, len(samples), hop * AT_A_TIME):
        part = padded[start : start + min(hop * AT_A_TIME, len(samples) - start) - 1 + window]
        windows = np.lib.stride_tricks.sliding_window_view(part, window)[::hop]
        yield np.abs(np.fft.rfft(windows * shape, axis=1)).astype(np.float32)


def _averaged(values: Floats, kernel: np.ndarray) -> Floats:
    # Weighted mean around each value, of what there is at the ends.
    weights = np.convolve(np.ones(len(values)), kernel, "full")
    sums = np.convolve(values, kernel, "full")
    start = (len(kernel) - 1) // 2
    place = slice(start, start + len(values))
    return (sums[place] / np.maximum(weights[place], 1e-12)).astype(np.float32)


def _largest(values: Floats, hop: int, edges: np.ndarray) -> Floats:
    # The largest value in each frame, whose edges are in seconds; a frame that has none takes the one before it.
    places = np.minimum(np.ceil(edges * RATE / hop - 1e-9).astype(int), len(values))
    return np.array(
        [values[a:b].max() if b > a else values[min(max(a - 1, 0), len(values) - 1)] for a, b in pairwise(places)],
        np.float32,
    )


def _released(values: Floats, fps: Fraction) -> Floats:
    # Each value, or what is left of those before it.
    kept, found = np.exp(-1 / (float(fps) * RELEASE)), np.zeros_like(values)
    level = 0.0
    for index, value in enumerate(values):
        level = max(float(value), level * kept)
        found[index] = level
    return found


def _scaled(values: Floats, floor: float) -> Floats:
    return (values / max(float(values.max(initial=0)), floor)).astype(np.float32)


def _resampled(path: Path, format: str, layout: str, rate: int) -> Iterator["av.AudioFrame"]:
    import av

    with _opened(path) as container:
        if not container.streams.audio:
            raise RequestError(f"`audio` must hold sound; {path} holds none")
        resampler = av.AudioResampler(format=format, layout=layout, rate=rate)
        for frame in container.decode(audio=0):
            frame.pts = None  # gaps are not filled: the sound is what its samples are
            yield from _placeless(resampler.resample(frame))
        yield from _placeless(resampler.resample(None))


def _placeless(frames: list["av.AudioFrame"]) -> Iterator["av.AudioFrame"]:
    for frame in frames:
        frame.pts = None
        yield frame


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    # Only formats of sound, and only this file: play lists and the like make FFmpeg open what they name.
    import av

    try:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        with open(path, "rb"), av.open(f"file:{path}", options=options) as container:
            yield container
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"`audio` must be a file of sound, such as WAV, FLAC, MP3 or M4A; {path}: {reason}"
        ) from error
