"""Blends of two generators: which weights they have, what is of one lineage, the snapshot and the sheet."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import run_salon
from PIL import Image
from test_cli import refused

from gan import snapshot
from gan.blending import lineage
from gan.blending.request import BlendRequest
from gan.blending.sheet import WEIGHTS
from gan.blending.weights import blended, layers
from gan.config import NetworkConfig, TrainingConfig
from gan.data.recipe import read
from gan.errors import RequestError
from gan.image_shape import ImageShape, base_of
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.runtime.files import sha256
from gan.sampling.generate import generate

SHAPES = [ImageShape(16, 16, 3), ImageShape(24, 16, 1), ImageShape(16, 20, 4)]


def network(shape: ImageShape = SHAPES[0], **values) -> NetworkConfig:
    base, resolution = base_of(*shape.size)
    sizes = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 128, "channel_max": 8}
    return NetworkConfig(resolution=resolution, base=base, image_channels=shape.channels, **(sizes | values))


def generator(config: NetworkConfig, seed: int) -> Generator:
    """Random weights all of which show in its images: strengths of noise and w_avg too."""
    torch.manual_seed(seed)
    G = Generator(config).eval().requires_grad_(False)
    for name, value in G.state_dict().items():
        if name.endswith(("noise_strength", "w_avg", "bias")):
            value.add_(torch.randn_like(value) * 0.3)
    return G


def save(path, seed, resume_from=None, classes=None, **values):
    config = TrainingConfig(
        network=network(**values), dataset=f"{seed}" * 64, seed=seed, batch_size=8, resume_from=resume_from
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed + 100)
    snapshot.save(path, generator(config.network, seed), Discriminator(config.network), config, 8000, classes)
    return path


def images(G, seeds=(0, 1), **options):
    return np.stack(list(generate(G, seeds, **options)))


@pytest.fixture
def pair(tmp_path):
    a = save(tmp_path / "a.safetensors", 1)
    return a, save(tmp_path / "b.safetensors", 2, resume_from=sha256(a))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layer_0_is_b_and_the_last_is_a(shape):
    config = network(shape)
    A, B, G = generator(config, 1), generator(config, 2), generator(config, 3)

    def blend(**choice):
        given = {"from_layer": None, "weight": 1.0, "mapping": None} | choice
        G.load_state_dict(blended(A.state_dict(), B.state_dict(), config, **given))
        return G

    def same(G, other, part=""):
        ours, theirs = G.state_dict(), other.state_dict()
        return all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith(part))

    assert same(blend(from_layer=0), B, "synthesis.") and same(G, A, "mapping.")
    assert same(blend(from_layer=0, mapping="b"), B) and np.array_equal(images(G), images(B))
    assert same(blend(from_layer=config.num_ws), A) and np.array_equal(images(G), images(A))
    assert same(blend(weight=0.0), A) and same(blend(weight=1.0), B)
    half = blend(weight=0.5).state_dict()
    for name, value in half.items():
        assert torch.allclose(value, (A.state_dict()[name] + B.state_dict()[name]) / 2, atol=1e-6), name
    assert same(blend(weight=0.5, mapping="b"), B, "mapping.") and not same(G, B, "synthesis.")
    both = blend(from_layer=2, weight=0.25).state_dict()
    assert torch.equal(both["synthesis.b4.torgb.weight"], A.state_dict()["synthesis.b4.torgb.weight"])
    expected = torch.lerp(*(X.state_dict()["synthesis.b8.conv1.weight"] for X in (A, B)), 0.25)
    assert torch.equal(both["synthesis.b8.conv1.weight"], expected)


def test_a_layer_is_what_its_w_drives():
    # The image changes with w of layer l alone only through the weights that `layers` gives to l.
    config = network()
    G = generator(config, 1)
    ws = torch.randn([1, config.num_ws, config.w_dim])
    of = layers(config)
    for name, parameter in G.synthesis.named_parameters():
        layer = next(layer for prefix, layer in of.items() if f"synthesis.{name}".startswith(prefix))
        if not name.endswith("affine.weight"):
            continue
        parameter.requires_grad_(True)
        for other in range(config.num_ws):
            own = ws.clone()
            own[:, [each for each in range(config.num_ws) if each != other]] = (
                0.0  # its weight then has no effect elsewhere
            )
            (gradient,) = torch.autograd.grad(G.synthesis(own, "none").square().sum(), parameter)
            assert bool(gradient.any()) == (layer == other), (name, other)
        parameter.requires_grad_(False)
    assert sorted(set(of.values())) == list(range(config.num_ws))


def test_layers_beyond_the_generator_are_refused():
    config = network()
    weights = generator(config, 1).state_dict()
    with pytest.raises(RequestError, match="`from_layer` must be from 0 to 6, all of A; got 7 instead"):
        blended(weights, weights, config, from_layer=7, weight=1.0, mapping=None)


def test_the_snapshot_keeps_what_it_is_of_and_generates(pair, tmp_path):
    out = tmp_path / "blended.safetensors"
    figures = run_salon("blend", *pair, "--from-layer", 3, "--out", out, "--json").json
    assert (figures["from_layer"], figures["weight"], figures["mapping"], figures["related"]) == (3, 1.0, "a", True)
    a, b, made = (snapshot.load(path) for path in (*pair, out))
    assert made.lineage["a"] == sha256(pair[0]) and made.lineage["b"] == sha256(pair[1])
    assert made.config == b.config and made.cur_nimg == 8000 and a.lineage is None
    assert torch.equal(made.D.state_dict()["b4.fc.weight"], b.D.state_dict()["b4.fc.weight"])
    assert torch.equal(made.G_ema.state_dict()["synthesis.b4.const"], a.G_ema.state_dict()["synthesis.b4.const"])
    assert not np.array_equal(images(made.G_ema), images(a.G_ema))
    assert run_salon("generate", out, "--seeds", "0", "--out", tmp_path / "images").code == 0
    assert run_salon("export", "--snapshot", out, "--out", tmp_path / "models", "--models", "generator").code == 0
    # A blend is of the lineage of what it is of.
    assert lineage.related(made, a) and lineage.related(b, made)
    again = tmp_path / "again.safetensors"
    assert run_salon("blend", out, pair[0], "--weight", 0.5, "--out", again).code == 0
    refused(run_salon("blend", *pair, "--weight", 0.5, "--out", out), "--out would replace", "--overwrite")


def test_one_lineage_is_known_by_hashes(tmp_path):
    ancestor = save(tmp_path / "run" / "snapshots" / "snapshot-0000000001.safetensors", 0)
    newer = save(tmp_path / "run" / "snapshots" / "snapshot-0000000002.safetensors", 0)
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "run" / "checkpoints").mkdir()
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-0000000001.pt"
    checkpoint.write_bytes(b"as training left it")
    tuned = save(tmp_path / "tuned.safetensors", 1, resume_from=sha256(ancestor))
    other = save(tmp_path / "other.safetensors", 2, resume_from=sha256(ancestor))
    resumed = save(tmp_path / "resumed.safetensors", 3, resume_from=sha256(checkpoint))
    stranger = save(tmp_path / "stranger.safetensors", 4, resume_from="f" * 64)
    alone = save(tmp_path / "alone.safetensors", 5)

    def related(a, b):
        a, b = snapshot.load(a), snapshot.load(b)
        assert lineage.related(a, b) == lineage.related(b, a)
        return lineage.related(a, b)

    assert related(ancestor, tuned) and related(tuned, other) and related(ancestor, newer)
    assert related(newer, tuned) and related(newer, resumed)  # through another file of the run
    assert not related(tuned, stranger) and not related(ancestor, alone) and not related(tuned, alone)
    with pytest.raises(RequestError, match="must be of one lineage with A; A started from ffffffffffff, B from random"):
        lineage.require_related(snapshot.load(stranger), snapshot.load(alone))


def test_a_generator_tuned_around_a_picture_is_of_its_parents_lineage(tmp_path):
    parent = save(tmp_path / "parent.safetensors", 0)
    child = snapshot.load(save(tmp_path / "child.safetensors", 1, resume_from=sha256(parent)))
    source, file = snapshot.load(parent), tmp_path / "projected.safetensors"
    for known in (sha256(parent), "e" * 64):
        about = {"made_by": "projection", "parent": known}
        snapshot.save(file, source.G_ema, None, source.config, 8000, None, lineage=about)
        assert lineage.related(snapshot.load(file), child) is (known == sha256(parent))


def test_what_does_not_fit_is_refused(pair, tmp_path):
    a, _ = pair
    out = ("--out", tmp_path / "new.safetensors")
    alone = save(tmp_path / "alone.safetensors", 4)
    refused(run_salon("blend", a, alone, "--from-layer", 2, *out), "B", "must be of one lineage with A", "--unrelated")
    assert not out[1].exists()
    assert run_salon("blend", a, alone, "--from-layer", 2, "--unrelated", *out, "--json").json["related"] is False
    for name, values, fragments in (
        ("wide", {"shape": SHAPES[1]}, ("base is (4, 4) in A, (6, 4) in B", "image_channels is 3 in A, 1 in B")),
        ("classes", {"num_classes": 2}, ("num_classes is 0 in A, 2 in B",)),
        ("clamped", {"conv_clamp": 256.0}, ("conv_clamp is None in A, 256.0 in B",)),
        ("large", {"channel_max": 16}, ("channel_max is 8 in A, 16 in B",)),
    ):
        path = save(tmp_path / f"{name}.safetensors", 5, resume_from=sha256(a), **values)
        outcome = run_salon("blend", a, path, "--weight", 0.5, "--unrelated", "--out", tmp_path / "never.safetensors")
        refused(outcome, path, "must be a generator of the same shape as A", *fragments)
    refused(run_salon("blend", *pair, "--from-layer", 7, "--out", tmp_path / "n.safetensors"), "--from-layer", "0 to 6")
    assert not (tmp_path / "never.safetensors").exists() and not (tmp_path / "n.safetensors").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "`out` or `sheet` must be given"),
        ({"out": "new.safetensors"}, "`from_layer` or `weight` must be given"),
        ({"out": "new.pkl", "weight": 0.5}, "`out` must end in .safetensors; got"),
        ({"sheet": "new.gif"}, "`sheet` must end in one of .jpg"),
        ({"out": "new.safetensors", "weight": 1.5}, "`weight` must be from 0"),
        ({"out": "new.safetensors", "weight": float("nan")}, "`weight` must be from 0"),
        ({"out": "new.safetensors", "from_layer": -1}, "`from_layer` must be 0 or more"),
        ({"out": "new.safetensors", "weight": 1, "mapping": "c"}, "`mapping` must be a or b"),
    ],
)
def test_requests_are_checked(values, message, tmp_path):
    files = {name: tmp_path / value for name, value in values.items() if name in ("out", "sheet")}
    with pytest.raises(RequestError, match=message):
        BlendRequest(**({"a": tmp_path, "b": tmp_path} | values | files))


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_a_sheet_has_a_column_each_choice(shape, tmp_path):
    a = save(tmp_path / "a.safetensors", 1, shape=shape, num_classes=2, classes=["day", "night"])
    b = save(tmp_path / "b.safetensors", 2, resume_from=sha256(a), shape=shape, num_classes=2, classes=["dawn", "dusk"])
    file = tmp_path / "sheet.png"
    ask = ("blend", a, b, "--seeds", "0-1", "--class", "night", "--sheet", file)
    assert run_salon(*ask, "--mapping", "a").code == 0
    scale = 64 // shape.width + bool(64 % shape.width)
    width, height = shape.width * scale, shape.height * scale
    with Image.open(file) as image:
        assert image.size == (7 * (width + 2) - 2, 44 + 2 * (height + 2) - 2)
        sheet = np.asarray(image)
    said = read(file)
    assert said.marked and said.recipe.kind == "blend" and said.recipe.seeds == [0, 1]
    assert (said.recipe.snapshot, said.recipe.other) == (sha256(a), sha256(b))
    last = sheet[46 + height :, -width:][::scale, ::scale]  # of the second seed, with all of A
    assert (
        run_salon("generate", a, "--seeds", "1", "--class", "night", "--grid", "1x1", "--out", tmp_path / "1.png").code
        == 0
    )
    assert np.array_equal(last, np.asarray(Image.open(tmp_path / "1.png").convert("RGB")))
    assert not np.array_equal(sheet[46 + height :, :width][::scale, ::scale], last)
    refused(run_salon(*ask), "--sheet would replace")
    assert run_salon(*ask, "--weight", "0.5", "--overwrite").code == 0
    with Image.open(file) as image:
        assert image.size[0] == len(WEIGHTS) * (width + 2) - 2
    refused(run_salon("blend", a, b, "--sheet", tmp_path / "no.png", "--class", "dawn"), "--class must be one of")
    # The discriminator of b would take a's classes for its own.
    assert run_salon("blend", a, b, "--from-layer", 2, "--out", tmp_path / "new.safetensors").code == 0
    made = snapshot.load(tmp_path / "new.safetensors")
    assert made.D is None and made.classes == ["day", "night"]
    assert replace(made.config, resume_from=None) == replace(snapshot.load(b).config, resume_from=None)
