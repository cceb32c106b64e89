"""The native convolution against torch's own, its gradients, and what happens where it cannot be built."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from gan.errors import SalonError
from gan.ops import backend, native, native_kernels
from gan.ops import conv3x3 as conv3x3_module
from gan.ops.conv3x3 import MIN_CHANNELS, applies, conv3x3
from gan.runtime import parallel


@pytest.fixture(autouse=True)
def few_channels_are_enough(monkeypatch):
    """Let small inputs, too, take the native form."""
    monkeypatch.setattr(conv3x3_module, "MIN_CHANNELS", 16)


needs_library = pytest.mark.skipif(native.library() is None, reason=native.status())
SHAPES = [(2, 16, 32, 16, 16), (3, 33, 17, 18, 27), (32, 20, 16, 4, 4), (1, 64, 48, 32, 24), (8, 16, 16, 7, 9)]


def inputs(n, c, o, h, w, dtype=torch.float32):
    torch.manual_seed(0)
    return torch.randn(n, c, h, w, dtype=dtype), torch.randn(o, c, 3, 3, dtype=dtype)


def assert_near(actual, expected, tolerance=2e-5):
    assert actual.shape == expected.shape
    assert (actual.double() - expected).abs().max() <= tolerance * expected.abs().max()


@needs_library
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "strided"])
def test_values_and_both_gradients(shape, layout):
    x, w = inputs(*shape)
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        x, w = x.flip(3).transpose(2, 3), w.transpose(2, 3)
    assert applies(x, len(w))
    x.requires_grad_(True)
    w.requires_grad_(True)
    x64, w64 = (t.detach().double().requires_grad_(True) for t in (x, w))
    y, expected = conv3x3(x, w), F.conv2d(x64, w64, padding=1)
    assert_near(y, expected.detach())
    g = torch.randn_like(y)
    gradients = torch.autograd.grad(y, (x, w), g)
    for actual, exact in zip(gradients, torch.autograd.grad(expected, (x64, w64), g.double()), strict=True):
        assert_near(actual, exact)


@needs_library
def test_second_and_third_derivatives():
    # The gradient's norm and its gradient's norm, as R1 and path length regularisation need them.
    def derivatives(x, w, convolve):
        y = torch.tanh(convolve(x, w))
        first = torch.autograd.grad(y.square().sum(), (x, w), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, w), create_graph=True)
        third = torch.autograd.grad(sum(g.square().sum() for g in second), (x, w))
        return [*first, *second, *third]

    x, w = inputs(2, 16, 16, 16, 16)
    x, w = (x * 0.1).requires_grad_(True), (w * 0.1).requires_grad_(True)
    x64, w64 = (t.detach().double().requires_grad_(True) for t in (x, w))
    exact = derivatives(x64, w64, lambda a, b: F.conv2d(a, b, padding=1))
    for actual, expected in zip(derivatives(x, w, conv3x3), exact, strict=True):
        assert_near(actual.detach(), expected.detach(), 2e-4)


@needs_library
def test_parts_of_the_tiles_give_what_all_give(monkeypatch):
    x, w = inputs(3, 33, 17, 18, 27)  # 3 * 5 * 7 tiles
    chunk = 36 * 50 * 10  # of ten tiles
    parts = [(first, min(11, 105 - first)) for first in range(0, 105, 11)]
    assert conv3x3_module._chunks(x, 50, chunk) == parts and conv3x3_module._chunks(x, 50, 10**9) == [(0, 105)]
    monkeypatch.setattr(conv3x3_module, "_CHUNK", chunk)
    x64, w64 = (t.double().requires_grad_(True) for t in (x, w))
    expected = F.conv2d(x64, w64, padding=1)
    assert_near(conv3x3_module.correlate(x, conv3x3_module.transformed(w), chunk), expected.detach())
    y, g = conv3x3(x.requires_grad_(True), w.requires_grad_(True)), torch.randn_like(expected)
    assert_near(y, expected.detach())
    exact = torch.autograd.grad(expected, (x64, w64), g)
    for actual, gradient in zip(torch.autograd.grad(y, (x, w), g.float()), exact, strict=True):
        assert_near(actual, gradient)


@needs_library
def test_as_few_channels_and_tiles_as_pay():
    def served(n, c, o, h, w):
        return applies(torch.zeros(n, c, h, w), o)

    assert served(2, 16, 16, 16, 16) and served(2, 16, 16, 13, 13) and served(32, 16, 16, 1, 1)
    assert not any((served(2, 15, 16, 16, 16), served(2, 16, 15, 16, 16), served(31, 16, 16, 4, 4)))
    assert not served(2, 16, 16, 12, 16)


def test_other_inputs_are_left_to_torch():
    x, w = inputs(2, 16, 16, 16, 16)
    for a, b in [(x.double(), w.double()), (x.bfloat16(), w.bfloat16()), (x[:, :8], w[:, :8]), (x[..., :4, :4], w)]:
        assert not applies(a, len(b))
        torch.testing.assert_close(conv3x3(a, b), F.conv2d(a, b, padding=1))
    assert conv3x3(x[:0], w).shape == (0, 16, 16, 16)
    assert MIN_CHANNELS > 3  # the layers that read and make colours


@needs_library
def test_the_same_bits_every_time_and_for_any_number_of_threads():
    x, w = inputs(4, 32, 32, 32, 32)
    expected = conv3x3(x, w)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert_near(conv3x3(x, w), expected.double(), 1e-6)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(conv3x3(x, w), expected)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"SALON_NATIVE": "0"}, "torch alone (SALON_NATIVE=0)"),
        ({"CXX": "/nonexistent/c++"}, "torch alone (the native code could not be built"),
        ({"CXX": "false"}, "torch alone (the native code could not be built"),
    ],
)
def test_without_it_all_works_and_the_reason_is_given(environment, reason, tmp_path, monkeypatch):
    for name, value in {"SALON_CACHE": str(tmp_path), **environment}.items():
        monkeypatch.setenv(name, value)
    process = parallel.start([__name__], convolve, tmp_path / "status")
    process.join()
    assert process.exitcode == 0 and (tmp_path / "status").read_text().startswith(reason)


def convolve(status: Path) -> None:
    native._load.cache_clear()  # what importing this file has found
    status.write_text(native.status())
    x, w = torch.randn(2, 64, 16, 16), torch.randn(64, 64, 3, 3)
    assert torch.equal(conv3x3(x, w), F.conv2d(x, w, padding=1))


@pytest.fixture
def choose(monkeypatch):
    """Set SALON_GPU_OPS, and forget what was found before and what will be."""

    def choose(value):
        monkeypatch.setenv(backend.SWITCH, value)
        backend._triton.cache_clear()

    yield choose
    backend._triton.cache_clear()


def test_the_kernels_of_a_gpu_are_chosen_by_the_environment(choose, monkeypatch):
    choose("torch")
    assert backend.status("cuda") == "torch alone (SALON_GPU_OPS=torch)"
    assert not backend.fast("cuda")
    choose("cuda")
    monkeypatch.setattr(native, "_load", lambda kind: (kind, f"compiled for {kind}"))
    assert backend.status("cuda") == "compiled for cuda" and backend.library("cuda")
    choose("triton")
    assert not backend.library("cuda")
    monkeypatch.setenv(native.SWITCH, "0")
    assert backend.status("cuda") == "torch alone (SALON_NATIVE=0)"
    monkeypatch.delenv(native.SWITCH)
    backend._triton.cache_clear()
    monkeypatch.setitem(sys.modules, "triton", None)  # as if it were not installed
    assert backend.status("cuda").startswith("torch alone (no Triton:")
    choose("opencl")
    with pytest.raises(SalonError, match="SALON_GPU_OPS must be one of triton, cuda, torch; got 'opencl' instead"):
        backend.status("cuda")
    assert backend.status("cpu") == native.status("cpu")


def test_kernels_serve_images_of_their_dtypes_and_others_in_float32(monkeypatch):
    monkeypatch.setattr(native, "library", lambda kind="cpu": {"cpu": kind}.get(kind))
    x, b = torch.zeros(1, 2, 3, 4), torch.zeros(2)
    assert backend.kernels(x) is backend.kernels(x.bfloat16(), b, None) is native_kernels
    assert backend.fast("cpu")
    for given in ((x[:0],), (x.double(),), (x.half(),), (x, b.double()), (x, b, b.bfloat16()), (x.to("meta"),)):
        assert backend.kernels(*given) is None
    monkeypatch.setattr(native, "library", lambda kind="cpu": None)
    assert backend.kernels(x) is None and not backend.fast("cpu")


def test_kernels_of_a_gpu_are_those_chosen_and_of_the_dtypes_that_work(monkeypatch):
    monkeypatch.setattr(backend, "_triton", lambda: (triton, (torch.float16,), "of Triton"))
    monkeypatch.setattr(native, "library", lambda kind="cpu": {"cuda": kind}.get(kind))
    triton = object()
    with FakeTensorMode():
        x = torch.empty(1, 2, 3, 4, device="cuda")
        for value, of_half, of_float in (
            ("triton", triton, None),
            ("cuda", None, native_kernels),
            ("torch", None, None),
        ):
            monkeypatch.setenv(backend.SWITCH, value)
            assert backend.kernels(x.half()) is of_half and backend.kernels(x) is of_float
    monkeypatch.delenv(backend.SWITCH)
    assert backend.choice() == "triton" and backend.fast("cuda") and backend.status("cuda") == "of Triton"


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton works on this GPU")
def test_triton_that_does_not_work_is_named_with_the_reason(choose):
    pytest.importorskip("triton")
    choose("triton")
    assert "does not work here: " in backend.status("cuda")


def test_a_training_step_on_a_cpu_loads_no_compiler():
    """Neither Triton nor torch's own, whose import takes as long as all of torch."""
    code = """
import sys
sys.modules["triton"] = None
import torch
import eval.evaluate
from gan.config import NetworkConfig, TrainingConfig
from gan.device.determinism import deterministic
from gan.training.learner import Learner
network = NetworkConfig(resolution=8, z_dim=8, w_dim=8, mapping_layers=2, channel_base=64, channel_max=8)
learner = Learner(TrainingConfig(network=network, dataset="0" * 64, batch_size=4), torch.device("cpu"))
with deterministic():
    learner.step(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
learner.G_optimizer.load_state_dict(learner.G_optimizer.state_dict())
heavy = {"gan.ops.triton_kernels", "torch._dynamo", "torch._inductor", "sklearn", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


CODE = 'extern "C" int {name}() {{ return {value}; }}\n'


@pytest.fixture
def compile_code(tmp_path, monkeypatch):
    """compile_code(NAME=text, ...) -> the library that these sources make, in a cache of the test's own.

    With None for a text its file is taken as it is.
    """
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("SALON_CACHE", str(tmp_path / "cache"))

    def compile_code(**texts):
        folder = tmp_path / "a $place: here"
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            if text is not None:
                (folder / f"{name}.cpp").write_text(text)
        sources = [folder / f"{name}.cpp" for name in texts]
        return native.build(compiler, ("-O1", "-fPIC", "-DDOLLAR='$'"), sources, "test")

    return compile_code


def compiled(log):
    return sorted(re.findall(r"(\w+)-\w+\.o$", "\n".join(line for line in log.splitlines() if " -c " in line), re.M))


def test_only_what_changed_is_compiled_again(compile_code, tmp_path, monkeypatch):
    one, two = CODE.format(name="one", value=1), CODE.format(name="two", value=2)
    first = compile_code(one=one, two=two)
    (log,) = (tmp_path / "cache").rglob("build.log")
    assert compiled(log.read_text()) == ["one", "two"]
    second = compile_code(one=one, two=two.replace("2", "22"))
    assert compiled(log.read_text()) == ["two"]
    # What lies there already is known by its content, though the sources are newer.
    assert compile_code(one=one, two=two) == first != second
    monkeypatch.setattr(native, "HEADER", tmp_path / "bfloat16.h")
    native.HEADER.write_text("// other\n")
    assert compile_code(one=one, two=two) not in (first, second) and compiled(log.read_text()) == ["one", "two"]
    libraries = [ctypes.CDLL(str(path)) for path in (first, second)]
    assert [(library.one(), library.two()) for library in libraries] == [(1, 2), (1, 22)]


def test_a_fault_in_the_code_is_told_with_its_line_and_the_log(compile_code, tmp_path):
    with pytest.raises(SalonError, match=r"two\.cpp:1:1: error: .*all of it in .*build\.log") as raised:
        compile_code(one=CODE.format(name="one", value=1), two="nonsense;\n")
    log = Path(str(raised.value).rpartition(" in ")[2])
    assert "nonsense" in log.read_text() and not list((tmp_path / "cache").rglob("*.so"))
    assert compile_code(one=CODE.format(name="one", value=1), two="int two;\n").exists()


def test_processes_that_build_at_once_share_one_build(compile_code, tmp_path):
    compile_code(one=CODE.format(name="one", value=1))
    shutil.rmtree(tmp_path / "cache")
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: compile_code(one=None), range(4)))
    assert len(paths) == 1 and ctypes.CDLL(str(*paths)).one() == 1
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_without_ninja_the_reason_is_given(tmp_path, monkeypatch, compile_code):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SalonError, match="no ninja: pip install ninja"):
        native._ninja()


def test_other_flags_and_another_target_are_another_build(compile_code, tmp_path):
    first = compile_code(one=CODE.format(name="one", value=1))
    sources = list(tmp_path.rglob("one.cpp"))
    flags = ("-O1", "-fPIC", "-DDOLLAR='$'")
    others = [
        native.build(shutil.which("c++"), flags, sources, target)
        for flags, target in ((flags[:2], "test"), (flags, "x"))
    ]
    assert len({first, *others}) == 3 and native.build(shutil.which("c++"), flags, sources, "test") == first


def test_tensors_numbers_and_threads_are_handed_over_in_order(compile_code, monkeypatch):
    code = """
extern "C" void note(float* y, long whole, float broken, void* none, int threads) {
    y[0] = whole, y[1] = broken, y[2] = none == nullptr, y[3] = threads;
}
"""
    found = ctypes.CDLL(str(compile_code(note=code)))
    monkeypatch.setattr(native, "library", lambda kind: {"cpu": found}[kind])
    y = torch.zeros(4)
    native.call("note", y, 2**20, 0.5, None)
    assert y.tolist() == [2**20, 0.5, 1, torch.get_num_threads()]


def test_what_is_missing_or_fails_is_told(tmp_path, monkeypatch):
    load = native._load.__wrapped__
    monkeypatch.setenv(native.SWITCH, "0")
    assert load("cpu") == load("cuda") == (None, "torch alone (SALON_NATIVE=0)")
    monkeypatch.delenv(native.SWITCH)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load("cpu") == (None, "torch alone (no C++ compiler: install g++ for faster CPU training)")
    assert load("cuda") == (None, "torch alone (no nvcc: install the CUDA toolkit for faster GPU training)")
    for name in ("clang++", "g++", "c++", "other"):  # each goes before the ones before it
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name} is broken >&2\necho twice >&2\nexit 1\n")
        program.chmod(0o755)
        if name == "other":
            monkeypatch.setenv("CXX", str(program))
        assert load("cpu") == (None, f"torch alone (the native code could not be built: {name} is broken)")
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    found, reason = load("cpu")
    assert found is None and "could not be built: " in reason and "absent" in reason


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo")
def test_a_processor_is_known_by_its_instruction_sets():
    assert native._processor().startswith(("flags", "Features"))
