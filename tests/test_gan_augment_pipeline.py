"""The augmentation pipeline: each transform against an independent reference, statistics, gradients."""

import itertools

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gan.augment import colour, diffaugment
from gan.augment.corruption import SYM2, add_noise, cut_out, draw_filter, draw_noise, filter_bands, octave_filters
from gan.augment.geometry import SYM6, blit, draw_warp, reflect, warp
from gan.augment.pipeline import STAGES, AugmentPipe
from gan.config import AUGMENT_CATEGORIES
from gan.ops.sample2d import sample2d, sample2d_reference

EVERYTHING = "bgcfnc"


def noise_img(n=3, size=16, seed=0, dtype=torch.float32, channels=3):
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.rand([n, channels, height, width], generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def affine(*rows):
    return torch.tensor([[*rows, (0.0, 0.0, 1.0)]])


def changed(before, after):
    return (before != after).flatten(1).any(1)


@pytest.mark.parametrize("categories", AUGMENT_CATEGORIES)
def test_p_0_is_the_identity_and_draws_nothing(categories):
    img, state = noise_img(), torch.get_rng_state()
    assert AugmentPipe(categories)(img, torch.tensor(0.0)) is img
    assert torch.equal(torch.get_rng_state(), state)


def test_presets_are_ordered_sets_of_stages():
    for names in AUGMENT_CATEGORIES.values():
        assert list(names) == [name for name in STAGES if name in names]
    assert len(AugmentPipe().stages) == 3 and len(AugmentPipe(EVERYTHING).stages) == 6


# Blitting


@pytest.mark.parametrize("size", [(8, 8), (15, 15), (8, 12)])
def test_blit_copies_pixels(size):
    img = noise_img(1, size)
    height, width = size
    assert torch.equal(blit(img, affine((-1, 0, 0), (0, 1, 0))), img.flip(3))
    if height == width:
        assert torch.equal(blit(img, affine((0, -1, 0), (1, 0, 0))), img.rot90(1, (2, 3)))
    assert torch.equal(blit(img, affine((-1, 0, 0), (0, -1, 0))), img.rot90(2, (2, 3)))
    padded = np.pad(img.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="reflect")
    right_and_up = padded[:, :, 3 + 2 : 3 + 2 + height, 3 - 3 : width]  # by 3 to the right, by 2 up
    assert np.array_equal(blit(img, affine((1, 0, -3), (0, 1, 2))).numpy(), right_and_up)


@pytest.mark.parametrize(("size", "turns"), [((16, 16), (0, 1, 2, 3)), ((16, 20), (0, 2))])
def test_drawn_blits_are_flips_turns_and_shifts_in_the_papers_proportions(size, turns):
    (height, width), n, reach = size, 2000, 2
    img = noise_img(1, size)
    kinds = list(itertools.product((0, 1), turns))
    padded = [
        np.pad(torch.rot90(img.flip(3) if flip else img, turn, (2, 3))[0].numpy(), ((0, 0), (2, 2), (2, 2)), "reflect")
        for flip, turn in kinds
    ]
    shifts = list(itertools.product(range(2 * reach + 1), repeat=2))
    known = {p[:, y : y + height, x : x + width].tobytes(): (k, y, x) for k, p in enumerate(padded) for y, x in shifts}
    assert len(known) == len(kinds) * 25
    torch.manual_seed(0)
    found = np.array([known[i.tobytes()] for i in AugmentPipe("blit")(img.expand(n, -1, -1, -1), 1.0).numpy()])
    assert np.bincount(found[:, 0], minlength=8) / n == pytest.approx(
        [1 / len(kinds)] * len(kinds) + [0] * (8 - len(kinds)), abs=0.03
    )
    if width != height:
        return  # across it is uniform in [-2.5, 2.5], which rounds to 2 as the others do
    for axis in (1, 2):  # uniform in [-2, 2], rounded
        assert np.bincount(found[:, axis]) / n == pytest.approx([1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8], abs=0.04)


def test_reflect_is_numpys():
    assert reflect(torch.arange(-12, 20), 5).tolist() == np.pad(np.arange(5), (12, 15), mode="reflect").tolist()


# Geometric transforms


@pytest.mark.parametrize(("taps", "moments"), [(SYM6, 6), (SYM2, 2)])
def test_wavelets_are_orthonormal_and_have_their_vanishing_moments(taps, moments):
    h = np.array(taps)
    assert len(h) == 2 * moments and h.sum() == pytest.approx(2**0.5, abs=1e-10)
    for shift in range(0, len(h), 2):
        assert h[: len(h) - shift] @ h[shift:] == pytest.approx(float(shift == 0), abs=1e-10)
    k = np.arange(len(h)) / len(h)
    for moment in range(moments):
        assert ((-1) ** np.arange(len(h)) * k**moment) @ h == pytest.approx(0, abs=1e-9)


def test_resampling_by_the_identity_blurs_nothing():
    img = noise_img(2, 32)
    out = warp(img, torch.eye(3).repeat(2, 1, 1))
    assert (out - img)[:, :, 4:-4, 4:-4].abs().max() < 1e-5
    assert (out - img).abs().mean() < 0.02  # at the borders the mirror lies between samples


def waves(x, y, size):
    """Smooth pictures that continue by reflection at the outermost pixels, at pixels x, y -> [3, ...]."""
    u, v = np.pi * x / (size[1] - 1), np.pi * y / (size[0] - 1)
    return np.stack([np.cos(u), np.cos(2 * v) * 0.5 + np.cos(u) * 0.3, np.cos(3 * u) * np.cos(v)])


@pytest.mark.parametrize("size", [(64, 64), (65, 65), (64, 96)])
def test_warp_shows_what_the_analytic_picture_shows(size):
    torch.manual_seed(0)
    n = 24
    chosen, matrix = draw_warp(n, size, 1.0)
    assert chosen.all()
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    img = torch.from_numpy(waves(x, y, size)).float().expand(n, -1, -1, -1)
    out = warp(img, matrix).numpy()
    down, across = ((side - 1) / 2 for side in size)
    for image, m in zip(out, matrix.double().numpy(), strict=True):
        source_x = m[0, 0] * (x - across) + m[0, 1] * (y - down) + m[0, 2] + across
        source_y = m[1, 0] * (x - across) + m[1, 1] * (y - down) + m[1, 2] + down
        assert np.abs(image - waves(source_x, source_y, size)).max() < 0.02
        assert np.abs(image - waves(source_x, source_y, size)).mean() < 0.002


def test_drawn_warps_have_the_papers_statistics():
    torch.manual_seed(0)
    n, size = 20_000, (100, 200)
    _, matrix = draw_warp(n, size, 1.0)
    inverse = matrix.double().inverse()  # from source to result: shift @ turn @ stretch @ turn @ scale
    linear, shift = inverse[:, :2, :2], inverse[:, :2, 2]
    assert shift.std(0).tolist() == pytest.approx([25, 12.5], rel=0.03)
    assert (torch.linalg.det(linear).log2() / 2).std().item() == pytest.approx(0.2, rel=0.03)
    long, short = torch.linalg.svdvals(linear).unbind(1)
    assert ((long / short).log2() / 2).square().mean().sqrt().item() == pytest.approx(0.2, rel=0.03)
    axes, _, source_axes = torch.linalg.svd(linear)
    for direction in (axes[:, :, 0], source_axes[:, 0]):  # of the longer axis, in result and source: uniform
        assert (direction[:, 0] * direction[:, 1]).mean().abs() < 0.02
        assert direction.square().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
        assert direction.square().prod(1).mean().item() == pytest.approx(1 / 8, abs=0.005)  # not along x and y alone
    _, seldom = draw_warp(n, size, 0.3)
    turned = (seldom[:, 0, 1] != 0).double().mean().item()  # by either rotation
    assert turned == pytest.approx(0.3, abs=0.015)


# Colour


def test_colour_follows_the_steps_in_order(monkeypatch):
    brightness, contrast, hue, saturation = 0.3, 1.4, 0.7, 0.6
    script = [torch.tensor([float(v)]) for v in (brightness, contrast, 1, hue, saturation)]
    monkeypatch.setattr(colour, "sometimes", lambda p, value, otherwise: script.pop(0))
    img = noise_img(1, 8, dtype=torch.float64)
    chosen, matrix = colour.draw_colour(1, (8, 8), 1.0)
    assert chosen.all()
    luma = np.ones(3) / 3**0.5
    colours = img[0].numpy().reshape(3, -1).T
    colours = (colours + brightness) * contrast
    colours = colours - 2 * (colours @ luma)[:, None] * luma
    along = (colours @ luma)[:, None] * luma
    across = colours - along
    across = np.cos(hue) * across + np.sin(hue) * np.cross(luma, across)
    expected = (along + saturation * across).T.reshape(1, 3, 8, 8)
    assert colour.recolour(img, matrix).numpy() == pytest.approx(expected, abs=1e-6)


def test_hue_turns_primaries_into_each_other_and_keeps_grey():
    third = colour._hue(torch.tensor([2 * torch.pi / 3]))[0, :3, :3]
    assert torch.allclose(third, torch.eye(3).roll(1, 0), atol=1e-6)
    assert torch.allclose(third @ torch.ones(3), torch.ones(3))


def test_drawn_colours_have_the_papers_statistics():
    torch.manual_seed(0)
    _, matrix = colour.draw_colour(20_000, (8, 8), 1.0)
    grey = torch.full([3], 3**-0.5)
    luma_gain = matrix[:, :3, :3] @ grey @ grey  # contrast, negative where flipped
    assert (luma_gain < 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert luma_gain.abs().log2().std().item() == pytest.approx(0.5, rel=0.03)
    offset = matrix[:, :3, 3].mean(1) / luma_gain
    assert offset.std().item() == pytest.approx(0.2, rel=0.03)
    red = matrix[:, :3, :3] @ torch.tensor([2.0, -1, -1])  # a colour across the luma axis
    chroma_gain = red.norm(dim=1) / 6**0.5
    assert chroma_gain.log2().std().item() == pytest.approx((0.5**2 + 1) ** 0.5, rel=0.03)
    assert red[:, 0].div(chroma_gain).mean().abs() < 0.05  # hue is uniform


# Filtering, noise, cutout


def test_octave_filters_divide_the_spectrum():
    filters = octave_filters()
    delta = np.zeros(filters.shape[1])
    delta[len(delta) // 2] = 1
    assert filters.sum(0) == pytest.approx(delta, abs=1e-12)
    assert filters == pytest.approx(filters[:, ::-1], abs=1e-12)
    response = np.abs(np.fft.rfft(filters, 1024))
    assert response.max() <= 1 + 1e-9
    for band, (low, high) in enumerate([(0, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2), (1 / 2, 1)]):
        middle = response[:, int((low + high) / 2 * 512)]
        assert middle.argmax() == band and middle[band] > 0.7


@pytest.mark.parametrize("size", [16, 64, (16, 40)])  # the filter is longer than the smallest image
def test_band_filtering_is_a_separable_convolution_of_the_reflected_image(size):
    img, gains = noise_img(2, size, dtype=torch.float64), torch.tensor([[1.0, 0.5, 2, 0.1], [0.3, 1, 1, 3]])
    out = filter_bands(img, gains).numpy()
    for image, g, result in zip(img.numpy(), gains.double().numpy(), out, strict=True):
        taps = g @ octave_filters()
        half = len(taps) // 2
        padded = np.pad(image, ((0, 0), (half, half), (half, half)), mode="reflect")
        for axis in (1, 2):
            padded = np.apply_along_axis(np.convolve, axis, padded, taps, mode="valid")
        assert result == pytest.approx(padded, abs=1e-5)


def test_amplifying_one_band_keeps_the_expected_power():
    torch.manual_seed(0)
    _, gains = draw_filter(2000, (16, 16), 0.1)
    distinct = torch.tensor([len(set(row)) for row in gains.tolist()])
    one = gains[(distinct == 2) & (gains.sort().values[:, 1:3].diff().squeeze(1) == 0)]
    assert len(one) > 300
    assert (one.square() @ torch.tensor([10.0, 1, 1, 1]) / 13).numpy() == pytest.approx(1, abs=1e-5)
    _, always = draw_filter(20_000, (16, 16), 1.0)
    assert (always[:, 1] / always[:, 3]).log2().std().item() == pytest.approx(2**0.5, rel=0.03)


def test_noise_has_the_drawn_deviation():
    torch.manual_seed(0)
    _, sigma = draw_noise(20_000, (8, 8), 1.0)
    assert sigma.min() >= 0 and sigma.square().mean().sqrt().item() == pytest.approx(0.1, rel=0.03)
    img = noise_img(2, 64)
    added = add_noise(img, torch.tensor([0.05, 0.2])) - img
    assert added.flatten(1).std(1).tolist() == pytest.approx([0.05, 0.2], rel=0.05)
    assert added.mean().abs() < 0.01 and not torch.equal(added[:, 0], added[:, 1])


def test_cutout_zeroes_half_of_the_sides_around_its_centre():
    wide = cut_out(torch.ones(1, 1, 8, 16), torch.tensor([[0.25, 0.5]]))
    assert (wide[0, 0, 2:6, :8] == 0).all() and (wide == 0).sum() == 4 * 8
    img = torch.ones(2, 3, 16, 16)
    whole, corner = cut_out(img, torch.tensor([[0.5, 0.25], [1.0, 1.0]]))
    expected = torch.ones(3, 16, 16)
    expected[:, :8, 4:12] = 0
    assert torch.equal(whole, expected)
    assert (corner == 0).sum() == 3 * 4 * 4 and (corner[:, 12:, 12:] == 0).all()
    torch.manual_seed(0)
    share = 1 - AugmentPipe("cutout")(torch.ones(2000, 3, 16, 16), 1.0).mean(0)
    assert share[0, 8, 8].item() == pytest.approx(0.25, abs=0.04) and share[0, 0, 15].item() < 0.12


# All together


@pytest.mark.parametrize("p", [0.2, 0.7])
@pytest.mark.parametrize("category", STAGES)
def test_p_is_the_probability_of_each_transform_and_the_others_stay_to_the_bit(category, p):
    torch.manual_seed(1)
    img = noise_img(3000, 8)
    share = changed(img, AugmentPipe(category)(img, p)).double().mean().item()
    stays = {  # shifts at 8 pixels: uniform in [-1, 1], rounded; both are 0 in a quarter of the cases
        "blit": (1 - p / 2) * (1 - p * 3 / 4) * (1 - p * 3 / 4),
        "geom": (1 - p) ** 4,
        "color": (1 - p) ** 4 * (1 - p / 2),
        "filter": (1 - p) ** 4,
        "noise": 1 - p,
        "cutout": 1 - p,
    }
    assert share == pytest.approx(1 - stays[category], abs=0.04)


def test_images_are_augmented_independently_of_each_other_and_of_their_place():
    torch.manual_seed(0)
    img = noise_img(1, 8).repeat(4, 1, 1, 1)
    pipe = AugmentPipe("cutout")
    flags = torch.stack([changed(img, pipe(img, 0.5)) for _ in range(1500)]).double()
    assert flags.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.05)
    assert (torch.corrcoef(flags.T) - torch.eye(4)).abs().max() < 0.1
    twins = AugmentPipe(EVERYTHING)(noise_img(1).repeat(8, 1, 1, 1), 1.0)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(twins, 2))


def test_a_subset_is_augmented_as_the_whole_would_be():
    img = noise_img(6)
    for draw, apply in STAGES.values():
        if apply is add_noise:
            continue
        torch.manual_seed(3)
        chosen, parameters = draw(6, (16, 16), 0.4)
        alone = apply(img, parameters)
        pipe = AugmentPipe("blit")
        pipe.stages = [(lambda n, size, p, c=chosen, v=parameters: (c, v), apply)]
        assert torch.allclose(pipe(img, 0.4), torch.where(chosen[:, None, None, None], alone, img), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("size", "n"), [((16, 16), 5), ((64, 96), 3), ((256, 256), 1)])
def test_all_is_finite_and_of_the_same_shape(size, n, channels):
    torch.manual_seed(size[0])
    img = noise_img(n, size, channels=channels).requires_grad_(True)
    out = AugmentPipe(EVERYTHING)(img, 1.0)
    assert out.shape == img.shape and out.dtype == img.dtype and out.isfinite().all()
    (gradient,) = torch.autograd.grad(out.square().sum(), img)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_memory_layout_does_not_matter_and_empty_stays_empty():
    img = noise_img(4)
    wide = torch.zeros(4, 3, 16, 32)
    wide[..., ::2] = img
    results = []
    for same in (img, img.to(memory_format=torch.channels_last), wide[..., ::2]):
        torch.manual_seed(0)
        results.append(AugmentPipe("bgcf")(same, 0.8))
    assert all(torch.allclose(results[0], other, atol=1e-5) for other in results[1:])
    assert AugmentPipe(EVERYTHING)(img[:0], 1.0).shape == (0, 3, 16, 16)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="categories must be one of blit"):
        AugmentPipe("all")
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
            AugmentPipe()(noise_img(), p)
    for shape in ([3, 16, 16], [1, 2, 16, 16], [1, 3, 16, 1]):
        with pytest.raises(ValueError, match=r"img must be images \[N, C, H, W\] of 1, 3 or 4 channels"):
            AugmentPipe()(torch.zeros(shape), 0.5)


def test_colour_of_grey_is_the_mean_of_rgb_and_an_alpha_stays():
    torch.manual_seed(0)
    _, matrix = colour.draw_colour(4, (8, 8), 1.0)
    grey, rgba = noise_img(4, 8, channels=1), noise_img(4, 8, channels=4)
    thrice = colour.recolour(grey.repeat(1, 3, 1, 1), matrix)
    torch.testing.assert_close(colour.recolour(grey, matrix), thrice.mean(1, keepdim=True))
    out = colour.recolour(rgba, matrix)
    assert torch.equal(out[:, 3:], rgba[:, 3:]) and torch.equal(out[:, :3], colour.recolour(rgba[:, :3], matrix))
    torch.manual_seed(1)
    diff = diffaugment.recolour(rgba)
    torch.manual_seed(1)
    assert torch.equal(diff[:, 3:], rgba[:, 3:]) and torch.equal(diff[:, :3], diffaugment.recolour(rgba[:, :3]))


# Gradients


def test_sampling_is_its_reference_with_both_gradients():
    torch.manual_seed(0)
    img = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    at = torch.rand(2, 4, 3, 2, dtype=torch.float64) * torch.tensor([9, 7]) - 1.5  # some beyond the borders
    expected = sample2d_reference(img, at)
    assert torch.allclose(sample2d(img, at), expected, atol=1e-12)
    gradient = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(f(img, at), img, gradient)[0] for f in (sample2d, sample2d_reference))
    assert torch.allclose(ours, theirs, atol=1e-12)
    assert gradcheck(lambda x: sample2d(x, at), img, fast_mode=True)
    assert gradgradcheck(lambda x: sample2d(x, at), img, fast_mode=True)
    assert gradgradcheck(lambda x: sample2d(x, at) ** 3, img, fast_mode=True)
    assert sample2d(img[:0], at[:0]).shape == (0, 3, 4, 3)


@pytest.mark.parametrize("category", [*STAGES, EVERYTHING])
def test_first_and_second_gradients(category):
    def cubed(img):
        torch.manual_seed(2)
        return AugmentPipe(category)(img, 0.7) ** 3  # so that the second gradient is not zero

    img = noise_img(3, 8, dtype=torch.float64).requires_grad_(True)
    assert gradcheck(cubed, img, fast_mode=True)
    assert gradgradcheck(cubed, img, fast_mode=True)


def test_what_inference_keeps_serves_training_later():
    with torch.inference_mode():
        AugmentPipe(EVERYTHING)(noise_img(2, 20), 1.0)
    img = noise_img(2, 20).requires_grad_(True)
    AugmentPipe(EVERYTHING)(img, 1.0).sum().backward()
    assert img.grad is not None
