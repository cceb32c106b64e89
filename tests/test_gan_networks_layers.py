"""Layers with equalised learning rate: how they begin, and each against the convolution that it stands for."""

import pytest
import torch
from torch.nn import functional

from gan.networks.layers import Conv2d, FullyConnected, normalize_second_moment


def lrelu(x):
    return functional.leaky_relu(x, 0.2) * 2**0.5


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_a_fully_connected_layer_keeps_variance_whatever_its_learning_rate(multiplier):
    torch.manual_seed(0)
    layer = FullyConnected(512, 400, lr_multiplier=multiplier, bias_init=3.0)
    assert layer.weight.std().item() == pytest.approx(1 / multiplier, rel=0.01)
    assert (layer.bias == 3).all() and (FullyConnected(2, 3).bias == 0).all()
    y = layer(torch.randn(50, 512)) - 3 * multiplier
    assert y.std().item() == pytest.approx(1, rel=0.03) and abs(y.mean().item()) < 0.05


def test_a_fully_connected_layer_is_its_formula():
    layer = FullyConnected(6, 5, act="lrelu", lr_multiplier=0.1)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(4, 6)
    expected = lrelu(x @ (layer.weight * 0.1 / 6**0.5).T + 0.1 * layer.bias)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("act", ["linear", "lrelu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1, 3])
def test_a_convolution_is_its_formula(act, bias, size):
    layer, halved = (Conv2d(6, 5, size, act=act, bias=bias, gain=gain) for gain in (1.0, 0.5))
    assert (layer.bias is not None) == bias
    if bias:
        assert (layer.bias == 0).all()
        torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 6, 8, 8)
    y = functional.conv2d(x, layer.weight / (6 * size * size) ** 0.5, layer.bias, padding=size // 2)
    expected = y if act == "linear" else lrelu(y)
    torch.testing.assert_close(layer(x), expected)
    halved.load_state_dict(layer.state_dict())
    torch.testing.assert_close(halved(x), expected * 0.5)
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_a_convolution_begins_as_he_said():
    torch.manual_seed(0)
    layer = Conv2d(64, 64, 3)
    assert layer.weight.std().item() == pytest.approx(1, rel=0.02)
    assert layer(torch.randn(2, 64, 16, 16)).square().mean().item() == pytest.approx(1, rel=0.1)
    assert Conv2d(4, 5, 3, down=True)(torch.randn(2, 4, 16, 12)).shape == (2, 5, 8, 6)


def test_the_second_moment_becomes_one_and_that_of_nothing_stays_nothing():
    x = torch.randn(3, 50, dtype=torch.float64) * torch.tensor([[1e-6], [1.0], [1e6]])
    y = normalize_second_moment(x)
    torch.testing.assert_close(y[1:].square().mean(dim=1), torch.ones(2, dtype=torch.float64), rtol=1e-6, atol=0)
    small = torch.full([1, 4], 1e-4, dtype=torch.float64)  # its mean square is 1e-8, as much as is added
    torch.testing.assert_close(normalize_second_moment(small), torch.full([1, 4], 0.5**0.5, dtype=torch.float64))
    assert (normalize_second_moment(torch.zeros(1, 4)) == 0).all()
