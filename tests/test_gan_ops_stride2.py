"""The halving and doubling convolutions against torch's own, and their derivatives."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from gan.ops import conv3x3_stride2


@pytest.fixture(autouse=True)
def few_channels_are_enough(monkeypatch):
    """Let small inputs, too, take our form."""
    monkeypatch.setattr(conv3x3_stride2, "MIN_CHANNELS", 1)


@pytest.fixture(params=[(2, 16, 20, 5, 5), (3, 17, 16, 1, 4), (1, 32, 16, 8, 6)])
def tensors(request):
    n, c, o, h, w = request.param
    torch.manual_seed(0)
    big = torch.randn(n, c, 2 * h + 1, 2 * w + 1, dtype=torch.float64)
    small, weight = torch.randn(n, o, h, w, dtype=torch.float64), torch.randn(o, c, 3, 3, dtype=torch.float64)
    return [t.requires_grad_(True) for t in (big, small, weight)]


def test_both_and_their_gradients_are_torchs(tensors):
    big, small, weight = tensors
    for ours, torchs, x in (
        (conv3x3_stride2.down, F.conv2d, big),
        (conv3x3_stride2.up, F.conv_transpose2d, small),
    ):
        for layout in (torch.contiguous_format, torch.channels_last):
            image = x.detach().contiguous(memory_format=layout).requires_grad_(True)
            actual, expected = ours(image, weight), torchs(image, weight, stride=2)
            torch.testing.assert_close(actual, expected)
            g = torch.randn_like(expected)
            for a, e in zip(
                torch.autograd.grad(actual, (image, weight), g),
                torch.autograd.grad(expected, (image, weight), g),
                strict=True,
            ):
                torch.testing.assert_close(a, e)


def test_second_derivatives():
    big, small, weight = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ([1, 2, 5, 7], [1, 2, 2, 3], [2, 2, 3, 3])
    )
    for function, x in ((conv3x3_stride2.down, big), (conv3x3_stride2.up, small)):
        assert gradcheck(function, (x, weight)) and gradgradcheck(function, (x, weight))


def test_an_empty_batch():
    weight = torch.randn(16, 16, 3, 3, requires_grad=True)
    small = conv3x3_stride2.down(torch.zeros(0, 16, 9, 9), weight)
    assert small.shape == (0, 16, 4, 4)
    (gradient,) = torch.autograd.grad(small.sum(), weight)
    assert gradient.abs().max() == 0
