"""Pixels and tensors, tiling, encoding."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from gan.data import images
from gan.errors import RequestError


def test_every_value_survives_the_way_to_float_and_back():
    values = torch.arange(256, dtype=torch.uint8)
    img = images.to_float(values.reshape(1, 1, 16, 16).expand(1, 3, 16, 16))
    assert img.dtype == torch.float32 and img.min() == -1 and img.max() == 1
    pixels = images.to_pixels(img)
    assert pixels.dtype == np.uint8 and pixels.shape == (1, 16, 16, 3)
    for channel in range(3):
        assert np.array_equal(pixels[0, :, :, channel].ravel(), np.arange(256))


def test_to_pixels_rounds_to_the_nearest_and_clamps():
    levels = torch.tensor([-0.4, 0.4, 0.6, 99.4, 99.6, 254.6, 255.4, -1000.0, 1000.0])
    pixels = images.to_pixels((levels / 127.5 - 1).reshape(1, 1, 3, 3))
    assert pixels.ravel().tolist() == [0, 0, 1, 99, 100, 255, 255, 0, 255]


def test_neither_direction_changes_its_input():
    pixels = torch.full([1, 3, 2, 2], 200, dtype=torch.uint8)
    img = images.to_float(pixels)
    before = img.clone()
    images.to_pixels(img)
    assert (pixels == 200).all() and torch.equal(img, before)


def test_to_pixels_puts_channels_last():
    img = torch.stack([torch.full([2, 3], level) for level in (-1.0, 0.0, 1.0)])[None]  # [1, 3, 2, 3]
    pixels = images.to_pixels(img)
    assert pixels.shape == (1, 2, 3, 3) and pixels[0, 1, 2].tolist() == [0, 128, 255]


def test_tile_lays_out_row_by_row():
    pixels = np.arange(1, 6, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones([5, 2, 3, 3], np.uint8)
    grid = images.tile(pixels, 2)
    assert grid.shape == (6, 6, 3)
    assert grid[::2, ::3, 0].tolist() == [[1, 2], [3, 4], [5, 255]]
    gaps = images.tile(pixels, 2, gap=1, background=9)
    assert gaps.shape == (8, 7, 3)
    assert (gaps[2] == 9).all() and (gaps[:, 3] == 9).all() and gaps[6, 0, 0] == 5 and gaps[6, 4, 0] == 9


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".JPEG"])
def test_save_writes_the_format_of_the_suffix(suffix, tmp_path):
    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), axis=-1)
    images.save(pixels, tmp_path / f"image{suffix}")
    with Image.open(tmp_path / f"image{suffix}") as image:
        assert image.format == {".png": "PNG", ".webp": "WEBP"}.get(suffix, "JPEG")
        difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels)
    assert difference.max() <= (12 if "j" in suffix.lower() else 0)
    assert [path.name for path in tmp_path.iterdir()] == [f"image{suffix}"]


def test_save_refuses_an_unknown_suffix(tmp_path):
    for name in ("image.bmp", "image"):
        with pytest.raises(RequestError, match=r"must end in one of \.jpg, \.jpeg, \.png, \.webp"):
            images.save(np.zeros([2, 2, 3], np.uint8), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", list(images.FORMATS))
def test_encoding_is_deterministic(format):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, [16, 16, 3], np.uint8))
    assert images.encode(image, format) == images.encode(image.copy(), format)


def test_jpegs_keep_full_colour_resolution():
    # A red and a blue stripe of one pixel would run together in a JPEG whose colours are halved.
    pixels = np.zeros([16, 16, 3], np.uint8)
    pixels[:, ::2, 0] = pixels[:, 1::2, 2] = 255
    with Image.open(io.BytesIO(images.encode(Image.fromarray(pixels), "jpeg", 95))) as image:
        decoded = np.asarray(image).astype(int)
    assert (decoded[:, ::2, 0] > 200).all() and (decoded[:, 1::2, 0] < 55).all()


@pytest.mark.parametrize("format", list(images.FORMATS))
def test_a_colour_profile_is_not_encoded(format):
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    bare = images.encode(image, format)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info["icc_profile"] = profile
    assert images.encode(image, format) == bare
    assert image.info["icc_profile"] == profile


def test_encode_refuses_an_unknown_format():
    with pytest.raises(ValueError, match="format must be one of jpeg, png, webp; got 'tiff'"):
        images.encode(Image.new("RGB", (1, 1)), "tiff")


def test_what_networks_and_people_see_of_alpha_and_grey():
    rgba = np.zeros([1, 16, 4], np.uint8)
    rgba[0, :, :3], rgba[0, :, 3] = (10, 100, 250), np.arange(16) * 17  # from clear to opaque
    share = rgba[..., 3:] / 255
    assert np.array_equal(images.to_rgb(rgba), np.rint(rgba[..., :3] * share + 255 * (1 - share)).astype(np.uint8))
    clear = images.for_display(np.zeros([16, 24, 4], np.uint8))
    assert (clear[:8, :8] == 255).all() and (clear[:8, 8:16] == 204).all() and (clear[8:, :8] == 204).all()
    assert (clear[8:, 8:16] == 255).all() and (clear[:8, 16:] == 255).all()
    assert np.array_equal(images.for_display(rgba)[0, 15], rgba[0, 15, :3])
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    for seen in (images.to_rgb(grey), images.for_display(grey)):
        assert seen.shape == (2, 3, 3) and (seen == grey).all()
