"""Fast forms of trunks, against the plain ones."""

import warnings

import pytest
import torch
from torch import nn

from eval.features import runtimes
from eval.features.fast_trunk import Bfloat16, MinimalConv2d, applies, check, fast, fold_batch_norm
from gan.errors import RequestError, SalonError
from gan.ops import native

CPU = torch.device("cpu")
RUNTIMES = list(runtimes.BACKENDS)


class Branches(nn.Module):
    """Convolutions of all kinds with batch norms behind, some used twice or in parallel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 32, 3, stride=2, bias=False), nn.BatchNorm2d(32)
        self.same, self.same_norm = nn.Conv2d(32, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48)
        self.point, self.last = nn.Conv2d(32, 48, 1), nn.Conv2d(48, 32, 3)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return self.last((self.same_norm(self.same(x)) + self.point(x)).relu())


def make(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    trunk = nn.Sequential(Branches(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for norm in (module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight, 1)
        nn.init.normal_(norm.bias)
    return trunk.eval().requires_grad_(False)


@pytest.fixture
def trunk() -> nn.Sequential:
    return make()


@pytest.fixture
def x():
    return torch.randn(3, 3, 41, 37, generator=torch.Generator().manual_seed(1))


def test_folding_keeps_what_is_computed(trunk, x):
    before = trunk(x)
    folded = fold_batch_norm(trunk)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(x), before, atol=1e-5)
    assert torch.equal(trunk(x), before) and isinstance(trunk[0].norm, nn.BatchNorm2d)  # a copy was folded


def test_the_fast_form_agrees(trunk, x):
    run = fast(trunk, CPU)
    assert torch.allclose(run(x.contiguous(memory_format=torch.channels_last)), trunk(x), atol=1e-5)
    minimal = [module for module in run.modules() if isinstance(module, MinimalConv2d)]
    assert len(minimal) == (2 if native.library() else 0)


@pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_minimal_filtering_is_a_convolution(padding, bias):
    conv = nn.Conv2d(35, 33, 3, padding=padding, bias=bias).requires_grad_(False)
    x = torch.randn(2, 35, 13, 18)
    expected = conv.double()(x.double())
    assert (MinimalConv2d(conv.float())(x) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "changed", [{"stride": 2}, {"dilation": 2}, {"groups": 32}, {"padding": 2}, {"padding": "same"}, {"kernel_size": 1}]
)
def test_minimal_filtering_stands_for_no_other_convolution(changed):
    plain = {"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 1}
    assert applies(nn.Conv2d(**plain)) and not applies(nn.Conv2d(**(plain | changed)))
    assert not applies(nn.Conv2d(16, 32, 3, padding=1)) and not applies(nn.ReLU())


def test_bfloat16_rounds_and_averages_in_float32(trunk, x):
    y, expected = Bfloat16(trunk, CPU)(x), trunk(x)
    assert y.dtype == torch.float32 and not torch.equal(y, y.bfloat16().float())
    assert 0 < (y - expected).abs().max() < 0.05 * expected.abs().max()


def test_another_result_is_refused(trunk):
    assert check(trunk, trunk, 32) < 1e-6
    assert 0 < check(lambda x: trunk(x) * (1 + 5e-5), trunk, 32) < 1e-4
    for wrong in (lambda x: trunk(x) * (1 + 2e-4), lambda x: trunk(x) * float("nan")):
        with pytest.raises(SalonError, match="must agree with the plain one to 1e-04; it differs by"):
            check(wrong, trunk, 32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    return tmp_path / "trunks"


@pytest.mark.parametrize("backend", RUNTIMES)
def test_other_runtimes_agree_for_any_batch(backend, trunk, cache):
    pytest.importorskip(backend)
    run = runtimes.load(trunk, 32, backend)
    for n in (1, 5):
        x = torch.randn(n, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        assert torch.allclose(run(x), trunk(x), atol=1e-5)


@pytest.mark.parametrize("backend", RUNTIMES)
def test_a_graph_is_cached_by_its_weights_and_a_wrong_one_refused(backend, trunk, cache):
    pytest.importorskip(backend)
    runtimes.load(trunk, 32, backend)
    (first,) = cache.iterdir()
    stamp = first.stat().st_mtime_ns
    runtimes.load(make(), 32, backend)
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [stamp]  # equal weights: not written again
    runtimes.load(make(seed=1), 32, backend)
    (second,) = set(cache.iterdir()) - {first}
    first.write_bytes(second.read_bytes())
    with pytest.raises(SalonError, match=r"is refused, and its cached graph removed: .* it differs by"):
        runtimes.load(trunk, 32, backend)
    first.write_bytes(b"damaged")
    with pytest.raises(SalonError, match="is refused, and its cached graph removed"):
        runtimes.load(trunk, 32, backend)
    runtimes.load(trunk, 32, backend)


def test_onnx_runtime_has_one_precision(trunk, cache):
    pytest.importorskip("onnxruntime")
    with pytest.raises(RequestError, match="computes in fp32 alone"):
        runtimes.load(trunk, 32, "onnxruntime", "bf16")


def test_a_missing_runtime_is_named(trunk, cache, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with warnings.catch_warnings(), pytest.raises(RequestError, match=r"needs pip install 'salon\[openvino\]'"):
        runtimes.load(trunk, 32, "openvino")
