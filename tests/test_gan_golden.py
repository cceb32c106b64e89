"""Networks, losses and their gradients against the golden tensors that tests/fixtures/make_golden.py computed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gan.config import NetworkConfig
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.training import losses

TENSORS = dict(np.load(Path(__file__).parent / "fixtures" / "golden.npz", allow_pickle=False))
CONFIG = NetworkConfig(
    resolution=16, num_classes=2, z_dim=6, w_dim=6, mapping_layers=2, channel_base=48, channel_max=5, mbstd_group_size=2
)
PSI = 0.7
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # of the largest value; the file holds float32


@pytest.fixture(params=TOLERANCE, ids=str)
def dtype(request):
    return request.param


@pytest.fixture
def golden(dtype):
    return {name: torch.from_numpy(array).to(dtype) for name, array in TENSORS.items()}


@pytest.fixture
def networks(golden, dtype):
    pair = Generator(CONFIG).to(dtype), Discriminator(CONFIG).to(dtype)
    for network, prefix in zip(pair, ("G.", "D."), strict=True):
        network.load_state_dict({n.removeprefix(prefix): t for n, t in golden.items() if n.startswith(prefix)})
    return pair


def agree(actual, expected, largest=None):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    largest = expected.abs().max() if largest is None else largest
    assert (actual - expected).abs().max() <= TOLERANCE[actual.dtype] * largest


def gradients_agree(value, network, golden, prefix):
    parameters = {n: p for n, p in network.named_parameters() if f"{prefix}.{n}" in golden}
    assert len(parameters) == sum(name.startswith(f"{prefix}.") for name in golden) > 10
    gradients = torch.autograd.grad(value, list(parameters.values()))
    expected = [golden[f"{prefix}.{name}"] for name in parameters]
    # Some gradients, those through the standard deviation of a group, are small differences of large numbers.
    largest = max(g.abs().max() for g in expected) if value.dtype == torch.float32 else None
    for actual, golden_gradient in zip(gradients, expected, strict=True):
        agree(actual, golden_gradient, largest)


def test_images_and_logits(networks, golden):
    G, D = networks
    z, c = golden["z"], golden["c"]
    with torch.no_grad():
        agree(G.mapping(z, c, truncation_psi=PSI), golden["ws_psi"])
        agree(G(z, c, truncation_psi=PSI, noise_mode="const"), golden["img_psi_const"])
        agree(G(z, c, noise_mode="none"), golden["img_none"])
        agree(D(G(z, c, noise_mode="const"), c)[:, 0], golden["logits"])
        agree(D(golden["real_img"], c)[:, 0], golden["real_logits"])


def test_gradients_of_the_losses(networks, golden):
    G, D = networks
    c = golden["c"]
    logits = D(G(golden["z"], c, noise_mode="const"), c)
    gradients_agree(losses.generator_loss(logits).mean(), G, golden, "generator_loss")
    logits = D(G(golden["z"], c, noise_mode="const"), c)
    of_real, of_gen = losses.discriminator_loss(D(golden["real_img"], c), logits)
    gradients_agree((of_real + of_gen).mean(), D, golden, "discriminator_loss")


def test_second_gradients_of_the_regularisers(networks, golden):
    G, D = networks
    c, real_img = golden["c"], golden["real_img"].clone().requires_grad_()
    penalty = losses.r1_penalty(real_img, D(real_img, c))
    agree(penalty.detach(), golden["r1"])
    gradients_agree(penalty.mean(), D, golden, "r1")
    ws = G.mapping(golden["z"], c)
    lengths = losses.path_lengths(G.synthesis(ws, "const"), ws, golden["path_noise"])
    agree(lengths.detach(), golden["path_lengths"])
    gradients_agree(lengths.square().mean(), G, golden, "path_lengths")
