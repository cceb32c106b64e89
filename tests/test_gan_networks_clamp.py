"""Activations that conv_clamp limits: G and D against their definition, step by step."""

import pytest
import torch
import torch.nn.functional as F

from gan.config import NetworkConfig, TrainingConfig
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator, minibatch_stddev
from gan.networks.generator import Generator
from gan.ops.modulated_conv2d import modulated_conv2d_reference
from gan.ops.upfirdn2d import setup_filter, upfirdn2d_reference

LIMIT = 0.4
SIZES = {"resolution": 16, "z_dim": 8, "w_dim": 12, "mapping_layers": 2, "channel_base": 128, "channel_max": 12}
CONFIG = NetworkConfig(**SIZES, conv_clamp=LIMIT)
ROOT = 2**0.5


def networks(config=CONFIG):
    """Networks in which every weight counts, and most activations exceed the limit somewhere."""
    torch.manual_seed(0)
    G, D = Generator(config), Discriminator(config)
    with torch.no_grad():
        for tensor in [*G.state_dict().values(), *D.state_dict().values()]:
            tensor.add_(torch.randn_like(tensor) * 0.3)
    return G.eval().requires_grad_(False), D.eval().requires_grad_(False)


def limited(x, limit, seen):
    seen.append((x.abs() > limit).double().mean().item())
    return torch.where(x > limit, limit, torch.where(x < -limit, -limit, x))


def paper_image(G, ws, limit, seen):
    """G.synthesis of ws with the constant noise, one kernel an image, each activation limited."""
    f, v = setup_filter().to(ws), G.synthesis.state_dict()
    x, img, index = v["b4.const"].expand(len(ws), -1, -1, -1), None, 0

    def convolved(x, name, *, demodulate, gain=1.0, up=False):
        w = ws[:, index]
        styles = (w @ v[f"{name}.affine.weight"].T / w.shape[1] ** 0.5 + v[f"{name}.affine.bias"]) * gain
        return modulated_conv2d_reference(x, v[f"{name}.weight"], styles, f, demodulate=demodulate, up=up)

    for block in (4, 8, 16):
        for layer in ["conv0", "conv1"] if block > 4 else ["conv1"]:
            name = f"b{block}.{layer}"
            y = convolved(x, name, demodulate=True, up=layer == "conv0")
            y = y + v[f"{name}.noise_const"] * v[f"{name}.noise_strength"] + v[f"{name}.bias"][:, None, None]
            x = limited(F.leaky_relu(y, 0.2) * ROOT, limit, seen)
            index += 1
        name = f"b{block}.torgb"
        y = convolved(x, name, demodulate=False, gain=x.shape[1] ** -0.5) + v[f"{name}.bias"][:, None, None]
        y = limited(y, limit, seen)
        img = y if img is None else upfirdn2d_reference(img, f, up=2, padding=(2, 1), gain=4) + y
    return img


def paper_logits(D, img, limit, seen):
    """D of images: a branch's gain, sqrt(1/2), comes after the limit; skips have none."""
    f, v, x = setup_filter().to(img), D.state_dict(), img

    def act(x, name, gain=1.0):
        return limited(F.leaky_relu(x + v[f"{name}.bias"][:, None, None], 0.2) * ROOT, limit, seen) * gain

    def weight(name):
        return v[f"{name}.weight"] / v[f"{name}.weight"][0].numel() ** 0.5

    for block in ("b16", "b8"):
        if block == "b16":
            x = act(F.conv2d(x, weight("b16.fromrgb")), "b16.fromrgb")
        skip = F.conv2d(upfirdn2d_reference(x, f, down=2, padding=(1, 1)), weight(f"{block}.skip")) / ROOT
        y = act(F.conv2d(x, weight(f"{block}.conv0"), padding=1), f"{block}.conv0")
        y = F.conv2d(upfirdn2d_reference(y, f, padding=(2, 2)), weight(f"{block}.conv1"), stride=2)
        x = act(y, f"{block}.conv1", ROOT / 2) + skip
    x = act(F.conv2d(minibatch_stddev(x, 4), weight("b4.conv"), padding=1), "b4.conv").flatten(1)
    x = F.leaky_relu(x @ weight("b4.fc").T + v["b4.fc.bias"], 0.2) * ROOT
    return x @ weight("b4.out").T + v["b4.out.bias"]


@pytest.mark.parametrize("limit", [LIMIT, 1e6])
def test_g_and_d_limit_the_activations_where_the_published_networks_do(double, limit):
    G, D = networks(NetworkConfig(**SIZES, conv_clamp=limit))
    free = networks(NetworkConfig(**SIZES))
    z, seen_G, seen_D = torch.randn(4, 8), [], []
    ws = G.mapping(z)
    img = G.synthesis(ws, "const")
    torch.testing.assert_close(img, paper_image(G, ws, limit, seen_G))
    torch.testing.assert_close(D(img), paper_logits(D, img, limit, seen_D))
    assert len(seen_G) == 5 + 3 and len(seen_D) == 1 + 2 + 2 + 1
    if limit == LIMIT:
        assert all(share > 0.05 for share in seen_G + seen_D)
        assert not torch.allclose(img, free[0].synthesis(ws, "const")) and not torch.allclose(D(img), free[1](img))
    else:
        assert torch.equal(img, free[0].synthesis(ws, "const")) and torch.equal(D(img), free[1](img))


def test_gradients_are_those_of_the_definition_to_second_order(double):
    G, D = networks()
    ws, img = G.mapping(torch.randn(4, 8)), torch.randn(4, 3, 16, 16)
    found = []
    for synthesis, logits in (
        (lambda ws: G.synthesis(ws, "const"), D),
        (lambda ws: paper_image(G, ws, LIMIT, []), lambda img: paper_logits(D, img, LIMIT, [])),
    ):
        for function, x in ((synthesis, ws), (logits, img)):
            x = x.detach().requires_grad_(True)
            (first,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
            (second,) = torch.autograd.grad(first.square().sum(), x)
            found.append((first, second))
    for actual, expected in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(actual, expected)


def test_configs_before_it_load_and_a_limit_must_be_one():
    values = TrainingConfig(network=NetworkConfig(**SIZES), dataset="d").to_dict()
    digest = TrainingConfig.from_dict(values).digest()
    del values["network"]["conv_clamp"]
    config = TrainingConfig.from_dict(values)
    assert config.network.conv_clamp is None and config.digest() == digest
    for limit in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RequestError, match="`conv_clamp` must be above 0 and finite; got"):
            NetworkConfig(**SIZES, conv_clamp=limit)
