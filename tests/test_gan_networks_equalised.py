"""Networks with weights prepared for a phase compute what they compute without, gradients included."""

import dataclasses

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gan.networks import modulation, precision
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


@pytest.mark.parametrize("batch", [8, 1])
def test_losses_and_gradients_are_the_same(networks, batch):
    G, D, z, c = (part.double() for part in networks)
    z, c = z[:batch], c[:batch]
    y = torch.randn(batch, 3, 16, 16, dtype=torch.float64)

    def generator(ws):
        img = G.synthesis(ws, "const")
        return img.square().mean() + path_lengths(img, ws, y).square().mean()

    def mapped():
        return generator(G.mapping(z, c))

    def mixed():  # each layer has a w of its own
        return generator(torch.stack([G.mapping.w(z * (1 + layer), c) for layer in range(G.mapping.num_ws)], dim=1))

    def discriminator():
        img = y.clone().requires_grad_(True)
        logits = D(img, c)
        return logits.square().mean() + r1_penalty(img, logits).mean()

    for network, loss in ((G, mapped), (G, mixed), (D, discriminator)):
        expected = loss()
        expected = [expected, gradients(network, expected)]
        with prepared((network, None)):
            found = loss()
            found = [found, gradients(network, found)]
        torch.testing.assert_close(found, expected)
        assert torch.equal(loss(), expected[0])  # nothing stays behind


def test_second_gradients_of_ws_are_the_same(networks):
    G = networks[0].double()
    ws = torch.randn(2, G.mapping.num_ws, G.config.w_dim, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 3, 16, 16, dtype=torch.float64)

    def derivatives():
        (first,) = torch.autograd.grad(G.synthesis(ws, "const"), ws, y, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(3).sum(), ws)
        return first, second

    expected = derivatives()
    with prepared((G, None)):
        torch.testing.assert_close(derivatives(), expected)


def test_demodulation_in_few_operations_has_all_derivatives():
    torch.manual_seed(0)
    styles, squares = torch.randn(2, 3, 4, dtype=torch.float64), torch.rand(2, 5, 4, dtype=torch.float64)
    inputs = [tensor.requires_grad_(True) for tensor in (styles, squares)]
    expected = (styles.square() @ squares.transpose(1, 2) + 1e-8).rsqrt()
    torch.testing.assert_close(modulation.demodulation(styles, squares), expected)
    assert gradcheck(modulation.demodulation, inputs) and gradgradcheck(modulation.demodulation, inputs)


def test_only_the_networks_that_learn_have_gradients(networks):
    G, D, z, c = networks
    D.requires_grad_(False)
    with prepared((G, None), (D, None)):
        assert not any(
            weight.requires_grad
            for layer in D.modules()
            for weight in (getattr(layer, "prepared", None) or {}).values()
        )
        D(G(z, c, noise_mode="const"), c).sum().backward()
    assert all(p.grad is None for p in D.parameters()) and G.synthesis.b4.const.grad.any()


def test_kernels_are_cast_and_other_weights_are_not(networks):
    G, D, z, c = networks
    for network, trunk in ((G, G.synthesis), (D, D)):
        precision.apply(network, "bf16")
        with prepared((network, trunk.trunk_dtype)):
            low = {name for name, layer in network.named_modules() if dtype(layer) == torch.bfloat16}
            convolutions = {
                name for name, p in network.named_parameters() if p.ndim == 4 and not name.startswith("b4.")
            }
            if network is G:
                convolutions = {name for name, p in network.named_parameters() if p.ndim == 4 and "torgb" not in name}
            assert low == {name.removesuffix(".weight") for name in convolutions}
    img = G(z, c, noise_mode="const")
    with prepared((G, torch.bfloat16)):
        again = G(z, c, noise_mode="const")
    torch.testing.assert_close(again, img, rtol=0.02, atol=0.02)
    loss = again.square().mean()
    assert all(
        gradient.dtype == torch.float32 for gradient in gradients(G.synthesis, loss).values() if gradient is not None
    )


def dtype(layer):
    weights = getattr(layer, "prepared", None)
    return weights and "weight" in weights and weights["weight"].dtype


def test_several_passes_go_through_the_same_weights_and_an_error_leaves_none(networks):
    G, _, z, c = (part.double() for part in networks)
    with pytest.raises(KeyError), prepared((G, None)):
        for part in (slice(0, 4), slice(4, 8)):
            G(z[part], c[part], noise_mode="const").square().sum().backward()
        raise KeyError
    found = {name: p.grad.clone() for name, p in G.named_parameters() if p.grad is not None}
    G.zero_grad()
    G(z, c, noise_mode="const").square().sum().backward()
    torch.testing.assert_close(found, {name: p.grad for name, p in G.named_parameters() if p.grad is not None})
    assert not any(getattr(layer, "prepared", None) for layer in G.modules())
