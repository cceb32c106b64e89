"""The native pointwise and filter operators against their references: values, first and second derivatives."""

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from gan.ops import native, native_kernels
from gan.ops.bias_act import bias_act, bias_act_reference
from gan.ops.upfirdn2d import setup_filter, upfirdn2d, upfirdn2d_reference

DTYPES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # tolerance, of the largest value
LAYOUTS = ["contiguous", "channels last", "strided"]


@pytest.fixture(scope="session")
def cuda_on_cpu(tmp_path_factory):
    """The CUDA kernels, compiled for the CPU, which runs their threads one after the other."""
    compiler = shutil.which("g++")
    if not compiler:
        pytest.skip("no g++")
    path = tmp_path_factory.mktemp("cuda") / "cuda.so"
    shim = Path(__file__).with_name("cuda_on_cpu.h")
    flags = ("-O2", "-std=c++17", "-x", "c++", "-include", str(shim), "-shared", "-fPIC")
    subprocess.run([compiler, *flags, str(native.CUDA_SOURCES[0]), "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


@pytest.fixture(params=["C++", "CUDA"])
def either(request, monkeypatch):
    """Each of the two native forms in turn."""
    if request.param == "CUDA":
        found = request.getfixturevalue("cuda_on_cpu")
        monkeypatch.setattr(native, "library", lambda kind="cpu": found)
    elif native.library() is None:
        pytest.skip(native.status())


def image(shape, dtype=torch.float32, layout="contiguous"):
    x = torch.randn(shape, dtype=torch.float32).to(dtype)
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        x = x.flip(3).transpose(2, 3).contiguous().transpose(2, 3)
    return x


def assert_near(actual, expected, tolerance):
    assert actual.shape == expected.shape
    largest = expected.double().abs().max().clamp(min=1e-2)
    assert (actual.double() - expected.double()).abs().max() <= tolerance * largest


def derivatives(function, inputs):
    """The output, its gradients, and the gradients of their norm, as R1 and path length regularisation need them."""
    inputs = [t if t is None else t.detach().clone().requires_grad_(True) for t in inputs]
    given = [t for t in inputs if t is not None]
    y = function(*inputs)
    g = torch.linspace(0.5, 1.5, y.numel()).reshape(y.shape).to(y.dtype).requires_grad_(True)  # sums do not cancel
    plain = torch.autograd.grad(y, given, g, retain_graph=True)
    first = torch.autograd.grad(y, given, g, create_graph=True)
    norm = sum(t.double().square().sum() for t in first)
    second = torch.autograd.grad(norm, [*given, g], allow_unused=True, materialize_grads=True)
    return [y, *plain, *first, *second]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("act", ["linear", "lrelu"])
@pytest.mark.parametrize(
    ("with_bias", "with_scale", "noises"), [*itertools.product([True, False], [True, False], [0, 1, 3])]
)
def test_bias_act(either, dtype, act, with_bias, with_scale, noises):
    torch.manual_seed(0)
    for shape, layout in (((3, 17, 20, 15), "contiguous"), ((3, 32, 5, 7), "channels last"), ((3, 1, 9, 9), "strided")):
        n, c, h, w = shape
        inputs = [
            image(shape, dtype, layout),
            torch.randn(c) if with_bias else None,
            torch.randn(n, c) if with_scale else None,
            torch.randn(noises, 1, h, w) if noises else None,
        ]

        def run(function, inputs):
            return derivatives(lambda x, b, s, e: function(x, b, act, 0.7, scale=s, noise=e), inputs)

        exact = run(bias_act_reference, [None if t is None else t.double() for t in inputs])
        for actual, expected in zip(run(bias_act, inputs), exact, strict=True):
            # A value at the kink may round to either side of it; one of millions here.
            assert_near(actual, expected, DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bias_act_takes_parts_as_they_lie_and_a_strength(either, dtype):
    torch.manual_seed(0)
    noise = torch.randn(2, 1, 7, 5).transpose(2, 3)
    inputs = [image([2, 16, 5, 7], dtype), torch.randn(32), torch.randn(2, 19), torch.tensor(0.3)]

    def run(function, inputs, noise):
        def call(x, b, scale, strength):
            return function(x, b[::2], "lrelu", 0.7, scale=scale[:, :16], noise=noise, strength=strength)

        return derivatives(call, inputs)

    exact = run(bias_act_reference, [t.double() for t in inputs], noise.double())
    for actual, expected in zip(run(bias_act, inputs, noise), exact, strict=True):
        assert_near(actual, expected, DTYPES[dtype])


def test_gradients_of_a_scale_that_needs_none_want_no_image(either):
    # So third derivatives ask for them.
    g, y, scale = torch.randn(2, 16, 5, 7), torch.randn(2, 16, 5, 7), torch.randn(2, 16)
    found = native_kernels.gradients(g, None, y, scale, None, 0.2, 1.5, [True, False, True])
    t = g.double() * torch.where(y > 0, 1.5, 0.3)
    for actual, expected in zip(
        found, (t * scale[:, :, None, None], t.sum(dim=[0, 2, 3]), t.sum(dim=1, keepdim=True)), strict=True
    ):
        assert_near(actual, expected, 1e-5)


def test_bias_act_passes_on_what_is_not_finite(either):
    x = torch.randn(2, 16, 4, 4)
    x[0, 0, 0, 0], x[1, 3, 2, 1] = torch.nan, torch.inf
    for dtype in DTYPES:
        y = bias_act(x.to(dtype), torch.zeros(16), "lrelu")
        assert y[0, 0, 0, 0].isnan() and y[1, 3, 2, 1].isinf() and y.isfinite().sum() == y.numel() - 2


def test_bfloat16_is_rounded_as_torch_does(either):
    x = torch.randn(1, 64, 50, 50)
    scale = torch.full([1, 64], 1 / 3)
    x16 = x.bfloat16()
    assert torch.equal(bias_act(x16, scale=scale), (x16.float() * (1 / 3)).bfloat16())


def test_bias_act_says_what_does_not_fit():
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="scale must have the first two dimensions"):
        bias_act(x, scale=torch.zeros(3))
    with pytest.raises(ValueError, match="noise must be"):
        bias_act(x, noise=torch.zeros(3, 1, 4, 4))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 5), (1,), (1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [
        *itertools.product([1, 2, 3], [1, 2], [(0, 0), (2, 1), (4, 4)]),
        (1, 1, (-1, 2)),
        (2, 1, (-2, -1)),
        (1, 2, (5, 0)),
    ],
)
def test_upfirdn2d(either, dtype, taps, up, down, padding):
    f = setup_filter(taps)
    options = {"up": up, "down": down, "padding": padding, "gain": 1.7}
    for shape, layout in (((2, 3, 7, 6), "contiguous"), ((1, 33, 8, 9), "channels last"), ((2, 4, 9, 9), "strided")):
        x = image(shape, dtype, layout)
        exact = derivatives(lambda x: upfirdn2d_reference(x, f.double(), **options), [x.double()])
        found = derivatives(lambda x: upfirdn2d(x, f, **options), [x])
        for actual, expected in zip(found, exact, strict=True):
            assert_near(actual, expected, DTYPES[dtype])


@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_the_cuda_sources_compile(target):
    path = native.build("nvcc", (*native.CUDA_FLAGS, f"-arch={target}"), native.CUDA_SOURCES, target)
    library = ctypes.CDLL(str(path))
    for name, dtype in itertools.product(("bias_act", "bias_act_backward", "upfirdn2d"), ("float32", "bfloat16")):
        assert getattr(library, f"salon_{name}_{dtype}")
