"""Networks with weights prepared for a phase compute what they compute without, gradients included."""

import dataclasses

import pytest
import torch

from gan.networks import precision
from gan.networks.discriminator import Discriminator
from gan.networks.equalised import prepared
from gan.networks.generator import Generator
from gan.training.losses import path_lengths, r1_penalty


@pytest.fixture
def networks(tiny_network):
    torch.manual_seed(0)
    config = dataclasses.replace(tiny_network, num_classes=3)
    z, c = torch.randn(8, config.z_dim), torch.eye(3)[torch.arange(8) % 3]
    return Generator(config), Discriminator(config), z, c


def gradients(network, loss):
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return {name: gradient for (name, _), gradient in zip(network.named_parameters(), found, strict=True)}


def test_losses_and_gradients_are_the_same(networks):
    G, D, z, c = (part.double() for part in networks)
    y = torch.randn(8, 3, 16, 16, dtype=torch.float64)

    def generator():
        ws = G.mapping(z, c)
        img = G.synthesis(ws, "const")
        return img.square().mean() + path_lengths(img, ws, y).square().mean()

    def discriminator():
        img = y.clone().requires_grad_(True)
        logits = D(img, c)
        return logits.square().mean() + r1_penalty(img, logits).mean()

    for network, loss in ((G, generator), (D, discriminator)):
        expected = loss()
        expected = [expected, gradients(network, expected)]
        with prepared(network, None):
            found = loss()
            found = [found, gradients(network, found)]
        torch.testing.assert_close(found, expected)
        assert torch.equal(loss(), expected[0])  # nothing stays behind


def test_kernels_are_cast_and_other_weights_are_not(networks):
    G, D, z, c = networks
    for network, trunk in ((G, G.synthesis), (D, D)):
        precision.apply(network, "bf16")
        with prepared(network, trunk.trunk_dtype):
            low = {name for name, layer in network.named_modules() if dtype(layer) == torch.bfloat16}
            convolutions = {
                name for name, p in network.named_parameters() if p.ndim == 4 and not name.startswith("b4.")
            }
            if network is G:
                convolutions = {name for name, p in network.named_parameters() if p.ndim == 4}
            assert low == {name.removesuffix(".weight") for name in convolutions}
    img = G(z, c, noise_mode="const")
    with prepared(G, torch.bfloat16):
        again = G(z, c, noise_mode="const")
    torch.testing.assert_close(again, img, rtol=0.02, atol=0.02)
    loss = again.square().mean()
    assert all(
        gradient.dtype == torch.float32 for gradient in gradients(G.synthesis, loss).values() if gradient is not None
    )


def dtype(layer):
    weights = getattr(layer, "prepared", None)
    return weights and weights["weight"].dtype


def test_several_passes_go_through_the_same_weights_and_an_error_leaves_none(networks):
    G, _, z, c = (part.double() for part in networks)
    with pytest.raises(KeyError), prepared(G, None):
        for part in (slice(0, 4), slice(4, 8)):
            G(z[part], c[part], noise_mode="const").square().sum().backward()
        raise KeyError
    found = {name: p.grad.clone() for name, p in G.named_parameters() if p.grad is not None}
    G.zero_grad()
    G(z, c, noise_mode="const").square().sum().backward()
    torch.testing.assert_close(found, {name: p.grad for name, p in G.named_parameters() if p.grad is not None})
    assert not any(getattr(layer, "prepared", None) for layer in G.modules())
