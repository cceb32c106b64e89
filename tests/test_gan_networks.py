"""Generator and discriminator: the golden tensors of the reference implementation, and invariants."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.config import NetworkConfig
from gan.errors import RequestError
from gan.image_shape import ImageShape
from gan.networks.discriminator import Discriminator, minibatch_stddev
from gan.networks.generator import Generator

GOLDEN = Path(os.environ.get("SALON_TEST_DATA", "absent")) / "interop" / "nv_ada_pytorch_tiny32_golden.npz"
TINY = NetworkConfig(resolution=16, z_dim=8, w_dim=12, mapping_layers=2, channel_base=128, channel_max=16)


@pytest.mark.skipif(not GOLDEN.exists(), reason="SALON_TEST_DATA does not hold the golden tensors")
def test_networks_agree_with_the_reference_implementation():
    tensors = np.load(GOLDEN, allow_pickle=False)

    def weights(prefix):
        names = (n for n in tensors.files if n.startswith(prefix) and not n.endswith("resample_filter"))
        return {n.removeprefix(prefix): torch.from_numpy(tensors[n]) for n in names}

    def agree(actual, name):
        expected = torch.from_numpy(tensors[name])
        assert actual.shape == expected.shape
        assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()

    config = NetworkConfig(
        resolution=32, z_dim=32, w_dim=32, mapping_layers=2, channel_base=512, channel_max=32, mbstd_group_size=4
    )
    G, D = Generator(config), Discriminator(config)
    G.load_state_dict(weights("sd_G."))
    D.load_state_dict(weights("sd_D."))
    z = torch.from_numpy(tensors["z"])
    with torch.no_grad():
        agree(G.mapping(z, truncation_psi=0.7), "w_psi07")
        agree(G(z, truncation_psi=0.7, noise_mode="const"), "img_psi07_const")
        agree(G(z, noise_mode="none"), "img_psi1_none")
        agree(D(torch.from_numpy(tensors["img_psi07_const"])), "d_of_img")


def test_shapes_at_every_resolution():
    for resolution in (8, 16, 32, 64, 128, 256):
        config = NetworkConfig(
            resolution=resolution, z_dim=4, w_dim=4, mapping_layers=1, channel_base=512, channel_max=4
        )
        G, D = Generator(config), Discriminator(config)
        img = G(torch.randn(2, 4))
        assert img.shape == (2, 3, resolution, resolution)
        assert D(img).shape == (2, 1)
        assert G.mapping(torch.randn(2, 4)).shape == (2, config.num_ws, 4)


@pytest.mark.parametrize("base", [(6, 4), (4, 5), (8, 2), (7, 5)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_any_base_and_channels(base, channels):
    sizes = {"z_dim": 4, "w_dim": 4, "mapping_layers": 1, "channel_base": 512, "channel_max": 4}
    config = NetworkConfig(resolution=32, base=base, image_channels=channels, **sizes)
    assert config.shape == ImageShape(base[0] * 8, base[1] * 8, channels)
    G, D = Generator(config), Discriminator(config)
    img = G(torch.randn(2, 4))
    assert img.shape == (2, channels, base[1] * 8, base[0] * 8)
    assert D(img).shape == (2, 1) and D.features(img).shape[2:] == (base[1], base[0])


def test_a_wide_generator_does_what_a_square_one_does():
    # From a constant that is the same everywhere, and away from the borders, each pixel is what it is in a square.
    sizes = {"z_dim": 4, "w_dim": 4, "mapping_layers": 1, "channel_base": 512, "channel_max": 8}
    square = Generator(NetworkConfig(resolution=16, **sizes)).double()
    wide = Generator(NetworkConfig(resolution=16, base=(8, 4), **sizes)).double()
    with torch.no_grad():
        square.synthesis.b4.const.copy_(square.synthesis.b4.const[:, :1, :1].expand(-1, 4, 4))
        alike = {name: value for name, value in square.state_dict().items() if "noise_const" not in name}
        alike["synthesis.b4.const"] = square.synthesis.b4.const[:, :1, :1].expand(-1, 4, 8)
        wide.load_state_dict(alike, strict=False)
        z = torch.randn(2, 4, dtype=torch.float64)
        small, large = (G(z, noise_mode="none") for G in (square, wide))
    torch.testing.assert_close(large[..., :3], small[..., :3], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(large[..., -3:], small[..., -3:], rtol=1e-9, atol=1e-9)


def test_paper_sizes():
    # Parameters of config F at 1024: 30.37 million and 29.01 million (Karras et al. 2020, table 1, and their code).
    with torch.device("meta"):
        config = NetworkConfig(resolution=1024, channel_base=32768)
        G, D = Generator(config), Discriminator(config)
    assert sum(p.numel() for p in G.parameters()) == pytest.approx(30.37e6, rel=0.002)
    assert sum(p.numel() for p in D.parameters()) == pytest.approx(29.01e6, rel=0.002)


def test_an_image_does_not_depend_on_its_batch():
    G = Generator(TINY).eval()
    z = torch.randn(5, 8)
    with torch.no_grad():
        together = G(z, noise_mode="const")
        alone = torch.cat([G(row[None], noise_mode="const") for row in z])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_noise_modes():
    G = Generator(TINY)
    for block in G.synthesis.blocks:
        for layer in block.layers:
            layer.noise_strength.data.fill_(0.5)
    z = torch.randn(2, 8)
    first, second = G(z, noise_mode="random"), G(z, noise_mode="random")
    assert not torch.equal(first, second)
    assert torch.equal(G(z, noise_mode="const"), G(z, noise_mode="const"))
    assert not torch.equal(G(z, noise_mode="const"), G(z, noise_mode="none"))
    zeros = [torch.zeros(2, 1, *shape) for shape in G.synthesis.noise_shapes()]
    torch.testing.assert_close(G(z, noises=zeros), G(z, noise_mode="none"))
    with pytest.raises(ValueError, match="noise_mode must be one of const, random, none; got 'some'"):
        G(z, noise_mode="some")


def test_w_avg_follows_the_mean_w():
    G = Generator(TINY)
    z = torch.randn(64, 8)
    mean = G.mapping(z)[:, 0].mean(dim=0)
    for _ in range(3):
        G.mapping(z, update_w_avg=True)
    torch.testing.assert_close(G.mapping.w_avg, mean * (1 - 0.995**3))


def test_truncation_cutoff_leaves_later_layers():
    G = Generator(TINY)
    G.mapping.w_avg.fill_(3.0)
    z = torch.randn(2, 8)
    full, cut = G.mapping(z), G.mapping(z, truncation_psi=0.25, truncation_cutoff=2)
    torch.testing.assert_close(cut[:, :2], 3 + 0.25 * (full[:, :2] - 3))
    assert torch.equal(cut[:, 2:], full[:, 2:])


def test_minibatch_stddev_sees_groups():
    x = torch.randn(8, 3, 4, 4)
    y = minibatch_stddev(x, 4)
    assert y.shape == (8, 4, 4, 4) and torch.equal(y[:, :3], x)
    for first in (0, 1):  # images 0, 2, 4, 6 are one group, 1, 3, 5, 7 the other
        group = x[first::2]
        expected = (group.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(y[first::2, 3], expected.expand(4, 4, 4))
    with pytest.raises(ValueError, match="multiple of the group of 4; got 6"):
        minibatch_stddev(x[:6], 4)


def test_classes_reach_both_networks():
    config = NetworkConfig(
        resolution=16, num_classes=3, z_dim=8, w_dim=12, mapping_layers=2, channel_base=128, channel_max=16
    )
    G, D = Generator(config), Discriminator(config)
    z, c = torch.randn(4, 8), torch.eye(3)
    first, second = (G(z, c[[k] * 4], noise_mode="const") for k in (0, 1))
    assert not torch.allclose(first, second)
    assert not torch.allclose(D(first, c[[0] * 4]), D(first, c[[1] * 4]))


def test_network_config_refuses_what_cannot_be():
    for values, message in [
        ({"resolution": 48}, "`resolution` must be a power of two from 8 to 1024; got 48"),
        ({"resolution": 2048}, "got 2048"),
        ({"resolution": 32, "z_dim": 0}, "`z_dim` must be at least 1; got 0"),
        ({"resolution": 64, "base": (9, 4)}, "`shape` must be 2 to 8 times one power of two .* got 144x64"),
        ({"resolution": 64, "base": (8, 8)}, r"`base` must be \(4, 4\); got \(8, 8\)"),
        ({"resolution": 64, "image_channels": 2}, r"`channels` must be 1 \(grey\), 3 \(RGB\) or 4 \(RGBA\); got 2"),
        ({"resolution": 512, "channel_base": 256}, "`channel_base` must be at least the resolution 512"),
    ]:
        with pytest.raises(RequestError, match=message):
            NetworkConfig(**values)
