"""Generators of images that are not square, grey, or with alpha: exported, served, asked for, and checked."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from conftest import run_salon
from PIL import Image
from test_serving_export import ask, drawn, near
from test_serving_export_generator_graph import lively
from tritonclient import grpc

from eval.data.thumbnails import QUALITY
from eval.features.extractor import as_rgb
from gan import snapshot
from gan.data import images
from gan.data.dataset import DatasetWriter
from gan.data.images import encode, for_display, to_image, to_rgb
from gan.networks.discriminator import Discriminator
from gan.rejection.discriminator_logits import DiscriminatorLogits, count_references
from gan.sampling import generate, image_grid
from gan.sampling.latents import MAX_SEED
from serving.client.client import Client
from serving.contract import ModelMetadata, inputs, outputs
from serving.export import onnx_file
from serving.style.dataset import open_paintings
from serving.style.prevalence import Errors, Proportion

SEEDS = [0, 7, 3]
SHAPES = {  # name of a generator -> its network, and the size and mode of its images
    "wide": ({"base": (6, 4)}, (24, 16), "RGB"),
    "tall": ({"base": (4, 5), "resolution": 8, "image_channels": 1, "num_classes": 2}, (8, 10), "L"),
    "clear": ({"image_channels": 4}, (16, 16), "RGBA"),
}
CLASSES = {"tall": ["day", "night"]}


@pytest.fixture(scope="module", params=SHAPES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def classifier(classifier_file, tmp_path_factory):
    """The style classifier that goes by the mean colours, with a card that says how often it errs."""
    path = tmp_path_factory.mktemp("with-card") / "style.onnx"
    right = Proportion(hits=90, n=100)
    errors = Errors(sensitivity=right, specificity=right).to_dict()
    model = onnx.load(classifier_file)
    about = onnx_file.read_about(classifier_file)
    card = {"target": "red", "errors": dict.fromkeys(about.styles, errors)}
    model.metadata_props[0].value = replace(about, card=card).to_json()
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def made(made_once, tiny_config, classifier):
    """A snapshot of each generator, untrained, with a discriminator; and all, with a classifier, as a repository."""

    def make(folder):
        for name, (fields, _, _) in SHAPES.items():
            config = replace(tiny_config, network=replace(tiny_config.network, **fields))
            G, D = lively(config.network), Discriminator(config.network)
            for block in G.synthesis.blocks:  # so that few values are at the ends of their range, alpha's too
                block.torgb.weight.mul_(0.1)
                block.torgb.bias.mul_(0.1)
            G.synthesis.torgbs[-1].bias[3:] = -1.2  # alpha of some pixels is 0
            path = folder / f"{name}.safetensors"
            snapshot.save(path, G, D, config, 0, CLASSES.get(name))
            options = ("--snapshot", path, "--name", name, "--classifier", classifier, "--max-batch", 4)
            outcome = run_salon("export", *options, "--out", folder / "models")
            assert outcome.code == 0, outcome.err

    return made_once("shapes", make)


@pytest.fixture(scope="module")
def snapshots(made):
    return {name: made / f"{name}.safetensors" for name in SHAPES}


@pytest.fixture(scope="module")
def models(made):
    return made / "models"


@pytest.fixture(scope="module")
def url(models, installed_triton):
    from serving.server.server import serve

    with serve(models, server=installed_triton) as running:
        yield running.grpc_url


@pytest.fixture
def client(url, name):
    with Client(url, model=name) as client:
        yield client


def label(name: str) -> str | None:
    return "night" if name in CLASSES else None


def own(path, psi=0.7):
    """Network and images of `salon generate`, [3, H, W, C]."""
    source = snapshot.load(path)
    classes = [1] * len(SEEDS) if source.classes else None
    return source, np.stack(list(generate.generate(source.G_ema, SEEDS, classes, truncation_psi=psi)))


def test_a_seed_is_the_image_of_salon_generate(client, name, snapshots):
    _, expected = own(snapshots[name])
    _, size, mode = SHAPES[name]
    assert to_image(expected[0]).size == size and to_image(expected[0]).mode == mode
    assert len({image.tobytes() for image in expected}) == 3
    assert expected[..., -1].std() > 5 and ((expected > 0) & (expected < 255)).mean() > 0.6
    assert name != "clear" or 0 < (expected[..., 3] == 0).mean() < 0.5
    assert near(np.stack(list(client.generate(SEEDS, 0.7, label(name)))), expected)
    ws = client.map_seeds(SEEDS, 0.7, label(name))
    assert near(np.stack(list(client.synthesize(ws))), expected)


@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
def test_a_seed_becomes_the_file_that_salon_writes(url, name, format):
    given = drawn(1.0, [0]) | ({"label": np.array([[1]])} if name in CLASSES else {})
    with grpc.InferenceServerClient(url.removeprefix("grpc://")) as triton:
        (image,) = ask(triton, name, "image", **given)
        words = {"seed": np.array([[0]], np.int64), "format": np.array([[format.encode()]], np.object_)}
        words |= {key: given[key] for key in given if key == "label"}
        (files,) = ask(triton, f"{name}_seed_to_png", "file", **words)
    file, expected = (Image.open(io.BytesIO(f)) for f in (files[0, 0], encode(to_image(image[0]), format)))
    _, size, mode = SHAPES[name]
    lacking = {("webp", "L"), ("jpeg", "RGBA")}  # which the format has not
    assert (file.size, file.mode) == (size, "RGB" if (format, mode) in lacking else mode)
    assert np.array_equal(np.asarray(file), np.asarray(expected))


def test_logits_are_those_of_the_discriminator(client, url, name, snapshots):
    source, expected = own(snapshots[name])
    needed = count_references(source.D)
    classes = [1] * needed if source.classes else None
    references = list(generate.generate(source.G_ema, range(MAX_SEED, MAX_SEED - needed, -1), classes))
    logits = DiscriminatorLogits(source.D, references, classes)(expected, classes and classes[:1] * len(SEEDS))
    assert list(client.score(SEEDS, 0.7, label(name))) == pytest.approx(logits.tolist(), abs=1e-3)
    given = {"label": np.ones([len(SEEDS), 1], np.int64)} if source.classes else {}
    with grpc.InferenceServerClient(url.removeprefix("grpc://")) as triton:
        (alone,) = ask(triton, f"{name}_discriminator", "logit", image=expected, **given)
    assert alone[:, 0] == pytest.approx(logits, abs=1e-3)


def test_images_are_classified_as_rgb(client, name):
    made = list(client.generate(SEEDS, 1.0, label(name)))
    scores = np.exp(np.stack([to_rgb(image).mean((0, 1)) for image in made]) / 8)
    assert client.classify(made) == pytest.approx(scores / scores.sum(1, keepdims=True), abs=1e-3)


def pixels(path):
    with Image.open(path) as image:
        found = np.asarray(image)
    return found[..., None] if found.ndim == 2 else found


def words(name: str) -> tuple[object, ...]:
    return ("--truncation-psi", 0.7, *(("--class", "night") if name in CLASSES else ()))


def test_query_writes_the_files_of_generate(url, name, snapshots, tmp_path):
    _, expected = own(snapshots[name])
    usual = ("--url", url, "--model", name, "--seeds", ",".join(map(str, SEEDS)), *words(name))
    for format, suffix in images.FORMATS.items():
        outcome = run_salon("query", "generate", *usual, "--format", format, "--out", tmp_path)
        assert outcome.code == 0, outcome.err
        found = np.stack([pixels(tmp_path / f"seed{seed:04d}{suffix}") for seed in SEEDS])
        if format == "png":
            assert near(found, expected)
        elif format == "webp":  # which has no grey
            assert near(found, expected if name == "clear" else to_rgb(expected))
        else:
            assert found.shape[-1] == (1 if name == "tall" else 3)
            assert np.abs(to_rgb(found).astype(int) - to_rgb(expected)).mean() < 8
    outcome = run_salon("query", "generate", *usual, "--grid", "2x2", "--out", tmp_path / "grid.png")
    assert outcome.code == 0 and near(pixels(tmp_path / "grid.png"), image_grid.grid(list(expected), 2, 2))


def test_query_mixes_and_interpolates_as_generate_does(url, name, snapshots, tmp_path):
    mix = ("mix", "--rows", "0-1", "--columns", "3-5", "--layers", "0-2", *words(name))
    assert run_salon("query", *mix, "--url", url, "--model", name, "--out", tmp_path / "served.png").code == 0
    assert run_salon("generate", *mix[:1], snapshots[name], *mix[1:], "--out", tmp_path / "own.png").code == 0
    assert near(pixels(tmp_path / "served.png"), pixels(tmp_path / "own.png"))
    loop = ("interpolate", "--seeds", "0-1", "--frames", 2, *words(name), "--url", url, "--model", name)
    assert run_salon("query", *loop, "--out", tmp_path / "loop.webp").code == 0
    _, size, _ = SHAPES[name]
    with Image.open(tmp_path / "loop.webp") as animation:
        assert (animation.size, animation.mode, animation.n_frames) == (size, "RGB", 4)  # alpha over a ground


def test_status_tells_width_height_and_channels(url):
    sizes = {"wide": "24x16", "tall": "8x10 grey", "clear": "16x16 RGBA"}
    served = run_salon("query", "status", "--url", url, "--json").json["models"]
    told = {model["name"]: model["pixels"] for model in served}
    assert {name: told[name] for name in sizes} == sizes and told["style_classifier"] is None
    text = run_salon("query", "status", "--url", url).out
    assert all(text.count(f" {size} ") == sum(t == size for t in told.values()) for size in sizes.values())


def test_a_style_check_judges_rgb_and_shows_what_people_look_at(url, name, snapshots, classifier, tmp_path):
    _, expected = own(snapshots[name])
    scores = np.exp(to_rgb(expected).mean((1, 2)) / 8)
    red = (scores / scores.sum(1, keepdims=True))[:, 0]
    command = ("style", "check", "--url", url, "--model", name, "--num-images", 8, *words(name))
    outcome = run_salon(*command, "--out", tmp_path / "checked", "--json")
    assert outcome.code == 0, outcome.err
    found = {item["name"]: item["probability"] for item in outcome.json["most"]}
    assert [found[f"seed {seed}"] for seed in SEEDS] == pytest.approx(red.tolist(), abs=1e-2)
    seen = {"wide": None, "tall": "grey as RGB", "clear": "alpha over white"}
    assert outcome.json["source"].get("channels") == seen[name] and outcome.json["side"] == min(SHAPES[name][1])
    again = run_salon(*command, "--classifier", classifier, "--json").json
    assert again["raw"] == outcome.json["raw"]
    page = (tmp_path / "checked" / "report.html").read_text()
    thumbnail = encode(Image.fromarray(for_display(next(generated(url, name)))), "jpeg", QUALITY)
    assert base64.b64encode(thumbnail).decode() in page


def generated(url: str, name: str):
    with Client(url, model=name) as client:
        yield from client.generate(SEEDS, 0.7, label(name))


# Without a server


def test_what_is_not_rgb_is_exported_without_the_ensemble_of_its_styles(models, snapshots, classifier, tmp_path):
    kinds = {path.name for path in models.iterdir() if path.is_dir()}
    assert "wide_generate_and_classify" in kinds
    assert not {"tall_generate_and_classify", "clear_generate_and_classify"} & kinds
    few = ("--models", "generator,style_classifier,generate_and_classify", "--classifier", classifier)
    outcome = run_salon("export", "--snapshot", snapshots["tall"], *few, "--out", tmp_path / "models")
    assert outcome.code == 2 and "--models generate_and_classify needs a generator of RGB images" in outcome.err
    assert not (tmp_path / "models").exists()


def test_metadata_tells_the_shape_only_where_it_is_not_square_rgb():
    square = ModelMetadata(kind="generator", resolution=16, z_dim=8, w_dim=8, num_ws=6)
    assert not {"width", "height", "channels"} & json.loads(square.to_json()).keys()
    assert ModelMetadata.from_json(square.to_json()).shape.hwc == (16, 16, 3)
    wide = replace(square, width=24, height=16, channels=4)
    assert ModelMetadata.from_json(wide.to_json()) == wide and wide.shape.hwc == (16, 24, 4)
    assert [tensor.dims for tensor in outputs(wide)] == [(16, 24, 4)]
    assert [tensor.dims for tensor in inputs(replace(wide, kind="discriminator"))] == [(16, 24, 4)]
    for change in ({"height": None}, {"width": 0}, {"width": "24"}, {"channels": 2}, {"channels": [3]}):
        with pytest.raises(ValueError, match=r"(channels|width and height) must be"):
            ModelMetadata.from_json(json.dumps(json.loads(wide.to_json()) | change))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_style_classifier_learns_from_datasets_of_any_shape(channels, tmp_path):
    rng, archive = np.random.default_rng(0), tmp_path / "styles.zip"
    paintings = rng.integers(0, 256, [20, 16, 24, channels], np.uint8)
    writer = DatasetWriter(archive, ".png", channels)
    for index, painting in enumerate(paintings):
        writer.add(encode(to_image(painting), "png"), index % 2)
    writer.close(["Blots", "Stripes"])
    opened = open_paintings(archive)
    assert opened.counts == {"Blots": 10, "Stripes": 10}
    assert np.array_equal(np.stack(as_rgb(list(opened.source.pixels(0, 20)))), to_rgb(paintings))
