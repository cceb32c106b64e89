"""Metrics during training, from the command line."""

import json
from pathlib import Path

from conftest import TINY_TRAINING, run_salon

from eval import training_hook


def test_train_judges_its_snapshots_within_the_budget(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(training_hook, "SMALLEST", 20)
    options = ("--metrics", "kid,pr", "--metrics-budget", "50")
    done = run_salon("train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING, *options, "--json")
    assert done.code == 0, done.err
    run = Path(done.json["run"])
    (row,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    key = "kd@efficientnet-lite0/imagenet/fp32/n=20"
    assert row["nimg"] == 32 and row[f"{key}/se"] > 0 and f"{key} {row[key]:.4g}" in done.err
    assert any(name.startswith("recall@") for name in row) and row["images"] == 20
    (report,) = (run / "metrics").glob("*/report.html")
    assert "Recall" in report.read_text()


def test_a_dry_run_finds_what_cannot_be_measured(tiny_dataset, tmp_path):
    request = ("train", "--data", tiny_dataset, "--out", tmp_path, "--dry-run", "--metrics")
    assert run_salon(*request, "kid").code == 0
    for wrong, message in (
        (["kid,fud"], "authenticity,is; got fud instead"),
        (["kid", "--metrics-weights", "vgg16=x.pth"], "of no network that this evaluation uses"),
        (["kid", "--metrics-budget", "100"], "'--metrics-budget'"),
    ):
        done = run_salon(*request, *wrong)
        assert done.code == 2 and message in done.err, done.err
