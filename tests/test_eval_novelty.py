"""salon eval novelty: planted copies are told and shown, others are not; what is refused, and what cannot be told."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import run_salon
from PIL import Image

from eval import cli
from eval.data.views import CROP, CROPS, VIEWS, ViewShards, agreement, seen
from eval.request import NoveltyRequest
from gan.data import manifest
from gan.data.collection import STRATA
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import encode
from gan.errors import RequestError

DATA = os.environ.get("SALON_TEST_DATA")
LITE = ("--extractor", "efficientnet-lite0", "--device", "cpu")


def refused(outcome, *fragments):
    assert outcome.code == 2, outcome.err
    lines = [line for line in outcome.err.splitlines() if line]
    assert lines[-1].startswith("Error: ") and outcome.out == ""
    for fragment in fragments:
        assert str(fragment) in lines[-1]


def patchwork(rng):
    """A picture unlike any other: big patches of random colours, seldom symmetric."""
    return Image.fromarray(rng.integers(0, 256, [4, 4, 3], np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def copies():
    """benchmarks/novelty.py's copies: of noise, as a JPEG, flipped, cropped, and both, in turn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
        from novelty import copies
    return copies


def folder_of(path, images):
    path.mkdir()
    for number, image in enumerate(images):
        image.save(path / f"{number:03d}.png")
    return path


def dataset_of(path, images, labels=None, classes=None):
    writer = DatasetWriter(path, ".png")
    for number, image in enumerate(images):
        writer.add(encode(image, "png"), None if labels is None else labels[number])
    writer.close(classes)
    return path


@pytest.fixture(scope="module")
def painted(tmp_path_factory, copies):
    """A dataset of 24 training images in two classes; folders of 24 held-out, 24 other and 20 copied images."""
    folder, rng = tmp_path_factory.mktemp("novelty"), np.random.default_rng(0)
    training, held_out, others = ([patchwork(rng) for _ in range(24)] for _ in range(3))
    dataset_of(folder / "training.zip", training, [0, 1] * 12, ["even", "odd"])
    folder_of(folder / "held-out", held_out)
    folder_of(folder / "others", others)
    folder_of(folder / "copies", copies(training[:20], rng))
    return folder


def novelty(painted, images, out, *more):
    words = ("--images", painted / images, "--data", painted / "training.zip", "--out", out, *LITE, *more)
    return run_salon("eval", "novelty", *words)


def test_planted_copies_are_told_and_shown(painted, tmp_path):
    outcome = novelty(
        painted,
        "copies",
        tmp_path / "out",
        "--held-out",
        painted / "held-out",
        "--strata",
        "label",
        "--num-pairs",
        5,
        "--json",
    )
    assert outcome.code == 0, outcome.err
    figures = json.loads((tmp_path / "out" / "novelty.json").read_text())
    assert {**figures, "out": str(tmp_path / "out")} == outcome.json
    by_id = {row["id"]: row for row in figures["results"]}
    assert by_id["copied"]["value"] >= 0.6 and by_id["copied"]["low"] > by_id["copied"]["control"]["high"]
    assert by_id["authenticity"]["difference"]["high"] < 0
    assert by_id["copying_test"]["high"] < 0
    assert [finding["kind"] for finding in figures["findings"]] == ["bad", "bad"]
    assert figures["findings"][0]["text"].startswith("Copies: ")
    pairs = "Of the 5 closest pairs 5 agree in their pixels. Different training images in them: 5."
    assert figures["findings"][0]["text"].endswith(pairs)
    assert [(row["name"], row["n_training"]) for row in figures["strata"]] == [("even", 12), ("odd", 12)]
    assert sum(row["n_gen"] for row in figures["strata"]) == 20
    assert sum(row["n_held_out"] for row in figures["strata"]) == 24
    names = ImageDataset(painted / "training.zip").names
    for pair in figures["pairs"]:
        assert pair["index"] == pair["real"] == names.index(pair["real_name"])  # copy i is of training image i
        assert pair["pixels"]["correlation"] > 0.9 and pair["p"] <= 0.05
        flipped_in = {2: "flip", 4: "flip"}.get(pair["index"] % 5, "")
        assert pair["pixels"]["view"].endswith(flipped_in) and pair["view"].endswith(flipped_in)
    assert [pair["ratio"] for pair in figures["pairs"]] == sorted(pair["ratio"] for pair in figures["pairs"])
    page = (tmp_path / "out" / "novelty.html").read_text()
    assert page.count('<figure class="pair">') == 5 and page.count("data:image/jpeg") == 10
    assert "cannot tell copies of parts" in page and "even" in page
    again = novelty(painted, "copies", tmp_path / "out", "--held-out", painted / "held-out", "--strata", "label")
    assert again.code == 0 and "Nearer than 95 % of held-out" in again.out and "novelty.html" in again.out
    assert "cannot tell copies of parts" in again.out and "odd" in again.out
    assert json.loads((tmp_path / "out" / "novelty.json").read_text())["images_made"] == 0
    refused(novelty(painted, "copies", tmp_path / "out"), "of another request", "add --overwrite")


def test_without_crops_and_flips_they_are_missed(painted, tmp_path):
    shares = {}
    for views in VIEWS:
        outcome = novelty(
            painted, "copies", tmp_path / views, "--held-out", painted / "held-out", "--views", views, "--json"
        )
        shares[views] = next(row["value"] for row in outcome.json["results"] if row["id"] == "copied")
        assert outcome.json["training"]["views"] == len(VIEWS[views])
    assert shares["original"] < shares["flips"] <= shares["crops"]


def test_others_are_not_told(painted, tmp_path):
    figures = novelty(painted, "others", tmp_path / "out", "--held-out", painted / "held-out", "--json").json
    by_id = {row["id"]: row for row in figures["results"]}
    for id in ("copied", "authenticity"):
        assert by_id[id]["low"] <= by_id[id]["control"]["value"] <= by_id[id]["high"]
    assert by_id["copying_test"]["low"] <= 0 <= by_id["copying_test"]["high"]
    assert [finding["kind"] for finding in figures["findings"]] == ["good"]


def test_what_little_was_learned_of_is_not_taken_for_copies(painted, tmp_path):
    rng = np.random.default_rng(2)

    def faint():
        return Image.blend(Image.new("RGB", (32, 32), "grey"), patchwork(rng), 0.2)

    dataset_of(tmp_path / "training.zip", [*(patchwork(rng) for _ in range(24)), faint()])
    folder_of(tmp_path / "all-faint", [faint() for _ in range(20)])
    words = ("--held-out", painted / "held-out", "--num-pairs", 6, "--views", "original", "--json")
    figures = novelty(tmp_path, "all-faint", tmp_path / "out", *words).json
    finding = figures["findings"][0]
    assert finding["kind"] == "bad" and finding["text"].startswith("Copies, or little learned: ")
    assert finding["text"].endswith("6 closest pairs 0 agree in their pixels. Different training images in them: 1.")
    assert "has learned little" in figures["limits"]


def test_without_held_out_images_only_authenticity_is_told(painted, tmp_path):
    figures = novelty(painted, "copies", tmp_path / "out", "--json").json
    (row,) = figures["results"]
    assert row["id"] == "authenticity" and row["control"] is row["difference"] is figures["held_out"] is None
    assert "control is missing" in figures["findings"][0]["text"]
    assert figures["pairs"][0]["p"] is None
    text = novelty(painted, "copies", tmp_path / "out").out
    assert "only authenticity can be told" in text
    assert "only authenticity can be told" in (tmp_path / "out" / "novelty.html").read_text()


def test_held_out_images_of_the_dataset_by_a_manifest(painted, tmp_path):
    images = ImageDataset(painted / "training.zip")
    for name, kept in (("training", range(5)), ("held-out", range(5, 24)), ("both", range(4, 24))):
        rows = [{"name": n, "verdict": "keep" if i in kept else "drop"} for i, n in enumerate(images.names)]
        manifest.write(tmp_path / name, rows, dataset=images.fingerprint(), parent=None)
    words = (painted, "others", tmp_path / "out", "--manifest", tmp_path / "training", "--views", "original")
    outcome = novelty(*words, "--held-out", tmp_path / "held-out", "--json")
    assert outcome.code == 0, outcome.err
    assert (outcome.json["training"]["images"], outcome.json["held_out"]["images"]) == (5, 19)
    outcome = novelty(*words, "--held-out", tmp_path / "both", "--overwrite")
    refused(outcome, "--held-out must be images that no training saw; 1 of the 20")


def test_a_snapshot_of_other_images_and_held_out_training_images_are_warned_of(painted, tiny_run, tmp_path):
    training = tmp_path / "training"
    folder_of(training, [Image.fromarray(i) for i in map(ImageDataset(painted / "training.zip").image, range(24))])
    words = ("--data", painted / "training.zip", "--views", "original", "--num-images", 4, *LITE)
    outcome = run_salon(
        "eval", "novelty", "--snapshot", tiny_run, "--held-out", training, "--out", tmp_path / "out", *words, "--json"
    )
    assert outcome.code == 0, outcome.err
    told = "\n".join(outcome.json["warnings"])
    assert "was not trained on just these images" in told and "24 of 24 held-out images are training images" in told
    assert [row["id"] for row in outcome.json["results"]] == ["authenticity", "copied"]  # too few for C_T


def test_two_equal_training_images_are_warned_of(tmp_path, copies):
    rng = np.random.default_rng(1)
    images = [patchwork(rng) for _ in range(4)]
    dataset_of(tmp_path / "training.zip", [*images, images[0]])
    folder_of(tmp_path / "images", (next(copies([image], rng)) for image in images))
    words = ("--images", tmp_path / "images", "--data", tmp_path / "training.zip", "--views", "original", *LITE)
    outcome = run_salon("eval", "novelty", *words, "--out", tmp_path / "out", "--json")
    assert any("1 of the 4 training images that others are nearest to are" in line for line in outcome.json["warnings"])
    assert [pair["ratio"] for pair in outcome.json["pairs"]].count(None) == 1
    assert "∞" in (tmp_path / "out" / "novelty.html").read_text()


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "needs either --snapshot or --images"),
        (("--images", "absent"), "--images must be there; absent does not exist"),
        (("--images", "{run}"), "must be given with --snapshot; --images is a folder"),
        (("--snapshot", "{data}"), "Images are given with --images"),
        (("--images", "{data}", "--truncation-psi", "0.5"), "--truncation-psi needs --snapshot"),
        (("--images", "{data}", "--held-out", "absent"), "--held-out must be a folder, ZIP or array of images"),
        (("--images", "{data}", "--held-out", "{data}"), "--held-out must be at least 19 images; got 12"),
        (("--images", "{data}", "--views", "turns"), "'turns' is not one of 'original', 'flips', 'crops'"),
        (("--images", "{data}", "--strata", "style"), "--strata style needs a manifest"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_said_in_a_line(words, said, tiny_run, tiny_dataset, tmp_path):
    given = [word.format(run=tiny_run, data=tiny_dataset) for word in words]
    refused(run_salon("eval", "novelty", *given, "--data", tiny_dataset, "--out", tmp_path / "out", *LITE), said)
    assert not (tmp_path / "out").exists()


def test_the_request_and_its_command():
    options = {option.name: option for option in cli.evaluate.commands["novelty"].params}
    for name, value in vars(NoveltyRequest()).items():
        assert not options[name].required and (not value or options[name].default == value), name
    assert tuple(options["views"].type.choices) == tuple(VIEWS)
    assert tuple(options["strata"].type.choices) == ("none", *STRATA)
    for fields, said in (
        ({"num_images": 0}, "`num_images` must be at least 1"),
        ({"views": "x"}, "`views` must be one"),
    ):
        with pytest.raises(RequestError, match=said):
            NoveltyRequest(**fields)


def test_views_are_flips_and_crops():
    pixels = np.arange(20 * 40 * 3, dtype=np.uint8).reshape(20, 40, 3)
    assert (seen(pixels, "original") == pixels).all() and (seen(pixels, "flip") == pixels[:, ::-1]).all()
    assert CROP == 0.85 and len(set(CROPS)) == 12
    corners = {"top left": (0, 0), "top right": (0, 6), "bottom left": (3, 0), "bottom right": (3, 6), "centre": (2, 3)}
    for name, (top, left) in corners.items():
        crop = pixels[top : top + 17, left : left + 34]
        assert (seen(pixels, name) == crop).all() and (seen(pixels, f"{name}, flip") == crop[:, ::-1]).all()


def test_features_of_views_are_those_of_the_seen_pixels(lite):
    rng = np.random.default_rng(0)
    pixels = [np.asarray(patchwork(rng)) for _ in range(3)]
    features = ViewShards({"kind": "x"}, lite, "top left, flip").take([pixels[0], None, pixels[2]])["features"]
    expected = lite([seen(image, "top left, flip") for image in pixels])["features"]
    assert np.allclose(features[[0, 2]], expected[[0, 2]], rtol=1e-4, atol=1e-4) and np.isnan(features[1]).all()
    folders = {ViewShards({"kind": "x"}, lite, view).folder for view in CROPS}
    assert len(folders) == len(CROPS)


def test_agreement_of_pixels_is_a_correlation_and_names_the_view():
    rng = np.random.default_rng(0)
    image = np.asarray(patchwork(rng))
    assert agreement(image, image, CROPS) == (pytest.approx(1), "original")
    assert agreement(image[:, ::-1], image, CROPS) == (pytest.approx(1), "flip")
    correlation, view = agreement(seen(image, "bottom left"), image, CROPS)
    assert correlation == pytest.approx(1) and view == "bottom left"
    a, b = (np.asarray(Image.fromarray(rng.integers(0, 256, [32, 32, 3], np.uint8)).convert("L")) for _ in range(2))
    grey = [np.repeat(plane[:, :, None], 3, 2) for plane in (a, b)]
    assert agreement(*grey, ["original"])[0] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert agreement(np.zeros_like(image), image, CROPS)[0] == 0


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="SALON_TEST_DATA is unset")
def test_a_copier_of_real_paintings_is_caught_and_other_paintings_are_not(tmp_path, copies):
    files, rng = sorted((Path(DATA) / "data" / "monet").glob("*.jpg")), np.random.default_rng(0)
    paintings = [
        Image.open(files[n]).convert("RGB").resize((128, 128), Image.Resampling.BOX) for n in rng.permutation(300)[:110]
    ]
    training, held_out, others = paintings[:30], paintings[30:70], paintings[70:]
    dataset_of(tmp_path / "training.zip", training)
    folder_of(tmp_path / "held-out", held_out)
    folder_of(tmp_path / "others", others)
    folder_of(tmp_path / "copies", copies(training, rng))
    found = {}
    for images in ("copies", "others"):
        outcome = novelty(tmp_path, images, tmp_path / f"out-{images}", "--held-out", tmp_path / "held-out", "--json")
        assert outcome.code == 0, outcome.err
        found[images] = {row["id"]: row for row in outcome.json["results"]}
    assert found["copies"]["copied"]["value"] >= 0.9 and found["copies"]["authenticity"]["value"] <= 0.1
    assert found["copies"]["copying_test"]["high"] < 0
    copied, authenticity = found["others"]["copied"], found["others"]["authenticity"]
    assert copied["low"] <= copied["control"]["value"] <= copied["high"]
    assert authenticity["difference"]["low"] <= 0 <= authenticity["difference"]["high"]  # both are of few images
