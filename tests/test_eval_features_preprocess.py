"""Preprocessing presets, against torch-fidelity's and torch's own resizing, and what sets two sets of files apart."""

import numpy as np
import pytest
import torch
from PIL import Image

from eval.features.preprocess import PRESETS, FileProperties, differences
from eval.features.torchvision_compat import torch_fidelity


def noise(*shape: int, seed: int = 0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("side", "size"), [((256, 256), 299), ((64, 48), 37), ((20, 31), 64), ((37, 37), 37), ((1, 5), 8)]
)
def test_tf1_is_torch_fidelitys_to_the_bit(side, size):
    torch_fidelity()
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    pixels = noise(3, *side, 3)
    nchw = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(nchw, size=(size, size), align_corners=False)
    assert torch.equal(PRESETS["tf1"](pixels, size), expected)


@pytest.mark.parametrize(("side", "size"), [((64, 64), 29), ((20, 31), 64)])
def test_clean_is_bicubic_with_a_low_pass_filter(side, size):
    pixels = noise(2, *side, 3)
    nchw = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    expected = torch.nn.functional.interpolate(nchw, (size, size), mode="bicubic", antialias=True).clamp(0, 255)
    assert (PRESETS["clean"](pixels, size) - expected).abs().max() < 0.01


def test_only_clean_averages_what_is_too_fine():
    stripes = np.zeros([1, 64, 64, 3], np.uint8)
    stripes[:, :, ::4] = 255  # every fourth column
    assert set(PRESETS["tf1"](stripes, 16).unique().tolist()) == {255.0}  # sees these columns alone
    assert PRESETS["clean"](stripes, 16)[..., 4:-4].sub(255 / 4).abs().max() < 2


@pytest.mark.parametrize(
    ("name", "resized", "left", "top"),
    [
        ("imagenet", (40, 32), 6, 2),
        ("clip", (36, 28), 4, 0),
    ],  # the shorter side becomes 32, of which 28 are seen; or 28
)
def test_imagenet_and_clip_resize_and_cut_the_middle(name, resized, left, top):
    pixels = noise(1, 2 * resized[1], 2 * resized[0], 3)
    whole = Image.fromarray(pixels[0]).resize(resized, Image.Resampling.BICUBIC)
    expected = np.asarray(whole, np.float32)[top : top + 28, left : left + 28]
    assert np.array_equal(PRESETS[name](pixels, 28)[0].permute(1, 2, 0).numpy(), expected)


def test_dgm_resizes_the_whole_image_as_torchvision_does():
    torch_fidelity()  # makes torchvision importable
    from torchvision.transforms import InterpolationMode, Resize, ToTensor

    pixels = noise(1, 50, 70, 3)
    expected = ToTensor()(Resize((28, 28), InterpolationMode.BICUBIC)(Image.fromarray(pixels[0])))
    assert torch.equal(PRESETS["dgm"](pixels, 28)[0], expected * 255)


@pytest.mark.parametrize("name", PRESETS)
def test_images_do_not_depend_on_each_other(name):
    pixels = noise(3, 32, 40, 3)
    together = PRESETS[name](pixels, 24)
    assert together.shape == (3, 3, 24, 24) and together.dtype == torch.float32
    assert together.is_contiguous(memory_format=torch.channels_last)
    assert together.min() >= 0 and together.max() <= 255
    assert torch.equal(PRESETS[name]([*pixels, noise(9, 7, 3)], 24)[:3], together)
    assert PRESETS[name]([], 24).shape == (0, 3, 24, 24)


def test_presets_differ():
    found = [preset(noise(1, 64, 72, 3), 48) for preset in PRESETS.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])


@pytest.mark.parametrize(
    ("pixels", "received"),
    [
        (np.zeros([2, 8, 8, 3], np.float32), r"float32 \[2, 8, 8, 3\]"),
        (np.zeros([2, 3, 8, 8], np.uint8), r"uint8 \[2, 3, 8, 8\]"),
        ([np.zeros([8, 8], np.uint8)], r"uint8 \[8, 8\]"),
        ([np.zeros([0, 8, 3], np.uint8)], r"uint8 \[0, 8, 3\]"),
    ],
)
def test_other_arrays_are_refused(pixels, received):
    with pytest.raises(ValueError, match=rf"pixels must be uint8 \[N, H, W, 3\]; got {received} instead"):
        PRESETS["tf1"](pixels, 8)


def traits(*files: tuple[str, int, int]) -> FileProperties:
    found = FileProperties()
    for file in files:
        found.add(*file)
    return found


def test_what_sets_two_sets_apart():
    reference = traits(("jpeg", 64, 64), ("jpeg", 64, 64), ("jpeg", 32, 64))
    assert differences(reference, reference) == []
    assert differences(reference, FileProperties()) != []
    (compression,) = differences(reference, traits(("png", 64, 64)))
    assert "100% of the evaluated images are JPEGs and 0% of the dataset's" in compression
    assert compression.endswith("; evaluate PNGs")
    (compression,) = differences(traits(("array", 64, 64)), reference)
    assert compression.endswith("; prepare the dataset as PNGs from its source")
    (size,) = differences(reference, traits(("jpeg", 128, 128), ("jpeg", 128, 128), ("jpeg", 64, 64)))
    assert "64x64 and 128x128" in size


@pytest.mark.parametrize("name", PRESETS)
def test_read_only_pixels_as_decoders_give_them_are_taken(name):
    pixels = np.random.default_rng(0).integers(0, 256, [1, 9, 9, 3], np.uint8)
    expected = PRESETS[name](pixels, 9)
    pixels.flags.writeable = False
    assert torch.equal(PRESETS[name]([pixels[0]], 9), expected)


@pytest.mark.parametrize("size", [(30, 50), (50, 31)])
def test_pad_keeps_the_proportions_in_the_middle_of_a_grey_square(size):
    pixels = noise(1, size[1], size[0], 3)
    square = Image.new("RGB", (50, 50), (128, 128, 128))
    square.paste(Image.fromarray(pixels[0]), ((50 - size[0]) // 2, (50 - size[1]) // 2))
    assert torch.equal(PRESETS["pad"](pixels, 24), PRESETS["clean"](np.asarray(square)[None], 24))
