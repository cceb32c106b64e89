"""Every command on images that are square, wide or tall, and grey, RGB or with alpha."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import QUICK_TRAINING, run_salon
from PIL import Image
from test_curation_decide_verdicts import scored

from eval.data.feature_cache import cached
from eval.data.image_sources import DatasetSource
from eval.features.extractor import load_extractor
from gan import snapshot
from gan.config import TrainingConfig
from gan.data.collection import Collection
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import encode, for_display, to_image, to_rgb
from gan.image_shape import ImageShape
from gan.sampling.generate import generate
from serving.contract import inputs, outputs
from serving.export.onnx_file import read_about

SHAPES = [ImageShape(w, h, channels) for w, h in ((16, 16), (24, 16), (16, 20)) for channels in (1, 3, 4)]
IMAGES = 24
AVERAGES = ("--post-hoc-ema", "--kimg-per-tick", "0.008")
METHODS = ("--method", "density", "--method", "d-low")
EVALUATION = ("--extractor", "efficientnet-lite0", "--device", "cpu", "--num-images", "16", "--json")


def painted(shape: ImageShape, number: int) -> np.ndarray:
    """A disc on a gradient; with alpha, nothing but the disc."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[: shape.height, : shape.width]
    inside = np.hypot(x - rng.uniform(4, shape.width - 4), y - rng.uniform(4, shape.height - 4)) < rng.uniform(3, 7)
    ground = (np.linspace(0, 1, shape.height)[:, None, None] * rng.uniform(60, 250, shape.channels)).repeat(
        shape.width, 1
    )
    pixels = np.where(inside[..., None], rng.uniform(0, 255, shape.channels), ground).astype(np.uint8)
    if shape.channels == 4:
        pixels[..., 3] = np.where(inside, 255, 0)
    return pixels


@pytest.fixture(params=SHAPES, ids=str)
def made(request, made_once):
    """The shape, and a folder with a dataset of it, a manifest that check wrote, and a run."""
    return request.param, folder_of(request.param, made_once)


def folder_of(shape: ImageShape, made_once):
    def make(folder):
        write(folder, shape, IMAGES)
        done(
            "train",
            "--data",
            folder / "data.zip",
            "--out",
            folder / "runs",
            *QUICK_TRAINING,
            "--conditional",
            *AVERAGES,
        )
        done("curate", "check", folder / "data.zip", "--device", "cpu", "--out", folder / "checked.manifest")

    return made_once(f"shape {shape}", make)


def write(folder, shape: ImageShape, count: int) -> None:
    """A dataset of two classes, and its manifest."""
    writer = DatasetWriter(folder / "data.zip", ".png", shape.channels)
    for number in range(count):
        writer.add(encode(to_image(painted(shape, number)), "png"), number % 2)
    writer.close(["a", "b"])
    columns = {"label": [number % 2 for number in range(count)], "genre": None, "score_density": None}
    columns |= {"width": [shape.width] * count, "height": [shape.height] * count}
    columns["pixel_sha256"] = [f"{number}" for number in range(count)]
    scored(folder / "data.manifest", count, ImageDataset(folder / "data.zip").fingerprint(), **columns)


def done(*words: object) -> str:
    outcome = run_salon(*words)
    assert outcome.code == 0, outcome.err
    return outcome.out


def opened(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_training(made):
    shape, folder = made
    dataset = ImageDataset(folder / "data.zip")
    assert dataset.shape == shape
    assert np.array_equal(dataset.image(3), painted(shape, 3)) and dataset.image(3).shape == shape.hwc
    assert dataset.pixels(3).shape == shape.chw and np.array_equal(dataset.rgb(3), to_rgb(painted(shape, 3)))
    (run,) = (path for path in (folder / "runs").iterdir() if path.is_dir())
    config = TrainingConfig.from_dict(json.loads((run / "config.json").read_text()))
    assert config.network.shape == shape
    network = json.loads((run / "config.json").read_text())["network"]
    assert ("base" in network) == (shape.width != shape.height) and ("image_channels" in network) == (
        shape.channels != 3
    )
    reals = opened(run / "grids" / "reals.jpg")
    assert reals.ndim == 3 and reals.shape[0] % shape.height == reals.shape[1] % shape.width == 0
    done("ema", "--run", run, "--width", "0.2", "--out", run.parent.with_name("averaged.safetensors"), "--overwrite")
    assert snapshot.load(folder / "averaged.safetensors").config.network.shape == shape
    info = json.loads(done("dataset", "info", folder / "data.zip", "--montage", folder / "montage.png", "--json"))
    assert (info["width"], info["height"], info["channels"]) == (*shape.size, shape.channels)
    assert (
        opened(folder / "montage.png")[: shape.height, : shape.width].tolist()
        == for_display(painted(shape, 0)).tolist()
    )


def test_generating(made, tmp_path):
    shape, folder = made
    runs, common = folder / "runs", ("--class", "a", "--device", "cpu")
    source = snapshot.find(runs)
    with torch.inference_mode():
        first, second = generate(source.G_ema, [0, 1], [0, 0])
    assert first.shape == shape.hwc and not np.array_equal(first, second)
    done("generate", "images", runs, "--seeds", "0-1", "--out", tmp_path / "files", *common)
    assert opened(tmp_path / "files" / "seed0001.png").reshape(shape.hwc).tolist() == second.tolist()
    done("generate", "images", runs, "--seeds", "0-1", "--format", "webp", "--out", tmp_path / "webp", *common)
    assert np.array_equal(
        opened(tmp_path / "webp" / "seed0001.webp"), second if shape.channels == 4 else to_rgb(second)
    )
    made_of = [*(tmp_path / "files").iterdir(), *(tmp_path / "webp").iterdir()]
    done("verify", *made_of, "--snapshot", runs, "--tolerance", "0", "--device", "cpu")
    done("generate", "images", runs, "--seeds", "0-1", "--grid", "2x1", "--out", tmp_path / "grid.png", *common)
    assert np.array_equal(opened(tmp_path / "grid.png"), np.concatenate([for_display(first), for_display(second)], 1))
    done("generate", "mix", runs, "--rows", "0", "--columns", "1", "--out", tmp_path / "mix.png", *common)
    assert opened(tmp_path / "mix.png").shape == (2 * shape.height + 2, 2 * shape.width + 2, 3)
    loop = ("generate", "interpolate", runs, "--seeds", "0-1", "--frames", "2")
    for suffix in ("mp4", "webp"):
        done(*loop, "--out", tmp_path / f"loop.{suffix}", *common)
    with Image.open(tmp_path / "loop.webp") as animation:
        assert (animation.size, animation.n_frames) == (shape.size, 4)
    (run,) = (path for path in runs.iterdir() if path.is_dir())
    done("generate", "timelapse", run, "--out", tmp_path / "learning.gif")
    rejecting = ("--reject", "drs", "--budget", "2", "--count", "2", "--data", folder / "data.zip")
    found = done(
        "generate", "images", runs, *rejecting, "--calibration", "none", "--out", tmp_path / "best", *common, "--json"
    )
    assert len(json.loads(found)["files"]) == 2


def test_evaluating(made, tmp_path):
    shape, folder = made
    dataset = DatasetSource(Collection.open(folder / "data.zip"))
    lite = load_extractor("efficientnet-lite0", device="cpu")
    _, small = cached(dataset, [lite], batch_size=8, description="Images")
    shown = np.asarray(small.image(3)).astype(int)  # a JPEG, over a checked ground where there is alpha
    assert np.abs(shown - for_display(painted(shape, 3))).mean() < 10
    real = ("--snapshot", folder / "runs", "--data", folder / "data.zip")
    results = json.loads(done("eval", "run", *real, "--metrics", "kid,pr", "--out", tmp_path / "e", *EVALUATION))
    assert all(metric["value"] is not None for metric in results["results"])
    said = {1: "imagenet, grey as RGB", 3: "imagenet", 4: "imagenet, alpha over white"}[shape.channels]
    assert all(f"@efficientnet-lite0/{said}/fp32/" in metric["key"] for metric in results["results"])
    files = done(
        "generate",
        "images",
        folder / "runs",
        "--seeds",
        "0-15",
        "--class",
        "a",
        "--out",
        tmp_path / "files",
        "--device",
        "cpu",
    )
    assert files
    of_files = ("--images", tmp_path / "files", "--data", folder / "data.zip", "--metrics", "kid")
    done("eval", "run", *of_files, "--preprocess", "pad", "--out", tmp_path / "f", *EVALUATION)
    done(
        "eval",
        "novelty",
        *real,
        "--held-out",
        folder / "data.zip",
        "--views",
        "original",
        "--out",
        tmp_path / "n",
        *EVALUATION,
    )
    sweep = ("eval", "sweep", *real, "--psi", "0.7,1", "--metrics", "kid", "--out", tmp_path / "s")
    done(*sweep, *EVALUATION)


def test_curating(made, tmp_path):
    shape, folder = made
    data = folder / "data.zip"
    score = ("curate", "score", data, "--manifest", folder / "checked.manifest", "--run", folder / "runs")
    done(*score, *METHODS, "--device", "cpu", "--out", tmp_path / "scored.manifest")
    prune = ("curate", "prune", tmp_path / "scored.manifest", "--method", "density", "--keep", "0.8")
    done(*prune, "--out", tmp_path / "pruned.manifest")
    page = tmp_path / "review.html"
    done("curate", "review", tmp_path / "pruned.manifest", "--data", data, "--out", page)
    assert "data:image/jpeg" in page.read_text()
    done("curate", "diff", tmp_path / "scored.manifest", tmp_path / "pruned.manifest")
    assert "curate prune" in done("curate", "log", tmp_path / "pruned.manifest")
    done("curate", "materialize", tmp_path / "pruned.manifest", "--data", data, "--out", tmp_path / "kept.zip")
    assert ImageDataset(tmp_path / "kept.zip").shape == shape and len(ImageDataset(tmp_path / "kept.zip")) < IMAGES
    done(
        "curate",
        "map",
        data,
        "--manifest",
        tmp_path / "pruned.manifest",
        "--device",
        "cpu",
        "--out",
        tmp_path / "map.html",
    )
    done("curate", "auto", data, "--device", "cpu", "--out", tmp_path / "auto.manifest")


def test_exporting(made, tmp_path):
    shape, folder = made
    done("export", "--snapshot", folder / "runs", "--out", tmp_path / "models", "--models", "generator,discriminator")
    for kind, tensors in (("generator", outputs), ("discriminator", inputs)):
        about = read_about(tmp_path / "models" / kind / "1" / "model.onnx")
        assert about.shape == shape and tensors(about)[0].dims == shape.hwc


def test_classifying_styles(made, tmp_path, quick_style):
    _, folder = made
    style = ("--data", folder / "data.zip", "--target", "a", "--group-by", "image", "--out", tmp_path / "style.onnx")
    done("style", "train", *style, "--device", "cpu", "--report", tmp_path / "trained")
    pictures = ("--seeds", "0-15", "--class", "b", "--out", tmp_path / "files", "--device", "cpu")
    done("generate", "images", folder / "runs", *pictures)
    check = ("--images", tmp_path / "files", "--classifier", tmp_path / "style.onnx", "--target", "a")
    done("style", "check", *check, "--out", tmp_path / "checked")


def test_querying(made_once, triton, tmp_path):
    """One server for the generators of all shapes."""
    names = {f"g{number}": shape for number, shape in enumerate(SHAPES)}
    kinds = ("--models", "generator,mapping,synthesis,seed_to_png", "--max-batch", "2")
    for name, shape in names.items():
        runs = folder_of(shape, made_once) / "runs"
        done("export", "--snapshot", runs, "--name", name, "--out", tmp_path / "models", *kinds)
    url = triton(tmp_path / "models").grpc_url
    for name, shape in names.items():
        asked = ("--url", url, "--model", name, "--class", "b")
        done("query", "generate", "--seeds", "0-1", "--out", tmp_path / name, *asked)
        done("query", "mix", "--rows", "0", "--columns", "1", "--out", tmp_path / f"{name}.png", *asked)
        done("query", "interpolate", "--seeds", "0-1", "--frames", "1", "--out", tmp_path / f"{name}.webp", *asked)
        assert opened(tmp_path / name / "seed0001.png").reshape(shape.hwc).std() > 0
        assert opened(tmp_path / f"{name}.png").shape == (2 * shape.height + 2, 2 * shape.width + 2, 3)
        files = (tmp_path / name / "seed0000.png", tmp_path / f"{name}.png")
        done("verify", *files, "--snapshot", folder_of(shape, made_once) / "runs", "--device", "cpu")


@pytest.mark.parametrize("made", [ImageShape(24, 16, 4)], ids=str, indirect=True)
def test_retraining(made, tmp_path):
    _, folder = made
    data, out = folder / "data.zip", tmp_path / "retraining"
    scores = ("curate", "score", data, "--manifest", folder / "checked.manifest", "--method", "density")
    done(*scores, "--device", "cpu", "--out", tmp_path / "scored.manifest")
    prune = ("curate", "prune", tmp_path / "scored.manifest", "--method", "density", "--keep", "0.8")
    done(*prune, "--out", tmp_path / "pruned.manifest")
    arms = ("--manifest", tmp_path / "pruned.manifest", "--kimg", "0.008", "--holdout", "0.3", "--repeats", "1")
    rest = ("--num-images", "8", "--extractor", "efficientnet-lite0", "--workers", "0", "--device", "cpu")
    done("curate", "retrain", "--run", folder / "runs", "--data", data, "--out", out, *arms, *rest)
    assert "data:image" in (out / "report.html").read_text()


@pytest.mark.parametrize("made", [ImageShape(24, 16, 4)], ids=str, indirect=True)
def test_comparing_and_joining(made, tmp_path):
    shape, folder = made
    (run,) = (path for path in (folder / "runs").iterdir() if path.is_dir())
    real = ("--data", folder / "data.zip", "--metrics", "kid")
    done("eval", "ema", "--run", run, *real, "--widths", "0.1,0.2", "--out", tmp_path / "widths", *EVALUATION)
    evaluations = [tmp_path / name for name in ("a", "b")]
    for out, psi in zip(evaluations, ("1", "0.5"), strict=True):
        rest = ("--truncation-psi", psi, "--out", out)
        done("eval", "run", "--snapshot", run, *real, *rest, *EVALUATION)
    done("eval", "compare", *evaluations, "--json")
    for name in ("one", "two"):
        (tmp_path / f"{name}.zip").write_bytes((folder / "data.zip").read_bytes())
        shutil.copytree(folder / "data.manifest", tmp_path / f"{name}.manifest")
    (tmp_path / "both.zips").write_text("one.zip\ntwo.zip\n")
    done("dataset", "join", tmp_path / "both.zips")
    both = ImageDataset(tmp_path / "both.zips")
    assert both.shape == shape and len(both) == 2 * IMAGES
    done("curate", "check", tmp_path / "both.zips", "--device", "cpu", "--out", tmp_path / "checked.manifest")


@pytest.mark.parametrize(
    ("shape", "augment"), [(ImageShape(512, 512), "ada"), (ImageShape(1024, 1024, 1), "none")], ids=str
)
def test_large_images(shape, augment, tmp_path):
    write(tmp_path, shape, 8)
    few = ("--set", "channel_base=1024", "--set", "channel_max=4", "--set", "batch_size=2", "--total-kimg", "0.004")
    data, runs = tmp_path / "data.zip", tmp_path / "runs"
    done("train", "--data", data, "--out", runs, *QUICK_TRAINING, *few, "--augment", augment)
    done("generate", "images", runs, "--seeds", "0-1", "--out", tmp_path / "files", "--device", "cpu")
    assert opened(tmp_path / "files" / "seed0001.png").reshape(shape.hwc).std() > 0
    done(
        "generate",
        "interpolate",
        runs,
        "--seeds",
        "0-1",
        "--frames",
        "1",
        "--out",
        tmp_path / "l.mp4",
        "--device",
        "cpu",
    )
    real = ("--snapshot", runs, "--data", data, "--metrics", "kid", "--out", tmp_path / "e")
    done("eval", "run", *real, *EVALUATION, "--num-images", "4")
    done("curate", "check", data, "--device", "cpu", "--out", tmp_path / "checked.manifest")
    done("export", "--snapshot", runs, "--out", tmp_path / "models", "--models", "generator", "--max-batch", "1")
