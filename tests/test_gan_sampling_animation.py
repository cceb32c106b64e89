"""Animations, decoded again."""

import av
import numpy as np
import pytest
from PIL import Image

from gan.errors import RequestError
from gan.sampling import animation

LEVELS = [20, 60, 100, 140, 180, 220]  # of grey, a frame each


def frames(width=32, height=32, levels=LEVELS):
    return [np.full([height, width, 3], level, np.uint8) for level in levels]


def read(path):
    """-> frames as RGB arrays, and how many seconds each is shown."""
    if path.suffix.lower() == ".mp4":
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return decoded, [1 / float(rate)] * len(decoded)
    with Image.open(path) as image:
        decoded, seconds = [], []
        for index in range(image.n_frames):
            image.seek(index)
            decoded.append(np.asarray(image.convert("RGB")))
            seconds.append(image.info["duration"] / 1000)
    return decoded, seconds


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif", ".GIF"])
def test_frames_come_back(suffix, tmp_path):
    path = tmp_path / f"loop{suffix}"
    animation.save(frames(48, 32), path, fps=10)
    decoded, seconds = read(path)
    assert len(decoded) == len(LEVELS) and all(frame.shape == (32, 48, 3) for frame in decoded)
    for frame, level in zip(decoded, LEVELS, strict=True):
        assert np.abs(frame.astype(int) - level).max() <= 6
    assert seconds == pytest.approx([0.1] * len(LEVELS))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_it_loops_for_ever(suffix, tmp_path):
    animation.save(frames(), tmp_path / f"loop{suffix}", fps=10)
    with Image.open(tmp_path / f"loop{suffix}") as image:
        assert image.info["loop"] == 0


@pytest.mark.parametrize("suffix, size", [(".mp4", (34, 26)), (".webp", (35, 27)), (".gif", (35, 27))])
def test_odd_sizes(suffix, size, tmp_path):
    animation.save(frames(35, 27), tmp_path / f"odd{suffix}", fps=10)
    decoded, _ = read(tmp_path / f"odd{suffix}")
    assert {frame.shape[1::-1] for frame in decoded} == {size}  # MP4 halves its colours, so its sides are even


@pytest.mark.parametrize("suffix", animation.SUFFIXES)
def test_one_frame(suffix, tmp_path):
    animation.save(frames(levels=[90]), tmp_path / f"one{suffix}", fps=10)
    with Image.open(tmp_path / f"one{suffix}") if suffix != ".mp4" else av.open(tmp_path / "one.mp4") as opened:
        decoded = [opened.convert("RGB")] if suffix != ".mp4" else [f.to_image() for f in opened.decode(video=0)]
    assert len(decoded) == 1
    assert np.abs(np.asarray(decoded[0]).astype(int) - 90).max() <= 3


@pytest.mark.parametrize("suffix", animation.SUFFIXES)
def test_the_last_frame_is_held(suffix, tmp_path):
    animation.save(frames(levels=[10, 200]), tmp_path / f"held{suffix}", fps=10, hold=5)
    decoded, seconds = read(tmp_path / f"held{suffix}")
    shown = sum(time for frame, time in zip(decoded, seconds, strict=True) if frame.mean() > 150)
    assert shown == pytest.approx(0.5) and sum(seconds) == pytest.approx(0.6)


@pytest.mark.parametrize("suffix", animation.SUFFIXES)
def test_a_fast_one_is_as_fast_as_its_format_can(suffix, tmp_path):
    animation.save(frames(), tmp_path / f"fast{suffix}", fps=120)
    _, seconds = read(tmp_path / f"fast{suffix}")
    # A GIF counts hundredths of a second, and viewers take less than two of them for "slow".
    assert seconds == pytest.approx([0.02 if suffix == ".gif" else 1 / 120] * len(LEVELS), abs=0.0005)


def test_an_interrupted_one_leaves_nothing(tmp_path):
    def broken():
        yield frames()[0]
        raise ZeroDivisionError

    for suffix in animation.SUFFIXES:
        with pytest.raises(ZeroDivisionError):
            animation.save(broken(), tmp_path / f"loop{suffix}", fps=10)
    assert not list(tmp_path.iterdir())


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"`path` must end in one of \.mp4, \.webp, \.gif; got .*loop\.avi instead"):
        animation.save(frames(), tmp_path / "loop.avi", fps=10)
