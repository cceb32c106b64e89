"""Checks on images that are made to have one fault, and on paintings that have none."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from curation.score import image_checks
from curation.score.image_checks import measure
from gan.data import synthetic_scenes
from gan.image_shape import ImageShape

DATA = os.environ.get("SALON_TEST_DATA")


def painting(seed=0, size=200):
    return np.array(synthetic_scenes.painting("landscape", "impressionism", seed, size).resize((size, size)))


def codes(*images, sizes=None, resolution=64):
    clean = [painting(seed) for seed in range(8)]
    measures = [measure(pixels) for pixels in [*images, *clean]]
    width, height = np.array(sizes or [(200, 200)] * len(images)).T
    width, height = (np.concatenate([side, np.full(len(clean), 200)]) for side in (width, height))
    found = image_checks.flags(measures, width, height, ImageShape(resolution, resolution))
    assert not any(found[len(images) :]), "a clean landscape is flagged"
    return found[: len(images)]


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (120, 120, 130)])
@pytest.mark.parametrize("sides", ["top and bottom", "left"])
def test_padding(colour, sides):
    pixels = painting()
    if sides == "left":
        pixels[:, :20] = colour
    else:
        pixels[:30] = pixels[-30:] = colour
    assert codes(pixels) == [["padding"]]
    assert measure(pixels).padding == pytest.approx(0.1 if sides == "left" else 0.3, abs=0.02)


def test_a_frame_is_found_in_padding_too():
    pixels = np.full([240, 240, 3], 255, np.uint8)
    carved = np.random.default_rng(0).normal(0, 20, [200, 200, 1])
    pixels[20:220, 20:220] = (np.array([150, 110, 40]) + carved).clip(0, 255).astype(np.uint8)  # gilded
    pixels[40:200, 40:200] = painting(size=160) // 3
    assert measure(pixels).frame > image_checks.MIN_FRAME > measure(painting()).frame
    assert codes(pixels) == [["padding", "frame"]]
    assert codes(pixels[20:220, 20:220]) == [["frame"]]


def test_padding_is_told_by_its_side():
    for side in range(4):
        img = np.random.default_rng(0).uniform(60, 200, [128, 128, 3]).astype(np.float32)
        lines = (img, img[::-1], img.transpose(1, 0, 2), img.transpose(1, 0, 2)[::-1])[side]
        lines[:17] = 20
        assert image_checks.padding(img) == tuple(17 if other == side else 0 for other in range(4))


@pytest.mark.parametrize("missing", [(), (0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 3)])
def test_a_frame_has_three_sides_at_least(missing):
    luma = np.random.default_rng(0).uniform(100, 110, [128, 128]).astype(np.float32)
    for side, lines in enumerate((luma, luma[::-1], luma.T, luma.T[::-1])):
        if side not in missing:
            lines[12:15, 12:-12] = 10
    assert (image_checks.frame(luma) > image_checks.MIN_FRAME) == (len(missing) < 2)


def test_a_frame_is_looked_for_inside_of_what_is_padded():
    inner = np.full([128, 128, 3], (150, 110, 40), np.uint8)
    inner[20:-20, 20:-20] = painting(size=88) // 3
    for shift in ((60, 0, 0, 0), (0, 60, 0, 0), (0, 0, 60, 0), (0, 0, 0, 60)):
        top, bottom, left, right = shift
        padded = np.pad(inner, [(top, bottom), (left, right), (0, 0)], constant_values=255)
        assert measure(padded).frame > image_checks.MIN_FRAME


def test_greyscale_even_after_compression(tmp_path):
    grey = Image.fromarray(painting()).convert("L").convert("RGB")
    grey.save(tmp_path / "grey.jpg", quality=70)
    assert codes(np.asarray(Image.open(tmp_path / "grey.jpg").convert("RGB"))) == [["greyscale"]]


def test_text():
    page = Image.new("RGB", (400, 400), (250, 245, 235))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for line in range(18):
        draw.text(
            (20, 10 + 21 * line), "of the painters of the last century, and of their work", (30, 25, 20), font=font
        )
    (found,) = codes(np.asarray(page))
    assert "text" in found


def test_an_even_image_is_no_text_and_no_padding_but_uniform():
    rng = np.random.default_rng(0)
    even = rng.normal(200, 3, [100, 100, 3]).clip(0, 255).astype(np.uint8)
    (found,) = codes(even)
    assert "uniform" in found and "text" not in found


def test_blur_is_no_fault():
    blurred = np.asarray(Image.fromarray(painting()).resize((12, 12)).resize((200, 200), Image.Resampling.BICUBIC))
    assert codes(blurred) == [[]]


def test_uniform_is_relative_to_the_set():
    # What stands out among landscapes is the rule among near-empty sheets.
    pale = [(painting(seed).astype(int) // 16 + 200).astype(np.uint8) for seed in range(8)]
    sizes = np.full(8, 200)
    assert not any(
        "uniform" in found for found in image_checks.flags([measure(p) for p in pale], sizes, sizes, ImageShape(64, 64))
    )
    assert "uniform" in codes(pale[0])[0]


def test_size_and_aspect_are_the_originals():
    found = codes(painting(), painting(), painting(), sizes=[(63, 80), (90, 200), (0, 0)])
    assert found == [["small"], ["aspect"], []]


USUAL = {"padding": 0.0, "frame": 1.0, "chroma": 40.0, "text": 0.0, "spread": 50.0}


@pytest.mark.parametrize(
    ("measures", "size", "expected"),
    [
        ({"padding": 0.02}, (200, 200), []),
        ({"padding": 0.021}, (200, 200), ["padding"]),
        ({"frame": 2.0}, (200, 200), []),
        ({"frame": 2.1}, (200, 200), ["frame"]),
        ({"chroma": 12.0}, (200, 200), ["greyscale"]),
        ({"chroma": 12.1}, (200, 200), []),
        ({"text": 0.6}, (200, 200), []),
        ({"text": 0.61}, (200, 200), ["text"]),
        ({"spread": 16.0}, (200, 200), []),
        ({"spread": 15.9}, (200, 200), ["uniform"]),  # far from the others, which vary little
        ({}, (64, 100), []),
        ({}, (63, 100), ["small"]),
        ({}, (100, 63), ["small"]),
        ({}, (200, 100), []),
        ({}, (201, 100), ["aspect"]),
        ({}, (100, 201), ["aspect"]),
        ({}, (0, 30), []),  # unknown
        ({}, (30, 0), []),
        ({"padding": 0.1, "text": 0.9}, (30, 70), ["padding", "text", "small", "aspect"]),
    ],
)
def test_flags_of_made_up_measures(measures, size, expected):
    others = [image_checks.Measures(**USUAL | {"spread": 50.0 + n / 10}) for n in range(-4, 5)]
    width, height = (np.array([side] + [200] * 9) for side in size)
    found = image_checks.flags([image_checks.Measures(**USUAL | measures), *others], width, height, ImageShape(64, 64))
    assert found == [expected] + [[]] * 9


def test_flags_follow_the_shape_of_the_images():
    others = [image_checks.Measures(**USUAL)] * 4
    sizes = [(300, 200), (191, 200), (400, 200), (600, 200), (601, 200), (200, 266), (200, 267)]
    width, height = (np.array(side) for side in zip(*sizes, strict=True))
    found = image_checks.flags([*others, *others[:3]], width, height, ImageShape(192, 128))  # 3:2, and twice that
    assert found == [[], ["small"], [], [], ["aspect"], [], ["aspect"]]
    grey = [image_checks.Measures(**USUAL | {"chroma": 0.0, "padding": 0.5})]
    codes = {n: image_checks.flags(grey, np.array([99]), np.array([99]), ImageShape(9, 9, n)) for n in (1, 3, 4)}
    assert codes == {1: [["padding"]], 3: [["padding", "greyscale"]], 4: [["greyscale"]]}


def test_what_hardly_varies_is_uniform_in_any_set():
    for spread, uniform in ((1.9, True), (2.0, False)):
        measures = [image_checks.Measures(**USUAL | {"spread": spread})] * 4
        found = image_checks.flags(measures, np.full(4, 200), np.full(4, 200), ImageShape(64, 64))
        assert found == [["uniform"] if uniform else []] * 4


def test_robust_z_is_of_the_median_and_the_median_deviation():
    found = image_checks.robust_z(np.array([1.0, 2.0, 3.0, 7.0, 50.0]))  # deviations 2, 1, 0, 4, 47
    assert found == pytest.approx(np.array([-2, -1, 0, 4, 47]) / (1.4826 * 2))
    assert len(image_checks.robust_z(np.empty(0))) == 0


def test_robust_z_is_the_normal_z_of_most():
    values = np.random.default_rng(0).normal(5, 2, 20_001)
    values[:100] = 1e6
    z = image_checks.robust_z(values)
    assert z[100:].std() == pytest.approx(1, abs=0.03)
    assert (image_checks.robust_z(np.ones(5)) == 0).all()


@pytest.mark.skipif(not DATA, reason="SALON_TEST_DATA is not set")
def test_real_paintings():
    white = sorted(Path(DATA, "data", "louvre_genres").rglob("*.jpg"))[:1250:50]
    measures = [measure(np.asarray(Image.open(file).convert("RGB"))) for file in white]
    assert np.mean([m.padding > image_checks.MIN_PADDING for m in measures]) > 0.9
    assert 0 < np.mean([m.frame > image_checks.MIN_FRAME for m in measures]) < 0.3  # within the padding few have one
    monet = sorted(Path(DATA, "data", "monet").iterdir())[:40]
    measures = [measure(np.asarray(Image.open(file).convert("RGB"))) for file in monet]
    zero = np.zeros(len(monet), np.int64)
    assert sum(bool(found) for found in image_checks.flags(measures, zero, zero, ImageShape(256, 256))) <= 4
