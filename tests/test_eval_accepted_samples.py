"""salon eval run --reject: a real run with and without rejection, and what the difference of the two is worth."""

import json

import numpy as np
import pytest
from conftest import run_salon, write_dataset

from eval.accepted_samples import AcceptedSource, in_place, name
from eval.data.snapshot_source import SnapshotSource
from eval.metric_registry import Result
from eval.metrics.result_key import require_comparable
from gan import snapshot
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator

LITE = ("--extractor", "efficientnet-lite0", "--device", "cpu")


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Real images that neither training nor the reference has, in two classes."""
    return write_dataset(tmp_path_factory.mktemp("unseen") / "unseen.zip", [(16, 16)] * 40, [0, 1] * 20)


@pytest.fixture(scope="module")
def judge(tiny_run, tiny_dataset, unseen):
    """Judge 8 images with rejection and more arguments -> the outcome."""

    def run(out, *arguments, method="obrs", metrics="kid,pr", data=tiny_dataset, source=tiny_run, calibrate=unseen):
        small = ("--num-images", 8, "--metrics", metrics, "--burn-in", 16, "--reject", method, *LITE)
        calibration = () if calibrate is None else ("--calibration-data", calibrate)
        words = ("eval", "run", "--snapshot", source, "--data", data, "--out", out, *small, *calibration)
        return run_salon(*words, *arguments)

    return run


@pytest.fixture(scope="module")
def judged(judge, tmp_path_factory):
    """The figures of an evaluation with rejection, and its folder."""
    out = tmp_path_factory.mktemp("judged")
    outcome = judge(out, "--budget", 3, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json, out


def test_what_is_without_rejection_is_what_an_evaluation_without_it_finds(judged, tiny_run, tiny_dataset, tmp_path):
    words = ("eval", "run", "--snapshot", tiny_run, "--data", tiny_dataset, "--num-images", 8, "--metrics", "kid,pr")
    plain = run_salon(*words, *LITE, "--out", tmp_path, "--json").json
    assert plain["results"] == judged[0]["results"] and plain["rejection"] is None


def test_what_is_with_rejection_is_what_the_accepted_images_are_worth(judged, tiny_run, tiny_dataset, tmp_path):
    figures, out = judged
    chosen = figures["rejection"]
    assert (chosen["accepted"], chosen["candidates"], chosen["acceptance"]) == (8, 24, 1 / 3)
    assert chosen["calibrated_on_reference"] is False and chosen["calibration"]["images"] == 16
    (file,) = (out / "rejection").iterdir()
    seeds = json.loads(file.read_text())["seeds"]
    assert len(set(seeds)) == 8 and max(seeds) < 24 and seeds != list(range(8))
    painted = run_salon("generate", tiny_run, "--seeds", ",".join(map(str, seeds)), "--out", tmp_path / "accepted")
    assert painted.code == 0
    words = ("eval", "run", "--images", tmp_path / "accepted", "--data", tiny_dataset, "--metrics", "kid,pr")
    alone = run_salon(*words, *LITE, "--out", tmp_path / "alone", "--json").json
    assert [row["value"] for row in chosen["results"]] == pytest.approx([r["value"] for r in alone["results"]])
    assert chosen["results"][0]["value"] != figures["results"][0]["value"]
    for row, with_it, without in zip(chosen["rows"], chosen["results"], figures["results"], strict=True):
        assert row["accepted"]["value"] == with_it["value"] and row["all_samples"]["value"] == without["value"]
        assert row["difference"]["value"] == pytest.approx(with_it["value"] - without["value"])


def test_results_with_rejection_say_so_and_are_not_comparable_with_others(judged):
    figures, _ = judged
    key = figures["rejection"]["results"][0]["key"]
    assert (
        key
        == figures["results"][0]["key"] + "/obrs-budget=3"
        == "kd@efficientnet-lite0/imagenet/fp32/n=8/obrs-budget=3"
    )
    a, b = (Result.from_dict(part["results"][0]).identity for part in (figures["rejection"], figures))
    with pytest.raises(RequestError, match="rejection is obrs-budget=3 and null"):
        require_comparable(a, b)


def test_table_and_report_show_both(judged, judge):
    figures, out = judged
    text = judge(out, "--budget", 3)
    page = (out / "report.html").read_text()
    assert "with rejection" in text.out and "8 of 24 candidates, 33.3%" in text.out
    for row in figures["rejection"]["rows"]:
        assert f"{row['accepted']['value']:.4g}" in text.out and f"{row['difference']['value']:.4g}" in text.out
    assert "<h2>With rejection</h2>" in page and "8 of\n24 candidates, 33.3%" in page
    assert page.count('alt="accepted ') == 8
    assert figures["rejection"]["results"][0]["key"] in page.replace("<span>", "").replace("</span>", "")
    json_again = judge(out, "--budget", 3, "--json").json
    assert json_again["images_made"] == 0 and json_again["rejection"]["rows"] == figures["rejection"]["rows"]


@pytest.mark.parametrize("method", ["drs", "mh"])
def test_other_methods_and_the_images_that_judge(method, judge, tmp_path):
    outcome = judge(tmp_path, method=method, metrics="kid", calibrate=None)
    assert outcome.code == 0, outcome.err
    assert f"Accepted by {method}-budget=4: 8 of " in outcome.out and "--calibration-data" in outcome.err
    figures = json.loads((tmp_path / "results.json").read_text())["rejection"]
    assert figures["calibrated_on_reference"] is True and figures["trained_on_data"] is True


def test_a_dataset_that_judges_and_calibrates_is_hashed_once(judge, tiny_dataset, tmp_path, monkeypatch):
    assert judge(tmp_path / "first", metrics="kid", calibrate=None).code == 0  # the features are in the cache
    names, read = ImageDataset(tiny_dataset).names, []
    original = ImageDataset.file_bytes
    monkeypatch.setattr(
        ImageDataset, "file_bytes", lambda self, index: read.append(self.names[index]) or original(self, index)
    )
    assert judge(tmp_path / "second", metrics="kid", calibrate=None).code == 0
    counts = np.array([read.count(name) for name in names])
    assert (counts[1:] == 2).all() and counts[0] == 3  # hashed, and decoded to calibrate; the first was opened, too


def test_by_class_each_seed_is_judged_as_what_it_is(judge, conditional_snapshot, unseen, tmp_path):
    found = snapshot.load(conditional_snapshot)
    source = tmp_path / "snapshot-0000000001.safetensors"
    snapshot.save(source, found.G_ema, Discriminator(found.config.network), found.config, 1, ["day", "night"])
    outcome = judge(tmp_path / "out", "--json", metrics="kid", source=source, data=unseen)
    assert outcome.code == 0, outcome.err
    plain = write_dataset(tmp_path / "plain.zip", [(16, 16)] * 20)
    refused = judge(tmp_path / "x", source=source, calibrate=plain)
    assert refused.code == 2 and "--calibration-data must hold images of 2 classes" in refused.err.splitlines()[-1]


def test_an_image_of_both_sets_has_one_place():
    assert in_place([12, 13, 17, 29], 11) == [17, 12, 13, 29]
    assert in_place([5, 3, 4], 3) == [3, 4, 5]


def test_the_difference_of_equal_sets_is_surely_zero(judge, tmp_path):
    figures = judge(tmp_path, "--budget", 1, "--json").json["rejection"]  # all are accepted
    for row in figures["rows"]:
        assert row["difference"]["value"] == row["difference"]["se"] == 0


def test_accepted_images_are_those_of_their_seeds(tiny_run):
    source = SnapshotSource(tiny_run, 4)
    accepted = AcceptedSource(source, [3, 9, 0], "obrs-budget=2", {})
    others = AcceptedSource(source, [3, 9, 1], "obrs-budget=2", {})
    painted = list(accepted.pixels(0, 3))
    assert np.array_equal(painted[0], next(source.pixels(3, 4))) and np.array_equal(
        painted[2], next(source.pixels(0, 1))
    )
    assert np.array_equal(next(accepted.pixels(1, 2)), painted[1])
    assert accepted.identity != others.identity != source.identity


def test_names_of_methods():
    assert name({"reject": "obrs"}) == "obrs-budget=4" and name({"reject": "mh", "budget": 20}) == "mh-budget=20"
    assert name({"reject": "drs", "gamma": 0.0}) == "drs-gamma=0"
    assert name({"reject": "drs", "gamma_percentile": 80.0}) == "drs-gamma-percentile=80"


@pytest.mark.parametrize(
    "words, said",
    [
        (("--budget", "2"), "--budget needs --reject"),
        (("--calibration-data", "x"), "--calibration-data needs --reject"),
        (("--reject", "mh", "--gamma", "1"), "--gamma needs --reject drs"),
        (("--reject", "obrs", "--calibration-data", "absent.zip"), "absent.zip does not exist"),
        (("--reject", "obrs", "--metrics", "ppl"), "--reject needs one of --metrics fid,"),
        (("--reject", "obrs", "--burn-in", "4"), "calibration must have at least 8 real and 8 generated images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refused(words, said, tiny_run, tiny_dataset, tmp_path):
    request = ("eval", "run", "--snapshot", tiny_run, "--data", tiny_dataset, "--num-images", 8, "--metrics", "kid")
    outcome = run_salon(*request, *LITE, "--out", tmp_path, *words)
    assert outcome.code == 2 and said in outcome.err.splitlines()[-1], outcome.err


def test_only_snapshots_can_reject(tiny_dataset, tmp_path):
    outcome = run_salon(
        "eval", "run", "--images", tiny_dataset, "--data", tiny_dataset, "--reject", "obrs", *LITE, "--out", tmp_path
    )
    assert outcome.code == 2 and "--reject needs --snapshot" in outcome.err
