"""The switches of the process: what is on while commands run, and that no operator of ours stands in its way."""

import os

import pytest
import torch
from conftest import TINY_TRAINING, run_salon, write_dataset
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gan.augment.diffaugment import diff_augment
from gan.augment.pipeline import AugmentPipe
from gan.device.determinism import WORKSPACE, deterministic, tf32
from gan.device.memory import Download, upload
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.ops import sample2d
from gan.training import losses

# Operations that raise on a GPU under torch.use_deterministic_algorithms(True), by its documentation.
REFUSED = {
    *("grid_sampler_2d_backward", "grid_sampler_3d_backward", "max_pool2d_with_indices_backward", "max_unpool2d"),
    *("adaptive_max_pool2d_backward", "_adaptive_avg_pool2d_backward", "avg_pool3d_backward", "histc", "kthvalue"),
    *("upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "upsample_linear1d_backward", "bincount"),
    *("reflection_pad1d_backward", "reflection_pad2d_backward", "replication_pad1d_backward", "put_", "cumsum"),
    *("replication_pad2d_backward", "scatter_reduce", "index_reduce", "median", "nll_loss2d_forward", "resize_"),
    *("_ctc_loss_backward", "_embedding_bag_backward", "upsample_nearest2d_backward"),
}


class Names(TorchDispatchMode):
    """Names of the operations that run meanwhile."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def state():
    cudnn = torch.backends.cudnn
    enabled, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return enabled, warn, cudnn.deterministic, cudnn.benchmark, torch.utils.deterministic.fill_uninitialized_memory


@pytest.fixture
def seen():
    """What the switches are whenever a network's layer runs."""
    states = set()
    handle = torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: states.add(state()))
    yield states
    handle.remove()


REPEATS, STRICT, FREE = (True, True, True, False, False), (True, False, True, False, False), (False, False, False)


def test_the_switch_is_on_within_and_as_it_was_after(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = state()
    with pytest.raises(KeyError), deterministic():
        assert state() == REPEATS and os.environ["CUBLAS_WORKSPACE_CONFIG"] == WORKSPACE
        raise KeyError
    assert state() == before and before[3]
    with deterministic(strict=True):
        with deterministic():
            assert state() == STRICT  # what samples within a strict training is strict
        assert state() == STRICT
    assert state() == before


def test_tf32_is_allowed_or_not_within(monkeypatch):
    both = lambda: (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)  # noqa: E731
    before = both()
    for allowed in (True, False):
        with tf32(allowed):
            assert both() == (allowed, allowed)
        assert both() == before


def test_generating_and_rejecting_repeat(tiny_run, tmp_path, seen):
    assert run_salon("generate", tiny_run, "--seeds", "0-2", "--out", tmp_path / "images").code == 0
    assert seen == {REPEATS}
    real = write_dataset(tmp_path / "real.zip", [(16, 16)] * 60)
    seen.clear()
    kept = ("--keep-training", tmp_path / "kept.safetensors", "--keep-kimg", 0.016)
    options = ("--reject", "drs", "--count", 4, "--burn-in", 12, "--data", real, *kept)
    assert run_salon("generate", tiny_run, *options, "--out", tmp_path / "best").code == 0
    assert seen == {REPEATS} and state()[:1] == (False,)


def test_training_repeats_where_that_is_asked_for(tiny_dataset, tmp_path, seen):
    for option, expected in (((), (False, False, False)), (("--deterministic",), STRICT[:3])):
        outcome = run_salon(
            "train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING, "--name", len(option), *option
        )
        assert outcome.code == 0, outcome.err
        assert expected in {each[:3] for each in seen}
        assert not option or seen == {STRICT}
        seen.clear()


def test_no_operation_of_a_step_is_refused(tiny_network):
    torch.manual_seed(0)
    G, D, pipe = Generator(tiny_network), Discriminator(tiny_network), AugmentPipe("bgcfnc")
    with deterministic(strict=True), Names() as operations:
        ws = G.mapping(torch.randn(4, 8))
        img = G.synthesis(ws)
        lengths = losses.path_lengths(img, ws, torch.randn_like(img))
        (losses.generator_loss(D(pipe(diff_augment(img), 1.0))).mean() + lengths.mean()).backward()
        real = torch.randn(4, 3, 16, 16, requires_grad=True)
        losses.r1_penalty(real, D(pipe(diff_augment(real), 1.0))).mean().backward()
    assert {"native_batch_norm", "grid_sampler_2d_backward"} & operations.names == {"grid_sampler_2d_backward"}
    assert operations.names & REFUSED == {"grid_sampler_2d_backward"}  # for which there is another form on a GPU:
    gradient, grid = (2, 3, 4, 5), (2, 4, 5, 2)
    with FakeTensorMode(), Names() as operations:
        arguments = torch.empty(gradient, device="cuda"), torch.empty(grid, device="cuda")
        with deterministic(strict=True):
            assert sample2d._adjoint_forward(*arguments, 6, 7).shape == (2, 3, 6, 7)
        assert not operations.names & REFUSED and "index_put_" in operations.names
        sample2d._adjoint_forward(*arguments, 6, 7)
    assert operations.names & REFUSED == {"grid_sampler_2d_backward"}


def test_the_adjoint_of_sampling_by_index_is_torchs():
    torch.manual_seed(0)
    gradient, grid = (
        torch.randn(2, 3, 9, 8, dtype=torch.float64),
        torch.rand(2, 9, 8, 2, dtype=torch.float64) * 2.6 - 1.3,
    )
    grid[0, 0, :3] = torch.tensor([[-1, -1], [1, 1], [1, -1]])  # the corners' centres
    expected = sample2d._adjoint_forward(gradient, grid, 6, 7)
    torch.testing.assert_close(sample2d.adjoint_by_index(gradient, grid, 6, 7), expected, rtol=1e-12, atol=1e-12)


def test_transfers_on_a_cpu_are_the_tensor_itself():
    tensor = torch.arange(4)
    assert upload(tensor, torch.device("cpu")) is tensor and Download(tensor).result() is tensor
