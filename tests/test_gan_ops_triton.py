"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled ahead of time for the GPUs of today."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packaging.version import Version

from gan.config import NetworkConfig
from gan.networks import precision
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.ops import backend
from gan.ops.bias_act import bias_act
from gan.ops.upfirdn2d import setup_filter, upfirdn2d

triton = pytest.importorskip("triton")
ahead_of_time = pytest.mark.skipif(Version(triton.__version__) < Version("3.3"), reason="Triton compiles otherwise")

DTYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
KERNELS = ("_pointwise", "_gradients", "_fir")


def test_the_interpreter_agrees_with_the_references():
    here = Path(__file__).parent
    # Of Triton's own interpreter some versions warn.
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore::DeprecationWarning", "-p", "no:cacheprovider"]
    command.append(str(here / "triton_interpreted.py"))
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{here.parent}:{here}"}
    ended = subprocess.run(command, env=environment, cwd=here.parent, capture_output=True, text=True)
    assert ended.returncode == 0 and "[100%]" in ended.stdout, ended.stdout + ended.stderr


class Recorder:
    """Stands in for a kernel: keeps what it is called with, as the compiler wants it, and computes nothing."""

    def __init__(self, kernel):
        self.kernel, self.variants = kernel, {}

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *arguments, **constants):
        given = dict(zip(self.kernel.arg_names, arguments, strict=False)) | constants
        signature, constexprs, attributes = {}, {}, {}
        for index, name in enumerate(self.kernel.arg_names):
            value = given[name]
            if value is None or name.isupper():
                signature[name], constexprs[(index,)] = "constexpr", value
            elif isinstance(value, torch.Tensor):
                signature[name] = DTYPES[value.dtype]
                if value.data_ptr() % 16 == 0:
                    attributes[(index,)] = [["tt.divisibility", 16]]
            else:
                signature[name] = "fp32" if isinstance(value, float) else "i32"
        options = {name: value for name, value in constants.items() if name not in self.kernel.arg_names}
        self.variants[str((signature, constexprs, attributes, options))] = (signature, constexprs, attributes), options

    def compile(self, capability):
        """(signature, constants by name, PTX) of each variant, for a GPU of that capability."""
        target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
        for (signature, constexprs, attributes), options in self.variants.values():
            source = triton.compiler.ASTSource(self.kernel, signature, constexprs, attributes)
            compiled = triton.compile(source, target=target, options=options)
            assert compiled.asm["cubin"].startswith(b"\x7fELF")
            constants = {self.kernel.arg_names[index]: value for (index,), value in constexprs.items()}
            yield signature, constants, compiled.asm["ptx"]


@pytest.fixture
def recorders(monkeypatch):
    from gan.ops import triton_kernels

    monkeypatch.setattr(backend, "_serves", lambda x: triton_kernels)
    for name in KERNELS:
        monkeypatch.setattr(triton_kernels, name, Recorder(getattr(triton_kernels, name)))
    return [getattr(triton_kernels, name) for name in KERNELS]


def images_are_read_sixteen_bytes_at_a_time(signature, constants, ptx) -> bool:
    # Loads of 32 bits are of float32: noise, scales, taps. Of an image in 16 bits there is none that is single.
    return "ld.global.v4" in ptx and not re.search(r"(ld|st)\.global(\.\w+)*\.(b16|u16)", ptx)


@ahead_of_time
def test_all_that_the_networks_use_compiles_and_reads_sixteen_bytes_at_a_time(recorders):
    config = NetworkConfig(resolution=8, z_dim=8, w_dim=8, mapping_layers=1, channel_base=1024, channel_max=64)
    G, D = Generator(config), Discriminator(config)
    for network in (G, D):
        precision.apply(network, "bf16")
    img = G(torch.randn(4, config.z_dim))
    first = torch.autograd.grad(D(img).sum(), [img, *G.synthesis.b8.parameters()], create_graph=True)
    sum(t.square().sum() for t in first).backward()
    assert all(recorder.variants for recorder in recorders)
    for recorder in recorders:
        for signature, constants, ptx in recorder.compile(90):
            if next(iter(signature.values())) == "*bf16":  # those of the colours are float32, with three channels
                assert constants["VEC"] >= 8
                assert images_are_read_sixteen_bytes_at_a_time(signature, constants, ptx)


@ahead_of_time
@pytest.mark.parametrize(
    ("capability", "dtype"), [(80, torch.bfloat16), (80, torch.float16), (100, torch.bfloat16), (100, torch.float32)]
)
def test_other_gpus_and_dtypes(recorders, capability, dtype):
    x = torch.zeros(1, 24, 16, 16, dtype=dtype, requires_grad=True)  # 24: a multiple of eight, not of sixteen
    bias_act(x, torch.zeros(24, requires_grad=True), "lrelu").sum().backward()
    upfirdn2d(x, setup_filter(), padding=(2, 1))
    for recorder in recorders:
        assert len(recorder.variants) == 1
        for signature, constants, ptx in recorder.compile(capability):
            assert constants["VEC"] == 8 and images_are_read_sixteen_bytes_at_a_time(signature, constants, ptx)


@ahead_of_time
def test_three_channels_are_read_one_by_one(recorders):
    # So that the test above can fail.
    upfirdn2d(torch.zeros(1, 3, 16, 16, dtype=torch.bfloat16), setup_filter(), padding=(2, 1))
    ((signature, constants, ptx),) = recorders[2].compile(90)
    assert constants["VEC"] == 1 and not images_are_read_sixteen_bytes_at_a_time(signature, constants, ptx)
