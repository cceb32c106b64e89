"""Retraining with controls: three real arms end to end, what each saw, going on, the rule, wrong arguments."""

import hashlib
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, SalonProcess, as_torchrun, run_salon, write_dataset
from numpy.testing import assert_allclose
from PIL import Image
from safetensors import safe_open

from curation.retrain import splits as sets
from curation.retrain.noise import NoiseSource, random_phases
from curation.retrain.report import write_report
from curation.retrain.verdict import HARMED, HELPED, NOTHING, UNKNOWN, UNLEARNED
from eval.evaluate import evaluate
from gan.data import manifest as manifests
from gan.data.dataset import ImageDataset
from gan.data.loader import TrainingImages
from gan.runtime.files import read_json, sha256, write_json
from gan.snapshot import load
from gan.training.learner import Learner

ROOT = Path(__file__).parents[1]
COUNT = 40
DROPPED = {3, 10, 17, 24, 31, 38}  # images that the curation leaves out
HOW = ("--kimg", "0.024", "--repeats", "1", "--holdout", "0.25", "--num-images", "12", "--device", "cpu")
HOW += ("--workers", "0")
TOGETHER = ("--device", "cpu,cpu")  # side by side


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """40 images of 16x16 in two classes; no two classes alike in number."""
    path = tmp_path_factory.mktemp("retrain") / "pictures.zip"
    return write_dataset(path, [(16, 16)] * COUNT, [int(index >= 24) for index in range(COUNT)], ["day", "night"])


@pytest.fixture(scope="module")
def curation(dataset) -> Path:
    """A manifest that leaves DROPPED out."""
    names = ImageDataset(dataset).names
    return write_curation(dataset.with_suffix(".manifest"), dataset, DROPPED, names)


def write_curation(path: Path, dataset: Path, dropped: set[int], names: list[str]) -> Path:
    empty = dict.fromkeys(manifests.SCHEMA.names)
    rows = [
        {**empty, "name": name, "verdict": "drop", "reason": "outlier: by hand", "reviewer": "Ada"}
        if index in dropped
        else {**empty, "name": name, "verdict": "keep", "reviewer": "Ada"}
        for index, name in enumerate(names)
    ]
    manifests.write(path, rows, dataset=ImageDataset(dataset).fingerprint(), parent=None)
    return path


@pytest.fixture(scope="module")
def base_run(tmp_path_factory, dataset) -> Path:
    """A run on all images, whose checkpoint the arms start from."""
    outcome = run_salon("train", "--data", dataset, "--out", tmp_path_factory.mktemp("base"), *TINY_TRAINING, "--json")
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["run"])


class Witness:
    """Writes down, for each arm in turn, the state it starts from and the images it is shown."""

    def __init__(self, monkeypatch) -> None:
        self.starts: list[str] = []
        self.seen: list[list[int]] = []
        load, show = Learner.load_state_dict, TrainingImages.__getitem__

        def load_and_tell(learner, state):
            load(learner, state)
            self.starts.append(digest(learner.state_dict()))
            self.seen.append([])

        def show_and_tell(images, draw):
            self.seen[-1].append(draw[0])
            return show(images, draw)

        monkeypatch.setattr(Learner, "load_state_dict", load_and_tell)
        monkeypatch.setattr(TrainingImages, "__getitem__", show_and_tell)


def digest(value) -> str:
    """Of tensors in plain containers."""
    if isinstance(value, dict):
        text = str([(name, digest(part)) for name, part in value.items()])
    elif isinstance(value, list | tuple):
        text = str([digest(part) for part in value])
    elif isinstance(value, torch.Tensor):
        text = hashlib.sha256(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
    else:
        text = repr(value)
    return hashlib.sha256(text.encode()).hexdigest()


def content(snapshot: Path) -> str:
    """Digest of a snapshot's tensors and metadata; the file's own order of metadata is not fixed."""
    with safe_open(snapshot, framework="pt") as file:
        return file.metadata()["sha256"]


def kept(out: Path, name: str) -> set[str]:
    return manifests.read(out / "manifests" / name).kept()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dataset, curation, base_run):
    """A whole experiment -> its folder, what the command printed, and what its arms saw. Not to be changed."""
    out = tmp_path_factory.mktemp("experiment") / "out"
    with pytest.MonkeyPatch.context() as patch:
        witness = Witness(patch)
        outcome = run_salon(
            "curate", "retrain", "--run", base_run, "--manifest", curation, "--out", out, *HOW, "--json"
        )
    assert outcome.code == 0, outcome.err
    return out, outcome, witness


def test_arms_start_from_the_same_state_and_see_what_they_should(finished, dataset, base_run):
    out, outcome, witness = finished
    names = ImageDataset(dataset).names
    assert len(witness.starts) == 3 and len(set(witness.starts)) == 1
    assert sha256(out / "start.pt") == sha256(next((base_run / "checkpoints").iterdir()))
    held = kept(out, "held-out")
    assert len(held) == 10 and sum(names.index(name) >= 24 for name in held) == 4  # a quarter of either class
    dropped = {names[index] for index in DROPPED}
    should = {"curated": set(names) - held - dropped, "full": set(names) - held, "random": kept(out, "random-0")}
    assert len(should["random"]) == len(should["curated"]) and should["random"] < should["full"]
    assert should["random"] != should["curated"]
    for arm, draws in zip(("curated", "full", "random"), witness.seen, strict=True):
        assert kept(out, f"{arm}-0" if arm == "random" else arm) == should[arm]
        assert len(draws) == 24  # 3 iterations of 8
        seen = {names[index] for index in draws}
        assert seen <= should[arm] and not seen & held
    told = {arm["name"]: arm for arm in outcome.json["arms"]}
    assert {name: arm["images"] for name, arm in told.items()} == {
        "curated-0": len(should["curated"]),
        "full-0": 30,
        "random-0": len(should["curated"]),
    }
    assert all(arm["kimg"] == 0.056 for arm in told.values())


def test_an_arm_can_be_looked_at_and_trained_again_as_any_other(finished, curation, dataset, tmp_path):
    out, _, _ = finished
    rows = manifests.read(out / "manifests" / "curated")
    assert rows.header["parent"] == manifests.read(curation).header["hash"]
    reasons = {row["name"]: row["reason"] for row in rows.rows.to_pylist()}
    names = ImageDataset(dataset).names
    held = kept(out, "held-out")
    assert {name for name, reason in reasons.items() if reason == "held-out"} == held
    assert all(reasons[names[index]] in ("outlier: by hand", "held-out") for index in DROPPED)
    config = read_json(out / "arms" / "curated-0" / "config.json")
    assert config["manifest"] == rows.header["hash"] and config["resume_from"] == sha256(out / "start.pt")
    again = run_salon(
        *("train", "--data", dataset, "--manifest", out / "manifests" / "curated", "--resume", out / "start.pt"),
        *("--out", tmp_path, *TINY_TRAINING, "--total-kimg", "0.056", "--json"),
    )
    assert again.code == 0, again.err
    ours = next((out / "arms" / "curated-0" / "snapshots").iterdir())
    assert content(Path(again.json["snapshot"])) == content(ours)  # no second trainer: the same to the bit


def test_results_and_report_say_what_was_found(finished, tmp_path):
    out, outcome, _ = finished
    figures = outcome.json
    assert {**read_json(out / "results.json"), "out": str(out)} == figures
    assert figures["verdict"] == UNKNOWN and figures["decided_by"] == "kd" and figures["cost"] == []
    noise = read_json(out / "evaluations" / "noise" / "results.json")
    assert noise["generator"]["drawn_from"] == manifests.read(out / "manifests" / "full").hash
    assert {metric["id"] for metric in figures["metrics"]} == {
        *("fd", "fd_corrected", "kd", "precision", "recall", "density", "coverage")
    }
    for metric in figures["metrics"]:
        values, found = metric["values"], metric["differences"]["curated - random"]
        if not metric["id"].endswith("_corrected"):
            assert_allclose(found["value"], values["curated"]["value"] - values["random"]["value"], atol=1e-9)
        assert found["low"] <= found["value"] <= found["high"] and found["training"] is None
        assert metric["noise"]["value"] == next(r["value"] for r in noise["results"] if r["id"] == metric["id"])
    assert [row["name"] for row in figures["strata"]] == ["day", "night"]
    assert [row["n_real"] for row in figures["strata"]] == [6, 4]
    overall = next(metric for metric in figures["metrics"] if metric["id"] == "recall")["values"]
    for arm, value in overall.items():
        parts = [row["recall"][arm] * row["n_real"] for row in figures["strata"]]
        assert_allclose(sum(parts) / 10, value["value"])
    assert any("has learned from the held-out images before" in note for note in figures["notes"])
    page = (out / "report.html").read_text()
    assert not re.search("https?://(?!www.w3.org)", page)
    assert "<h1>No verdict</h1>" in page and "axis good" not in page and "axis bad" not in page
    assert figures["sentence"] in page and page.count("data:image/jpeg") == 24
    for metric in figures["metrics"]:  # better or worse, lower or higher: without a verdict nothing has a colour
        for number, difference in enumerate(metric["differences"].values()):
            difference["low"], difference["high"] = (0.1, 0.2) if number % 2 else (-0.2, -0.1)
    for verdict, coloured in ((UNKNOWN, False), (NOTHING, True)):
        for metric in figures["metrics"]:
            for difference in metric["differences"].values():
                difference["training"] = difference["images"]
        write_report({**figures, "verdict": verdict}, [None] * len(figures["arms"]), tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text()
        assert ("axis good" in page, "axis bad" in page) == (coloured, coloured)


def test_arms_that_were_compared_with_other_numbers_of_real_images_get_no_verdict(finished, curation, base_run):
    out, _, _ = finished
    (path,) = (out / "evaluations").glob("curated-0/results.json")
    before = path.read_text()
    figures = read_json(path)
    (recall,) = (row for row in figures["results"] if row["id"] == "recall")
    recall["identity"]["options"]["real_images"] = 7  # as of a CPU, where the others are of a GPU
    write_json(path, figures)
    try:
        outcome = run_salon("curate", "retrain", "--run", base_run, "--manifest", curation, "--out", out, *HOW)
    finally:
        path.write_text(before)
    assert outcome.code != 0 and "/real=7/" in outcome.err and "must not be compared" in " ".join(outcome.err.split())


def test_the_same_command_repeats_nothing_and_more_repeats_go_on(finished, dataset, curation, base_run, monkeypatch):
    out, outcome, _ = finished
    command = ("curate", "retrain", "--run", base_run, "--manifest", curation, "--out", out, *HOW, "--json")
    witness, judged = Witness(monkeypatch), []
    monkeypatch.setattr("eval.evaluator.evaluate", lambda *a, **k: judged.append(1) or evaluate(*a, **k))
    again = run_salon(*command)
    assert again.code == 0, again.err
    assert witness.starts == [] and judged == []
    assert {**again.json, "finished": 0} == {**outcome.json, "finished": 0}
    more = run_salon(*command, "--repeats", "2")
    assert more.code == 0, more.err
    assert len(witness.starts) == 3 and len(judged) == 3
    assert [arm["seed"] for arm in more.json["arms"]] == [0, 0, 0, 1, 1, 1]
    assert kept(out, "random-0") != kept(out, "random-1")
    for metric in more.json["metrics"]:
        first, second = metric["repeats"]["full"]
        if not metric["id"].endswith("_corrected"):
            assert_allclose(metric["values"]["full"]["value"], (first + second) / 2, rtol=1e-9)
    assert not any("trained once" in note for note in more.json["notes"])
    assert any("trained once" in note for note in outcome.json["notes"])
    assert more.json["verdict"] in (HELPED, NOTHING, HARMED, UNLEARNED) and more.json["cost"]
    page = (out / "report.html").read_text()
    assert more.json["headline"] in page and more.json["sentence"] in page and "of training</th>" in page


def as_undisturbed(outcome, finished) -> bool:
    """Whether an experiment that was stopped ended with the values of one that was not."""
    values, undisturbed = ({m["id"]: m["values"] for m in o.json["metrics"]} for o in (outcome, finished[1]))
    return values == undisturbed


def test_side_by_side_is_the_same_as_one_after_the_other(finished, curation, base_run, tmp_path):
    out = tmp_path / "out"
    command = ("curate", "retrain", "--run", base_run, "--manifest", curation, "--out", out, *HOW, *TOGETHER, "--json")
    outcome = run_salon(*command)
    assert outcome.code == 0, outcome.err
    assert as_undisturbed(outcome, finished)
    for arm in ("curated-0", "full-0", "random-0"):
        assert f"Run: {out / 'arms' / arm}\n" in (out / "arms" / f"{arm}.log").read_text()


def test_ctrl_c_leaves_an_experiment_that_goes_on(finished, curation, base_run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = ("curate", "retrain", "--run", base_run, "--manifest", curation, "--out", out, *HOW, "--json")
    show, shown = TrainingImages.__getitem__, []

    def show_and_stop(images, draw):
        shown.append(draw)
        if len(shown) == 24 + 8:  # at the end of the second arm's first batch
            os.kill(os.getpid(), signal.SIGINT)
        return show(images, draw)

    monkeypatch.setattr(TrainingImages, "__getitem__", show_and_stop)
    stopped = run_salon(*command)
    assert stopped.code == 0, stopped.err
    assert stopped.json == {"out": str(out), "finished": None, "arm": "full-0"}
    assert len(shown) == 32 and not (out / "results.json").exists()
    outcome = run_salon(*command)
    assert outcome.code == 0, outcome.err
    assert len(shown) == 3 * 24 and as_undisturbed(outcome, finished)  # no image was shown twice


def test_a_killed_experiment_goes_on_where_it_was(finished, curation, base_run, tmp_path):
    out = tmp_path / "out"
    command = ["curate", "retrain", "--run", base_run, "--manifest", curation, "--out", out, *HOW, "--json"]
    done = out / "evaluations" / "curated-0" / "results.json"
    event = (signal.SIGKILL, "open", r"arms/full-0/.*checkpoint-.*partial", 1)
    assert SalonProcess(tmp_path, *command, event=event).wait().code == -signal.SIGKILL
    stamp = done.stat().st_mtime_ns
    assert not (out / "results.json").exists()
    outcome = run_salon(*command)
    assert outcome.code == 0, outcome.err
    assert done.stat().st_mtime_ns == stamp and as_undisturbed(outcome, finished)


def test_two_processes_share_each_arm(finished, curation, base_run, tmp_path):
    out = tmp_path / "out"
    command = ["curate", "retrain", "--run", base_run, "--manifest", curation, "--out", out, *HOW, "--json"]
    ended, other = (process.wait() for process in as_torchrun(tmp_path, *command))
    assert ended.code == other.code == 0, ended.err + other.err
    assert ended.err.count(", in 2 processes") == 3
    alone, _, _ = finished
    for arm in ("curated-0", "full-0", "random-0"):
        mine, theirs = (load(next((folder / "arms" / arm / "snapshots").iterdir())) for folder in (out, alone))
        for name, tensor in theirs.G_ema.state_dict().items():
            torch.testing.assert_close(mine.G_ema.state_dict()[name], tensor, atol=1e-4, rtol=1e-3)
    figures = ended.json
    assert [arm["images"] for arm in figures["arms"]] == [arm["images"] for arm in finished[1].json["arms"]]
    distances = [next(m for m in f["metrics"] if m["id"] == "kd")["values"] for f in (figures, finished[1].json)]
    for arm, value in distances[1].items():
        assert_allclose(distances[0][arm]["value"], value["value"], rtol=0.02, atol=1e-3)


def test_another_dataset_judges_and_no_image_is_held_out(dataset, curation, base_run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for index, pixels in enumerate(np.random.default_rng(7).integers(0, 256, [9, 16, 16, 3], np.uint8)):
        Image.fromarray(pixels).save(other / f"{index}.png")
    out = tmp_path / "out"
    command = ("curate", "retrain", "--run", base_run, "--manifest", curation, "--out", out, *HOW, "--json")
    outcome = run_salon(*command, "--holdout-data", other)
    assert outcome.code == 0, outcome.err
    assert outcome.json["plan"]["images"] == {"curated": 34, "full": 40, "random": 34}
    assert outcome.json["plan"]["held_out"] == {"images": 9, "curation_leaves_out": 0, "base_has_seen_them": False}
    assert not any("before" in note for note in outcome.json["notes"]) and outcome.json["strata"] == []
    shared = run_salon(*command, "--holdout-data", dataset)
    assert shared.code == 2 and "--holdout-data" in shared.err and "share no image" in shared.err


def test_dry_run_writes_nothing(dataset, curation, base_run, tmp_path):
    out = tmp_path / "out"
    outcome = run_salon(
        *("curate", "retrain", "--run", base_run.parent, "--manifest", curation, "--out", out, *HOW),
        *("--holdout-of", "kept", "--dry-run", "--json"),
    )
    assert outcome.code == 0, outcome.err
    assert not out.exists()
    assert outcome.json["images"] == {"curated": 26, "full": 32, "random": 26}  # a quarter of the 34 that are kept
    assert outcome.json["held_out"]["curation_leaves_out"] == 0 and outcome.json["start_kimg"] == 0.032


def test_the_plan_reads_each_image_once_to_hash_it(dataset, curation, base_run, tmp_path, monkeypatch):
    first, *others = ImageDataset(dataset).names
    original, read = ImageDataset.file_bytes, []
    monkeypatch.setattr(
        ImageDataset, "file_bytes", lambda self, index: read.append(self.names[index]) or original(self, index)
    )
    command = ("curate", "retrain", "--run", base_run, "--manifest", curation, "--out", tmp_path / "out", *HOW)
    assert run_salon(*command, "--dry-run").code == 0
    assert {name: read.count(name) for name in (first, *others)} == {first: 2, **dict.fromkeys(others, 1)}


def test_wrong_arguments_are_named(dataset, curation, base_run, tiny_dataset, finished, tmp_path):
    out = tmp_path / "out"

    def refused(*changes: object) -> str:
        fixed = ("--run", base_run, "--manifest", curation, "--out", out, "--kimg", "0.024")
        outcome = run_salon("curate", "retrain", *fixed, "--device", "cpu", *changes)
        assert outcome.code == 2, outcome.err
        assert not out.exists()
        return outcome.err

    assert "--run must be a run" in refused("--run", tmp_path)
    assert "--manifest" in refused("--data", tiny_dataset) and "of another" in refused("--data", tiny_dataset)
    assert "--holdout 0.1 leaves 4 images" in refused()
    assert "at least 7" in refused() and "--holdout-data" in refused()
    assert "--kimg" in refused("--kimg", "0")
    assert "--strata style" in refused("--strata", "style", "--holdout", "0.25")
    everything = write_curation(tmp_path / "all", dataset, set(), ImageDataset(dataset).names)
    assert "must leave out some image" in refused("--manifest", everything, "--data", dataset, "--holdout", "0.25")
    assert "--data must name the dataset" in refused("--manifest", everything)
    done, _, _ = finished
    other = refused("--out", done, *HOW, "--seed", "1")
    assert "holds another experiment" in other and "seed is 0 there, 1 here" in other


def test_the_split_gives_every_stratum_its_share():
    strata = ["a"] * 50 + ["b"] * 30 + [None] * 20
    held = sets.hold_out(np.arange(100), strata, 0.15, seed=3)
    counts = [sum(strata[i] == name for i in held) for name in ("a", "b", None)]
    assert len(held) == len(set(held)) == 15 and counts in ([8, 4, 3], [7, 5, 3])  # of 7.5, 4.5 and 3
    assert (held == sets.hold_out(np.arange(100), strata, 0.15, seed=3)).all()
    assert (held != sets.hold_out(np.arange(100), strata, 0.15, seed=4)).any()
    found = sets.split(np.arange(0, 100, 2), 100, held, repeats=2, seed=0)
    assert not set(held) & set(found.full) and set(found.full) | set(held) == set(range(100))
    assert len(found.random[0]) == len(set(found.random[0])) == len(found.curated)


def test_short_arms_are_trained_three_times_unless_the_request_says_how_often(dataset, curation, base_run, tmp_path):
    command = ("curate", "retrain", "--run", base_run, "--manifest", curation, "--out", tmp_path / "out", "--dry-run")

    def repeats(*changes: object) -> int:
        return run_salon(*command, "--holdout", "0.25", "--device", "cpu", "--json", *changes).json["repeats"]

    assert [repeats("--kimg", kimg) for kimg in (0.024, 100, 101)] == [3, 3, 1]
    assert repeats("--kimg", "100", "--repeats", "1") == 1 and repeats("--kimg", "101", "--repeats", "5") == 5
    assert "once, which gives no verdict." in run_salon(*command, "--holdout", "0.25", "--kimg", "101").out


def test_noise_has_the_colours_and_the_spectrum_of_an_image_and_no_shape(dataset):
    rng = np.random.default_rng(0)
    pixels = (rng.normal(128, 12, [3, 16, 16]) + np.array([20, 0, -20])[:, None, None]).astype(np.uint8)
    noise = random_phases(pixels, rng)
    assert noise.shape == pixels.shape and noise.dtype == np.uint8
    spectra = [np.abs(np.fft.fft2(image.astype(float))) for image in (pixels, noise)]
    assert_allclose(spectra[1][:, 0, 0] / 256, spectra[0][:, 0, 0] / 256, atol=0.1)  # means
    assert np.abs(spectra[1] - spectra[0]).mean() < 0.1 * spectra[0][:, 1:, 1:].mean()  # rounding
    assert abs(np.corrcoef(pixels[0].ravel(), noise[0].ravel())[0, 1]) < 0.3
    channels = [np.corrcoef(image.reshape(3, -1).astype(float)) for image in (pixels, noise)]
    assert_allclose(channels[1], channels[0], atol=0.02)
    source = NoiseSource(ImageDataset(dataset), np.array([2, 5]), 6, seed=1, drawn_from="x")
    images = list(source.pixels(0, 6))
    assert len(source) == 6 and images[0].shape == (16, 16, 3)
    assert (next(source.pixels(4, 5)) == images[4]).all() and (images[0] != images[1]).any()
    means = {tuple(ImageDataset(dataset).pixels(i).mean(axis=(1, 2)).round()) for i in (2, 5)}
    assert all(min(np.abs(np.array(m) - image.mean(axis=(0, 1))).max() for m in means) < 2 for image in images)
