"""The style classifier: folds that keep painters apart, one graph that computes what scikit-learn does, its card."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import run_salon, stripes_or_blots
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from eval.features.efficientnet_lite import SameConv2d
from eval.features.preprocess import clip, imagenet
from eval.features.registry import NETWORKS
from gan.data import manifest
from gan.errors import RequestError, SalonError
from serving.contract import PARAMETER, ModelMetadata
from serving.style import head as style_head
from serving.style import int8, onnx_classifier
from serving.style.artists import artist_key, artist_of, may_name_artist
from serving.style.check import card_errors
from serving.style.dataset import open_paintings
from serving.style.onnx_classifier import Classifier
from serving.style.pillow_resize import Resize
from serving.style.report import PAGE, RESULTS
from serving.style.static_padding import with_static_padding
from serving.style.train import kept_apart

DATA = Path(os.environ.get("SALON_TEST_DATA", "/nonexistent"))


def test_painters_by_their_names():
    assert artist_of("Impressionism/claude-monet_the-sea_1.jpg") == "claude-monet"
    for name, artist in (
        ("erte_alphabet.jpg", "erte"),
        ("rembrandt_still-life-with-peacocks.jpg", "rembrandt"),
        ("clyfford-still_untitled.jpg", "clyfford-still"),
        ("m.c.-escher_day-and-night.jpg", "m.c.-escher"),
        ("a-y-jackson_red-maple.jpg", "a-y-jackson"),
        ("petro-kholodny-(elder)_saints.jpg", "petro-kholodny-(elder)"),
        ("hans-holbein-the-younger_the-ambassadors.jpg", "hans-holbein-the-younger"),
        ("claude-monet_12.jpg", "claude-monet"),
    ):
        assert artist_of(name) == artist and not may_name_artist(name)


@pytest.mark.parametrize(
    "name",
    [
        *("009882.jpg", "N64_NA_SouthPark.jpg", "952441_133603958666YQ.jpg", "img00000000.jpg", "claude-monet.jpg"),
        *("photo_12.jpg", "claude-monet_.jpg", "Claude_Monet_12.jpg", "vincent_van_gogh.png", "a painting_of-mine.jpg"),
        *("still_life-with-apples.jpg", "still-life_with-apples.jpg", "self-portrait_1889.jpg", "the-sea_at-dawn.jpg"),
        *("portrait-of-a-lady_titian.jpg", "stock-photo_sunset.jpg", "untitled_composition.jpg", "_the-sea.jpg"),
    ],
)
def test_what_only_looks_like_a_painters_name_is_none(name):
    assert artist_of(name) is None


def test_names_that_cannot_tell_are_known():
    assert all(map(may_name_artist, ("still_life-with-apples.jpg", "zuniga_the-mother.jpg", "noddy_cartoon.jpg")))
    assert not any(map(may_name_artist, ("photo_12.jpg", "img_0001(2).jpg", "009882.jpg", "Claude_Monet_12.jpg")))


@pytest.mark.skipif(not (DATA / "data").is_dir(), reason="needs SALON_TEST_DATA")
def test_every_painter_of_wikiarts_lists_is_found():
    lines = [
        line for file in (DATA / "data/wikiart_csv").glob("*/*_*") for line in file.read_text("utf-8-sig").splitlines()
    ]
    names = {match[1] for line in lines if (match := re.match(r"\w+/(.+?),*,\d+$", line))}
    assert len(names) > 80_000
    assert [name for name in names if artist_of(name) != name.partition("_")[0]] == []
    found = [path for path in (DATA / "data/wikiart_styles8").glob("*/*") if artist_of(path.name) is None]
    assert {path.parent.name for path in found} == {"cartoon", "photo"} and len(found) == 214


def test_a_painter_in_a_manifest_and_in_names_is_one(two_styles, tmp_path):
    assert artist_key("Claude_Monet") == artist_key(" Claude  Monet") == "claude-monet"
    archive = tmp_path / "styles.zip"
    assert run_salon("prepare", two_styles, "--labels", "folders", "--resolution", 32, "--out", archive).code == 0
    rows = manifest.read(tmp_path / "styles.manifest").rows.to_pylist()
    for number, row in enumerate(rows):
        row["artist"] = str(artist_of(row["source"])).title().replace("-", "_") if number % 2 else None
    manifest.write(tmp_path / "listed", rows, dataset=manifest.read(tmp_path / "styles.manifest").dataset, parent=None)
    found = open_paintings(archive, tmp_path / "listed")
    assert found.artists == len(set(found.groups)) == 12
    assert found.artists_from == {"manifest": 18, "file names": 18} and not found.nameless


def test_folds_never_split_a_painter():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 400)
    labels = groups % 4
    folds = style_head.split(labels, groups, 0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(400))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test]) and len(train) + len(test) == 400
        assert set(labels[train]) == {0, 1, 2, 3}


def test_held_out_images_are_judged_by_others_painters():
    # A painter's mark alone tells the style: with painters apart it says nothing, with images apart it says all.
    groups = np.repeat(np.arange(24), 10)
    labels = groups % 2
    marks = np.random.default_rng(0).standard_normal([24, 64]).astype(np.float32) * 3
    features = marks[groups] + np.random.default_rng(1).standard_normal([240, 64]).astype(np.float32)
    apart = style_head.held_out(features, labels, groups, seed=0).argmax(1)
    mixed = style_head.held_out(features, labels, np.arange(240), seed=0).argmax(1)
    assert (mixed == labels).mean() > 0.95 and (apart == labels).mean() < 0.75


@pytest.mark.parametrize("styles", [2, 3])
def test_a_head_is_the_regression_that_folds_chose_with_its_temperature(styles):
    rng = np.random.default_rng(2)
    labels, groups = np.arange(120) % styles, np.arange(120) // styles
    features = rng.normal(size=[120, 8]).astype(np.float32) * [1, 9, 0.1, 1, 1, 1, 1, 1] + 4
    features = (features + np.eye(8)[labels]).astype(np.float32)
    steps = []
    head = style_head.fit(features, labels, groups, seed=1, step=lambda: steps.append(1))
    assert len(steps) == style_head.fits(1) == 21 and style_head.fits(3) == 63

    def regression(strength):
        return LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)

    def scores(strength, train, test):
        scaler = StandardScaler().fit(features[train])
        fitted = regression(strength).fit(scaler.transform(features[train]), labels[train])
        return fitted.predict_log_proba(scaler.transform(features[test]))  # logits, but for a constant a row

    losses = {}
    temperatures = np.geomspace(0.1, 10, 2001)
    for strength in style_head.STRENGTHS:
        held_out = np.zeros([120, styles])
        for train, test in style_head.split(labels, groups, 1):
            held_out[test] = scores(strength, train, test)
        by_temperature = [-log_softmax(held_out / t, axis=1)[np.arange(120), labels].mean() for t in temperatures]
        losses[strength] = min(by_temperature), temperatures[np.argmin(by_temperature)]
    best = min(losses, key=lambda strength: losses[strength][0])
    assert head.strength == best and head.temperature == pytest.approx(losses[best][1], rel=0.01)
    every = np.arange(120)
    expected = softmax(scores(best, every, every) / head.temperature, axis=1)
    np.testing.assert_allclose(head.probabilities(features), expected, atol=1e-5)
    assert head.weight.dtype == head.bias.dtype == np.float32 and head.weight.shape == (styles, 8)


def test_of_strengths_that_do_alike_the_strongest_regularisation_is_chosen():
    labels = np.arange(20) % 2
    head = style_head.fit(np.ones([20, 2], np.float32), labels, np.arange(20), seed=0)
    assert head.strength == min(style_head.STRENGTHS)


def test_a_rare_style_weighs_as_much_as_a_frequent_one():
    rng = np.random.default_rng(3)
    labels = (np.arange(400) % 10 == 0).astype(np.int64)
    features = (rng.normal(size=[400, 2]) + labels[:, None]).astype(np.float32)
    found = style_head.fit(features, labels, np.arange(400), seed=0).probabilities(features).argmax(1)
    assert (found[labels == 1] == 1).mean() > 0.6 and (found[labels == 0] == 0).mean() > 0.6


def test_a_temperature_is_looked_for_in_its_range():
    sure = np.array([[9.0, 0.0], [0.0, 9.0]])
    loss, temperature = style_head.calibrate(sure / 1e3, np.array([0, 1]))
    assert temperature == pytest.approx(0.1, rel=0.01) and loss == pytest.approx(np.log1p(np.exp(-0.09)), rel=0.01)
    assert style_head.calibrate(sure, np.array([1, 0]))[1] == pytest.approx(10, rel=0.01)


def test_five_artists_of_every_style_are_enough():
    labels = np.repeat([0, 1], 25)
    assert len(style_head.split(labels, np.arange(50) // 5, 0)) == 5
    assert len(style_head.split(labels, np.arange(50) % 5, 0)) == 5  # five artists, each of both styles
    with pytest.raises(RequestError, match="more artists"):
        style_head.split(labels, np.arange(50) // 15, 0)
    with pytest.raises(RequestError, match="more artists"):
        style_head.split(labels, np.maximum(np.arange(50) // 5, 5) % 10, 0)  # one artist has all of a style
    with pytest.raises(RequestError, match="more artists"):
        style_head.split(np.r_[labels, [2] * 4], np.arange(54), 0)  # four images of a style, in five folds


def test_too_few_artists_are_refused():
    labels = np.repeat([0, 1], 20)
    with pytest.raises(RequestError, match="more artists of every style, or choose `group_by` image"):
        style_head.split(labels, labels, 0)


def test_a_temperature_makes_probabilities_true():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal([20_000, 3])
    labels = np.array([rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    loss, temperature = style_head.calibrate(logits * 4, labels)
    assert temperature == pytest.approx(4, rel=0.1)
    assert loss < style_head.calibrate(logits[::-1], labels)[0]


@pytest.mark.parametrize("shape", [(64, 64), (331, 500), (640, 200), (225, 1), (1, 1)])
def test_the_resize_is_pillows(shape):
    image = np.array(stripes_or_blots(np.random.default_rng(0), "Stripes", *shape[::-1]))[None]
    for share, preset in zip(onnx_classifier.SHARES, (imagenet, clip), strict=True):
        found = Resize(224, share)(torch.from_numpy(image)).permute(0, 2, 3, 1)
        apart = (found - preset(image, 224)).abs()
        # Where Pillow goes along columns first, as it does in tall images since version 13, some roundings differ.
        assert apart.max() <= 2 and (apart > 0).float().mean() < (0.4 if shape[0] > 1.5 * shape[1] else 0.02)


def test_the_graph_is_whole_and_dynamic(style_classifier):
    model = onnx.load(style_classifier[1] / "style.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    (taken,), (given,) = model.graph.input, model.graph.output
    assert (taken.name, given.name) == ("image", "probabilities")
    assert [d.dim_param or d.dim_value for d in taken.type.tensor_type.shape.dim] == ["batch", "image_1", "image_2", 3]
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_the_graph_computes_what_scikit_learn_does(style_classifier):
    figures, _ = style_classifier
    assert figures["onnx"]["images"] == 8 and figures["onnx"]["difference"] < 1e-3


def test_padding_is_a_part_of_each_convolution(style_classifier):
    graph = onnx.load(style_classifier[1] / "style.onnx").graph
    assert [node.name for node in graph.node if node.op_type == "Pad"] == []
    sides = {tuple(a.ints) for node in graph.node for a in node.attribute if a.name == "pads"}
    assert {(0, 0, 1, 1), (1, 1, 1, 1), (1, 1, 2, 2), (2, 2, 2, 2)} <= sides


@pytest.mark.parametrize("size", [31, 32])
def test_static_padding_computes_what_paddings_by_the_input_do(size):
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(
        *(
            SameConv2d(3, 4, 3, 2),
            SameConv2d(4, 4, 5, 1, groups=4, bias=False),
            SameConv2d(4, 2, 5, 2),
            SameConv2d(2, 2, 1),
        )
    )
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        assert torch.equal(with_static_padding(trunk, size)(x), trunk(x))


def test_the_check_of_a_graph_can_fail(two_styles, style_classifier):
    source = open_paintings(two_styles).source
    images = list(source.pixels(0, 3))
    with pytest.raises(SalonError, match="must agree with scikit-learn"):
        onnx_classifier.check(style_classifier[1] / "style.onnx", images, np.full([3, 2], 0.5))


def test_batches_and_runtimes_agree(style_classifier):
    openvino = pytest.importorskip("openvino")
    path = style_classifier[1] / "style.onnx"
    classifier = Classifier(path)
    images = np.random.default_rng(0).integers(0, 256, [3, 40, 70, 3], np.uint8)
    together = classifier.batch(images)
    assert together.shape == (3, 2) and together.dtype == np.float32 and np.allclose(together.sum(1), 1, atol=1e-6)
    assert np.allclose(classifier(list(images)), together, atol=1e-5)
    other = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.abs(other({"image": images})["probabilities"] - together).max() < onnx_classifier.TOLERANCE


def test_the_card_says_what_it_was_made_of(style_classifier, lite):
    figures, out = style_classifier
    about = Classifier(out / "style.onnx").about
    assert ModelMetadata.from_json(about.to_json()) == about and about.styles == ["Blots", "Stripes"]
    card = about.card
    assert card["data"]["by_style"] == {"Blots": 18, "Stripes": 18} and card["data"]["artists"] == 12
    assert card["kept_apart"] == "all works of an artist held out together, 12 artists by file names"
    assert card["extractor"]["weights"] == lite.identity["weights"]
    assert card["held_out"] == figures["held_out"] and card["held_out"]["accuracy"]["value"] > 0.9
    target, errors = card_errors(about, None)
    assert target == "Stripes" and (errors.sensitivity.n, errors.specificity.n) == (18, 18)
    assert sum(map(sum, card["held_out"]["confusion"])) == 36
    assert onnx.load(out / "style.onnx").metadata_props[0].key == PARAMETER


def test_the_same_seed_gives_the_same_file(two_styles, style_classifier, quick_style, tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(style_classifier[1] / "cache"))  # the same features
    again = tmp_path / "style.onnx"
    assert run_salon("style", "train", "--data", two_styles, "--target", "Stripes", "--out", again).code == 0
    assert again.read_bytes() == (style_classifier[1] / "style.onnx").read_bytes()


def test_rates_without_known_artists_are_called_what_they_are(two_styles, quick_style, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "CALIBRATION", 4)
    few = [file for style in ("Blots", "Stripes") for file in sorted((two_styles / style).iterdir())[:10]]
    for index, file in enumerate(few):
        (tmp_path / file.parent.name).mkdir(exist_ok=True)
        (tmp_path / file.parent.name / f"{index:06}.png").write_bytes(file.read_bytes())
    command = ("style", "train", "--data", tmp_path, "--target", "Stripes", "--out", tmp_path / "style.onnx")
    command += ("--report", tmp_path / "report", "--precision", "int8")
    outcome = run_salon(*command)
    assert outcome.code == 0 and "accuracy, held out by image" in outcome.out and "plain folds" not in outcome.out
    assert "20 of 20 images name no artist" in outcome.err and "the held-out rates too good" in outcome.err
    alone = "each image held out by itself, while other works of its artist may have been seen"
    assert Classifier(tmp_path / "style.onnx").about.card["kept_apart"] == alone and f"Held out: {alone}" in outcome.out
    assert Classifier(tmp_path / "style.onnx").about.card["extractor"]["precision"] == "int8"
    graph = onnx.load(tmp_path / "style.onnx").graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    inputs = {makers[name] for node in graph.node if node.op_type == "Conv" for name in node.input}
    assert inputs == {"DequantizeLinear"} and [output.name for output in graph.output] == ["probabilities"]
    page = (tmp_path / "report" / PAGE).read_text()
    assert alone in page and "artists mixed" not in page and "all works of an artist" not in page
    command = ("style", "check", "--images", tmp_path / "Blots", "--classifier", tmp_path / "style.onnx")
    assert run_salon(*command, "--out", tmp_path / "checked").code == 0
    assert json.loads((tmp_path / "checked" / RESULTS).read_text())["raw"]["value"] < 0.2
    page = (tmp_path / "checked" / PAGE).read_text()
    assert f"held-out images: {alone}" in page and "all works of an artist" not in page


def test_a_network_that_is_not_made_for_int8_is_refused(tmp_path):
    with pytest.raises(RequestError, match="`precision` int8 needs `extractor` efficientnet-lite0; got clip-rn50"):
        int8.write(NETWORKS["clip-rn50"], tmp_path / "none", ["a", "b"], [], tmp_path / "graph.onnx")


def test_names_that_cannot_tell_are_told_and_each_held_out_by_itself(two_styles):
    paintings = open_paintings(two_styles)
    assert kept_apart("artist", paintings) == "all works of an artist held out together, 12 artists by file names"
    mixed = replace(paintings, nameless=6)
    assert "; 6 of 36 images, whose artist is not known, each held out by itself" in kept_apart("artist", mixed)


def test_a_prepared_dataset_and_its_manifest(two_styles, tmp_path):
    archive = tmp_path / "styles.zip"
    command = ("prepare", two_styles, "--labels", "folders", "--resolution", 32, "--out", archive)
    assert run_salon(*command).code == 0
    by_folder, by_data, by_manifest = (open_paintings(p) for p in (two_styles, archive, tmp_path / "styles.manifest"))
    for found in (by_data, by_manifest):
        assert found.counts == by_folder.counts and found.artists == by_folder.artists == 12


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (["--target", "Cubism"], ["--target must be one of Blots, Stripes; got Cubism"]),
        (["--out", "style.pt"], ["--out must end in .onnx", "style.pt"]),
        (["--extractor", "resnet"], ["--extractor must be one of", "efficientnet-lite0", "resnet"]),
        (["--data", "{tmp}/empty"], ["empty holds no images"]),
        (["--data", "{tmp}/absent"], ["absent"]),
        (["--out", "{tmp}/there.onnx"], ["--out would replace", "there.onnx"]),
    ],
)
def test_train_refuses(arguments, fragments, two_styles, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.onnx").write_text("mine")
    given = [text.format(tmp=tmp_path) for text in arguments]
    usual = ["--data", two_styles, "--target", "Stripes", "--out", tmp_path / "new.onnx"]
    outcome = run_salon("style", "train", *usual, *given)
    assert outcome.code == 2 and outcome.out == "" and "Traceback" not in outcome.err
    assert all(fragment in outcome.err.splitlines()[-1] for fragment in fragments), outcome.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "there.onnx"]


def test_styles_of_one_kind_are_refused(two_styles, tmp_path):
    for style in ("Blots", "Few"):
        (tmp_path / style).mkdir()
    for number, file in enumerate(sorted((two_styles / "Blots").iterdir())):
        (tmp_path / ("Few" if number < 5 else "Blots") / file.name).write_bytes(file.read_bytes())
    with pytest.raises(RequestError, match=r"two styles or more with 10 images each.*holds Blots 13, Few 5"):
        open_paintings(tmp_path)
