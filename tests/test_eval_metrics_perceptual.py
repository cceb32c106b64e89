"""The perceptual distances with gradients: LPIPS, and features of the bundled network."""

import os
from pathlib import Path

import pytest
import torch

from eval.metrics import perceptual
from eval.metrics.lpips import Lpips, of_length_one
from eval.metrics.perceptual import EFFICIENTNET, LPIPS, LPIPS_FILES, LpipsDistance, load, lpips_files
from gan.errors import RequestError

CPU = torch.device("cpu")
DATA = Path(os.environ.get("SALON_TEST_DATA", "/nonexistent")) / "weights/lpips"
WEIGHTS = {"lpips-vgg": DATA / "vgg16_features_torchvision.pth", "lpips-linear": DATA / "vgg_lin_v0.1.pth"}
needs_weights = pytest.mark.skipif(not WEIGHTS["lpips-vgg"].exists(), reason="SALON_TEST_DATA holds no LPIPS weights")


def image(seed, shape=(1, 3, 32, 32)):
    """Smooth noise in [-1, 1]."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.tanh(torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2) * 3)


@pytest.fixture(scope="module")
def features():
    """The distance that needs no weights but the bundled ones."""
    return load({}, CPU, EFFICIENTNET)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 16, 24), (1, 4, 40, 24), (1, 3, 300, 200)], ids=str)
def test_the_features_are_a_distance_of_any_shape_and_channels(features, shape):
    a, b = image(0, shape), image(1, shape)
    slightly = a + 0.02 * b
    there = features.toward(a)
    assert float(there(a)) == 0
    assert 0 < float(there(slightly)) < float(there(b)) < 4
    torch.testing.assert_close(there(b), features.toward(b)(a))
    torch.testing.assert_close(there(torch.cat([a, b])), torch.cat([there(a), there(b)]), rtol=1e-4, atol=1e-5)


def test_the_features_have_the_gradient_of_their_distance(monkeypatch):
    monkeypatch.setattr(perceptual, "SIZE", 64)
    double = load({}, CPU, EFFICIENTNET).double()
    distance, img = double.toward(image(0).double()), image(1).double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(distance(img).sum(), img)
    step = 1e-7  # so small that no activation passes a kink of ReLU6
    for seed in range(5, 8):
        direction = image(seed).double() + 10 * gradient
        with torch.no_grad():
            slope = float(distance(img + step * direction) - distance(img - step * direction)) / (2 * step)
        assert abs(slope) > 1e-2 and float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-4)


def test_a_blank_place_has_a_gradient():
    x = torch.zeros([1, 3, 2, 2]).requires_grad_(True)
    of_length_one(x).sum().backward()
    assert bool(torch.isfinite(x.grad).all())


@needs_weights
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 20, 16)], ids=str)
def test_lpips_toward_a_target_is_lpips(shape):
    lpips = Lpips.load(*WEIGHTS.values())
    distance, (a, b) = LpipsDistance(lpips), (image(0, shape), image(1, shape))
    expected = lpips(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1))
    torch.testing.assert_close(distance.toward(a)(b), expected, rtol=1e-4, atol=1e-6)
    small = image(2, (1, 3, 8, 8))
    assert float(distance.toward(small)(small)) == 0 < float(distance.toward(small)(-small))


@needs_weights
def test_lpips_is_taken_where_its_weights_are(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    assert load({}, CPU).name == EFFICIENTNET
    assert load(WEIGHTS, CPU).name == LPIPS
    (tmp_path / "weights").mkdir()
    for file, path in zip(LPIPS_FILES, WEIGHTS.values(), strict=True):
        (tmp_path / "weights" / file).symlink_to(path)
    there = load({}, CPU)
    assert there.name == LPIPS and len(there.weights.split()) == 2
    assert load({}, CPU, EFFICIENTNET).name == EFFICIENTNET


def test_weights_that_are_missing_or_not_used_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    with pytest.raises(RequestError, match=r"`distance` lpips-vgg needs the weights lpips-vgg: put vgg16-397923af.pth"):
        load({}, CPU, LPIPS)
    (tmp_path / "vgg.pth").touch()
    with pytest.raises(RequestError, match="needs the weights lpips-linear"):
        load({"lpips-vgg": tmp_path / "vgg.pth"}, CPU)
    with pytest.raises(RequestError, match="`weights` lpips-vgg is of no network"):
        load({"lpips-vgg": tmp_path / "vgg.pth"}, CPU, EFFICIENTNET)
    with pytest.raises(RequestError, match="`distance` must be one of lpips-vgg, efficientnet-lite0; got ssim"):
        load({}, CPU, "ssim")
    with pytest.raises(RequestError, match="`metrics` ppl needs the weights lpips-vgg"):
        lpips_files({}, "`metrics` ppl")
