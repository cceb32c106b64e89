"""The style check: figures, requirement and exit codes, what it cannot tell, and its report in a real browser."""

import dataclasses
import json
import re

import numpy as np
import pytest
from conftest import run_salon
from PIL import Image

from gan.data.images import encode
from gan.errors import RequestError
from serving.contract import ModelMetadata
from serving.style.check import ClassifiedImages, card_errors, check
from serving.style.prevalence import Errors, Proportion
from serving.style.report import PAGE, RESULTS, write_check


def about(sensitivity: float, specificity: float, side: int = 64) -> ModelMetadata:
    """A classifier of two styles that errs so often on 200 images of each."""
    errors = Errors(
        sensitivity=Proportion(hits=round(200 * sensitivity), n=200),
        specificity=Proportion(hits=round(200 * specificity), n=200),
    )
    card = {"target": "Sea", "errors": {"Sea": errors.to_dict()}, "data": {"side": side}}
    return ModelMetadata(kind="style_classifier", styles=["Sea", "Sky"], card=card)


def classified(hits: int, n: int, side: int = 64) -> ClassifiedImages:
    """Of n images the first `hits` are of the first style, the earlier the surer."""
    first = np.where(np.arange(n) < hits, 0.95, 0.45) - np.arange(n) * 1e-4
    probabilities = np.stack([first, 1 - first], 1).astype(np.float32)
    jpeg = encode(Image.new("RGB", (24, 24)), "jpeg")
    return ClassifiedImages(
        probabilities=probabilities, names=[f"seed {i}" for i in range(n)], thumbnails=[jpeg] * n, sides=[side] * n
    )


def test_figures_of_a_known_case():
    figures = check(classified(40, 100), about(0.75, 0.9), require=0.3)
    assert (figures["target"], figures["raw"]["value"], figures["yardstick"]["value"]) == ("Sea", 0.4, 0.75)
    assert figures["corrected"]["value"] == pytest.approx((0.4 + 0.9 - 1) / (0.75 + 0.9 - 1))
    assert [(row["style"], row["images"]) for row in figures["styles"]] == [("Sky", 60), ("Sea", 40)]
    assert [item["name"] for item in figures["most"][:2]] == ["seed 0", "seed 1"]
    assert [item["name"] for item in figures["least"][:2]] == ["seed 99", "seed 98"]
    assert figures["requirement"] == {
        "minimum": 0.3,
        "rate": "corrected",
        "bound": figures["corrected"]["low"],
        "met": figures["corrected"]["low"] >= 0.3,
    }
    assert figures["warnings"] == []


@pytest.mark.parametrize(
    "card, said",
    [
        ({"group_by": "image", "kept_apart": "what was done"}, "what was done"),
        ({"group_by": "image"}, "each image held out by itself, while other works of its artist may have been seen"),
        ({"group_by": "artist"}, "all works of an artist, as far as it was known, held out together"),
        ({}, "of which it is not known what was held out together"),
    ],
)
def test_a_report_says_what_the_card_says_was_held_out_together(card, said, tmp_path):
    metadata = about(0.75, 0.9)
    metadata.card.update(card)
    figures = {**check(classified(40, 100), metadata), "source": {"kind": "files", "name": "x"}}
    write_check({**figures, "classifier": {}, "salon": "1"}, classified(40, 100), tmp_path / PAGE)
    assert f"both from held-out images: {said}." in (tmp_path / PAGE).read_text()


def test_a_requirement_is_for_the_lower_end_at_the_confidence():
    low = check(classified(40, 100), about(0.75, 0.9))["corrected"]["low"]
    for confidence, require, met in ((0.95, low - 1e-6, True), (0.95, low + 1e-6, False), (0.99, low - 1e-6, False)):
        figures = check(classified(40, 100), about(0.75, 0.9), require=require, confidence=confidence)
        assert figures["requirement"]["met"] is met


def test_a_classifier_near_to_guessing_meets_no_requirement():
    figures = check(classified(100, 100), about(0.55, 0.5), require=0.0)
    assert figures["corrected"] is None and figures["requirement"]["met"] is False
    assert any("cannot tell" in warning for warning in figures["warnings"])


def test_what_makes_its_errors_others_is_warned_of():
    assert any("look more like it" in w for w in check(classified(99, 100), about(0.75, 0.9))["warnings"])
    assert any(
        "Fewer" in w and "train the classifier with" in w
        for w in check(classified(0, 100), about(0.75, 0.7))["warnings"]
    )
    small = check(classified(40, 100, side=32), about(0.75, 0.9))["warnings"]
    assert len(small) == 1 and "learned from images of 64 pixels; these have 32" in small[0]


def test_a_classifier_without_a_card_is_refused():
    with pytest.raises(RequestError, match="must say how often it errs"):
        card_errors(dataclasses.replace(about(0.7, 0.9), card={}), "Sea")
    with pytest.raises(RequestError, match="`target` must be one of Sea, Sky; got Land"):
        card_errors(about(0.7, 0.9), "Land")


@pytest.fixture(scope="module")
def checked(two_styles, style_classifier, tmp_path_factory):
    """Figures of `salon style check` of all images of two_styles, and its folder."""
    out = tmp_path_factory.mktemp("checked") / "out"
    command = ("style", "check", "--images", two_styles, "--classifier", style_classifier[1] / "style.onnx")
    outcome = run_salon(*command, "--require", 0.1, "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json, out


def test_a_folder_is_checked(checked, two_styles):
    figures, out = checked
    assert json.loads((out / RESULTS).read_text()) == figures
    assert figures["images"] == 36 and 15 <= round(figures["raw"]["value"] * 36) <= 21
    assert all(item["name"].startswith("Stripes/") for item in figures["most"][:10])
    assert all(item["name"].startswith("Blots/") for item in figures["least"][:10])
    assert figures["source"]["name"] == two_styles.name and len(figures["classifier"]["sha256"]) == 64


def test_a_bound_that_is_not_met_ends_with_3(two_styles, style_classifier, tmp_path):
    command = ("style", "check", "--images", two_styles / "Blots", "--classifier", style_classifier[1] / "style.onnx")
    outcome = run_salon(*command, "--require", 0.6, "--out", tmp_path / "out")
    assert outcome.code == 3 and "not met" in outcome.out
    assert "a corrected rate of 60.0% Stripes is required" in outcome.err
    assert (tmp_path / "out" / PAGE).exists()  # the work was done
    again = run_salon(*command, "--num-images", 5, "--target", "Blots", "--json")
    assert again.code == 0 and again.json["images"] == 5 and again.json["raw"]["value"] == 1


def test_warnings_are_said_beside_json_too(two_styles, style_classifier, tmp_path):
    for file in sorted((two_styles / "Stripes").iterdir())[:4]:
        Image.open(file).resize((24, 24)).save(tmp_path / file.name)
    command = ("style", "check", "--images", tmp_path, "--classifier", style_classifier[1] / "style.onnx")
    for outcome in (run_salon(*command), run_salon(*command, "--json")):
        assert outcome.code == 0 and "Warning: The classifier learned from images of" in outcome.err
    assert any("look blurred" in warning for warning in outcome.json["warnings"])


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (["--classifier", "{tmp}/absent.onnx"], ["--classifier must be an ONNX file of salon style train", "absent"]),
        (["--classifier", "{tmp}/text.onnx"], ["--classifier must be an ONNX file of salon style train", "text.onnx"]),
        (["--target", "Cubism"], ["--target must be one of Blots, Stripes; got Cubism"]),
        (["--require", "1.5"], ["'--require'", "1.5"]),
        (["--confidence", "1"], ["'--confidence'"]),
        (["--num-images", "99"], ["--num-images must be at most the 36 images"]),
        (["--images", "{tmp}"], ["holds no images"]),
        (["--out", "{tmp}/there"], ["--out would replace", "results.json"]),
    ],
)
def test_check_refuses(arguments, fragments, two_styles, style_classifier, tmp_path):
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "results.json").write_text("mine")
    usual = ["--images", two_styles, "--classifier", style_classifier[1] / "style.onnx"]
    outcome = run_salon("style", "check", *usual, *(text.format(tmp=tmp_path) for text in arguments))
    assert outcome.code == 2 and outcome.out == "" and "Traceback" not in outcome.err
    assert all(fragment in outcome.err.splitlines()[-1] for fragment in fragments), outcome.err


def test_seeds_beyond_the_last_are_refused_before_a_server_is_asked():
    outcome = run_salon("style", "check", "--seed", 4294967295, "--num-images", 4)
    assert outcome.code == 2
    assert "--seed must be at most 4294967292 for 4 images; got 4294967295 instead" in outcome.err


def test_names_in_a_report_are_text(tmp_path):
    figures = check(classified(40, 100), about(0.75, 0.9), require=0.3)
    figures["most"][0]["name"] = '"><script>'
    source = {"kind": "files", "name": "<b>bold"}
    write_check({**figures, "source": source, "classifier": {}, "salon": "1"}, classified(40, 100), tmp_path / PAGE)
    page = (tmp_path / PAGE).read_text()
    assert "<script" not in page and "<b>" not in page and "&lt;b&gt;bold" in page


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("which", ["check", "training"])
def test_a_browser_shows_a_report_without_sideways_scrolling(which, width, checked, style_classifier, browser):
    page = (checked[1] if which == "check" else style_classifier[1] / "report") / PAGE
    text = page.read_text()
    assert not re.findall(r"<(?:script|link|iframe|object)", text) and len(text) < 250_000
    browser.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.open(page.as_uri(), "document.querySelector('table')")
    assert browser.run("document.documentElement.scrollWidth") <= width
    images, loaded = browser.run("[document.images.length, [...document.images].filter(i => i.naturalWidth).length]")
    assert images == loaded >= (36 if which == "check" else 0)
    assert browser.errors == []


def test_what_a_server_paints_is_checked(tiny_run, style_classifier, triton, tmp_path):
    models = tmp_path / "models"
    exported = run_salon(
        *("export", "--snapshot", tiny_run, "--classifier", style_classifier[1] / "style.onnx", "--out", models),
        *("--models", "generator,style_classifier,generate_and_classify"),
    )
    assert exported.code == 0, exported.err
    url = triton(models).grpc_url
    command = ("style", "check", "--url", url, "--num-images", 10, "--seed", 5, "--target", "Blots", "--json")
    served, again = run_salon(*command), run_salon(*command, "--concurrency", 1)
    assert served.code == 0, served.err
    assert served.json == again.json and served.json["images"] == 10
    assert {item["name"] for item in served.json["most"]} == {f"seed {seed}" for seed in range(5, 15)}
    own = run_salon(*command, "--classifier", style_classifier[1] / "style.onnx").json
    for item, other in zip(served.json["most"], own["most"], strict=True):
        assert item["name"] == other["name"] and item["probability"] == pytest.approx(other["probability"], abs=1e-3)
    painted = tmp_path / "painted"
    assert run_salon("generate", tiny_run, "--seeds", "5-14", "--out", painted).code == 0
    folder = run_salon("style", "check", "--images", painted, "--url", url, "--target", "Blots", "--json").json
    assert folder["raw"] == served.json["raw"]


def test_a_server_without_a_classifier_is_named():
    outcome = run_salon("style", "check", "--url", "grpc://127.0.0.1:9", "--retries", 0, "--timeout", 2)
    assert outcome.code in (1, 2) and "127.0.0.1:9" in outcome.err and "Traceback" not in outcome.err
