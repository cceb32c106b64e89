"""Networks whose weights cannot be had here: built from state dicts of the published names and shapes."""

import dataclasses
from pathlib import Path

import pytest
import torch

from eval.features import runtimes
from eval.features.dinov2 import PATCH, TRAINED_GRID, Dinov2
from eval.features.extractor import EXTRACTORS
from eval.features.registry import NETWORKS, register
from eval.features.torchvision_compat import torch_fidelity, torchvision
from gan.errors import RequestError

PATH = Path("weights.pth")


def test_networks_are_registered_under_their_names():
    assert all(name == network.name for name, network in NETWORKS.items())
    assert {"inception-v3-compat", "vgg16", "efficientnet-lite0", "clip-vit-b-32", "dinov2-vit-l-14"} <= set(NETWORKS)


def test_known_files_are_torch_fidelitys():
    torch_fidelity()
    from torch_fidelity import feature_extractor_clip, feature_extractor_inceptionv3

    assert NETWORKS["inception-v3-compat"].file.url == feature_extractor_inceptionv3.URL_INCEPTION_V3
    for name, network in NETWORKS.items():
        if name.startswith("clip-"):
            assert network.file.url == feature_extractor_clip.MODEL_URLS[name]
            assert network.file.sha256 == feature_extractor_clip.MODEL_METADATA[name]["hash"]
    assert NETWORKS["vgg16"].file.url == torchvision().models.VGG16_Weights.IMAGENET1K_V1.url


def test_vgg16_ends_behind_the_second_layer():
    network = NETWORKS["vgg16"]
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in torchvision().models.vgg16().state_dict().items()}
    state = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    state["classifier.3.bias"] = torch.linspace(-1, 1, 4096)
    cut = network.build(network, state, PATH)
    assert torch.equal(cut.trunk.eval()(torch.randn(1, 3, 64, 64)), torch.linspace(-1, 1, 4096).relu()[None])
    with pytest.raises(RequestError, match="must hold the weights of vgg16"):
        network.build(network, {"classifier.3.bias": torch.zeros(3)}, PATH)


def test_clip_is_built_from_its_state_dict():
    torch_fidelity()
    from torch_fidelity.feature_extractor_clip import CLIPVisual

    torch.manual_seed(0)
    whole = CLIPVisual(24, 32, 2, 64, 16).eval()
    state = whole.state_dict() | {"text_projection": torch.zeros(5, 24), "logit_scale": torch.zeros([])}
    network = dataclasses.replace(NETWORKS["clip-vit-b-32"], dim=24, size=32)
    trunk = network.build(network, dict(state), PATH).trunk
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(trunk(x), whole.visual(x), atol=1e-2)  # the published weights are of 16 bits
    with pytest.raises(RequestError, match=r"224 pixels, 512 features.*got 32 pixels, 24 features instead"):
        NETWORKS["clip-vit-b-32"].build(NETWORKS["clip-vit-b-32"], dict(state), PATH)
    with pytest.raises(RequestError, match="must hold the weights of clip-vit-b-32"):
        network.build(network, {"conv.weight": torch.zeros(3)}, PATH)


@pytest.fixture(scope="module")
def dinov2():
    torch.manual_seed(0)
    network = Dinov2("s").eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():
        tensor.normal_(std=0.02)
        if name.endswith(("gamma", "norm.weight", "norm1.weight", "norm2.weight")):
            tensor.fill_(1)
        elif name == "norm.bias":
            tensor.fill_(0)
    return network


def test_dinov2_has_the_published_tensors(dinov2):
    shapes = {name: list(tensor.shape) for name, tensor in dinov2.state_dict().items()}
    assert len(shapes) == 7 + 14 * 12 and sum(t.numel() for t in dinov2.parameters()) == 22_056_576
    assert shapes["pos_embed"] == [1, 1370, 384] and shapes["patch_embed.proj.weight"] == [384, 3, 14, 14]
    assert shapes["blocks.11.attn.qkv.weight"] == [1152, 384] and shapes["blocks.0.ls1.gamma"] == [384]
    with torch.device("meta"):
        giant = {name: list(tensor.shape) for name, tensor in Dinov2("g").state_dict().items()}
    assert giant["blocks.39.mlp.w12.weight"] == [8192, 1536] and giant["blocks.0.mlp.w3.weight"] == [1536, 4096]


def test_dinov2_is_built_from_its_state_dict(dinov2):
    network = NETWORKS["dinov2-vit-s-14"]
    trunk = network.build(network, dinov2.state_dict(), PATH).trunk.eval()
    x = torch.randn(2, 3, 4 * PATCH, 5 * PATCH)
    y = trunk(x)
    assert y.shape == (2, 384) and torch.allclose(y, dinov2(x))
    assert torch.allclose(y.mean(1), torch.zeros(2), atol=1e-5)  # a norm ends it


def test_dinov2_can_be_exported(dinov2):
    pytest.importorskip("onnxruntime")
    x = torch.randn(3, 3, 4 * PATCH, 4 * PATCH)
    assert torch.allclose(runtimes.load(dinov2, 4 * PATCH, "onnxruntime")(x), dinov2(x), atol=1e-4)


def test_dinov2_interpolates_its_positions(dinov2):
    assert dinov2.positions(TRAINED_GRID, TRAINED_GRID) is dinov2.pos_embed
    for grid in ((16, 16), (16, 23), (1, 1)):
        assert dinov2.positions(*grid).shape == (1, 1 + grid[0] * grid[1], 384)
    # Tokens that know where they are: a ramp over the columns stays one.
    ramp = Dinov2("s").requires_grad_(False)
    ramp.pos_embed.zero_()
    ramp.pos_embed[0, 1:] = torch.arange(TRAINED_GRID).float().repeat(TRAINED_GRID)[:, None]
    row = ramp.positions(16, 16)[0, 1:17, 0]
    assert (row.diff() > 0).all() and abs(float(row.mean()) - 18) < 0.3
    assert torch.allclose(ramp.positions(16, 16)[0, 1:, 0].reshape(16, 16), row.expand(16, 16), atol=1e-4)


def test_a_network_of_ones_own_is_known_by_its_name():
    own = dataclasses.replace(NETWORKS["vgg16"], name="own")
    register(own)
    try:
        assert EXTRACTORS["own"] is own
        with pytest.raises(ValueError, match="own is registered already"):
            register(own)
    finally:
        del NETWORKS["own"]
