"""Curation in one call: the same as its steps one by one, what is reused, and what is never replaced."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import run_salon
from PIL import Image
from test_cli import refused
from test_curation_decide_verdicts import scored

from curation.auto.request import COPIES, AutoRequest
from curation.decide import prune
from gan.data import manifest
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import encode
from gan.errors import RequestError

COUNT = 30
TWIN = 12  # shows the same as image 2, with fewer pixels in the original
NOISE = {5, 25}


def picture(rng: np.random.Generator, number: int) -> Image.Image:
    """Soft blots of colours, or noise."""
    size = 32 if number in NOISE else 5
    return Image.fromarray(rng.integers(0, 256, [size, size, 3], np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)


def curate(folder: Path) -> None:
    """Write a dataset with a copy and its manifest, and curate it in one call."""
    rng, writer = np.random.default_rng(0), DatasetWriter(folder / "d.zip", ".png")
    pictures = [picture(rng, number) for number in range(COUNT)]
    pictures[TWIN] = pictures[2]
    for number, each in enumerate(pictures):
        writer.add(encode(each, "png"), number % 2)
    writer.close(["even", "odd"])
    sides = [100 if number == 2 else 50 for number in range(COUNT)]
    columns = {"label": [n % 2 for n in range(COUNT)], "genre": None, "score_density": None}
    columns |= {"width": sides, "height": sides, "pixel_sha256": [f"{n}" for n in range(COUNT)]}
    scored(folder / "d.manifest", COUNT, ImageDataset(folder / "d.zip").fingerprint(), **columns)
    outcome = again(folder, "--json")
    assert outcome.code == 0, outcome.err
    (folder / "figures.json").write_text(outcome.out)


@pytest.fixture(scope="module")
def made(made_once):
    """The folder of what one call made, and its figures."""
    folder = made_once("auto", curate)
    return folder, json.loads((folder / "figures.json").read_text())


@pytest.fixture
def copied(made, tmp_path) -> Path:
    """A folder with all that was made, to be changed."""
    return Path(shutil.copytree(made[0], tmp_path / "auto", ignore=shutil.ignore_patterns("figures.json", "made")))


def again(folder: Path, *options: object):
    """The same call once more."""
    return run_salon("curate", "auto", folder / "d.zip", "--out", folder / "c.manifest", "--keep", 0.9, *options)


def steps(figures: dict) -> dict[str, bool]:
    """Step -> whether it was reused."""
    return {step["step"]: step["reused"] for step in figures["steps"]}


def test_what_goes_are_copies_and_the_least_typical(made):
    folder, figures = made
    assert (figures["images"], figures["kept"]) == (COUNT, 27)
    assert figures["dropped"] == {"low rank": 2, "duplicate-near": 1}
    rows = manifest.read(folder / "c.manifest").rows.to_pylist()
    gone = [number for number, row in enumerate(rows) if row["verdict"] == "drop"]
    assert set(gone) == {TWIN} | NOISE  # of the copies that of fewer pixels
    assert steps(figures) == {"check": False, "score": False, "prune": False}
    page = (folder / "c-review.html").read_text()
    assert f"Manifest {figures['hash'][:12]}." in page and figures["page_images"] > 10


def test_the_lineage_is_whole(made):
    folder, _ = made
    chain = run_salon("curate", "log", folder / "c.manifest", "--json").json
    names = [Path(entry["path"]).name for entry in chain["manifests"]]
    assert names == ["c.manifest", "c-scored.manifest", "c-checked.manifest", "d.manifest"] and not chain["missing"]
    commands = [entry["command"] for entry in chain["manifests"]]
    assert commands == ["salon curate prune", "salon curate score", "salon curate check", None]


def test_it_does_what_the_commands_of_a_dry_run_do(made, tmp_path):
    folder, figures = made
    command = ("curate", "auto", folder / "d.zip", "--keep", 0.9, "--out", tmp_path / "x y.manifest", "--dry-run")
    lines = run_salon(*command).out.splitlines()
    assert run_salon(*command, "--json").json == {"commands": lines, "dry_run": True}
    assert list(tmp_path.iterdir()) == []
    for line in lines:
        done = run_salon(*shlex.split(line)[1:])
        assert done.code == 0, done.err
    assert manifest.read_header(tmp_path / "x y.manifest")["hash"] == figures["hash"]
    assert (tmp_path / "x y-review.html").exists()
    chain = run_salon("curate", "log", tmp_path / "x y.manifest", "--json").json
    assert len(chain["manifests"]) == 4 and not chain["missing"]  # though the first lies in another folder


def test_the_summary_says_what_went_and_what_comes_next(copied):
    outcome = again(copied)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("is up to date") == 3
    assert re.search(
        r"27 of 30 images stay\ndropped for +images\nlow rank +2\nduplicate-near +1\nall +3\n", outcome.out
    )
    following = outcome.out.partition("Next:\n")[2].splitlines()
    assert len(following) == 3
    for line in following:
        assert run_salon(*shlex.split(line)[1:], "--help").code == 0


def test_more_copies_than_may_go_leave_none_to_the_rank_and_that_is_said(copied):
    outcome = again(copied, "--drop-flag", "duplicate-near", "--keep", 0.99, "--overwrite")
    assert "Flags alone drop more than --keep 0.99 says, and nothing went for its rank: look at" in outcome.out
    assert "Flags alone" not in again(copied, "--overwrite").out


def test_finished_steps_are_reused(copied):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*") if path.is_file()}
    assert steps(again(copied, "--json").json) == {"check": True, "score": True, "prune": True}
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*") if path.is_file()} == before
    shutil.rmtree(copied / "c.manifest")  # as after a stop in between
    (copied / "c-review.html").unlink()
    assert steps(again(copied, "--json").json) == {"check": True, "score": True, "prune": False}
    assert (copied / "c-review.html").exists()


def test_steps_of_another_parent_are_not_reused(copied):
    parent = manifest.read(copied / "d.manifest")
    rows = [row | {"verdict": "keep", "artist": "Ada"} for row in parent.rows.to_pylist()]
    shutil.rmtree(copied / "d.manifest")
    manifest.write(copied / "d.manifest", rows, dataset=parent.dataset, parent=None)
    refused(again(copied), "--out would replace", "c-checked.manifest, which is of another request or dataset")
    assert steps(again(copied, "--overwrite", "--json").json) == {"check": False, "score": False, "prune": False}


def test_another_request_replaces_nothing_unless_told_to(copied):
    header = (copied / "c.manifest" / "manifest.json").read_text()
    other = ("--drop-flag", "duplicate-near")
    refused(again(copied, *other), "--out would replace", "c.manifest, which is of another request", "add --overwrite")
    assert (copied / "c.manifest" / "manifest.json").read_text() == header
    assert steps(again(copied, *other, "--overwrite", "--json").json) == {"check": True, "score": True, "prune": False}
    changed = json.loads((copied / "c.manifest" / "manifest.json").read_text())
    assert changed["parameters"]["drop_flags"] == ["duplicate-near"]
    refused(again(copied, "--labels", "label"), "--out would replace", "c-checked.manifest")
    assert sorted(path.name for path in copied.iterdir()) == [
        *("c-checked.manifest", "c-review.html", "c-scored.manifest", "c.manifest", "d.manifest", "d.zip")
    ]


def test_what_is_no_manifest_is_never_replaced(copied):
    shutil.rmtree(copied / "c.manifest")
    (copied / "c.manifest").mkdir()
    (copied / "c.manifest" / "mine.txt").write_text("mine")
    refused(again(copied, "--overwrite"), "c.manifest, which is no manifest")
    assert (copied / "c.manifest" / "mine.txt").read_text() == "mine"


def test_a_step_that_fails_leaves_what_was_there(copied):
    header = (copied / "c-scored.manifest" / "manifest.json").read_text()
    outcome = again(copied, "--strata", "artist", "--overwrite")
    refused(outcome, "must have a artist for some image")
    assert (copied / "c-scored.manifest" / "manifest.json").read_text() == header
    assert not list(copied.glob(".*"))


def test_requests_that_are_refused(made, tmp_path):
    folder, _ = made
    command = ("curate", "auto", folder / "d.zip")
    refused(run_salon(*command, "--out", tmp_path / "x", "--floor", 0.5), "--floor needs --strata")
    refused(run_salon(*command, "--out", folder / "d.manifest"), "--out must name another manifest than")
    both = ("--manifest", folder / "d.manifest", "--out", folder / "d.manifest")
    refused(run_salon(*command, *both), "--out must be another manifest than --manifest")
    refused(run_salon(*command, "--manifest", folder, "--out", tmp_path / "x"), "must be a manifest")
    bare = tmp_path / "bare.zip"
    shutil.copy(folder / "d.zip", bare)
    refused(run_salon("curate", "auto", bare, "--out", tmp_path / "x"), "--manifest must name the manifest of")
    assert [path.name for path in tmp_path.iterdir()] == ["bare.zip"]
    assert COPIES == prune.COPIES
    with pytest.raises(RequestError, match="`floor` needs `strata`"):
        AutoRequest(dataset=bare, out=tmp_path / "x", floor=0.5)
