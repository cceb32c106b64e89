"""The Triton kernels under Triton's interpreter on a CPU: test_gan_ops_triton.py runs this with TRITON_INTERPRET=1."""

import pytest
import torch
from test_gan_ops_fused import assert_near, derivatives, image

from gan.ops import backend, triton_kernels
from gan.ops.add_image import add_image
from gan.ops.bias_act import bias_act, bias_act_reference
from gan.ops.upfirdn2d import setup_filter, upfirdn2d, upfirdn2d_reference

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}  # of the largest value


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    """Let images on a CPU be served by Triton."""
    monkeypatch.setattr(backend, "_serves", lambda x: triton_kernels)


def test_these_are_the_kernels(monkeypatch):
    monkeypatch.setattr(triton_kernels, "pointwise", lambda *arguments: "pointwise")
    assert backend.kernels(torch.zeros(1, 1, 1, 1)).pointwise() == "pointwise"


@pytest.mark.parametrize(
    ("dtype", "act", "shape", "layout", "given"),
    [
        (torch.float32, "lrelu", (3, 17, 9, 7), "contiguous", "b scale noise strength"),
        (torch.float32, "lrelu", (2, 24, 5, 5), "strided", "b scale noise"),
        (torch.float32, "linear", (2, 5, 6, 4), "channels last", "scale one-noise"),
        (torch.float32, "lrelu", (3, 5, 2, 4), "channels last", "b wide-scale"),
        (torch.bfloat16, "lrelu", (2, 8, 4, 12), "channels last", "b scale one-noise strength"),
        (torch.bfloat16, "lrelu", (2, 16, 8, 8), "contiguous", "b"),
        (torch.bfloat16, "linear", (2, 16, 4, 4), "contiguous", "scale"),
        (torch.float16, "lrelu", (1, 1, 3, 3), "contiguous", "b noise"),
        (torch.float16, "linear", (1, 3, 3, 1), "contiguous", ""),
    ],
)
def test_bias_act(dtype, act, shape, layout, given):
    torch.manual_seed(0)
    n, c, h, w = shape
    given = given.split()
    noise = torch.randn(1 if "one-noise" in given else n, 1, h, w)
    inputs = [
        image(shape, dtype, layout),
        torch.randn(c) if "b" in given else None,
        torch.randn(n, c + 3) if "wide-scale" in given else torch.randn(n, c) if "scale" in given else None,
        noise if "noise" in given or "one-noise" in given else None,
        torch.tensor(0.7) if "strength" in given else None,
    ]

    def run(function, inputs):
        # With a strength the noise is a constant.
        const = None if inputs[4] is None else inputs[3]

        def call(x, b, scale, noise, strength):
            noise = noise if const is None else const
            scale = scale if scale is None else scale[:, :c]  # maybe a part of a wider matrix
            return function(x, b, act, 0.7, scale=scale, noise=noise, strength=strength)

        return derivatives(call, [*inputs[:3], inputs[3] if const is None else None, inputs[4]])

    exact = run(bias_act_reference, [None if t is None else t.double() for t in inputs])
    for actual, expected in zip(run(bias_act, inputs), exact, strict=True):
        assert_near(actual, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_add_image(dtype):
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5).to(dtype), torch.randn(3)]
    for actual, expected in zip(derivatives(add_image, inputs), derivatives(add_image_plain, inputs), strict=True):
        assert_near(actual, expected, 1e-6)


def add_image_plain(x, image, b):
    return x + image + b[:, None, None]


@pytest.mark.parametrize(
    ("dtype", "taps", "up", "down", "padding", "shape", "layout"),
    [
        (torch.float32, (1, 3, 3, 1), 1, 1, (2, 1), (1, 3, 5, 6), "contiguous"),
        (torch.float32, (1, 2, 5), 2, 1, (2, 1), (1, 2, 4, 5), "strided"),
        (torch.float32, (1, 2, 3, 4, 5, 6), 1, 2, (5, 0), (1, 2, 4, 6), "channels last"),
        (torch.float32, (1,), 1, 1, (-1, 2), (1, 1, 3, 5), "contiguous"),
        (torch.float32, (1, 2, 5), 3, 2, (4, -2), (1, 1, 3, 3), "contiguous"),
        (torch.bfloat16, (1, 3, 3, 1), 2, 1, (2, 1), (2, 8, 2, 3), "channels last"),
        (torch.bfloat16, (1, 3, 3, 1), 1, 2, (1, 1), (1, 8, 4, 6), "channels last"),
        (torch.float16, (1, 2, 3, 4, 5, 6, 7, 8), 1, 1, (4, 3), (1, 65, 2, 2), "contiguous"),
    ],
)
def test_upfirdn2d(dtype, taps, up, down, padding, shape, layout):
    torch.manual_seed(0)
    f = setup_filter(taps)
    options = {"up": up, "down": down, "padding": padding, "gain": 1.7}
    x = image(shape, dtype, layout).requires_grad_(True)
    x64 = x.detach().double().requires_grad_(True)
    y, expected = upfirdn2d(x, f, **options), upfirdn2d_reference(x64, f.double(), **options)
    g = torch.randn_like(y)
    assert_near(y, expected, TOLERANCE[dtype])
    assert_near(*(torch.autograd.grad(a, b, g.to(a.dtype))[0] for a, b in ((y, x), (expected, x64))), TOLERANCE[dtype])


def test_the_gradient_of_a_filter_is_differentiated():
    f, x = setup_filter((1, 2, 5)), image((1, 1, 3, 4))
    exact = derivatives(lambda x: upfirdn2d_reference(x, f.double(), up=2, padding=(2, 1)), [x.double()])
    for actual, expected in zip(derivatives(lambda x: upfirdn2d(x, f, up=2, padding=(2, 1)), [x]), exact, strict=True):
        assert_near(actual, expected, 1e-5)


def test_an_empty_batch_and_what_is_not_finite():
    assert upfirdn2d(torch.zeros(0, 3, 8, 8), setup_filter(), up=2, padding=(2, 1)).shape == (0, 3, 16, 16)
    assert bias_act(torch.zeros(0, 3, 2, 2), torch.zeros(3), "lrelu").shape == (0, 3, 2, 2)
    x = torch.randn(2, 16, 4, 4)
    x[0, 0, 0, 0], x[1, 3, 2, 1] = torch.nan, torch.inf
    y = bias_act(x, torch.zeros(16), "lrelu")
    assert y[0, 0, 0, 0].isnan() and y[1, 3, 2, 1].isinf() and y.isfinite().sum() == y.numel() - 2


def test_sums_over_many_programs_and_channels():
    # More pixels than one program sums, and more channels than a tile of the gradients has.
    for shape in ((1, 2, 96, 96), (1, 1030, 2, 2)):
        g, x, y = (torch.randn(shape) for _ in range(3))
        scale, noise = torch.randn(shape[:2]), torch.randn(1, 1, *shape[2:])
        t = g.double() * torch.where(y > 0, 1, 0.2)
        found = triton_kernels.gradients(g, x, y, scale, noise, 0.2, 1.0, [True, True, True])
        expected = [t * scale[:, :, None, None], t.sum(dim=(0, 2, 3)), (t * x).sum(dim=(2, 3)), (t * noise).sum()]
        for actual, exact in zip(found, expected, strict=True):
            assert_near(actual, exact, 1e-5)
        assert_near(
            triton_kernels.gradients(g, None, y, None, None, 0.2, 1.0, [False, False, True])[1], t.sum(1, True), 1e-5
        )
