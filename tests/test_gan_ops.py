"""The operators against their definitions, and their gradients to second order."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gan.networks.layers import Conv2d, FullyConnected
from gan.ops.add_image import add_image
from gan.ops.bias_act import _bias_act, bias_act, bias_act_reference
from gan.ops.conv2d_resample import conv2d_resample
from gan.ops.modulated_conv2d import demodulation, modulated_conv2d, modulated_conv2d_reference, within_float16
from gan.ops.upfirdn2d import downsample2d, setup_filter, upfirdn2d, upfirdn2d_reference, upsample2d

TAPS = {"1331": (1, 3, 3, 1), "asymmetric": (1.0, 2.0, 5.0), "one": (1.0,)}


def double(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def check_gradients(function, *inputs) -> None:
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [
        *itertools.product([1, 2, 3], [1, 2], [(0, 0), (2, 1), (4, 4)]),
        (1, 1, (-1, 2)),
        (2, 1, (-2, -1)),
        (1, 2, (5, 0)),
    ],
)
def test_upfirdn2d_is_its_definition(taps, up, down, padding):
    f = setup_filter(TAPS[taps]).double()
    for x in (double(2, 3, 7, 6), double(2, 3, 6, 7).transpose(2, 3), double(1, 2, 5, 5).flip(3)):
        options = {"up": up, "down": down, "padding": padding, "gain": 1.7}
        expected = upfirdn2d_reference(x, f, **options)
        actual = upfirdn2d(x, f, **options)
        size = (x.shape[2] * up + sum(padding) - len(f)) // down + 1
        assert actual.shape == expected.shape and actual.shape[2] == size
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("function", [upfirdn2d, upfirdn2d_reference])
def test_upfirdn2d_filters_alone_by_default(function):
    x, f = double(2, 3, 6, 5), setup_filter((1.0, 2.0, 5.0)).double()
    kernel = torch.outer(f, f).flip([0, 1]).expand(3, 1, 3, 3)
    torch.testing.assert_close(function(x, f), torch.nn.functional.conv2d(x, kernel, groups=3))


def test_a_filter_sums_to_one_and_is_1331_by_default():
    assert setup_filter().tolist() == [0.125, 0.375, 0.375, 0.125]
    assert setup_filter((1.0, 4.0)).tolist() == pytest.approx([0.2, 0.8])


def test_upfirdn2d_takes_an_empty_batch():
    assert upfirdn2d(torch.zeros(0, 3, 8, 8), setup_filter(), up=2, padding=(2, 1)).shape == (0, 3, 16, 16)


def test_resampling_keeps_a_flat_image_flat():
    flat = torch.full([1, 2, 8, 8], 0.7)
    f = setup_filter()
    up, down = upsample2d(flat, f), downsample2d(flat, f)
    assert up.shape[-1] == 16 and down.shape[-1] == 4
    torch.testing.assert_close(up[..., 2:-2, 2:-2], torch.full([1, 2, 12, 12], 0.7))
    torch.testing.assert_close(down[..., 1:-1, 1:-1], torch.full([1, 2, 2, 2], 0.7))


@pytest.mark.parametrize("options", [{"up": 2, "padding": (2, 1)}, {"down": 2, "padding": (1, 1)}, {"padding": (2, 1)}])
def test_upfirdn2d_gradients(options):
    f = setup_filter((1.0, 2.0, 5.0, 3.0)).double()  # the gradient is filtered with it turned round
    check_gradients(lambda x: upfirdn2d(x, f, **options), double(1, 2, 4, 5))


@pytest.mark.parametrize("act", ["linear", "lrelu"])
def test_bias_act(act):
    x, b = double(2, 3, 4, 4), double(3)
    y = x + b[None, :, None, None]
    expected = 0.5 * y if act == "linear" else 0.5 * 2**0.5 * torch.where(y > 0, y, 0.2 * y)
    torch.testing.assert_close(bias_act(x, b, act, gain=0.5), expected)
    check_gradients(lambda x, b: bias_act(x, b, act, gain=0.5), x, b)
    assert bias_act(x, None) is x
    assert bias_act(torch.zeros(0, 3), torch.zeros(3), act).shape == (0, 3)


def test_bias_act_names_what_is_wrong():
    with pytest.raises(ValueError, match="act must be one of linear, lrelu; got 'tanh'"):
        bias_act(torch.zeros(1, 2), None, "tanh")
    with pytest.raises(ValueError, match="b must be a vector"):
        bias_act(torch.zeros(1, 2), torch.zeros(3))
    for b, x in ((torch.zeros(2, 1), torch.zeros(1, 2)), (torch.zeros(2), torch.zeros(2))):
        with pytest.raises(ValueError, match="b must be a vector"):
            bias_act(x, b)
    for gain in (-1, 0):
        with pytest.raises(ValueError, match=f"gain must be above zero; got {gain}"):
            bias_act(torch.zeros(1, 2), torch.zeros(2), gain=gain)
    x, number = torch.zeros(3, 2, 4, 5), torch.tensor(0.5)
    for scale, image in ((torch.zeros(2, 3), x), (torch.zeros(3, 2, 1), x), (torch.zeros(3, 2), x[..., 0])):
        with pytest.raises(ValueError, match="scale must have the first two dimensions"):
            bias_act(image, scale=scale)
    for shape in ((2, 1, 4, 5), (3, 2, 4, 5), (3, 1, 5, 4), (1, 4, 5)):
        with pytest.raises(ValueError, match=r"noise must be \[N or 1, 1, H, W\]"):
            bias_act(x, noise=torch.zeros(shape))
    with pytest.raises(ValueError, match=r"noise must be \[N or 1, 1, H, W\]"):
        bias_act(x[..., 0], noise=torch.zeros(1, 1, 4))
    for strength, noise in ((number, None), (number[None], torch.zeros(1, 1, 4, 5))):
        with pytest.raises(ValueError, match="strength must be a number that goes with noise"):
            bias_act(x, strength=strength, noise=noise)


def test_bias_act_of_other_dimensions_and_by_default():
    x, b, noise = double(3, 2, 4, 5), double(2), double(1, 1, 4, 5)
    for function in (bias_act, bias_act_reference):
        assert torch.equal(function(x[:, :, 0, 0], b), x[:, :, 0, 0] + b)
        assert torch.equal(function(x[..., 0], b), x[..., 0] + b[:, None])
        assert torch.equal(function(x, scale=b.expand(3, 2)), x * b[:, None, None])
        assert torch.equal(function(x, noise=noise, strength=b[0]), x + noise * b[0])
        assert torch.equal(function(x, gain=2), x * 2)
    for gain in (1.0, 2.0):
        assert torch.equal(_bias_act.plain(x, b, None, None, None, "linear", gain), (x + b[:, None, None]) * gain)
    x, noise = double(2, 2, 2, 2), double(1, 1, 2, 2)
    check_gradients(lambda x, e, s: bias_act(x, act="lrelu", noise=e, strength=s), x, noise, double())
    check_gradients(lambda x, s: bias_act(x, act="lrelu", noise=noise.detach(), strength=s), x, double())
    low = torch.zeros(1, 2, 1, 1, dtype=torch.bfloat16)
    # What is between is as wide as the widest: 1 + 2^-9 and its negative are no values of bfloat16.
    assert bias_act(low + 1, torch.full([2], 2**-9 - 1)).dtype == torch.bfloat16
    assert (bias_act(low + 1, torch.full([2], 2**-9 - 1)) == 2**-9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_of_lower_precision_is_added_with_a_bias(dtype):
    x, image, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5).to(dtype), torch.randn(3)
    inputs = [t.requires_grad_() for t in (x, image, b)]
    y, g = add_image(*inputs), torch.randn(2, 3, 4, 5)
    assert y.dtype == torch.float32 and y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, x + image.float() + b[:, None, None])
    for found, expected in zip(torch.autograd.grad(y, inputs, g), (g, g.to(dtype), g.sum(dim=[0, 2, 3])), strict=True):
        torch.testing.assert_close(found, expected)  # in the dtype of each


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 5), (1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize("size", [1, 3])
def test_conv2d_resample_is_filter_and_convolution(size, taps):
    x, w, f = double(2, 3, 6, 6), double(4, 3, size, size), setup_filter(taps).double()
    pad, count = size // 2, len(taps)
    # Up: zero insertion and filter, then a true convolution; the two commute.
    up = upfirdn2d_reference(x, f, up=2, padding=((count + 1) // 2 + pad, (count - 2) // 2 + pad), gain=4)
    torch.testing.assert_close(conv2d_resample(x, w, f, up=True), torch.nn.functional.conv2d(up, w.flip([2, 3])))
    filtered = upfirdn2d_reference(x, f, padding=((count - 1) // 2 + pad, (count - 2) // 2 + pad))
    down = torch.nn.functional.conv2d(filtered, w)[:, :, ::2, ::2]
    torch.testing.assert_close(conv2d_resample(x, w, f, down=True), down)
    assert conv2d_resample(x, w).shape == (2, 4, 6, 6)
    with pytest.raises(ValueError, match="one of up and down"):
        conv2d_resample(x, w, f, up=True, down=True)


@pytest.mark.parametrize("options", [{"up": True}, {"down": True}, {}])
def test_conv2d_resample_gradients(options):
    f = setup_filter().double()
    check_gradients(lambda x, w: conv2d_resample(x, w, f, **options), double(1, 2, 4, 4), double(2, 2, 3, 3))


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_modulated_conv2d_is_one_kernel_an_image(up, demodulate):
    f = setup_filter().double()
    x, w, s = double(3, 4, 5, 5), double(6, 4, 3, 3), double(3, 4)

    def modulated(x, w, s):
        y = modulated_conv2d(x, w, s, f, up=up)
        return bias_act(y, scale=demodulation(w, s)) if demodulate else y

    expected = modulated_conv2d_reference(x, w, s, f, up=up, demodulate=demodulate)
    torch.testing.assert_close(modulated(x, w, s), expected)
    check_gradients(modulated, double(2, 2, 3, 3), double(2, 2, 3, 3), double(2, 2))


def test_demodulation_gives_unit_variance():
    torch.manual_seed(0)
    x, w, s = torch.randn(4, 64, 32, 32), torch.randn(32, 64, 3, 3) * 5, torch.rand(4, 64) * 3
    y = bias_act(modulated_conv2d(x, w, s), scale=demodulation(w, s))
    deviation = y[:, :, 1:-1, 1:-1].std(dim=[2, 3])
    assert deviation.mean().item() == pytest.approx(1, abs=0.02)


def test_kernels_of_zero_are_demodulated_by_epsilon():
    x, w, s = torch.ones(2, 3, 4, 4), torch.zeros(5, 3, 3, 3), torch.ones(2, 3)
    torch.testing.assert_close(demodulation(w, s), torch.full([2, 5], 1e4))  # equation 3, with 1e-8
    assert (modulated_conv2d_reference(x, w, s) == 0).all()
    x, w, s = double(2, 3, 4, 4), double(5, 3, 3, 3), double(2, 3)
    plain, demodulated = modulated_conv2d(x, w, s), modulated_conv2d_reference(x, w, s)
    torch.testing.assert_close(bias_act(plain, scale=demodulation(w, s)), demodulated)  # by default, of the same size


def test_scales_for_float16_are_at_most_one():
    weight, styles = torch.full([2, 3, 3, 3], 1e-8), torch.tensor([[1e-8, -1e-8, 0], [0, 0, 0], [500, -2, 1]])
    weight[1] = 0
    low, scaled, undo = within_float16(weight, styles)
    assert low.dtype == torch.float16 and undo.shape == (3, 1)
    assert (low.float() * 27**0.5).max().item() == pytest.approx(0.5, rel=1e-3)  # a largest of 1e-8, and as much
    assert scaled.abs().amax(dim=1).tolist() == pytest.approx([0.5, 0, 1])
    torch.testing.assert_close(scaled * undo * low[0, 0, 0, 0], styles * weight[0, 0, 0, 0], rtol=1e-3, atol=0)


def test_layers_keep_variance_and_gradients():
    torch.manual_seed(0)
    assert FullyConnected(512, 256, act="lrelu", lr_multiplier=0.01)(
        torch.randn(64, 512)
    ).square().mean().item() == pytest.approx(1, abs=0.1)
    layer = Conv2d(2, 3, 3, down=True, gain=0.7).double()
    check_gradients(layer, double(1, 2, 4, 4))
    dense = FullyConnected(3, 2, act="lrelu", lr_multiplier=0.5).double()
    check_gradients(dense, double(2, 3))
