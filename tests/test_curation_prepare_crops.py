"""Crops of large originals: where they lie, what they hold, and how they are named and counted."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import run_salon
from PIL import Image
from test_curation_prepare_pipeline import fill, image, request, rows
from test_curation_prepare_video import film
from test_gan_data_decode import encoded

from curation.prepare.crops import crop_boxes
from curation.prepare.pipeline import collect
from curation.score.check import check
from curation.score.request import CheckRequest
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.errors import RequestError


@pytest.mark.parametrize(
    ("size", "count", "boxes"),
    [
        ((100, 100), 4, [(0, 0, 50), (50, 0, 50), (0, 50, 50), (50, 50, 50)]),
        ((100, 100), 2, [(0, 25, 50), (50, 25, 50)]),
        ((300, 100), 3, [(0, 0, 100), (100, 0, 100), (200, 0, 100)]),
        ((100, 320), 3, [(0, 0, 100), (0, 110, 100), (0, 220, 100)]),
        ((90, 60), 5, [(0, 0, 30), (60, 0, 30), (0, 30, 30), (30, 30, 30), (60, 30, 30)]),
        ((100, 100), 1, []),
        ((39, 39), 4, []),
    ],
)
def test_where_crops_lie(size: tuple[int, int], count: int, boxes: list[tuple[int, int, int]]) -> None:
    assert crop_boxes(*size, count, (20, 20)) == [(left, top, side, side) for left, top, side in boxes]


def test_crops_never_overlap_and_never_leave_the_original() -> None:
    for width, height, count in itertools.product((64, 97, 200, 640), (64, 130, 333), (2, 3, 5, 7, 12, 30)):
        boxes = crop_boxes(width, height, count, (16, 16))
        sides = {(across, down) for _, _, across, down in boxes}
        assert all(across == down for across, down in sides)
        assert len(sides) <= 1 and len(boxes) <= count and len(boxes) != 1 and len(set(boxes)) == len(boxes)
        covered = np.zeros([height, width], int)
        for left, top, side, _ in boxes:
            assert side >= 16 and 0 <= left <= width - side and 0 <= top <= height - side
            covered[top : top + side, left : left + side] += 1
        assert covered.max(initial=0) <= 1
        if len(boxes) < count:  # one more would be too small, in every grid
            number = len(boxes) + 1 if boxes else 2
            assert all(min(width // c, height // -(-number // c)) < 16 for c in range(1, number + 1))


def test_crops_of_large_originals(tmp_path: Path) -> None:
    files = {"a/large.png": image(1, (64, 64)), "a/wide.png": image(2, (47, 31)), "b/small.png": image(3, (31, 31))}
    out = tmp_path / "d.zip"
    source = fill(tmp_path / "in", files)
    figures = collect(request(source, out, crops=4, labels="folders", workers=2, filter="box"))
    assert (figures["images"], figures["found"], figures["crops"], figures["quarantined"]) == (7, 7, 6, {})
    assert figures["labels"] == {"a": 6, "b": 1} and figures["bytes_in"] == sum(map(len, files.values()))
    found = rows(out)
    large = [f"in/a/large.png#crop{number}" for number in (1, 2, 3, 4)]
    assert list(found) == [*large, "in/a/wide.png#crop1", "in/a/wide.png#crop2", "in/b/small.png"]
    assert len({found[name]["file_sha256"] for name in large}) == 1
    dataset = ImageDataset(out)
    whole = np.asarray(Image.open(io.BytesIO(files["a/large.png"]))).astype(float)
    for name in large:
        left, top, side = (found[name][column] for column in ("crop_left", "crop_top", "crop_side"))
        expected = whole[top : top + side, left : left + side].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
        index = dataset.names.index(found[name]["name"])
        np.testing.assert_allclose(dataset.image(index), expected, atol=1)
        assert (found[name]["width"], found[name]["height"], side) == (64, 64, 32)
    assert found["in/b/small.png"]["crop_side"] is None
    header = manifest.read_header(out.with_suffix(".manifest"))
    assert header["columns"]["crop_left"] == "int64" and header["parameters"]["crops"] == 4
    collect(request(source, tmp_path / "e.zip", crops=1))
    assert "crop_left" not in manifest.read_header(tmp_path / "e.manifest")["columns"]
    assert (
        collect(request(source, tmp_path / "f.zip", crops=4, labels="folders"))["fingerprint"] == figures["fingerprint"]
    )
    check(CheckRequest(dataset=out, out=tmp_path / "checked.manifest"))
    assert "crop_left" in manifest.read(tmp_path / "checked.manifest").rows.column_names


def test_a_large_jpeg_has_enough_pixels_in_each_crop(tmp_path: Path) -> None:
    y, x = np.mgrid[:1600, :2400]
    ramp = np.stack([x * 255 / 2400, y * 255 / 1600, np.full_like(x, 128)], axis=2).astype(np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown a quarter turned
    content = encoded(Image.fromarray(ramp), "JPEG", quality=95, exif=turned)
    collect(request(fill(tmp_path / "in", {"1.jpg": content}), tmp_path / "d.zip", crops=6))
    found = list(rows(tmp_path / "d.zip").values())
    assert [(row["width"], row["height"], row["crop_side"]) for row in found] == [(1600, 2400, 800)] * 6
    dataset = ImageDataset(tmp_path / "d.zip")
    upright = np.rot90(ramp, -1)
    for index, row in enumerate(found):
        left, top, side = row["crop_left"], row["crop_top"], row["crop_side"]
        expected = upright[top : top + side, left : left + side].reshape(16, 50, 16, 50, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(dataset.image(index), expected, atol=2)


def test_a_jpeg_is_decoded_with_the_pixels_that_the_filter_needs(tmp_path: Path) -> None:
    stripes = np.tile(np.array([64, 192], np.uint8), (96, 72))  # that half the size would make grey
    content = encoded(Image.fromarray(stripes), "JPEG", quality=98)
    collect(request(fill(tmp_path / "in", {"1.jpg": content}), tmp_path / "d.zip", crops=6))
    (row, *_) = rows(tmp_path / "d.zip").values()
    assert (row["crop_left"], row["crop_top"], row["crop_side"]) == (0, 0, 48)
    expected = stripes[:48, :48].reshape(16, 3, 16, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(ImageDataset(tmp_path / "d.zip").image(0)[:, :, 0], expected, atol=5)


def test_crops_that_are_equal_are_duplicates(tmp_path: Path) -> None:
    twice = np.tile(np.random.default_rng(0).integers(0, 256, [32, 32, 3], np.uint8), (1, 2, 1))
    source = fill(tmp_path / "in", {"1.png": encoded(Image.fromarray(twice), "PNG")})
    outcome = run_salon(
        "prepare", source, "--resolution", 16, "--crops", 2, "--out", tmp_path / "d.zip", "--filter", "box"
    )
    assert outcome.code == 0 and "1 images kept of 2 found: 1 duplicates" in outcome.out
    assert "1 images are crops of originals that are large enough" in outcome.out
    assert rows(tmp_path / "d.zip")["in/1.png#crop2"]["reason"] == "duplicate: in/1.png#crop1"
    with pytest.raises(RequestError, match="`crops` must be from 1 to 256; got 0 instead"):
        request(source, None, crops=0)


def test_crops_of_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, [4, 8, 3], np.uint8).repeat(8, axis=0).repeat(8, axis=1)  # 32x64
    other = (picture * [0.1, 1, 0.1]).astype(np.uint8)
    source = fill(tmp_path, {"film.mkv": film([picture] * 20 + [other] * 10, "mkv")}) / "film.mkv"
    figures = collect(request(source, tmp_path / "d.zip", crops=2, video_scenes=True))
    assert (figures["images"], figures["same_scene"]) == (4, 2)
    found = rows(tmp_path / "d.zip")
    names = [f"film.mkv/00h00m0{second}.000s#crop{number}" for second in range(3) for number in (1, 2)]
    assert list(found) == names
    assert [row["verdict"] for row in found.values()] == ["keep"] * 2 + ["drop"] * 2 + ["keep"] * 2
    assert found[names[3]]["reason"] == "same scene: film.mkv/00h00m00.000s"
