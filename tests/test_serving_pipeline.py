"""The pipeline as one file: what the file may say, what runs again when, and what a stop leaves."""

import base64
import dataclasses
import json
import os
import re
import shutil
import signal
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import run_salon, until
from PIL import Image

from eval.data.thumbnails import QUALITY
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import encode, for_display, to_image
from gan.errors import RequestError
from serving.pipeline import config, demo, report, runner
from serving.pipeline.runner import Record
from serving.pipeline.stages import STAGES

START = """
[synthetic]
count = 12
size = 24

[prepare]
resolution = 16
"""
TRAIN = """
[train]
preset = "tiny"
device = "cpu"
workers = 0
total-kimg = 0.032
kimg-per-tick = 0.016
set = ["z_dim=8", "w_dim=8", "mapping_layers=2", "channel_base=128", "channel_max=8", "batch_size=8"]
"""


def write(folder, text, name="loop.toml"):
    file = folder / name
    file.write_text(text)
    return file


def outcomes(outcome):
    assert outcome.code == 0, outcome.err
    return {name: record["outcome"] for name, record in outcome.json["stages"].items()}


@pytest.mark.parametrize(
    "text, said",
    [
        ("[prepare", "must be a readable TOML file"),
        ("", "must have a table for each stage"),
        ("[prepair]", r"there is no stage \[prepair\]; did you mean \[prepare\]\?"),
        ("[zzz]", "known are synthetic, prepare"),
        ("train = 3", r"train must be a table, \[train\]; got 3"),
        ("images = 3\n[prepare]", "images must be a folder, a ZIP or a list"),
        ("folder = ''\n[synthetic]", "folder must be a path"),
        ("[prepare]", r"must have either images = FOLDER or a table \[synthetic\]"),
        ("[synthetic]\n[prepare]\nbuckets = true", r"\[prepare\] must make one dataset; buckets makes several"),
        ("images = 'x'\n[synthetic]", r"must have either images = FOLDER or a table \[synthetic\]"),
        ("images = 'nowhere'\n[prepare]", "images nowhere do not exist"),
        ("[synthetic]\n[train]", r"\[train\] needs \[prepare\]"),
        ("folder = 'loop.toml'\n[synthetic]", "folder must be a place for folders; .*loop.toml is a file"),
        ("folder = 'loop.toml/x'\n[synthetic]", "folder must be a place for folders; .*loop.toml is a file"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, text, said):
    with pytest.raises(RequestError, match=said):
        config.read(write(tmp_path, text))


@pytest.mark.parametrize(
    "line, said",
    [
        ("resolutoin = 16", r"\[prepare\]: No such option"),
        ("resolution = 'big'", r"\[prepare\]: .*'big' is not a valid int"),
        ("fit = 'squash'", r"\[prepare\]: .*'squash' is not one of"),
    ],
)
def test_every_option_is_read_before_anything_runs(tmp_path, line, said):
    text = START.replace("resolution = 16", line)
    outcome = run_salon("run", write(tmp_path, text))
    assert outcome.code == 2 and re.search(said, outcome.err), outcome.err
    assert [p.name for p in tmp_path.iterdir()] == ["loop.toml"]


def test_keys_become_options():
    inputs = config.Inputs(images=["a", "b.zip"], paths={}, figures={})
    table = {"resolution": 16, "keep_duplicates": True, "dry-run": False, "style": ["x", "y z"], "out": "mine.zip"}
    line = config.words("prepare", table, inputs, "dataset.zip")
    expected = ["prepare", "a", "b.zip", "--out", "mine.zip", "--overwrite", "--resolution", "16", "--keep-duplicates"]
    assert line == [*expected, "--style", "x", "--style", "y z"]


def test_an_evaluation_that_the_file_names_is_made_again_for_another_request():
    inputs = config.Inputs(images=[], paths={"prepare": "x.zip", "train": "runs"}, figures={})
    assert "--overwrite" in config.words("evaluate", {"out": "evaluation"}, inputs, "")


@pytest.mark.parametrize("labels, data", [("folders", "dataset.zip"), ("genre", "paintings"), (None, "paintings")])
def test_styles_are_learned_at_the_size_of_what_is_painted_where_they_can(labels, data):
    figures = {"prepare": {"parameters": {"labels": labels}}}
    inputs = config.Inputs(images=["paintings"], paths={"prepare": "dataset.zip"}, figures=figures)
    assert config.words("style", {}, inputs, "style.onnx")[:4] == ["style", "train", "--data", data]


def test_stages_need_only_earlier_ones():
    names = list(STAGES)
    for name, stage in STAGES.items():
        assert set(stage.needs) <= set(stage.after)
        assert all(names.index(other) < names.index(name) for other in stage.after)


def test_a_dry_run_runs_nothing(tmp_path):
    outcome = run_salon("run", write(tmp_path, START + TRAIN), "--dry-run", "--json")
    assert outcome.json == {"stages": ["synthetic", "prepare", "train"]}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_stage_runs_again_only_when_something_has_changed(tmp_path):
    file = write(tmp_path, START)
    assert outcomes(run_salon("run", file, "--json")) == {"synthetic": "done", "prepare": "done"}
    assert outcomes(run_salon("run", file, "--json")) == {"synthetic": "unchanged", "prepare": "unchanged"}
    write(tmp_path, START.replace("resolution = 16", "resolution = 8"))
    assert outcomes(run_salon("run", file, "--json")) == {"synthetic": "unchanged", "prepare": "done"}
    write(tmp_path, START)  # the first results are still there
    assert outcomes(run_salon("run", file, "--json")) == {"synthetic": "unchanged", "prepare": "unchanged"}
    write(tmp_path, START.replace("count = 12", "count = 10"))
    assert outcomes(run_salon("run", file, "--json")) == {"synthetic": "done", "prepare": "done"}
    assert len(list((tmp_path / "loop").glob("dataset-*.zip"))) == 3
    for lost in (tmp_path / "loop").glob("dataset-*.zip"):
        lost.unlink()
    assert outcomes(run_salon("run", file, "--json")) == {"synthetic": "unchanged", "prepare": "done"}


def test_what_the_file_names_itself_is_known_by_its_last_setting_alone(tmp_path):
    text = START + 'out = "mine.zip"\noverwrite = true\n'
    small = text.replace("resolution = 16", "resolution = 8")
    for given, expected in ((text, "done"), (text, "unchanged"), (small, "done"), (text, "done")):
        outcome = run_salon("run", write(tmp_path, given), "--json")
        assert outcomes(outcome)["prepare"] == expected
        assert outcome.json["stages"]["prepare"]["output"] == "mine.zip"
        assert ImageDataset(tmp_path / "mine.zip").shape.width == (8 if given == small else 16)


def test_ones_own_images_are_looked_at_again(tmp_path):
    run_salon("synthetic", tmp_path / "mine", "--count", 4, "--size", 16)
    file = write(tmp_path, "images = 'mine'\nfolder = 'all'\n[prepare]\nresolution = 8")
    before = {p: p.read_bytes() for p in (tmp_path / "mine").rglob("*.jpg")}
    assert outcomes(run_salon("run", file, "--json")) == {"prepare": "done"}
    assert outcomes(run_salon("run", file, "--json")) == {"prepare": "unchanged"}
    run_salon("synthetic", tmp_path / "mine", "--count", 6, "--size", 16)
    outcome = run_salon("run", file, "--json")
    assert outcomes(outcome) == {"prepare": "done"} and outcome.json["stages"]["prepare"]["figures"]["images"] == 6
    assert all(p.read_bytes() == content for p, content in before.items())


def test_until(tmp_path):
    file = write(tmp_path, START + TRAIN)
    assert list(outcomes(run_salon("run", file, "--until", "prepare", "--json"))) == ["synthetic", "prepare"]
    assert "must be one of the file's stages" in run_salon("run", file, "--until", "export").err


def stopped(file, number, condition, log):
    """How `salon run` ended that got a signal once `condition()` held. What its stages say goes to `log`."""
    ended = threading.Event()

    def send():
        until(lambda: condition() or ended.is_set())
        if not ended.is_set():
            signal.pthread_kill(threading.main_thread().ident, number)

    thread = threading.Thread(target=send)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_command", partial(logged, log))
        thread.start()
        outcome = run_salon("run", file)
    ended.set()
    thread.join()
    return outcome


def logged(log, line, base, printed):
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    runner._command(line, base, printed)


def test_a_stop_is_passed_on_and_the_next_call_goes_on(tmp_path):
    long = write(tmp_path, START + TRAIN.replace("0.032", "400"))

    def seen():
        file = next((tmp_path / "loop" / "runs").glob("*/stats.jsonl"), None)
        return [json.loads(line)["nimg"] for line in file.read_text().splitlines()] if file else []

    before = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        log = tmp_path / f"log-{len(before)}"
        outcome = stopped(long, number, lambda: len(seen()) > len(before), log)  # noqa: B023
        said = outcome.err + log.read_text()
        assert outcome.code == 130 and "Stopping after this iteration" in said and "Traceback" not in said
        assert list((tmp_path / "loop" / "runs").glob("*/checkpoints/*")), "training was stopped, not killed"
        assert not list((tmp_path / "loop" / "stages").glob("train-*"))
        after = seen()
        assert after[: len(before)] == before and after == sorted(set(after)), "no tick was trained twice"
        before = after


def test_what_a_killed_call_left_is_gone_over(tmp_path):
    file = write(tmp_path, START + "[check]\n")
    assert set(outcomes(run_salon("run", file, "--json")).values()) == {"done"}
    first = {p: p.read_bytes() for p in (tmp_path / "loop").rglob("*.parquet")}
    for note in (tmp_path / "loop" / "stages").iterdir():
        note.unlink()  # as if it had been killed between its last file and its figures
    assert set(outcomes(run_salon("run", file, "--json")).values()) == {"done"}
    assert len(list((tmp_path / "loop").glob("checked-*"))) == 2
    assert set(outcomes(run_salon("run", file, "--json")).values()) == {"unchanged"}
    assert len(first) == 2 and all(p.read_bytes() == content for p, content in first.items())


def test_a_failing_stage_ends_the_loop_with_its_exit_code(tmp_path):
    file = write(tmp_path, START.replace("resolution = 16", "resolution = 17"))
    outcome = run_salon("run", file)
    assert outcome.code == 2 and "salon prepare" in outcome.err and "its message is above" in outcome.err
    assert outcomes(run_salon("run", write(tmp_path, START), "--json")) == {"synthetic": "unchanged", "prepare": "done"}


def pictures(folder):
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a picture")
    return folder


def images_of(file):
    return config.load(file).get("images")


def test_a_demo_never_shows_other_pictures_than_asked_for(tmp_path):
    one, other, out = pictures(tmp_path / "one"), pictures(tmp_path / "other"), tmp_path / "out"
    assert images_of(demo.write(out, one)) == str(one)
    assert images_of(demo.write(out, other)) == str(other), "nothing was made of the first"
    (out / "stages").mkdir()
    (out / "stages" / "prepare-12345678.json").write_text("{}")
    edited = (out / demo.NAME).read_text().replace("resolution = 32", "resolution = 64")
    (out / demo.NAME).write_text(edited)
    assert demo.write(out, other).read_text() == edited
    for data, held in ((["--data", one], other), ([], other)):
        outcome = run_salon("demo", "--out", out, *data)
        assert outcome.code == 2 and f"--out {out} holds a demo of {held}; choose another --out" in outcome.err
    assert (out / demo.NAME).read_text() == edited


@pytest.mark.parametrize(("shape", "wanted"), [("3:2", (48, 32)), ("40x32", (40, 32)), (None, (32, 32))])
def test_a_demo_of_another_shape(tmp_path, shape, wanted):
    file = demo.write(tmp_path / "out", None, shape)
    assert run_salon("run", file, "--dry-run").code == 0
    table = config.load(file)["prepare"]
    words = [word for name in ("shape", "resolution") if name in table for word in (f"--{name}", str(table[name]))]
    (tmp_path / "red").mkdir()
    Image.new("RGB", (90, 60), "red").save(tmp_path / "red" / "red.png")
    outcome = run_salon("prepare", tmp_path / "red", *words, "--out", tmp_path / "d.zip")
    assert outcome.code == 0 and ImageDataset(tmp_path / "d.zip").shape.size == wanted, outcome.err


def test_a_demo_begins_with_pictures_and_not_among_them(tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = run_salon("demo", "--data", tmp_path / "empty", "--out", tmp_path / "out")
    assert outcome.code == 2 and "--data must be a folder of images" in outcome.err and "is empty" in outcome.err
    pictures(tmp_path / "empty" / "cubism")
    outcome = run_salon("demo", "--out", tmp_path / "empty")
    assert outcome.code == 2 and "--out must be a folder of its own" in outcome.err and "a.jpg" in outcome.err
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.jpg", "cubism", "empty"]


def shown(tmp_path, *records) -> Path:
    """The page of stages that ran."""
    file = config.read(write(tmp_path, START))
    path = tmp_path / "index.html"
    report.write(file, {record.stage: record for record in records}, path)
    return path


def test_a_rate_is_never_shown_without_its_warning(tmp_path):
    rate = {"value": 1.0, "low": 0.83, "high": 1.0, "n": 32}
    figures = {"raw": rate, "corrected": rate, "images": 32, "target": "Sea", "warnings": ["They are <no> Sea."]}
    record = Record(
        stage="style-check", outcome="done", line=["style", "check"], output="x", seconds=1, figures=figures
    )
    assert report.headline(record) == (
        "100% of 32 images taken for Sea; 100% (83% to 100%) corrected for its errors, with a warning"
    )
    page = shown(tmp_path, record).read_text()
    assert '<p class="warning">They are &lt;no&gt; Sea.</p>' in page and "noise has a style" in page
    sound = dataclasses.replace(record, figures=figures | {"warnings": []})
    assert "warning" not in report.headline(sound)
    notes = dataclasses.replace(record, stage="retrain", figures={"sentence": "s", "notes": ["One.", "Two."]})
    assert "<li>One.</li><li>Two.</li>" in shown(tmp_path, notes).read_text()


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_any_shape_and_channels_are_shown(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, [16, 24, channels], np.uint8)
    writer = DatasetWriter(tmp_path / "wide.zip", ".png", channels)
    for _ in range(2):
        writer.add(encode(to_image(pixels), "png"))
    writer.close()
    figures = {"images": 2, "found": 2, "bytes_out": 1}
    record = Record(stage="prepare", outcome="done", line=[], output="wide.zip", seconds=1, figures=figures)
    thumbnail = encode(Image.fromarray(for_display(pixels)), "jpeg", QUALITY)
    assert shown(tmp_path, record).read_text().count(base64.b64encode(thumbnail).decode()) == 2


def test_a_command_is_copied_whole_and_broken_only_between_options(tmp_path, browser):
    line = ["eval", "run", "--snapshot", "runs/a-very-long-name of a run", "--overwrite", "--out", "x" * 80, "--mirror"]
    record = Record(stage="export", outcome="done", line=line, output="x", seconds=1, figures={"version": 1})
    assert record.pieces() == [
        *("salon eval run", "--snapshot 'runs/a-very-long-name of a run'", f"--out {'x' * 80}", "--mirror")
    ]
    page = shown(tmp_path, record)
    lines = []
    for width in (1280, 390):
        browser.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        browser.open(page.as_uri(), "document.querySelector('pre')")
        assert browser.run("document.documentElement.scrollWidth") <= width
        copied = browser.run("getSelection().selectAllChildren(document.querySelector('pre')), String(getSelection())")
        assert copied.strip() == " ".join(record.pieces())
        lines.append(browser.run("[...document.querySelectorAll('pre span')].map(s => s.getClientRects()[0].height)"))
    assert len(set(lines[0])) == 1  # where there is room, each option is on one line
    assert lines[1][0] == lines[1][3] == lines[0][0] < lines[1][2]


WHOLE = (
    """
folder = "whole"
[synthetic]
count = 80
size = 32
genres = "landscape,portrait"
styles = "impressionism,cubism"
outliers = 3
[prepare]
resolution = 16
labels = "folders"
"""
    + TRAIN
    + """
[evaluate]
num-images = 40
metrics = "kid"
extractor = "efficientnet-lite0"
[check]
[score]
strata = "label"
[prune]
keep = 0.95
[retrain]
kimg = 0.016
repeats = 1
num-images = 40
extractor = "efficientnet-lite0"
[style]
target = "impressionism"
group-by = "image"
[export]
models = "generator,style_classifier,generate_and_classify"
[query]
seeds = "0-3"
grid = "4x1"
[style-check]
num-images = 8
require = 0.99
"""
)


@pytest.mark.slow
def test_from_pictures_to_a_served_and_checked_painter(tmp_path, installed_triton, quick_style):
    file = write(tmp_path, WHOLE)
    outcome = run_salon("run", file, "--json")
    assert outcome.code == 3, outcome.err  # so short a training paints nothing impressionist
    assert "[style-check] did not meet a bound" in outcome.err
    stages = outcome.json["stages"]
    assert list(stages) == list(STAGES)
    assert {r["outcome"] for n, r in stages.items() if n != "style-check"} == {"done"}
    assert (tmp_path / stages["query"]["output"]).is_file()
    page = (tmp_path / "whole" / "index.html").read_text()
    assert all(f'id="{name}"' in page for name in STAGES) and page.count("data:image/jpeg") >= 5
    assert "http://" not in page and "https://" not in page
    assert "of 3 planted outliers are among them" in page and "{url}" not in page and "--overwrite" not in page
    relaxed = write(tmp_path, WHOLE.replace("require = 0.99", ""))
    again = outcomes(run_salon("run", relaxed, "--json"))
    assert again.pop("style-check") == "done" and set(again.values()) == {"unchanged"}
    shutil.rmtree(tmp_path / "whole")
