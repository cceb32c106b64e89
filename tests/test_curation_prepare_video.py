"""Frames of videos: which are taken, of which scenes, in which parts, and what becomes of damaged videos."""

import io
import math
import struct
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import run_salon
from test_curation_prepare_archives import tar, zipped
from test_curation_prepare_pipeline import fill, image, request, rows

from curation.prepare.image_files import Clip, ImageFile
from curation.prepare.pipeline import collect
from curation.prepare.video import clips, difference, frames, histograms, name_of
from gan.data import decode
from gan.data.dataset import ImageDataset
from gan.errors import ImageError, RequestError

RATE = 10  # frames a second
CODECS = {"mp4": "libx264", "mov": "mpeg4", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4"}
FAST = {"libx264": {"preset": "ultrafast"}, "libvpx": {"deadline": "realtime", "cpu-used": "8"}}


def level(number: int) -> int:
    """The grey of the frame of that number, which tells it from its neighbours."""
    return 20 + number * 29 % 53 * 4


def film(pictures: list[np.ndarray], suffix: str = "mp4", aspect: Fraction | None = None, **options: str) -> bytes:
    """A video of these RGB frames."""
    with tempfile.TemporaryDirectory() as folder, av.open(f"{folder}/film.{suffix}", "w", options=options) as container:
        codec = CODECS[suffix]
        stream = container.add_stream(codec, rate=RATE, options=FAST.get(codec, {}))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if aspect:
            stream.sample_aspect_ratio = aspect
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        container.close()
        return Path(folder, f"film.{suffix}").read_bytes()


def greys(count: int) -> list[np.ndarray]:
    return [np.full([32, 48, 3], level(number), np.uint8) for number in range(count)]


def numbers(out: Path, count: int) -> list[int]:
    """Which of `count` frames the images of a dataset are."""
    dataset = ImageDataset(out)
    means = [dataset.image(index).mean() for index in range(len(dataset))]
    return [min(range(count), key=lambda number: abs(level(number) - mean)) for mean in means]


@pytest.mark.parametrize("suffix", CODECS)
def test_a_frame_every_second(tmp_path: Path, suffix: str) -> None:
    source = fill(tmp_path / "in", {f"a/film.{suffix}": film(greys(46), suffix), "a/1.png": image(1)})
    figures = collect(request(source, tmp_path / "d.zip", video_every=1, labels="folders"))
    assert (figures["images"], figures["found"], figures["quarantined"]) == (6, 6, {})
    found = rows(tmp_path / "d.zip")
    names = [f"in/a/film.{suffix}/00h00m0{second}.000s" for second in range(5)]
    assert list(found) == ["in/a/1.png", *names]
    assert {(row["width"], row["height"], row["mode"]) for row in list(found.values())[1:]} == {(48, 32, "yuv420p")}
    assert figures["labels"] == {"a": 6}
    sole = collect(request(source / f"a/film.{suffix}", tmp_path / "e.zip", video_every=1, limit=3))
    assert list(rows(tmp_path / "e.zip")) == [name.removeprefix("in/a/") for name in names[:3]]
    assert (sole["found"], numbers(tmp_path / "e.zip", 46)) == (3, [0, 10, 20])


@pytest.mark.parametrize("suffix", CODECS)
def test_parts_make_no_difference(tmp_path: Path, suffix: str) -> None:
    path = fill(tmp_path, {f"film.{suffix}": film(greys(130), suffix)}) / f"film.{suffix}"
    whole = ImageFile("film", "", path)
    for every in (0.1, 0.25, 3):
        count = math.ceil(13 / every)
        expected = taken([ImageFile("film", "", path, clip=Clip(0, count))], every)
        assert len(expected) == count
        for size in (1, 7):
            parts = [Clip(first, min(size, count - first)) for first in range(0, count, size)]
            assert taken([ImageFile("film", "", path, clip=part) for part in parts], every) == expected
        assert taken(clips(whole, every), every) == expected
    assert [part.clip for part in clips(whole, 0.1)] == [Clip(0, 64), Clip(64, 64), Clip(128, 2)]
    assert [part.clip for part in clips(whole, 3)] == [Clip(0, 5)]


def taken(parts: list[ImageFile], every: float) -> list[tuple[str, int]]:
    """Name and level of each frame."""
    return [
        (name, round(np.asarray(decoded.image).mean()))
        for part in parts
        for name, decoded in frames(part, every, decode.MAX_PIXELS)
    ]


def test_a_video_slower_than_the_interval_gives_each_frame_once(tmp_path: Path) -> None:
    source = fill(tmp_path, {"film.mkv": film(greys(12), "mkv")}) / "film.mkv"
    assert collect(request(source, tmp_path / "d.zip", video_every=0.01))["images"] == 12
    assert numbers(tmp_path / "d.zip", 12) == list(range(12))
    assert list(rows(tmp_path / "d.zip"))[3] == "film.mkv/00h00m00.300s"
    assert name_of(3723.4567) == "01h02m03.457s"


def test_videos_in_archives(tmp_path: Path) -> None:
    noise = [np.random.default_rng(number).integers(0, 256, [64, 96, 3], np.uint8) for number in range(25)]
    files = {"a/film.mp4": film(noise), "b.zip": zipped({"film.mkv": film(noise[:15], "mkv")})}
    assert len(files["a/film.mp4"]) > 100_000  # more than is read at once, with the index at the end
    archives = {"in.tar": tar(files), "in.zip": zipped(files)}
    for name in archives:
        collect(request(fill(tmp_path, archives) / name, tmp_path / "d.zip", video_every=1, overwrite=True))
        assert list(rows(tmp_path / "d.zip")) == [
            f"{name}/{video}/00h00m0{second}.000s"
            for video, count in (("a/film.mp4", 3), ("b.zip/film.mkv", 2))
            for second in range(count)
        ]


def test_scenes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [
        rng.integers(0, 256, [32, 48, 3]) * weight for weight in ((1, 0.5, 0.6), (0.6, 0.3, 0.9), (0.9, 0.9, 0.9))
    ]
    # Each of two seconds, with noise, and moving; the first comes again at the end.
    pictures = [
        np.clip(np.roll(scenes[scene], number, axis=1) + rng.normal(0, 5, [32, 48, 3]), 0, 255).astype(np.uint8)
        for scene in (0, 1, 2, 0)
        for number in range(20)
    ]
    source = fill(tmp_path, {"film.mkv": film(pictures, "mkv")}) / "film.mkv"
    arguments = ("prepare", source, "--resolution", 16, "--workers", 2, "--video-scenes")
    outcome = run_salon(*arguments, "--out", tmp_path / "d.zip")
    assert outcome.code == 0, outcome.err
    assert "4 images kept of 8 found: 0 duplicates, 4 of the same scene, 0 without a label" in outcome.out
    found = rows(tmp_path / "d.zip")
    kept = [name.partition("/")[2] for name, row in found.items() if row["verdict"] == "keep"]
    assert kept == [f"00h00m0{second}.000s" for second in (0, 2, 4, 6)]
    assert found["film.mkv/00h00m03.000s"]["reason"] == "same scene: film.mkv/00h00m02.000s"
    figures = run_salon(*arguments, "--video-every", "0.5", "--out", tmp_path / "e.zip", "--json").json
    assert (figures["images"], figures["same_scene"], figures["found"]) == (4, 12, 16)


def test_how_much_frames_differ() -> None:
    black, white = (decode.decode(encoded(value)).image for value in (0, 255))
    assert difference(histograms(black), histograms(white)) == pytest.approx(1)
    assert difference(histograms(black), histograms(black)) == 0
    np.testing.assert_allclose(histograms(white), [[0] * 7 + [1]] * 3, atol=1e-6)
    half = decode.decode(encoded(127.5 - 16)).image  # on the middle of the fourth bin of eight, 96 to 127
    np.testing.assert_allclose(histograms(half)[0], [0, 0, 0, 1, 0, 0, 0, 0], atol=0.02)
    noise = decode.decode(image(0, (32, 32))).image
    np.testing.assert_allclose(histograms(noise).sum(axis=1), 1, atol=1e-5)
    mirrored = noise.transpose(decode.Image.Transpose.FLIP_LEFT_RIGHT)
    assert difference(histograms(noise), histograms(mirrored)) == pytest.approx(0, abs=1e-6)


def encoded(value: float) -> bytes:
    buffer = io.BytesIO()
    decode.Image.new("RGB", (32, 32), (round(value),) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def test_videos_that_nobody_asked_for_are_ignored(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"1.png": image(1), "film.mp4": b"anything", "b/Film.MOV": b"anything"})
    outcome = run_salon("prepare", source, "--resolution", 16, "--dry-run", "--workers", 1)
    assert outcome.code == 0 and "1 images kept of 1 found" in outcome.out
    assert "2 videos ignored; --video-every, the seconds between frames, reads them" in outcome.out
    outcome = run_salon("prepare", source / "film.mp4", "--resolution", 16, "--dry-run")
    assert outcome.code == 2 and "film.mp4 is a video; add --video-every, the seconds between its frames" in outcome.err
    with pytest.raises(RequestError, match=r"`video_every` must be at least 0\.001 seconds; got 0 instead"):
        request(source, None, video_every=0)


def audio() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros([1, 1024], np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def test_damaged_videos_are_quarantined(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, [32, 48, 3], np.uint8) for _ in range(600)]
    whole, faststart, matroska = film(pictures), film(pictures, movflags="faststart"), film(pictures, "mkv")
    files = {
        "a/ok.mp4": whole,
        "b/no_index.mp4": whole[: len(whole) // 2],
        "c/half.mp4": faststart[: len(faststart) // 2],
        "d/half.mkv": matroska[: len(matroska) // 2],
        "e/text.mp4": b"not a video" * 10,
        "f/playlist.avi": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "g/empty.webm": b"",
        "h/sound.mp4": audio(),
    }
    options = {"video_every": 10, "workers": 2, "keep_duplicates": True}
    figures = collect(request(fill(tmp_path / "in", files), tmp_path / "d.zip", **options))
    found: dict[str, list[Any]] = {folder: [] for folder in "abcdefgh"}
    for name, row in rows(tmp_path / "d.zip").items():
        found[name.split("/")[1]].append(row["reason"])
    assert found["a"] == [None] * 6
    assert found["b"] == ["corrupt"]
    assert found["c"][:3] == [None] * 3 and set(found["c"][3:]) == {"corrupt"}
    assert found["d"][:3] == [None] * 3 and "truncated" in found["d"]
    assert [found[folder] for folder in "efgh"] == [["not a video"], ["not a video"], ["empty"], ["not a video"]]
    assert figures["images"] == 6 + 3 + 3


def test_frames_that_are_too_large(tmp_path: Path) -> None:
    path = fill(tmp_path, {"film.mp4": film(greys(2))}) / "film.mp4"
    with pytest.raises(ImageError, match="too large"):
        list(frames(ImageFile("film", "", path, clip=Clip(0, 1)), 1, 32 * 48 - 1))


def test_turned_frames_and_pixels_that_are_not_square(tmp_path: Path) -> None:
    picture = np.zeros([32, 48, 3], np.uint8)
    picture[:16, :, 0] = 255  # red above
    content = film([picture] * 3)
    matrix = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    quarter = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)  # clockwise, as phones have it
    track = content.index(b"tkhd")
    place = content.index(matrix, track)
    turned = content[:place] + quarter + content[place + len(matrix) :]
    files = {"turned.mp4": turned, "wide.mp4": film([picture] * 3, aspect=Fraction(2))}
    folder = fill(tmp_path, files)
    ((_, upright),) = frames(ImageFile("turned", "", folder / "turned.mp4", clip=Clip(0, 1)), 1, decode.MAX_PIXELS)
    assert (upright.width, upright.height) == (32, 48)
    pixels = np.asarray(upright.image)
    assert pixels[:, -8:, 0].min() > 200 > 50 > pixels[:, :8, 0].max()  # what was above is on the right
    ((_, wide),) = frames(ImageFile("wide", "", folder / "wide.mp4", clip=Clip(0, 1)), 1, decode.MAX_PIXELS)
    assert (wide.width, wide.height) == wide.image.size == (96, 32)
