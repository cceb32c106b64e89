"""Path lengths of generators whose path length is known, and of a real one by the real LPIPS."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from eval.metrics.lpips import LARGEST, SMALLEST, STAGES, Lpips
from eval.metrics.path_length import _seen, path_distances, path_length, slerp
from gan.data.images import to_float, to_pixels
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.sampling.generate import latents

DATA = Path(os.environ.get("SALON_TEST_DATA", "/nonexistent"))
WEIGHTS = (DATA / "weights/lpips/vgg16_features_torchvision.pth", DATA / "weights/lpips/vgg_lin_v0.1.pth")
needs_weights = pytest.mark.skipif(not WEIGHTS[0].exists(), reason="SALON_TEST_DATA holds no LPIPS weights")


class Known(torch.nn.Module):
    """z -> w unchanged -> A w, or of its squares, as an image of 4x4 pixels."""

    def __init__(self, power=1, scale=None):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.A = torch.nn.Parameter(torch.randn([48, 6], generator=generator) * 0.1)
        if scale is not None:
            self.A = torch.nn.Parameter(torch.linalg.qr(self.A.detach())[0] * scale)
        self.config = SimpleNamespace(z_dim=6, num_classes=0)
        self.power = power

    def mapping(self, z, c=None):
        return z[:, None]

    def synthesis(self, ws, noise_mode):
        assert noise_mode == "const"
        return (ws[:, 0] ** self.power @ self.A.T).reshape(-1, 3, 4, 4)


def squared(a, b):
    return (a - b).double().square().sum(dim=(1, 2, 3))


def test_a_linear_generator_has_the_closed_form():
    G = Known()
    distances = path_distances(G, lpips=squared, num_samples=2000, batch_size=500)
    z = latents(range(4000), 6).double()
    steps = (z[1::2] - z[::2]) @ G.A.detach().double().T  # path i: seeds 2i and 2i + 1
    np.testing.assert_allclose(distances, steps.square().sum(dim=1), rtol=0.02)
    expected = 2 * float(G.A.detach().square().sum())
    assert distances.mean() == pytest.approx(expected, abs=4 * distances.std() / 2000**0.5)
    full = path_distances(G, lpips=squared, sampling="full", num_samples=2000, batch_size=500)
    np.testing.assert_allclose(full, distances, rtol=0.02)  # a straight path is as long anywhere


def test_paths_go_on_from_their_seeds_whatever_the_batches():
    G = Known()
    whole = path_distances(G, lpips=squared, num_samples=7, batch_size=7)
    for batch_size in (1, 3, 100):
        assert path_distances(G, lpips=squared, num_samples=7, batch_size=batch_size) == pytest.approx(whole, rel=0.02)
    later = path_distances(G, lpips=squared, num_samples=4, seed=6)  # seeds 6 and 7 are those of path 3
    assert later == pytest.approx(whole[3:], rel=0.02)
    large = path_distances(G, lpips=squared, num_samples=7, epsilon=0.1)
    assert large == pytest.approx(whole, rel=0.02)  # in units of epsilon squared
    full = [path_distances(Known(2), lpips=squared, sampling="full", num_samples=5, batch_size=n) for n in (2, 5)]
    assert full[0] == pytest.approx(full[1], rel=0.02)


@pytest.mark.parametrize("space", ["z", "w"])
def test_a_step_begins_where_its_path_does(space):
    G, seen = Known(scale=1.0), []

    def looking(starts, ends):
        seen.append((starts, ends))
        return squared(starts, ends)

    path_distances(G, lpips=looking, space=space, num_samples=3)
    z = latents(range(6), 6)
    first, last = (
        (z[::2], z[1::2])
        if space == "w"
        else (torch.nn.functional.normalize(part, dim=1) for part in (z[::2], z[1::2]))
    )
    ((starts, ends),) = seen
    torch.testing.assert_close(starts, G.synthesis(first[:, None], "const"), rtol=1e-5, atol=1e-6)
    towards = ((ends - starts) * (G.synthesis(last[:, None], "const") - starts)).sum(dim=(1, 2, 3))
    assert (towards > 0).all()


class Classes(Known):
    """An image of its class, twice as bright a class; keeps the classes that it was given."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(z_dim=6, num_classes=3)
        self.given = []

    def mapping(self, z, c=None):
        self.given.append(c.argmax(1).tolist())
        return z[:, None] * 2 ** c.argmax(1)[:, None, None]


@pytest.mark.parametrize("space", ["z", "w"])
def test_each_path_stays_in_its_class(space):
    G = Classes()
    known = path_distances(Known(), lpips=squared, space=space, num_samples=5, batch_size=2)
    given = path_distances(G, lpips=squared, space=space, num_samples=5, batch_size=2, classes=[2, 0, 1, 1, 0])
    assert given == pytest.approx(known * 4.0 ** np.array([2, 0, 1, 1, 0]), rel=0.02)
    assert G.given == [[2, 0], [2, 0], [1, 1], [1, 1], [0], [0]]  # for both of the mappings
    drawn = Classes()
    path_distances(drawn, lpips=squared, space=space, num_samples=300, batch_size=300)
    assert drawn.given[0] == drawn.given[1] and np.bincount(drawn.given[0]).min() > 70


def test_pixels_would_measure_rounding():
    def rounded(a, b):
        return squared(to_float(torch.from_numpy(to_pixels(a))), to_float(torch.from_numpy(to_pixels(b))))

    G = Known()
    true, wrong = (path_distances(G, lpips=d, num_samples=1000, batch_size=500).mean() for d in (squared, rounded))
    assert wrong > 20 * true


def test_z_is_walked_along_great_circles():
    distances = path_distances(Known(scale=3.0), lpips=squared, space="z", num_samples=500, batch_size=500)
    z = torch.nn.functional.normalize(latents(range(1000), 6).double(), dim=1)
    angle = torch.acos((z[::2] * z[1::2]).sum(dim=1))
    np.testing.assert_allclose(distances, 9 * angle**2, rtol=0.02)
    a, b = torch.randn([2, 5, 8], dtype=torch.double).unbind()
    for t, end in ((0.0, a), (1.0, b)):
        point = slerp(a, b, torch.full([5, 1], t))
        torch.testing.assert_close(point, torch.nn.functional.normalize(end, dim=1))


def test_full_paths_are_seen_all_along():
    # Of squares: E |2 w (b - a)|^2 is 4 * 4 |A|^2 at the start of a path and 4 * 2 |A|^2 over all of it, a column each.
    end, full = (
        path_distances(Known(2), lpips=squared, sampling=s, num_samples=4000, batch_size=2000) for s in ("end", "full")
    )
    assert full.mean() / end.mean() == pytest.approx(0.5, abs=0.08)
    assert end.mean() != pytest.approx(full.mean(), rel=0.2)


def test_the_crop_is_that_of_faces_and_large_images_are_averaged():
    seen = []

    class Ramp(Known):
        def synthesis(self, ws, noise_mode):
            rows, columns = torch.meshgrid(torch.arange(1024.0), torch.arange(1024.0), indexing="ij")
            return torch.stack([rows, columns, rows * 0]).expand(len(ws), -1, -1, -1)

    def look(a, b):
        seen.append(a)
        return torch.zeros(len(a))

    for crop in (False, True):
        path_distances(Ramp(), lpips=look, crop=crop, num_samples=1, batch_size=1)
    whole, face = seen
    assert whole.shape == face.shape == (1, 3, 256, 256)
    assert whole[0, 0, :2, 0].tolist() == [1.5, 5.5]  # means of 4
    assert face[0, 0, [0, -1], 0].tolist() == [384.5, 894.5]  # rows 3/8 to 7/8, means of 2
    assert face[0, 1, 0, [0, -1]].tolist() == [256.5, 766.5]  # columns 2/8 to 6/8


@pytest.mark.parametrize(("size", "seen"), [(64, 64), (256, 256), (288, 256)])
def test_images_are_never_enlarged(size, seen):
    class Plain(Known):
        def synthesis(self, ws, noise_mode):
            return torch.zeros(len(ws), 3, size, size)

    def look(a, b):
        assert a.shape == b.shape == (1, 3, seen, seen)
        return torch.zeros(len(a))

    path_distances(Plain(), lpips=look, num_samples=1)


def test_outliers_are_left_out_of_the_mean():
    distances = np.random.default_rng(0).normal(10, 1, size=1000)
    distances[:5] = 1e6
    estimate = path_length(distances)
    assert estimate.value == pytest.approx(10, abs=0.2) and estimate.n == 1000
    assert estimate.low < estimate.value < estimate.high < 11
    assert path_length(np.arange(101.0)).value == 50  # all but 0 and 100
    skewed = np.arange(101.0) ** 2
    assert path_length(skewed).value == skewed[1:100].mean()
    assert path_length(np.array([1.0, 2.0, 4.0])).value == pytest.approx(7 / 3)  # of few nothing is left out


def test_requests_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="space must be z or w, and sampling end or full; got 's' and 'end'"):
        path_distances(Known(), lpips=squared, space="s")
    with pytest.raises(ValueError, match="got 'w' and 'begin'"):
        path_distances(Known(), lpips=squared, sampling="begin")
    with pytest.raises(ValueError, match="must be positive; got 0 and"):
        path_distances(Known(), lpips=squared, num_samples=0)
    with pytest.raises(ValueError, match="must be positive; got 50000 and 0"):
        path_distances(Known(), lpips=squared, epsilon=0)


def random_lpips() -> Lpips:
    """LPIPS of the right shapes with few channels."""
    generator = torch.Generator().manual_seed(0)
    vgg, linear, below = {}, {}, 3
    for index, stage in enumerate(STAGES):
        for place in stage:
            vgg[f"features.{place}.weight"] = torch.randn([4, below, 3, 3], generator=generator)
            vgg[f"features.{place}.bias"] = torch.zeros(4)
            below = 4
        linear[f"lin{index}.model.1.weight"] = torch.rand([1, 4, 1, 1], generator=generator)
    return Lpips(vgg, linear)


@pytest.mark.parametrize("space", ["z", "w"])
def test_a_real_generator_has_one_path_length_in_any_batches(tiny_network, space):
    torch.manual_seed(0)
    G, lpips = Generator(tiny_network).eval().requires_grad_(False), random_lpips()
    one, five = (
        path_distances(G, lpips=lpips, space=space, num_samples=10, epsilon=1e-2, batch_size=n) for n in (1, 5)
    )
    np.testing.assert_allclose(one, five, rtol=0.02)
    assert (one > 0).all()
    estimate = path_length(path_distances(G, lpips=lpips, space=space, num_samples=10, epsilon=1e-2, seed=3))
    assert estimate.value > 0 and estimate.n == 10
    assert estimate != path_length(path_distances(G, lpips=lpips, space=space, num_samples=10, epsilon=1e-2, seed=99))


def test_lpips_is_its_formula_on_the_layers_of_vgg16():
    generator = torch.Generator().manual_seed(1)
    widths = {0: (3, 4), 2: (4, 4), 5: (4, 5), 7: (5, 5), 10: (5, 6), 12: (6, 6), 14: (6, 6), 17: (6, 7), 19: (7, 7)}
    widths |= {21: (7, 7), 24: (7, 8), 26: (8, 8), 28: (8, 8)}
    pools, taps = (4, 9, 16, 23), (3, 8, 15, 22, 29)  # places in torchvision's list of layers: each stage's last ReLU
    vgg, layers = {}, []
    for place in range(30):
        if place in widths:
            convolution = torch.nn.Conv2d(*widths[place], 3, padding=1).requires_grad_(False)
            convolution.weight.copy_(torch.randn(convolution.weight.shape, generator=generator))
            convolution.bias.copy_(torch.randn(convolution.bias.shape, generator=generator))
            vgg |= {f"features.{place}.weight": convolution.weight, f"features.{place}.bias": convolution.bias}
            layers.append(convolution)
        else:
            layers.append(torch.nn.MaxPool2d(2) if place in pools else torch.nn.ReLU())
    heads = [torch.rand([c], generator=generator) for c in (4, 5, 6, 7, 8)]
    linear = {f"lin{i}.model.1.weight": head[None, :, None, None] for i, head in enumerate(heads)}
    a, b = torch.rand([2, 3, 3, 32, 48], generator=generator) * 2 - 1
    mean, deviation = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    expected = torch.zeros(3, dtype=torch.float64)
    x, y = (((img.permute(0, 2, 3, 1) - mean) / deviation).permute(0, 3, 1, 2) for img in (a, b))
    for place, layer in enumerate(layers):
        x, y = layer(x), layer(y)
        if place in taps:
            unit_x, unit_y = (v.double() / v.double().norm(dim=1, keepdim=True).clamp(min=1e-10) for v in (x, y))
            per_pixel = torch.einsum("nchw,c->nhw", (unit_x - unit_y) ** 2, heads[taps.index(place)].double())
            expected += per_pixel.mean(dim=(1, 2))
    torch.testing.assert_close(Lpips(vgg, linear)(a, b).double(), expected, rtol=1e-4, atol=1e-6)


def test_lpips_is_a_distance_and_refuses_other_input(tmp_path):
    lpips, img = random_lpips(), torch.rand([2, 3, 16, 16]) * 2 - 1
    assert lpips(img, img).tolist() == [0, 0]
    torch.testing.assert_close(lpips(img, img.flip(0)), lpips(img.flip(0), img))
    assert lpips(img, img.flip(0)).shape == (2,) and (lpips(img, img.flip(0)) > 0).all()
    for a, b in ((img[:, :, :15], img[:, :, :15]), (img, img[:1]), (img[:, :2], img[:, :2]), (img[0], img[0])):
        with pytest.raises(ValueError, match=f"of {SMALLEST} or more pixels"):
            lpips(a, b)
    with pytest.raises(RequestError, match=r"must hold features\.0\.weight"):
        Lpips({}, {})
    with pytest.raises(RequestError, match=r"features.0.weight must have the shape \[None, None, 3, 3\]; got \[2, 3\]"):
        Lpips({"features.0.weight": torch.zeros([2, 3])}, {})
    with pytest.raises(RequestError, match=r"vgg.pth must be VGG16's weights"):
        Lpips.load(tmp_path / "vgg.pth", tmp_path / "lin.pth")
    torch.save([torch.zeros(1)], tmp_path / "vgg.pth")
    with pytest.raises(RequestError, match="got list instead"):
        Lpips.load(tmp_path / "vgg.pth", tmp_path / "lin.pth")
    torch.save(SimpleNamespace(a=1), tmp_path / "vgg.pth")  # would run code if it were unpickled
    with pytest.raises(RequestError, match="got: it holds other things than tensors"):
        Lpips.load(tmp_path / "vgg.pth", tmp_path / "lin.pth")


@pytest.fixture(scope="module")
def paintings():
    files = sorted((DATA / "data/monet").glob("*.jpg"))[:2]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB").resize((64, 64))) for file in files])
    return to_float(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))


@needs_weights
def test_lpips_rises_with_the_disturbance(paintings):
    lpips, noise = Lpips.load(*WEIGHTS), torch.randn([1, 3, 64, 64], generator=torch.Generator().manual_seed(0))
    distances = [float(lpips(paintings[:1], paintings[:1] + s * noise)) for s in (0, 0.05, 0.2, 0.8)]
    assert distances == sorted(distances) and distances[0] == 0 and 0.2 < distances[-1] < 1.5


@needs_weights
def test_torch_fidelity_has_the_same_lpips(paintings, monkeypatch):
    guard = pytest.importorskip("eval.features.torchvision_compat")
    guard.torch_fidelity()
    import torch_fidelity.sample_similarity_lpips as peer

    vgg = guard.torchvision().models.vgg16(weights=None)
    vgg.load_state_dict(torch.load(WEIGHTS[0], weights_only=True), strict=False)
    monkeypatch.setattr(peer, "torchvision_load_pretrained_vgg16", lambda: vgg)  # both are fetched otherwise
    monkeypatch.setattr(peer, "load_state_dict_from_url", lambda *_, **__: torch.load(WEIGHTS[1], weights_only=True))
    theirs = peer.SampleSimilarityLPIPS("lpips-vgg16")
    expected = theirs((paintings + 1) * 127.5, (paintings.flip(0) + 1) * 127.5).flatten()
    torch.testing.assert_close(Lpips.load(*WEIGHTS)(paintings, paintings.flip(0)), expected, rtol=1e-4, atol=1e-6)


def test_what_is_seen_of_images_that_are_not_square_or_not_rgb():
    wide = torch.rand(1, 3, 8, 2 * LARGEST)
    seen = _seen(wide, False)
    assert seen.shape == (1, 3, 4, LARGEST)
    torch.testing.assert_close(seen, torch.nn.functional.avg_pool2d(wide, 2))
    rgba = torch.rand(1, 4, 4, 6) * 3 - 1.5  # beyond the range, as generators give it
    alpha = ((rgba[:, 3:] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(_seen(rgba, False), rgba[:, :3] * alpha + 1 - alpha)
    grey = torch.rand(2, 1, 4, 6)
    assert torch.equal(_seen(grey, False), grey.repeat(1, 3, 1, 1))
