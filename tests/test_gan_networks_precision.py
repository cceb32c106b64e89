"""Mixed precision: near float32 in values and in all gradients that training takes, and float32 where it must be."""

import copy
from pathlib import Path

import pytest
import torch
from conftest import TINY_TRAINING, run_salon

from gan.config import NetworkConfig
from gan.errors import RequestError
from gan.networks import precision
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.ops.modulated_conv2d import modulated_conv2d, within_float16
from gan.training import checkpoint, losses

NETWORK = NetworkConfig(resolution=32, z_dim=32, w_dim=32, mapping_layers=2, channel_base=1024, channel_max=64)


@pytest.fixture(params=[("bf16", "native"), ("bf16", "torch alone"), ("fp16", "native")], ids=" ".join)
def networks(request, monkeypatch):
    """G and D in float32, and copies of them in bfloat16 or float16."""
    low, kernels = request.param
    if kernels == "torch alone":
        monkeypatch.setattr("gan.ops.native.library", lambda kind="cpu": None)
    torch.manual_seed(0)
    G, D = Generator(NETWORK), Discriminator(NETWORK)
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.1)
    lows = copy.deepcopy(G), copy.deepcopy(D)
    for network in lows:
        precision.apply(network, low)
    return (G, D), lows


def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    """Cosine of the angle between two tensors."""
    return torch.nn.functional.cosine_similarity(one.double().flatten(), other.double().flatten(), dim=0).item()


def gradients(loss: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
    found = torch.autograd.grad(
        loss, list(network.parameters()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    assert all(g.dtype == torch.float32 for g in found)
    return torch.cat([g.flatten() for g in found])


def test_images_and_logits_are_near(networks):
    (G, D), (low_G, low_D) = networks
    z = torch.randn(4, 32)
    img, low = G(z, noise_mode="const"), low_G(z, noise_mode="const")
    assert low.dtype == torch.float32 and not torch.equal(img, low)
    assert (img - low).abs().max() < 0.05 * img.abs().max()
    logits, low_logits = D(img), low_D(img)
    assert low_logits.dtype == torch.float32
    assert (logits - low_logits).abs().max() < 0.05 * logits.abs().max()


def test_the_gradients_of_all_four_steps_are_near(networks):
    (G, D), (low_G, low_D) = networks
    z, y, scale = torch.randn(4, 32), torch.randn(4, 3, 32, 32), torch.tensor(8.0)
    real = torch.randn(4, 3, 32, 32, requires_grad=True)

    def steps(G, D):
        ws = G.mapping(z)
        img = G.synthesis(ws, "const")
        lengths = losses.path_lengths(img, ws, y, scale)
        return [
            (losses.generator_loss(D(img)).mean(), G),
            (losses.discriminator_loss(D(real), D(img.detach()))[0].mean(), D),
            (losses.r1_penalty(real, D(real), scale).mean(), D),
            (losses.path_length_penalty(lengths, torch.zeros([]), 0.01)[0].mean(), G),
        ]

    for (loss, network), (low_loss, low_network) in zip(steps(G, D), steps(low_G, low_D), strict=True):
        assert low_loss.item() == pytest.approx(loss.item(), rel=0.05)
        assert agreement(gradients(loss, network), gradients(low_loss, low_network)) > 0.99


def test_sums_of_the_largest_features_stay_within_float16_and_keep_their_gradients():
    x = torch.full([1, 512, 3, 3], 256.0)
    weight, styles = torch.rand(4, 512, 3, 3) + 2, torch.rand(1, 512) * 10 + 90
    found = []
    for scaled in (True, False):
        w, s = weight.clone().requires_grad_(True), styles.clone().requires_grad_(True)
        kernel, factors, undo = within_float16(w, s) if scaled else (w, s, torch.ones(1, 1))
        y = modulated_conv2d(x.half() if scaled else x, kernel, factors)
        assert torch.isfinite(y).all()
        y = y.float() * undo[:, :, None, None] * 3e-7
        (first,) = torch.autograd.grad(y.square().sum(), s, create_graph=True)
        found.append([y, first, *torch.autograd.grad(first.square().sum(), [w, s])])
    for low, exact in zip(*found, strict=True):
        torch.testing.assert_close(low, exact, rtol=0.01, atol=0.01 * exact.abs().max().item())


def test_float32_again_is_float32(networks):
    (G, _), (low_G, _) = networks
    z = torch.randn(2, 32)
    precision.apply(low_G, "fp32")
    assert torch.equal(G(z, noise_mode="const"), low_G(z, noise_mode="const"))


def test_another_precision_is_refused():
    with pytest.raises(RequestError, match="`precision` must be one of fp32, bf16, fp16; got fp8"):
        precision.apply(Generator(NETWORK), "fp8")


@pytest.mark.parametrize("low", ["bf16", "fp16"])
def test_a_run_in_low_precision_resumes_to_the_bit_and_generates(tiny_dataset, tmp_path, low):
    def train(out, kimg):
        options = [kimg if option == "0.032" else option for option in TINY_TRAINING]
        done = run_salon("train", "--data", tiny_dataset, "--out", out, *options, "--precision", low, "--json")
        assert done.code == 0, done.err
        assert f"Precision: {low}" in done.err
        return done.json

    whole = train(tmp_path / "whole", "0.032")
    train(tmp_path / "halves", "0.016")
    resumed = train(tmp_path / "halves", "0.032")
    states = [checkpoint.load(Path(r["checkpoint"])) for r in (whole, resumed)]
    for name, tensor in states[0]["learner"]["G"].items():
        assert torch.equal(tensor, states[1]["learner"]["G"][name]), name
    assert states[0]["config"]["network"]["conv_clamp"] == (256 if low == "fp16" else None)
    scales = [whole["stats"].get(f"loss_scale/{name}") for name in "GD"]
    assert scales == ([2**16, 2**16] if low == "fp16" else [None, None])
    grids = []
    for option in ("fp32", low):
        grid = tmp_path / f"{option}.png"
        done = run_salon(
            "generate", whole["run"], "--seeds", "0-3", "--grid", "2x2", "--out", grid, "--precision", option
        )
        assert done.code == 0, done.err
        grids.append(grid.read_bytes())
    assert grids[0] != grids[1]
