"""Widths of a run's average: reconstructed, evaluated by the same latents, and compared in pairs."""

import json
from pathlib import Path

import pytest
from conftest import TINY_TRAINING, run_salon

from eval.evaluate import RESULTS
from eval.request import WidthsRequest
from gan import snapshot
from gan.errors import RequestError
from gan.training import power_averages


def test_widths_are_compared_in_pairs_with_the_average_of_training(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(power_averages, "FIRST_INTERVAL", 8)
    train = ("train", "--data", tiny_dataset, "--out", tmp_path / "runs", *TINY_TRAINING, "--post-hoc-ema", "--json")
    run = run_salon(*train).json["run"]
    out = tmp_path / "out"
    common = ("--data", tiny_dataset, "--num-images", 12, "--metrics", "kid", "--extractor", "efficientnet-lite0")
    search = ("eval", "ema", "--run", run, *common, "--out", out, "--widths", "0.1,0.05,0.28", "--json")
    outcome = run_salon(*search)
    assert outcome.code == 0, outcome.err
    figures = outcome.json
    labels = ["width 0.05", "width 0.1", "width 0.28", "G_ema as trained"]
    assert [entry["label"] for entry in figures["entries"]] == labels
    assert all(row["paired"] for row in figures["differences"]["kd"] if not row["best"])
    assert json.loads((out / "comparison.json").read_text()) == figures
    page = (out / "comparison.html").read_text()
    assert "Over the width of the average" in page and page.count("<svg") == 1 and "The same seeds" in page
    assert "width 0.28 within" in outcome.err
    made = [snapshot.load(path).ema_width for path in sorted(out.glob("width-*.safetensors"))]
    assert made == [0.05, 0.1, 0.28] and len(list(out.rglob(RESULTS))) == 4
    stamps = [path.stat().st_mtime_ns for path in sorted(out.rglob("width-*.safetensors"))]
    again = run_salon(*search)
    assert again.json == figures
    assert stamps == [path.stat().st_mtime_ns for path in sorted(out.rglob("width-*.safetensors"))]
    refused = run_salon("eval", "ema", "--run", run, *common, "--out", out, "--widths", "0.1,0.05")
    assert refused.code == 2 and "widths is 0.1,0.05,0.28 there, 0.1,0.05 here" in refused.err
    refused = run_salon("eval", "ema", "--run", run, *common, "--out", out, "--widths", "a,b")
    assert refused.code == 2 and "'a,b' is neither numbers" in refused.err
    refused = run_salon("eval", "ema", "--run", run, *common, "--out", tmp_path / "new", "--widths", "0.1,0.5")
    assert refused.code == 2 and "at most 0.28" in refused.err and not (tmp_path / "new").exists()


@pytest.mark.parametrize("widths", [(), (0.1,), (0.1, 0.1, 0.2)])
def test_widths_must_differ(widths):
    with pytest.raises(RequestError, match="`widths` must be two or more that differ"):
        WidthsRequest(run=Path("r"), data=Path("d"), out=Path("o"), widths=widths)
