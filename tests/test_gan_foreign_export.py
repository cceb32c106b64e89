"""Networks for other implementations: files of names and arrays, read by their own code where a checkout is named."""

import os
import pickle
import pickletools
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import run_salon
from test_gan_foreign_convert import (
    make,
    numpy_state,
    tf_generate,
    tf_variables_of_discriminator,
    tf_variables_of_generator,
)

from gan import snapshot
from gan.config import NetworkConfig, TrainingConfig
from gan.foreign import convert, pickle_writer, write
from serving.export.request import FILES

SMALL = {"resolution": 16, "z_dim": 8, "w_dim": 12, "mapping_layers": 2, "channel_base": 128, "channel_max": 12}
ROSINALITY = {"resolution": 8, "z_dim": 8, "w_dim": 8, "mapping_layers": 2}  # its channels are 512
CASES = {  # what a pickle of TensorFlow's networks holds beside plain RGB
    "RGB": {},
    "grey, of classes": {
        **{"image_channels": 1, "num_classes": 3, "D_mapping_layers": 1, "mbstd_group_size": None},
        "channel_base": 129,  # odd: the channels of 128
    },
    "RGBA, clamped": {"image_channels": 4, "conv_clamp": 1.0, "mbstd_group_size": 2},
}
PEER = """
import sys, types
import numpy as np, torch
try:
    import pkg_resources  # which newer Pythons lack, and stylegan3 asks for one function
except ImportError:
    from packaging import version
    sys.modules["pkg_resources"] = types.SimpleNamespace(parse_version=version.parse)
sys.path.insert(0, sys.argv[1])
given = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[3]).items()}
"""
NVIDIA = f"""{PEER}
import legacy
with open(sys.argv[2], "rb") as file:
    networks = legacy.load_network_pkl(file)
with torch.no_grad():
    img = networks["G_ema"](given["z"], given["c"], truncation_psi=0.7, noise_mode="const")
    logits = networks["D"](given["img"], given["c"])
np.savez(sys.argv[4], img=img, logits=logits)
"""
OTHER = f"""{PEER}
import torch.utils.cpp_extension
torch.utils.cpp_extension.load = lambda *a, **k: None  # of CUDA kernels, which the CPU does without
import model
loaded = torch.load(sys.argv[2])
size, dim, layers, multiplier = map(int, sys.argv[5:])
G = model.Generator(size, dim, layers, channel_multiplier=multiplier)
D = model.Discriminator(size, channel_multiplier=multiplier)
G.load_state_dict(loaded["g_ema"])
D.load_state_dict(loaded["d"])
with torch.no_grad():
    img, _ = G([given["z"]], truncation=0.7, truncation_latent=loaded["latent_avg"], randomize_noise=False)
    logits = D(given["img"])
np.savez(sys.argv[4], img=img, logits=logits)
"""


class Stub(dict):
    """What the peers' loaders make of a network: a dict with attributes, as their own stand-in is."""


class Loader(pickle.Unpickler):
    """Python's unpickler, for the names that a file of ours may have."""

    def find_class(self, module, name):
        if (module, name) == ("dnnlib.tflib.network", "Network"):
            return Stub
        assert (module, name) in NUMPY
        return super().find_class(module, name)


NUMPY = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}


def saved(folder, config, *, with_D=True, with_G=True):
    """A snapshot file in which G is not G_ema, and its networks."""
    G_ema, D = make(config)
    G = None
    if with_G:
        G, _ = make(config)
        for tensor in G.state_dict().values():
            tensor.mul_(0.5)
    path = folder / "snapshot.safetensors"
    snapshot.save(
        path, G_ema, D if with_D else None, TrainingConfig(network=config, dataset="0", batch_size=8), 5000, None, G
    )
    return path, G_ema, D, G


def exported(source, out, *options):
    form = next(name for name, suffix in FILES.items() if suffix == out.suffix)
    outcome = run_salon("export", "--snapshot", source, "--format", form, "--out", out, "--json", *options)
    assert outcome.code == 0, outcome.err
    return outcome.json


def refusal(source, out, *options):
    outcome = run_salon("export", "--snapshot", source, "--out", out, *options)
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and not out.exists(), outcome.err
    return outcome.err


def assert_equal(found, expected):
    state = expected.state_dict()
    assert found.state_dict().keys() == state.keys()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("case", CASES)
def test_a_pickle_comes_back_with_equal_weights(tmp_path, case):
    config = NetworkConfig(**SMALL | CASES[case])
    source, G_ema, D, G = saved(tmp_path, config)
    figures = exported(source, tmp_path / "network-snapshot-000005.pkl")
    assert figures["difference"] == 0 and figures["discriminator"]
    outcome = run_salon("import", tmp_path / "network-snapshot-000005.pkl", "--out", tmp_path / "back.safetensors")
    assert outcome.code == 0, outcome.err
    back = snapshot.load(tmp_path / "back.safetensors")
    for found, expected in ((back.G_ema, G_ema), (back.D, D), (back.G, G)):
        assert_equal(found, expected)
    assert back.cur_nimg == 5000 and back.config.network.conv_clamp == config.conv_clamp
    assert back.config.network.mbstd_group_size == config.mbstd_group_size


def test_a_pickle_holds_tensorflows_names_and_nothing_that_runs(tmp_path):
    source, G_ema, D, _ = saved(tmp_path, NetworkConfig(**SMALL))
    exported(source, tmp_path / "network.pkl")
    content = (tmp_path / "network.pkl").read_bytes()
    operations = list(pickletools.genops(content))
    named = {tuple(argument.split(" ")) for operation, argument, _ in operations if operation.name == "GLOBAL"}
    assert named == NUMPY | {("dnnlib.tflib.network", "Network")}
    assert {operation.name for operation, _, _ in operations} <= {
        *("PROTO", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BINFLOAT", "BINUNICODE", "BINBYTES"),
        *("MARK", "TUPLE", "TUPLE3", "EMPTY_TUPLE", "EMPTY_LIST", "APPENDS", "EMPTY_DICT", "SETITEMS"),
        *("GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPUT"),
    }
    with open(tmp_path / "network.pkl", "rb") as file:
        G, D_read, Gs = Loader(file).load()
    mapping, synthesis, w_avg = tf_variables_of_generator(numpy_state(G_ema))
    del synthesis["lod"]
    for network, variables in ((Gs.components["mapping"], mapping), (Gs.components["synthesis"], synthesis)):
        assert dict(network.variables).keys() == variables.keys()
        for name, array in network.variables:
            assert np.abs(array - variables[name]).max() < 1e-6, name
    assert np.array_equal(dict(Gs.variables)["dlatent_avg"], w_avg)
    variables = tf_variables_of_discriminator(numpy_state(D))
    assert dict(D_read.variables).keys() == variables.keys()
    assert all(np.array_equal(array, variables[name]) for name, array in D_read.variables)
    assert {network.version for network in (G, D_read, Gs)} == {4} and G is not Gs
    assert Gs.static_kwargs["fmap_base"] == 64 and D_read.static_kwargs["architecture"] == "resnet"
    # What TensorFlow's definitions make of the variables.
    z = torch.randn(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            tf_generate(numpy_state(G_ema), z), G_ema(z, noise_mode="const"), rtol=1e-4, atol=1e-4
        )


def test_the_same_snapshot_gives_the_same_bytes(tmp_path):
    source, *_ = saved(tmp_path, NetworkConfig(**SMALL), with_G=False)
    for name in ("a.pkl", "b.pkl"):
        exported(source, tmp_path / name)
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()
    with open(tmp_path / "a.pkl", "rb") as file:
        G, _, Gs = Loader(file).load()
    assert G is Gs  # what is not there twice is not written twice


def test_a_snapshot_without_a_discriminator_gets_a_new_one_that_import_leaves_out(tmp_path):
    source, G_ema, _, _ = saved(tmp_path, NetworkConfig(**SMALL), with_D=False, with_G=False)
    outcome = run_salon("export", "--snapshot", source, "--format", "stylegan3-pkl", "--out", tmp_path / "network.pkl")
    assert "the file has a new, untrained one" in outcome.out
    with open(tmp_path / "network.pkl", "rb") as file:
        _, D, _ = Loader(file).load()
    assert np.std(dict(D.variables)["16x16/FromRGB/weight"]) > 0.5
    foreign = convert.read(tmp_path / "network.pkl")
    assert foreign.D is None and "it is untrained" in foreign.D_left_out
    assert_equal(convert.build(tmp_path / "network.pkl", foreign).G_ema, G_ema)


def test_a_checkpoint_of_rosinality_comes_back_with_equal_weights(tmp_path):
    source, G_ema, D, _ = saved(tmp_path, NetworkConfig(**ROSINALITY), with_G=False)
    figures = exported(source, tmp_path / "000005.pt")
    assert figures["difference"] == 0 and figures["channel_multiplier"] == 2
    networks = convert.build(tmp_path / "000005.pt", convert.read(tmp_path / "000005.pt"))
    assert_equal(networks.G_ema, G_ema)
    assert_equal(networks.D, D)
    assert networks.G is None
    loaded = torch.load(tmp_path / "000005.pt", weights_only=True)
    assert loaded.keys() == {"g", "g_ema", "d", "latent_avg"} and loaded["latent_avg"].shape == (8,)
    shapes = {name: tuple(tensor.shape) for name, tensor in loaded["g_ema"].items()}
    assert shapes["input.input"] == (1, 512, 4, 4) and shapes["convs.0.conv.weight"] == (1, 512, 512, 3, 3)
    assert shapes["noises.noise_2"] == (1, 1, 8, 8) and shapes["to_rgbs.0.bias"] == (1, 3, 1, 1)
    assert shapes["convs.0.noise.weight"] == (1,)
    filters = {name for name in shapes if name.endswith("kernel")}
    assert filters == {"convs.0.conv.blur.kernel", "to_rgbs.0.upsample.kernel"}
    assert all(loaded["g_ema"][name].sum() == 4 for name in filters)
    assert {name for name in loaded["d"] if name.endswith("kernel")} == {
        "convs.1.conv2.0.kernel",
        "convs.1.skip.0.kernel",
    }


def test_rosinality_has_no_clamp(tmp_path):
    idle, *_ = saved(tmp_path, NetworkConfig(**ROSINALITY, conv_clamp=1e6), with_D=False, with_G=False)
    figures = exported(idle, tmp_path / "idle.pt")  # no activation is so large
    assert not figures["discriminator"]
    at_work, *_ = saved(tmp_path, NetworkConfig(**ROSINALITY, conv_clamp=0.5), with_D=False, with_G=False)
    message = refusal(at_work, tmp_path / "at-work.pt", "--format", "rosinality")
    assert "has no conv_clamp, and this generator's of 0.5 is at work" in message


def test_what_a_form_cannot_hold_is_refused(tmp_path):
    cases = {
        "holds generators of square images alone; this one's are 24x16": ({**SMALL, "base": (6, 4)}, "stylegan3-pkl"),
        "square images alone; this one's are 12x8": ({**ROSINALITY, "base": (6, 4)}, "rosinality"),
        "RGB images alone; this one's are 16x16 grey": ({**SMALL, "image_channels": 1}, "rosinality"),
        "has no classes, and this generator has 3": ({**SMALL, "num_classes": 3}, "rosinality"),
        "needs a z_dim that is w_dim; this generator has 8 and 12": (SMALL, "rosinality"),
        "needs channel_max 512": ({**SMALL, "w_dim": 8}, "rosinality"),
    }
    for message, (values, form) in cases.items():
        source, *_ = saved(tmp_path, NetworkConfig(**values), with_D=False, with_G=False)
        assert message in refusal(source, tmp_path / f"out{FILES[form]}", "--format", form), message


def test_requests_that_do_not_fit_are_refused(tmp_path, tiny_run):
    out = tmp_path / "out.pkl"
    cases = {
        "--out must end in .pkl": (tmp_path / "models", "--format", "stylegan3-pkl"),
        "--precision is of models for Triton": (out, "--format", "stylegan3-pkl", "--precision", "fp16"),
        "--name is of models for Triton": (tmp_path / "out.pt", "--format", "rosinality", "--name", "people"),
        "--overwrite needs --format stylegan3-pkl or rosinality": (tmp_path / "models", "--overwrite"),
    }
    for message, (path, *options) in cases.items():
        assert message in refusal(tiny_run, path, *options), message
    outcome = run_salon("export", "--format", "stylegan3-pkl", "--out", out)
    assert outcome.code == 2 and "--format stylegan3-pkl needs --snapshot" in outcome.err
    out.write_text("mine")
    outcome = run_salon("export", "--snapshot", tiny_run, "--format", "stylegan3-pkl", "--out", out)
    assert outcome.code == 2 and "--out would replace" in outcome.err and out.read_text() == "mine"
    exported(tiny_run, out, "--overwrite")
    assert out.stat().st_size > 10_000


def test_what_is_not_plain_is_not_written(tmp_path):
    with open(tmp_path / "a.pkl", "wb") as file:
        for value in ({1, 2}, np.zeros(1, np.int64), object()):
            with pytest.raises(TypeError, match=re.escape("must be")):
                pickle_writer.dump(value, file)
        with pytest.raises(ValueError, match="at most 32 bits"):
            pickle_writer.dump(2**40, file)
    plain = {"a": (1, -2.5, None, True, False), "b": ["ü", [], {}, ()]}
    with open(tmp_path / "b.pkl", "wb") as file:
        pickle_writer.dump(plain, file)
    with open(tmp_path / "b.pkl", "rb") as file:
        assert Loader(file).load() == plain


def test_the_forms_are_those_that_requests_know():
    assert set(write.FORMS) == set(FILES)


def peer(variable):
    """The checkout that an environment variable names, else the test is skipped."""
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout of the implementation")
    return os.environ[variable]


def compare(program, checkout, file, G, D, tmp_path, *arguments):
    """Largest difference of a peer's images, and of its logits, as shares of the largest value."""
    config = G.config
    z = torch.randn(4, config.z_dim)
    c = torch.eye(max(config.num_classes, 4))[:4, : config.num_classes]
    with torch.no_grad():
        img = G(z, c, truncation_psi=0.7, noise_mode="const")
        expected = {"img": img.numpy(), "logits": D(img, c).numpy()}
    np.savez(tmp_path / "given.npz", z=z, c=c, img=img)
    words = [checkout, file, tmp_path / "given.npz", tmp_path / "made.npz", *arguments]
    done = subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = np.load(tmp_path / "made.npz")
    return [np.abs(made[name] - array).max() / np.abs(array).max() for name, array in expected.items()]


@pytest.mark.parametrize("variable", ["SALON_STYLEGAN3", "SALON_STYLEGAN2_ADA"])
@pytest.mark.parametrize("case", CASES)
def test_nvidias_own_loader_gives_the_same_images(tmp_path, case, variable):
    checkout = peer(variable)
    source, G_ema, D, _ = saved(tmp_path, NetworkConfig(**SMALL | CASES[case]))
    exported(source, tmp_path / "network.pkl")
    assert max(compare(NVIDIA, checkout, tmp_path / "network.pkl", G_ema, D, tmp_path)) < 1e-5


def test_rosinalitys_own_model_gives_the_same_images(tmp_path):
    checkout = peer("SALON_ROSINALITY")
    source, G_ema, D, _ = saved(tmp_path, NetworkConfig(**ROSINALITY | {"resolution": 64}))
    multiplier = exported(source, tmp_path / "network.pt")["channel_multiplier"]
    assert multiplier == 1
    differences = compare(OTHER, checkout, tmp_path / "network.pt", G_ema, D, tmp_path, 64, 8, 2, multiplier)
    assert max(differences) < 1e-5
