import dataclasses

import pytest
import torch

from gan.config import NetworkConfig
from gan.data.images import to_pixels
from gan.networks.generator import Generator
from gan.sampling import generate
from serving.export.generator_graph import ImageFromZ, MappingGraph, SynthesisGraph, to_image

SEEDS = [3, 1, 4]


def lively(config: NetworkConfig) -> Generator:
    """A generator in which nothing is zero that training would have changed."""
    torch.manual_seed(0)
    G = Generator(config).eval().requires_grad_(False)
    G.mapping.w_avg.normal_()
    for block in G.synthesis.blocks:
        block.torgb.bias.normal_()
        for layer in block.layers:
            layer.noise_strength.fill_(0.5)
            layer.bias.normal_()
    return G


@pytest.mark.parametrize("num_classes", [0, 3])
def test_the_graph_is_the_generator_with_a_psi_and_a_class_for_each_image(tiny_network, num_classes):
    G = lively(dataclasses.replace(tiny_network, num_classes=num_classes))
    classes = [2, 0, 1] if num_classes else None
    psi = [1.0, 0.5, -0.5]
    ws = torch.cat(
        [generate.map_seeds(G, [seed], classes and [classes[i]], truncation_psi=psi[i]) for i, seed in enumerate(SEEDS)]
    )
    expected = G.synthesis(ws, "const")
    graph = ImageFromZ(MappingGraph(G), SynthesisGraph(G.synthesis))
    label = torch.tensor(classes)[:, None] if classes else None
    image, img = graph(generate.latents(SEEDS, 8), torch.tensor(psi)[:, None], label)
    torch.testing.assert_close(img, expected, atol=1e-5, rtol=1e-5)
    assert (image.numpy() == to_pixels(img)).all()


def test_truncation_is_clamped_to_the_contracts_range(tiny_network):
    mapping = MappingGraph(lively(tiny_network))
    z = generate.latents([0, 0], 8)
    wide, widest = mapping(z, torch.tensor([[2.0], [1e30]]))
    assert torch.equal(wide, widest)


def test_what_is_no_number_becomes_grey_and_the_rest_is_clamped():
    img = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0, 0.5]).reshape(1, 1, 1, 5)
    assert to_image(img).flatten().tolist() == [128, 255, 0, 128, 191]


def test_half_precision_is_near_and_has_float32_images(tiny_network):
    G = lively(tiny_network)
    ws = generate.map_seeds(G, SEEDS)
    img = SynthesisGraph(G.synthesis, torch.float16)(ws)
    assert img.dtype == torch.float32
    exact = G.synthesis(ws, "const")
    assert 0 < (img - exact).abs().max() < 0.01 * exact.abs().max()


def test_half_precision_stays_finite_in_a_wide_network(monkeypatch):
    G = lively(NetworkConfig(resolution=8, channel_max=512, channel_base=4096, mapping_layers=2))
    for block in G.synthesis.blocks:
        for layer in block.layers:
            layer.affine.bias.fill_(300)  # with these styles, a plain sum of 512 * 9 products is beyond float16
    mapping, synthesis = MappingGraph(G), SynthesisGraph(G.synthesis, torch.float16)
    z, psi = generate.latents([0, 1], 512) * 10, torch.full([2, 1], 2.0)
    ws = mapping(z, psi)
    img, exact = synthesis(ws), SynthesisGraph(G.synthesis)(ws)
    assert torch.isfinite(img).all()
    assert (img - exact).abs().max() < 0.02 * exact.abs().max()
    monkeypatch.setattr(
        "gan.networks.generator.within_float16", lambda weight, styles: (weight, styles, torch.ones([2, 1]))
    )
    assert not torch.isfinite(synthesis(ws)).all()  # which shows that the test is hard enough
