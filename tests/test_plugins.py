"""What other packages add by entry points: used where a request names it, blamed by name, and else left alone."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_salon
from PIL import Image
from test_readme import DOCS, blocks

from curation.score.image_score import ImageScore
from eval import metric_registry
from eval.features import registry
from eval.metrics.feature_metric import FeatureMetric
from eval.training_hook import hook
from gan.data import manifest
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.errors import RequestError, SalonError
from gan.runtime import plugins

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
PROJECT = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
OUTLIERS = (0, 7)  # the red images among grey ones


def install(folder, name, version, entries, modules=()):
    """What an installed package leaves in site-packages: its metadata, and its modules."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in own.items()) for group, own in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module, source in dict(modules).items():
        (folder / f"{module}.py").write_text(source)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder in which packages are installed for the length of a test."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    known = [metric_registry.METRICS, metric_registry.NAMES, registry.NETWORKS]
    before = [dict(own) for own in known]
    better = set(metric_registry.HIGHER_IS_BETTER)
    monkeypatch.setattr(plugins, "_told", set())
    yield folder
    for own, old in zip(known, before, strict=True):
        own.clear()
        own.update(old)
    metric_registry.HIGHER_IS_BETTER.intersection_update(better)
    for module in [
        name for name, own in sys.modules.items() if (getattr(own, "__file__", None) or "").startswith(str(folder))
    ]:
        del sys.modules[module]


@pytest.fixture
def example(site):
    """The example package, as pip would install it."""
    install(site, PROJECT["name"], PROJECT["version"], PROJECT["entry-points"])
    shutil.copytree(EXAMPLE / "salon_palette", site / "salon_palette")
    return site


@pytest.fixture(scope="module")
def paintings(tmp_path_factory):
    """A dataset of twenty images with a manifest, OUTLIERS of them red and the others grey."""
    folder = tmp_path_factory.mktemp("paintings")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = np.repeat(rng.integers(0, 256, [16, 16, 1], np.uint8), 3, axis=2)
        if number in OUTLIERS:
            pixels[:, :, 0] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{number:02}.png")
    outcome = run_salon("prepare", folder / "images", "--out", folder / "p.zip", "--resolution", "16")
    assert outcome.code == 0, outcome.err
    return folder / "p.zip"


def evaluated(tmp_path, images, data, *options):
    run = ("eval", "run", "--images", images, "--data", data, "--out", tmp_path / "evaluation", "--device", "cpu")
    return run_salon(*run, "--json", *options)


def scored(tmp_path, data, *options):
    return run_salon("curate", "score", data, "--out", tmp_path / "s.manifest", "--device", "cpu", "--json", *options)


def score_of(tmp_path, column):
    rows = manifest.read(tmp_path / "s.manifest", [column, f"{column}_se"]).rows
    assert set(rows.column(f"{column}_se").to_pylist()) == {None}
    return np.array(rows.column(column).to_pylist())


def test_a_metric_and_an_extractor_of_another_package_are_used(tmp_path, example, tiny_dataset, paintings):
    images = paintings.parent / "images"
    options = ("--metrics", "mean_distance,kid", "--extractor", "palette", "--require", "mean_distance<99")
    outcome = evaluated(tmp_path, images, tiny_dataset, *options)
    assert outcome.code == 0, outcome.err
    result, kd = outcome.json["results"]
    assert (result["id"], result["name"], result["better"]) == ("mean_distance", "Distance of the means", "lower")
    assert result["key"] == "mean_distance@palette (salon-palette 0.1.0)/imagenet/fp32/n=20"
    assert result["identity"]["options"]["package"] == "salon-palette 0.1.0" and kd["id"] == "kd"
    # By hand, from the example's own network; the interval is that of the jackknife.
    import salon_palette

    from eval.features.extractor import load_extractor

    extractor = load_extractor("palette", device="cpu")
    real = ImageDataset(tiny_dataset)
    gen = [np.asarray(Image.open(images / f"{n:02}.png")) for n in range(20)]
    sets = [extractor(pixels)["features"] for pixels in (gen, [real.rgb(i) for i in range(12)])]
    assert sets[0].shape == (20, 48)
    assert result["value"] == pytest.approx(salon_palette.mean_distance.measure(*sets), rel=1e-5)
    assert result["low"] < result["value"] < result["high"] and len(result["replicates"]["left_out"]) == 20
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "Distance of the means" in page


def test_a_metric_of_another_package_is_measured_during_training(tmp_path, example, paintings):
    collection, device = Collection.open(paintings), torch.device("cpu")
    hook(collection, "kid,mean_distance", 5.0, out=tmp_path, device=device)
    assert metric_registry.METRICS["mean_distance"].measure
    with pytest.raises(RequestError, match=r"mind.*,mean_distance; got other instead"):
        hook(collection, "other", 5.0, out=tmp_path, device=device)


def test_doctor_says_what_packages_add(example):
    findings = {finding["name"]: finding for finding in run_salon("doctor", "--json").json["findings"]}
    added = "adds the extractor palette, the metric mean_distance, the score colourfulness, the score mean-nearness"
    assert findings["salon-palette 0.1.0"]["found"] == added


def test_results_are_compared_where_the_package_is_not(tmp_path, example, tiny_dataset, paintings):
    document = evaluated(
        tmp_path, paintings.parent / "images", tiny_dataset, "--metrics", "mean_distance", "--extractor", "palette"
    ).json
    fields = document["results"][0] | {"better": "higher"}
    del metric_registry.METRICS["mean_distance"], metric_registry.NAMES["mean_distance"]
    shutil.rmtree(example)
    result = metric_registry.Result.from_dict(fields)
    assert result.name == "Distance of the means" and result.to_dict()["better"] == "higher"


def test_scores_of_another_package_are_in_the_manifest_and_prune(tmp_path, example, paintings):
    methods = ("--method", "colourfulness", "--method", "mean-nearness", "--method", "knn")
    outcome = scored(tmp_path, paintings, *methods, "--extractor", "palette", "--features", "both")
    assert outcome.code == 0, outcome.err
    names = ["knn", "mean-nearness", "style-knn", "style-mean-nearness", "colourfulness"]
    assert outcome.json["methods"] == names
    package = "salon-palette 0.1.0"
    assert outcome.json["packages"] == {"colourfulness": package, "mean-nearness": package}
    assert outcome.json["extractor"]["extractor"] == f"palette ({package})"
    colours = score_of(tmp_path, "score_colourfulness")
    assert set(np.flatnonzero(colours > 1)) == {*OUTLIERS}
    nearness, style = (score_of(tmp_path, f"score_{kind}mean_nearness") for kind in ("", "style_"))
    assert set(np.argsort(nearness)[:2]) == {*OUTLIERS} and not np.allclose(nearness, style)
    prune = ("curate", "prune", tmp_path / "s.manifest", "--out", tmp_path / "p.manifest", "--keep", "0.1")
    outcome = run_salon(*prune, "--method", "colourfulness")
    assert outcome.code == 0, outcome.err
    kept = manifest.read(tmp_path / "p.manifest", ["verdict"]).rows.column("verdict").to_pylist()
    assert [n for n, verdict in enumerate(kept) if verdict == "keep"] == [*OUTLIERS]


BROKEN = {
    "salon.metrics": {"broken": "broken_plugin:metric", "absent": "no_such_module:metric", "other": "json:dumps"},
    "salon.extractors": {"broken": "broken_plugin:network"},
    "salon.scores": {"broken": "broken_plugin:score"},
}
CANARY = "raise RuntimeError('no luck\\nhere')"


def test_a_broken_package_is_named_and_troubles_no_other_command(tmp_path, site, tiny_dataset, paintings):
    install(site, "unlucky", "2.5", BROKEN, {"broken_plugin": CANARY})
    images = paintings.parent / "images"
    for words in (["--help"], ["eval", "run", "--help"], ["curate", "score", "--help"], ["train", "--help"]):
        outcome = run_salon(*words)
        assert outcome.code == 0 and "unlucky" not in outcome.out + outcome.err
    whole = evaluated(tmp_path, images, tiny_dataset, "--metrics", "kid", "--extractor", "efficientnet-lite0")
    assert whole.code == 0 and "unlucky" not in whole.err
    for options in (("--metrics", "broken"), ("--extractor", "broken")):
        outcome = evaluated(tmp_path, images, tiny_dataset, *options)
        assert outcome.code == 2 and outcome.err.count("\n") == 1
        assert "broken of unlucky 2.5 cannot be loaded from broken_plugin:" in outcome.err
        assert "RuntimeError: no luck here" in outcome.err
    outcome = scored(tmp_path, paintings, "--method", "broken")
    assert outcome.code == 2 and "--method broken of unlucky 2.5 cannot be loaded" in outcome.err
    for name, reason in (("absent", "ModuleNotFoundError"), ("other", "must be a eval.metrics.feature_metric")):
        outcome = evaluated(tmp_path, images, tiny_dataset, "--metrics", name)
        assert outcome.code == 2 and reason in outcome.err and "unlucky 2.5" in outcome.err
    outcome = evaluated(tmp_path, images, tiny_dataset, "--metrics", "nothing")
    assert outcome.code == 2 and "ls,absent,broken,other; got nothing" in outcome.err


PLUGIN = """
import numpy as np
from curation.score.image_score import ImageScore
from eval.metrics.feature_metric import FeatureMetric
print("imported")
def fail(*values):
    raise KeyError("gone")
metric = FeatureMetric(name="Fails", measure=fail)
nan = FeatureMetric(name="Not a number", measure=lambda gen, real: float("nan"))
score = ImageScore(of_images=fail)
short = ImageScore(of_features=lambda features: features[1:, 0])
"""


def test_a_package_that_fails_or_gives_no_numbers_is_named(tmp_path, site, tiny_dataset, paintings):
    entries = {
        "salon.metrics": {"fails": "failing:metric", "no_number": "failing:nan"},
        "salon.scores": {"fails": "failing:score", "short": "failing:short"},
    }
    install(site, "unlucky", "2.5", entries, {"failing": PLUGIN})
    images = paintings.parent / "images"
    options = ("--extractor", "efficientnet-lite0")
    cases = {
        "the metric fails of unlucky 2.5 failed: KeyError: 'gone'": evaluated(
            tmp_path, images, tiny_dataset, "--metrics", "fails", *options
        ),
        "no_number of unlucky 2.5 failed: ValueError: a value must be a finite number; got nan for 20": evaluated(
            tmp_path, images, tiny_dataset, "--metrics", "no_number", *options, "--overwrite"
        ),
        "the score fails of unlucky 2.5 failed: KeyError: 'gone'": scored(tmp_path, paintings, "--method", "fails"),
        "each of 20 images; got [19]": scored(tmp_path, paintings, "--method", "short"),
    }
    for message, outcome in cases.items():
        assert outcome.code == 1 and message in outcome.err and "Traceback" not in outcome.err, outcome.err


def test_names_of_salons_own_and_names_twice(tmp_path, site, tiny_dataset, paintings):
    module = {"failing": PLUGIN}
    own = {"salon.metrics": {"kid": "failing:metric", "fd": "failing:metric", "a-b": "failing:metric"}}
    own["salon.scores"] = {"density": "failing:score", "d-mine": "failing:score", "twice": "failing:score"}
    install(site, "first", "1", own, module)
    install(site, "second", "2", {"salon.scores": {"twice": "failing:score"}})
    images = paintings.parent / "images"
    outcome = evaluated(tmp_path, images, tiny_dataset, "--metrics", "kid", "--extractor", "efficientnet-lite0")
    assert outcome.code == 0 and "failing" not in sys.modules
    assert outcome.err.count("first 1 offers the metric kid, which is a name of Salon's: Salon's is used") == 1
    for metric, reason in (("fd", "must have a new name"), ("a-b", "must have a name of the form [a-z][a-z0-9_]*")):
        outcome = evaluated(tmp_path, images, tiny_dataset, "--metrics", metric)
        assert outcome.code == 2 and reason in outcome.err and "of first 1" in outcome.err
    for method, reason in (("d-mine", "must not begin with d-"), ("twice", "is offered by first 1 and by second 2")):
        outcome = scored(tmp_path, paintings, "--method", method)
        assert outcome.code == 2 and reason in outcome.err
    outcome = scored(tmp_path, paintings, "--method", "density")
    assert outcome.code == 0 and "first 1 offers the score density" in outcome.err


NETWORK = """
from dataclasses import replace
from torch import nn
from eval.features.registry import Cut, NETWORKS
renamed = NETWORKS["efficientnet-lite0"]
wide = replace(renamed, name="wide", build=lambda network, state, path: Cut(trunk=nn.Flatten()))
"""


def test_an_extractor_must_have_its_name_and_give_its_features(site):
    entries = {"salon.extractors": {"renamed": "networks:renamed", "wide": "networks:wide"}}
    install(site, "unlucky", "2.5", entries, {"networks": NETWORK})
    from eval.features.extractor import load_extractor

    with pytest.raises(RequestError, match=r"renamed of unlucky 2\.5 must have that name; got efficientnet-lite0"):
        load_extractor("renamed", device="cpu")
    with pytest.raises(RequestError, match=r"wide of unlucky 2\.5 must give features \[N, 1280\]; got \[2, 150528\]"):
        load_extractor("wide", device="cpu")


def test_a_process_of_its_own_finds_packages_on_its_path(tmp_path, example):
    """As a user has it: a command in a new process, in which nothing was imported before it asked."""
    root = Path(__file__).parents[1]
    code = (
        "import sys; from gan.runtime import plugins;"
        "print(plugins.names(plugins.SCORES), 'salon_palette' in sys.modules);"
        "from curation.score import image_score;"
        "print(image_score.load_all(['colourfulness'])['colourfulness'].package, 'salon_palette' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{root}:{example}", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["['colourfulness', 'mean-nearness'] False", "salon-palette 0.1.0 True"]


def test_what_a_package_offers_is_checked_when_it_is_made():
    for functions in ({}, {"of_features": len, "of_images": len}):
        with pytest.raises(ValueError, match="one of of_features and of_images"):
            ImageScore(**functions)
    with (
        pytest.raises(SalonError, match="the score x of y failed: ZeroDivisionError"),
        plugins.running("the score x", "y"),
    ):
        1 / 0  # noqa: B018
    assert FeatureMetric(name="a", measure=len).least_generated == 2


def test_the_page_shows_the_example(example):
    page = DOCS / "how-to" / "extend.md"
    (toml,) = blocks(page, "toml")
    assert tomllib.loads(toml)["project"]["entry-points"] == PROJECT["entry-points"]
    shown: dict = {}
    exec(compile("\n".join(blocks(page, "python")), str(page), "exec"), shown)
    import salon_palette

    rng = np.random.default_rng(0)
    gen, real = rng.random((2, 30, 5), np.float32)
    values = [own.measure(gen, real) for own in (shown["mean_distance"], salon_palette.mean_distance)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert shown["brightness"].of_images([np.full([4, 4, 3], 7, np.uint8)]).tolist() == [7]
    assert np.allclose(shown["to_the_mean"].of_features(gen), salon_palette.mean_nearness.of_features(gen))
