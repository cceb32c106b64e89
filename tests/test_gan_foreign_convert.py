"""Networks of other implementations: files built here in their layouts, without their code, give the same images."""

import os
import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import run_salon
from test_gan_networks_clamp import LIMIT, paper_image, paper_logits

from gan import snapshot
from gan.config import NetworkConfig, TrainingConfig
from gan.foreign import convert
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.training import start

GOLDEN = Path(os.environ.get("SALON_TEST_DATA", "absent")) / "interop" / "nv_ada_pytorch_tiny32_golden.npz"
TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
SOURCE = "open('canary', 'w')"  # the code that lies beside the state; nobody may run it


class Persistent:
    """A module as stylegan2-ada-pytorch pickles it: its source code, its class's name and its state."""

    def __init__(self, class_name, **state):
        self.class_name, self.state = class_name, state

    def __reduce__(self):
        function = sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.class_name, "state": self.state}
        return function, (meta,), None


@pytest.fixture
def peers(monkeypatch):
    """The names of the peers' classes, for as long as a test pickles; imports do not need them."""

    def reconstruct(meta):
        raise AssertionError("the reconstruction must never be called")

    reconstruct.__module__, reconstruct.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"
    modules = {"torch_utils.persistence": {"_reconstruct_persistent_obj": reconstruct}}
    for module, name, base in (("dnnlib.tflib.network", "Network", object), ("dnnlib.util", "EasyDict", dict)):
        modules[module] = {name: type(name, (base,), {"__module__": module})}
    for module in modules:
        for parent in (module.split(".")[0], module.rpartition(".")[0], module):
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    for module, members in modules.items():
        vars(sys.modules[module]).update(members)
    return monkeypatch


@pytest.fixture(scope="module")
def networks():
    return make(NetworkConfig(resolution=16, z_dim=8, w_dim=12, mapping_layers=2, channel_base=128, channel_max=12))


def make(config):
    """Networks in which every weight counts."""
    torch.manual_seed(0)
    G, D = Generator(config).eval(), Discriminator(config).eval()
    for tensor in [*G.state_dict().values(), *D.state_dict().values()]:
        tensor.add_(torch.randn_like(tensor) * 0.3)
    return G, D


def numpy_state(network):
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def modules_of(class_name, state, facts, prefix=""):
    """The tree of modules that has the weights of a state dict. `facts` adds attributes to modules by their names."""
    names = [name.removeprefix(prefix) for name in state if name.startswith(prefix)]
    parts = {name.split(".")[0] for name in names if "." in name}
    own = {name: torch.tensor(state[prefix + name]) for name in names if "." not in name}
    buffers = {name: tensor for name, tensor in own.items() if name in ("w_avg", "noise_const")}
    if parts:
        buffers["resample_filter"] = torch.from_numpy(TAPS.astype(np.float32))
    parameters = {name: torch.nn.Parameter(own[name]) for name in own if name not in buffers}
    part_modules = {part: modules_of("Part", state, facts, f"{prefix}{part}.") for part in sorted(parts)}
    if prefix == "b4.":
        group = {"group_size": 4, "num_channels": 1} | facts.get("b4.mbstd", {})
        part_modules["mbstd"] = Persistent("MinibatchStdLayer", **group)
    return Persistent(
        class_name,
        training=False,
        _parameters={**parameters, "nothing": None},
        _buffers=buffers,
        _non_persistent_buffers_set=set(),
        _modules=part_modules,
        weight_gain=np.float64(0.5),
        **facts.get(prefix.removesuffix("."), {}),
    )


def write_ada(path, G, D, facts=None, **other):
    content = {
        "training_set_kwargs": {"path": "paintings.zip", "max_size": None},
        "G": modules_of("Generator", {name: array * 2 for name, array in G.items()}, facts or {}),
        "D": None if D is None else modules_of("Discriminator", D, facts or {}),
        "G_ema": modules_of("Generator", G, facts or {}),
        "augment_pipe": None,
        **other,
    }
    path.write_bytes(pickle.dumps(content))


TF_NAMES = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB"}


def tf_weight(name, array):
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)  # -> [kh, kw, I, O]
        return array[::-1, ::-1] if name.endswith("Conv0_up/weight") else array
    return array.T if array.ndim == 2 else array


def tf_variables_of_generator(G):
    """-> (variables of the mapping, of the synthesis, w_avg) in TensorFlow's names and layout."""
    mapping, synthesis = {}, {"lod": np.float32(0)}
    for name, array in G.items():
        parts = name.split(".")
        if parts[0] == "mapping" and parts[1] != "w_avg":
            target = "LabelEmbed" if parts[1] == "embed" else f"Dense{parts[1][2:]}"
            mapping[f"{target}/{parts[2]}"] = array.T
        elif parts[-1] == "const":
            synthesis["4x4/Const/const"] = array[None]
        elif parts[-1] == "noise_const":
            side = len(array)
            index = 0 if side == 4 else 2 * int(np.log2(side)) - (5 if parts[2] == "conv0" else 4)
            synthesis[f"noise{index}"] = array[None, None]
        elif parts[0] == "synthesis":
            side = parts[1][1:]
            layer = "Conv" if (side, parts[2]) == ("4", "conv1") else TF_NAMES[parts[2]]
            target = f"{side}x{side}/{layer}/" + ("mod_" if parts[3] == "affine" else "") + parts[-1]
            synthesis[target] = array - 1 if target.endswith("mod_bias") else tf_weight(target, array)
    return mapping, synthesis, G["mapping.w_avg"]


def tf_variables_of_discriminator(D):
    layers = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
    layers |= {"conv": "Conv", "fc": "Dense0", "out": "Output"}
    variables = {}
    for name, array in D.items():
        block, layer, kind = name.split(".")
        if block == "mapping":
            target = f"LabelEmbed/{kind}" if layer == "embed" else f"Mapping{layer[2:]}/{kind}"
        else:
            target = f"{block[1:]}x{block[1:]}/{layers[layer]}/{kind}" if layer != "out" else f"Output/{kind}"
        variables[target] = tf_weight(target, array)
    return variables


def write_tf(path, G, D, G_options=None, D_options=None):
    Network, EasyDict = sys.modules["dnnlib.tflib.network"].Network, sys.modules["dnnlib.util"].EasyDict

    def network(variables, components=(), **options):
        made = Network()
        vars(made).update(
            {"version": 4, "name": "N", "static_kwargs": EasyDict(options), "components": EasyDict(components)},
            build_module_src=SOURCE,
            build_func_name="main",
            variables=list(variables.items()),
        )
        return made

    def generator(state):
        mapping, synthesis, w_avg = tf_variables_of_generator(state)
        parts = {"mapping": network(mapping), "synthesis": network(synthesis)}
        return network({"lod": np.float32(0), "dlatent_avg": w_avg}, parts, **(G_options or {}))

    doubled = {name: array * 2 for name, array in G.items()}
    discriminator = network(tf_variables_of_discriminator(D), **(D_options or {}))
    path.write_bytes(pickle.dumps((generator(doubled), discriminator, generator(G)), protocol=4))


def tf_generate(G, z):
    """The image of TensorFlow's variables, computed from its definitions: weights [kh, kw, I, O], w alike in layers."""
    mapping, synthesis, _ = tf_variables_of_generator(G)
    v = {name: torch.tensor(np.array(array)) for name, array in {**mapping, **synthesis}.items()}

    def dense(x, name, multiplier):
        x = x @ (v[f"{name}/weight"] * multiplier / len(v[f"{name}/weight"]) ** 0.5) + v[f"{name}/bias"] * multiplier
        return F.leaky_relu(x, 0.2) * 2**0.5

    def blur(x, gain):
        kernel = torch.tensor(TAPS, dtype=torch.float32)[None, None] * gain
        return F.conv2d(x.flatten(0, 1)[:, None], kernel).unflatten(0, x.shape[:2])[:, :, 0]

    def modulated(x, name, demodulate=True, up=False):
        weight = v[f"{name}/weight"]
        style = w @ (v[f"{name}/mod_weight"] / len(w[0]) ** 0.5) + v[f"{name}/mod_bias"] + 1  # [N, I]
        images = []
        for image, scale in zip(x, style, strict=True):
            own = weight / (weight[..., 0].numel() ** 0.5) * scale[:, None]
            if demodulate:
                own = own / (own.square().sum(dim=(0, 1, 2)) + 1e-8).sqrt()
            if up:
                own = own.flip(0, 1).permute(2, 3, 0, 1)  # the gradient of a correlation, with the kernel flipped
                images.append(blur(F.pad(F.conv_transpose2d(image[None], own, stride=2), [1, 1, 1, 1]), 4))
            else:
                images.append(F.conv2d(image[None], own.permute(3, 2, 0, 1), padding=weight.shape[0] // 2))
        return torch.cat(images)

    def layer(x, name, noise, up=False):
        x = modulated(x, name, up=up) + v[f"noise{noise}"] * v[f"{name}/noise_strength"]
        return F.leaky_relu(x + v[f"{name}/bias"][:, None, None], 0.2) * 2**0.5

    def torgb(x, name):
        return modulated(x, name, demodulate=False) + v[f"{name}/bias"][:, None, None]

    w = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for index in range(len(mapping) // 2):
        w = dense(w, f"Dense{index}", 0.01)
    x = layer(v["4x4/Const/const"].expand(len(z), -1, -1, -1), "4x4/Conv", 0)
    img = torgb(x, "4x4/ToRGB")
    for step, side in enumerate((8, 16)):
        x = layer(x, f"{side}x{side}/Conv0_up", 2 * step + 1, up=True)
        x = layer(x, f"{side}x{side}/Conv1", 2 * step + 2)
        zeros = torch.zeros(*img.shape[:2], side, side)
        zeros[:, :, ::2, ::2] = img
        img = blur(F.pad(zeros, [2, 1, 2, 1]), 4) + torgb(x, f"{side}x{side}/ToRGB")
    return img


def write_rosinality(path, G, D, **other):
    """A checkpoint in rosinality's names and layout. Its layers stand in one row; G may be of 16x16 alone."""
    g_ema, d = {}, {}
    layers = ["synthesis.b8.conv0", "synthesis.b8.conv1", "synthesis.b16.conv0", "synthesis.b16.conv1"]
    heads = {name: f"convs.{index}" for index, name in enumerate(layers)}
    heads |= {"synthesis.b4.conv1": "conv1", "synthesis.b4.torgb": "to_rgb1"}
    heads |= {"synthesis.b8.torgb": "to_rgbs.0", "synthesis.b16.torgb": "to_rgbs.1"}
    for name, array in G.items():
        head, _, last = name.rpartition(".")
        if name == "mapping.w_avg":
            continue
        if name.startswith("mapping.fc"):
            g_ema[f"style.{int(head[-1]) + 1}.{last}"] = array
        elif last == "const":
            g_ema["input.input"] = array[None]
        elif last == "noise_const":
            g_ema[f"noises.noise_{['synthesis.b4.conv1', *layers].index(head)}"] = array[None, None]
        elif head.endswith("affine"):
            g_ema[f"{heads[head.removesuffix('.affine')]}.conv.modulation.{last}"] = array
        elif last == "weight":
            g_ema[f"{heads[head]}.conv.weight"] = array[None]
        elif last == "noise_strength":
            g_ema[f"{heads[head]}.noise.weight"] = array.reshape(1)
        else:
            rgb = "torgb" in head
            g_ema[f"{heads[head]}.{'bias' if rgb else 'activate.bias'}"] = array.reshape(1, 3, 1, 1) if rgb else array
    for side, index in ((8, 0), (16, 2)):
        g_ema[f"convs.{index}.conv.blur.kernel"] = g_ema[f"to_rgbs.{side // 16}.upsample.kernel"] = TAPS * 4
    places = {"b16.fromrgb": ("convs.0.0", "convs.0.1"), "b4.conv": ("final_conv.0", "final_conv.1")}
    places |= {"b4.fc": ("final_linear.0",) * 2, "b4.out": ("final_linear.1",) * 2}
    for block, index in (("b16", 1), ("b8", 2)):
        places[f"{block}.conv0"] = (f"convs.{index}.conv1.0", f"convs.{index}.conv1.1")
        places[f"{block}.conv1"] = (f"convs.{index}.conv2.1", f"convs.{index}.conv2.2")
        places[f"{block}.skip"] = (f"convs.{index}.skip.1", "")
    for name, array in D.items():
        head, _, last = name.rpartition(".")
        d[f"{places[head][last == 'bias']}.{last}"] = array
    d["convs.1.skip.0.kernel"] = TAPS
    content = {"g": {}, "g_ema": g_ema, "d": d, **other}
    as_tensors = {
        key: {name: torch.tensor(array) for name, array in value.items()} if isinstance(value, dict) else value
        for key, value in content.items()
    }
    torch.save(as_tensors, path)


def imported(path, tmp_path, *options):
    outcome = run_salon("import", path, "--out", tmp_path / "out.safetensors", "--json", *options)
    assert outcome.code == 0, outcome.err
    return snapshot.load(tmp_path / "out.safetensors"), outcome


def refusal(path, tmp_path):
    outcome = run_salon("import", path, "--out", tmp_path / "out.safetensors")
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and not (tmp_path / "out.safetensors").exists()
    return outcome.err


def assert_same(found, networks, *, rtol=1e-6):
    for loaded, network in zip((found.G_ema, found.D), networks, strict=False):
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=rtol, atol=rtol, msg=name)


@pytest.mark.skipif(not GOLDEN.exists(), reason="SALON_TEST_DATA does not hold the golden tensors")
def test_ada_gives_the_images_of_the_reference_implementation(tmp_path, peers):
    tensors = np.load(GOLDEN, allow_pickle=False)
    names = [name for name in tensors.files if name.startswith("sd_") and not name.endswith("resample_filter")]
    G, D = ({n[5:]: tensors[n] for n in names if n.startswith(prefix)} for prefix in ("sd_G.", "sd_D."))
    write_ada(tmp_path / "network-snapshot-000123.pkl", G, D)
    peers.undo()
    found, outcome = imported(tmp_path / "network-snapshot-000123.pkl", tmp_path)
    with torch.no_grad():
        img = found.G_ema(torch.from_numpy(tensors["z"]), truncation_psi=0.7, noise_mode="const").numpy()
        logits = found.D(torch.from_numpy(tensors["img_psi07_const"])).numpy()
    for actual, name in ((img, "img_psi07_const"), (logits, "d_of_img")):
        assert np.abs(actual - tensors[name]).max() <= 1e-4 * np.abs(tensors[name]).max()
    assert found.cur_nimg == outcome.json["cur_nimg"] == 123_000


def test_ada(tmp_path, peers, networks):
    write_ada(tmp_path / "ada.pkl", *map(numpy_state, networks))
    peers.undo()
    peers.chdir(tmp_path)
    found, outcome = imported("ada.pkl", tmp_path)
    assert_same(found, networks)
    assert found.config.network == networks[0].config and found.config.preset == "auto"
    assert found.config.resume_from == outcome.json["sha256"] and found.cur_nimg == 0
    assert outcome.json["conv_clamp"] is None and outcome.json["discriminator"] is True
    assert not (tmp_path / "canary").exists()


def test_ada_with_classes_and_another_depth_of_the_discriminators_mapping(tmp_path, peers):
    config = NetworkConfig(
        **{"resolution": 8, "num_classes": 3, "z_dim": 8, "w_dim": 12, "mapping_layers": 2},
        **{"D_mapping_layers": 5, "channel_base": 96, "channel_max": 12},
    )
    networks = make(config)
    write_ada(tmp_path / "ada.pkl", *map(numpy_state, networks))
    found, _ = imported(tmp_path / "ada.pkl", tmp_path)
    assert found.config.network == config
    assert_same(found, networks)


def test_ada_scales_another_learning_rate_multiplier(tmp_path, peers, networks):
    G, D = map(numpy_state, networks)
    for name in ("mapping.fc1.weight", "mapping.fc1.bias"):
        G[name] = G[name] / 10
    write_ada(tmp_path / "ada.pkl", G, D, {"mapping.fc1": {"bias_gain": 0.1}})
    assert_same(imported(tmp_path / "ada.pkl", tmp_path)[0], networks)


LAYERS = [f"b{side}.{layer}" for side in (8, 16) for layer in ("conv0", "conv1")]  # of G and of D
CLAMPED = ["b16.fromrgb", "b4.conv", *LAYERS]
CLAMPED += [f"synthesis.{layer}" for layer in ("b4.conv1", "b4.torgb", "b8.torgb", "b16.torgb", *LAYERS)]


@pytest.mark.parametrize("kind", ["ada", "tf"])
def test_networks_that_limit_their_activations_compute_the_same(tmp_path, peers, networks, kind):
    G, D = map(numpy_state, networks)
    if kind == "ada":
        write_ada(tmp_path / "file.pkl", G, D, {name: {"conv_clamp": LIMIT} for name in CLAMPED})
    else:
        write_tf(tmp_path / "file.pkl", G, D, {"conv_clamp": LIMIT}, {"conv_clamp": LIMIT})
    found, outcome = imported(tmp_path / "file.pkl", tmp_path)
    assert outcome.json["conv_clamp"] == outcome.json["network"]["conv_clamp"] == LIMIT
    z, seen = torch.randn(4, 8), []
    with torch.no_grad():
        ws = found.G_ema.mapping(z)
        img = found.G_ema.synthesis(ws, "const")
        expected = paper_image(networks[0], ws, LIMIT, seen)
        torch.testing.assert_close(img, expected, rtol=1e-4, atol=1e-4)
        logits = found.D(expected)
        torch.testing.assert_close(logits, paper_logits(networks[1], expected, LIMIT, seen), rtol=1e-4, atol=1e-4)
    assert min(seen) > 0.01


@pytest.mark.parametrize(
    ("clamps", "reason"),
    [
        ({name: 256 for name in CLAMPED if name != "b16.fromrgb"}, " and None in b16.fromrgb"),
        ({name: 256 if name.startswith("synthesis") else 64 for name in CLAMPED}, "64.0, and the generator 256.0"),
        ({"b8.skip": 256}, "limits the activations of b8.skip."),
    ],
)
def test_a_discriminator_with_other_limits_is_left_out(tmp_path, peers, networks, clamps, reason):
    facts = {name: {"conv_clamp": clamp} for name, clamp in clamps.items()}
    write_ada(tmp_path / "ada.pkl", *map(numpy_state, networks), facts)
    found, outcome = imported(tmp_path / "ada.pkl", tmp_path)
    assert found.D is None and reason in outcome.json["discriminator_left_out"]
    assert found.config.network.conv_clamp == clamps.get("synthesis.b4.conv1")


@pytest.mark.parametrize(("clamp", "shown"), [("256", "256"), (-1, "-1")])
def test_limits_that_are_none_are_refused(tmp_path, peers, networks, clamp, shown):
    write_ada(tmp_path / "ada.pkl", *map(numpy_state, networks), {name: {"conv_clamp": clamp} for name in CLAMPED})
    assert f"has conv_clamp {shown}; it must be above 0 and finite" in refusal(tmp_path / "ada.pkl", tmp_path)


def test_without_a_discriminator_it_generates_but_does_not_train_on(tmp_path, peers, networks, tiny_dataset):
    write_ada(tmp_path / "ada.pkl", numpy_state(networks[0]), None)
    found, outcome = imported(tmp_path / "ada.pkl", tmp_path)
    assert found.D is None and outcome.json["discriminator"] is False
    out = tmp_path / "out.safetensors"
    assert run_salon("generate", out, "--seeds", "0", "--out", tmp_path / "images").code == 0
    refused = run_salon("train", "--data", tiny_dataset, "--out", tmp_path, "--resume", out)
    assert refused.code == 2 and "must hold a discriminator" in refused.err and "--transfer starts" in refused.err


def test_tensorflow(tmp_path, peers, networks):
    G, D = map(numpy_state, networks)
    write_tf(tmp_path / "tf.pkl", G, D, {"resample_kernel": [1, 3, 3, 1], "num_channels": 3})
    peers.undo()
    peers.chdir(tmp_path)
    found, _ = imported("tf.pkl", tmp_path)
    assert_same(found, networks)
    assert found.config.network == networks[0].config and not (tmp_path / "canary").exists()
    z = torch.randn(3, 8)
    with torch.no_grad():
        expected, img = tf_generate(G, z), found.G_ema(z, noise_mode="const")
    assert (img - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_tensorflow_with_classes(tmp_path, peers):
    # Its discriminator's mapping has a learning rate multiplier of 0.1.
    networks = make(
        NetworkConfig(
            **{"resolution": 8, "num_classes": 3, "z_dim": 8, "w_dim": 12, "mapping_layers": 2},
            **{"D_mapping_layers": 1, "channel_base": 96, "channel_max": 12, "mbstd_group_size": 8},
        )
    )
    G, D = map(numpy_state, networks)
    for name in ("mapping.fc0.weight", "mapping.fc0.bias"):
        D[name] = D[name] / 10
    write_tf(tmp_path / "tf.pkl", G, D, D_options={"mbstd_group_size": 8})
    found, _ = imported(tmp_path / "tf.pkl", tmp_path)
    assert found.config.network == networks[0].config
    assert_same(found, networks)


def test_rosinality(tmp_path, networks):
    G, D = map(numpy_state, networks)
    write_rosinality(tmp_path / "000123.pt", G, D, latent_avg=torch.from_numpy(G["mapping.w_avg"]))
    found, _ = imported(tmp_path / "000123.pt", tmp_path)
    assert_same(found, networks)
    assert found.config.network == networks[0].config


def test_rosinality_without_the_average_w_samples_it(tmp_path, networks):
    write_rosinality(tmp_path / "a.pt", *map(numpy_state, networks))
    found, _ = imported(tmp_path / "a.pt", tmp_path)
    z = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        ws = networks[0].mapping(z)[:, 0]
    assert (found.G_ema.mapping.w_avg - ws.mean(dim=0)).abs().max() < 0.05 * ws.std()


def test_other_architectures_are_refused_by_what_differs(tmp_path, peers, networks):
    G, D = map(numpy_state, networks)
    thin = {name: array[:5] if name.startswith("synthesis.b8.conv1.weight") else array for name, array in G.items()}
    two = {name: array[:2] if name.endswith("torgb.weight") else array for name, array in G.items()}
    torgbs = ("synthesis.b4.torgb", "synthesis.b8.torgb")
    orig = {name: array for name, array in G.items() if not name.startswith(torgbs)}
    skip = {"synthesis.b8.skip.weight": G["mapping.w_avg"]}
    version_3 = {name: array for name, array in G.items() if name.startswith("mapping.")}
    cases = {
        "it has 12 at 4, 5 at 8": (thin, {}),
        "must generate images of 1 (grey), 3 (RGB) or 4 (RGBA) channels; got 2": (two, {}),
        "generator lacks synthesis.b8.torgb": ({n: G[n] for n in G if not n.startswith(torgbs[1])}, {}),
        "a generator of the architecture orig; only skip is known": (orig, {}),
        "a generator of the architecture resnet; only skip is known": (orig | skip, {}),
        "has synthesis.b8.skip.weight, which is none": (G | skip, {}),
        "config E or F); it has nothing instead": ({}, {}),
        "StyleGAN3 generator (stylegan3-t or": (version_3 | {"synthesis.L0_36_512.bias": G["mapping.w_avg"]}, {}),
        "or stylegan3-r); only StyleGAN2": (version_3 | {"synthesis.input.freqs": G["mapping.w_avg"]}, {}),
        "generates images that are not square; only": (G | {"synthesis.b4.const": np.ones([12, 4, 6], np.float32)}, {}),
        "activation relu": (G, {"synthesis.b8.conv0": {"activation": "relu"}}),
        "numbers in mapping.w_avg that are not finite": (G | {"mapping.w_avg": np.full(12, np.nan, np.float32)}, {}),
    }
    for fragment, (weights, facts) in cases.items():
        write_ada(tmp_path / "other.pkl", weights, D, facts)
        assert fragment in refusal(tmp_path / "other.pkl", tmp_path), fragment
    write_tf(tmp_path / "other.pkl", G, D, {"nonlinearity": "relu"})
    assert "has nonlinearity relu; only lrelu is known" in refusal(tmp_path / "other.pkl", tmp_path)
    write_tf(tmp_path / "other.pkl", G, D, {"resample_kernel": [1, 2, 1]})
    assert "has resample_kernel a list; only [1, 3, 3, 1] is known" in refusal(tmp_path / "other.pkl", tmp_path)


def test_a_discriminator_of_another_architecture_is_left_out(tmp_path, peers, networks, tiny_dataset):
    G, D = map(numpy_state, networks)
    orig = {name: array for name, array in D.items() if ".skip." not in name}
    cases = {
        "it is of the architecture orig, as that of the reference's config cifar": (orig, {}),
        "the architecture skip; only resnet is known": (orig | {"b8.fromrgb.weight": D["b16.fromrgb.weight"]}, {}),
        "its discriminator lacks b16.conv0.bias": ({n: D[n] for n in D if n != "b16.conv0.bias"}, {}),
        "numbers in b4.fc.bias that are not finite": (D | {"b4.fc.bias": np.full(12, np.inf, np.float32)}, {}),
        "activation relu in b8.conv0": (D, {"b8.conv0": {"activation": "relu"}}),
        "a minibatch standard deviation of another form": (D, {"b4.mbstd": {"group_size": "4"}}),
    }
    for reason, (weights, facts) in cases.items():
        write_ada(tmp_path / "other.pkl", G, weights, facts)
        found, outcome = imported(tmp_path / "other.pkl", tmp_path, "--overwrite")
        assert found.D is None and reason in outcome.json["discriminator_left_out"], reason
        assert f"The discriminator is left out: {outcome.json['discriminator_left_out']}" in outcome.err
        assert_same(found, networks[:1])
    # It trains on from the generator alone, with a discriminator that is new.
    train = [
        "train",
        "--data",
        tiny_dataset,
        "--out",
        tmp_path / "runs",
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--workers",
        "0",
        "--total-kimg",
        "0.016",
        "--json",
    ]
    train += ["--transfer", tmp_path / "out.safetensors", "--set", "learning_rate=0", "--set", "batch_size=8"]
    outcome = run_salon(*train)
    assert outcome.code == 0 and "The discriminator is new" in outcome.err, outcome.err
    weights = dict(snapshot.load(Path(outcome.json["snapshot"])).G_ema.named_parameters())
    for name, value in networks[0].named_parameters():  # averaged for 16 images with G, which is twice as large
        torch.testing.assert_close(weights[name], value, rtol=0.01, atol=1e-6, msg=name)
    frozen = run_salon(*train, "--freeze-d", "1")
    assert frozen.code == 2 and "--freeze-d needs a discriminator in --transfer" in frozen.err


def test_the_group_of_the_minibatch_standard_deviation_may_be_the_whole_batch(tmp_path, peers, networks):
    write_ada(tmp_path / "ada.pkl", *map(numpy_state, networks), {"b4.mbstd": {"group_size": None}})
    found, _ = imported(tmp_path / "ada.pkl", tmp_path)
    assert found.config.network.mbstd_group_size is None
    img = torch.randn(6, 3, 16, 16)
    whole = Discriminator(replace(networks[1].config, mbstd_group_size=6))
    whole.load_state_dict(networks[1].state_dict())
    with torch.no_grad():
        torch.testing.assert_close(found.D(img), whole(img))
        # Scores come from groups of 4, whatever the batch.
        torch.testing.assert_close(
            found.D.logits(found.D.features(img[:4]), group_size=found.D.scoring_group_size), networks[1](img[:4])
        )


def test_networks_of_grey_images_stay_grey(tmp_path, peers):
    config = NetworkConfig(resolution=16, z_dim=8, w_dim=12, channel_base=128, channel_max=12, image_channels=1)
    networks = make(config)
    write_ada(tmp_path / "grey.pkl", *map(numpy_state, networks))
    found, _ = imported(tmp_path / "grey.pkl", tmp_path)
    assert found.config.network == config
    assert_same(found, networks)


def test_the_generator_that_is_averaged_comes_too_and_trains_on(tmp_path, peers, networks, tiny_dataset):
    write_ada(tmp_path / "ada.pkl", *map(numpy_state, networks))  # its G is twice G_ema
    found, _ = imported(tmp_path / "ada.pkl", tmp_path)
    out = tmp_path / "out.safetensors"
    for name, tensor in networks[0].state_dict().items():
        torch.testing.assert_close(found.G.state_dict()[name], tensor * 2, rtol=1e-5, atol=1e-5)
    config = TrainingConfig(network=found.config.network, dataset="d", batch_size=8)
    source = start.load_source(out, config)
    assert all(torch.equal(source["G"][name], tensor) for name, tensor in found.G.state_dict().items())
    assert all(torch.equal(source["G_ema"][name], tensor) for name, tensor in found.G_ema.state_dict().items())


@pytest.mark.parametrize("form", ["ada", "prefixed", "in a dict", "rosinality", "module", "G alone"])
def test_bare_state_dicts_and_generators_alone_are_read(tmp_path, peers, networks, form):
    path, (G, D) = tmp_path / "bare.pt", map(numpy_state, networks)
    tensors = {name: torch.from_numpy(array) for name, array in G.items()}
    tensors["synthesis.b8.conv0.resample_filter"] = torch.from_numpy(TAPS)
    D_tensors = {name: torch.from_numpy(array) for name, array in D.items()}
    if form == "ada":
        torch.save(tensors, path)
    elif form == "prefixed":
        both = {"G_ema": tensors, "D": D_tensors}
        torch.save({f"{part}.{name}": value for part, state in both.items() for name, value in state.items()}, path)
    elif form == "in a dict":
        torch.save({"G_ema": tensors, "D": D_tensors, "step": 3}, path)
    elif form == "rosinality":
        write_rosinality(tmp_path / "whole.pt", G, D)
        torch.save(torch.load(tmp_path / "whole.pt")["g_ema"], path)
    elif form == "module":
        path.write_bytes(pickle.dumps(modules_of("Generator", G, {})))
    else:
        path.write_bytes(pickle.dumps({"G": modules_of("Generator", G, {})}))
    peers.undo()
    found, outcome = imported(path, tmp_path)
    both = form in ("prefixed", "in a dict")
    assert outcome.json["discriminator"] is both and found.G is None
    for name, tensor in networks[0].state_dict().items():
        if name != "mapping.w_avg" or form != "rosinality":
            torch.testing.assert_close(found.G_ema.state_dict()[name], tensor, rtol=1e-6, atol=1e-6)
    if both:
        assert_same(found, networks)


def test_a_discriminator_alone_is_refused(tmp_path, networks):
    torch.save({f"D.{name}": tensor for name, tensor in networks[1].state_dict().items()}, tmp_path / "D.pt")
    assert "must hold a generator; it holds none" in refusal(tmp_path / "D.pt", tmp_path)


def test_the_printed_commands_work(tmp_path, peers, tiny_dataset):
    networks = make(
        NetworkConfig(resolution=16, num_classes=2, z_dim=8, w_dim=8, mapping_layers=1, channel_base=64, channel_max=8)
    )
    write_ada(tmp_path / "ada.pkl", *map(numpy_state, networks))
    outcome = run_salon("import", tmp_path / "ada.pkl", "--out", tmp_path / "out.safetensors")
    lines = {line.partition(": salon ")[0]: line.partition(": salon ")[2].split() for line in outcome.out.splitlines()}
    peers.chdir(tmp_path)
    assert run_salon(*lines["To generate"]).code == 0
    command = [{"DATASET": tiny_dataset, "RUNS": tmp_path / "runs"}.get(part, part) for part in lines["To train on"]]
    trained = run_salon(*command, "--total-kimg", "0.032", "--device", "cpu", "--workers", "0", "--json")
    assert trained.code == 0, trained.err
    assert snapshot.load(Path(trained.json["snapshot"])).config.network == networks[0].config


def test_another_filter_is_refused(tmp_path, peers, networks, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "TAPS", np.outer([1, 2, 2, 1], [1, 2, 2, 1]) / 36)
    write_ada(tmp_path / "ada.pkl", *map(numpy_state, networks))
    assert "must use the resampling filter [1, 3, 3, 1]" in refusal(tmp_path / "ada.pkl", tmp_path)


def test_strange_trees_of_modules_are_refused(tmp_path, peers, networks):
    circle = Persistent("Generator", _modules={})
    circle.state["_modules"]["a"] = Persistent("Part", _modules={"b": "text"})
    twice = Persistent("Part", _parameters={})
    cases = {
        "whose part a.b. is no module": circle,
        "used twice": Persistent("Generator", _modules={"a": twice, "b": twice}),
        "a str where weights belong": Persistent("Generator", _parameters={"weight": "text"}),
        "without _modules": Persistent("Generator", _modules=[1]),
        "it has nothing instead": Persistent("Generator"),
    }
    for fragment, G in cases.items():
        write_ada(tmp_path / "strange.pkl", *map(numpy_state, networks), G_ema=G)
        assert fragment in refusal(tmp_path / "strange.pkl", tmp_path), fragment


def test_the_same_bytes_under_many_names_are_refused(tmp_path, networks):
    G, D = map(numpy_state, networks)
    big = torch.zeros(2**19)
    found = {"g_ema": {**G, **{f"more{n}": big for n in range(9)}}, "d": D}
    content = {k: {n: torch.as_tensor(a) for n, a in weights.items()} for k, weights in found.items()}
    torch.save(content, tmp_path / "a.pt")
    assert "names the same bytes many times" in refusal(tmp_path / "a.pt", tmp_path)


def test_out_is_checked_first(tmp_path, tiny_run):
    taken = tmp_path / "taken.safetensors"
    taken.write_bytes(b"mine")
    for out, fragment in ((taken, "would replace"), (tmp_path / "out.pkl", "must end in .safetensors")):
        outcome = run_salon("import", tmp_path / "absent.pkl", "--out", out)
        assert outcome.code == 2 and fragment in outcome.err
    assert taken.read_bytes() == b"mine"
    outcome = run_salon("import", tmp_path / "absent.pkl", "--out", tmp_path / "a.safetensors")
    assert outcome.code == 2 and "must be a readable file; got No such file" in outcome.err
    outcome = run_salon("import", taken, "--out", tmp_path / "a.safetensors")
    assert outcome.code == 2 and "is named as a snapshot, which needs no import" in outcome.err


def test_the_files_name_tells_the_images():
    told = {
        "network-snapshot-025000.pkl": 25_000_000,
        "network-final.pkl": 0,
        "000123.pt": 0,
        "network-snapshot-.pkl": 0,
    }
    assert {name: convert.cur_nimg(Path(name)) for name in told} == told
