"""The training loop as people meet it: exact resume, stopping, damage, divergence, what it leaves behind."""

import importlib.util
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (
    GRID,
    HANG,
    TINY_TRAINING,
    Clock,
    SalonProcess,
    full_disk,
    read_only_shared_memory,
    run_salon,
    until,
    write_dataset,
)
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan import snapshot
from gan.config import TrainingConfig
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.sampling import generate
from gan.training import checkpoint, transfer
from gan.training.metrics_budget import BudgetedMetrics
from gan.training.request import TrainingOptions
from gan.training.run_dir import Run
from gan.training.sample_grids import SampleGrids
from gan.training.schedule import Schedule, StopRequest
from gan.training.training_loop import train

# 14 iterations, of which R1 comes in two and path length in four, a checkpoint after each, no sheets.
LONG = [
    *(*TINY_TRAINING, "--mirror", "--total-kimg", "0.112", "--network-snapshot-ticks", "1", "--kimg-per-tick", "0.008"),
    *("--image-snapshot-ticks", "0", "--set", "r1_interval=8"),
]


def command(data: Path, runs: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "gan", "train", "--data", str(data), "--out", str(runs), *LONG, *more]


# Where ten kills hit, and how many images the newest checkpoint then holds.
KILLS = [
    ("open", r"config\.json.*partial", 1, 0),  # there is a folder, but no run in it
    ("open", r"reals\.jpg.*partial", 1, 0),
    ("open", r"stats\.jsonl$", 1, 0),
    ("open", r"checkpoint-.*partial", 1, 0),  # before the first checkpoint, but after its line in stats.jsonl
    ("os.rename", r"checkpoint-.*partial", 1, 0),  # the first one is written, but not in its place
    ("open", r"snapshot-.*partial", 1, 8),  # a checkpoint without its snapshot
    ("os.rename", r"snapshot-.*partial", 3, 32),
    ("os.remove", r"checkpoint-\d+\.pt$", 1, 40),  # more checkpoints than are kept
    ("open", r"stats\.jsonl$", 7, 80),  # the first time it is read
    ("os.rename", r"checkpoint-.*partial", 3, 96),
]


def only_run(runs: Path) -> Run:
    (path,) = (p for p in runs.iterdir() if p.is_dir())
    return Run(path)


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.fixture(scope="module")
def uninterrupted(tiny_dataset, tmp_path_factory):
    """The learner's state at the end of a run that nothing disturbed."""
    runs = tmp_path_factory.mktemp("uninterrupted")
    assert run_salon("train", "--data", tiny_dataset, "--out", runs, *LONG).code == 0
    return checkpoint.load_newest(only_run(runs).checkpoints)[1]["learner"]


@pytest.mark.slow
def test_resume_after_ten_kills_is_exact(tiny_dataset, tmp_path, uninterrupted):
    _, _, _, *arguments = command(tiny_dataset, tmp_path)
    for event, pattern, count, position in KILLS:
        process = SalonProcess(tmp_path, *arguments, event=(signal.SIGKILL, event, pattern, count))
        assert process.wait().code == -signal.SIGKILL
        found = checkpoint.list_newest_first(only_run(tmp_path).checkpoints)
        assert (int(found[0].stem.split("-")[1]) if found else 0) == position, pattern
    done = run_salon(*arguments)
    assert done.code == 0 and "Resuming from" in done.err
    run = only_run(tmp_path)
    assert equal(checkpoint.load_newest(run.checkpoints)[1]["learner"], uninterrupted)
    rows = run.read_stats()
    assert [row["nimg"] for row in rows] == sorted({row["nimg"] for row in rows})
    assert not list(run.path.rglob("*.partial"))


def test_where_the_pixels_lie_changes_nothing(tiny_dataset, tmp_path, uninterrupted):
    # Half of the run with pixels on the device, the other half with a process that loads them.
    train = ["train", "--data", tiny_dataset, "--out", tmp_path, *LONG]
    first = run_salon(*train, "--total-kimg", "0.056", "--data-on-device", "yes")
    assert first.code == 0 and "Data: 12 images on the device" in first.err
    second = run_salon(*train, "--workers", "auto")
    assert second.code == 0 and "Data: 12 images, workers: 1" in second.err and "Resuming from" in second.err
    assert equal(checkpoint.load_newest(only_run(tmp_path).checkpoints)[1]["learner"], uninterrupted)


def test_training_without_writable_shared_memory_has_no_workers(tiny_dataset, tmp_path):
    train = command(tiny_dataset, tmp_path, "--workers", "2", "--total-kimg", "0.016")
    done = subprocess.run(read_only_shared_memory(train), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Images are loaded without workers: no semaphores in /dev/shm: Read-only file system" in done.stderr


def test_signals_stop_with_a_checkpoint_and_exit_0(tiny_dataset, tmp_path, uninterrupted):
    _, _, _, *arguments = command(tiny_dataset, tmp_path, "--workers", "1", "--json")
    # Each of three runs, which go on from another, has written so many ticks; what goes on reads them first.
    for number, opened, kimg in ((signal.SIGINT, 3, 0.024), (signal.SIGTERM, 4, 0.048), (signal.SIGHUP, 4, 0.072)):
        event = (number, "open", r"stats\.jsonl$", opened)
        outcome = SalonProcess(tmp_path, *arguments, name=number.name, event=event).wait()
        assert outcome.code == 0, outcome.err
        summary = outcome.json
        assert not summary["finished"] and summary["kimg"] == kimg
        assert checkpoint.load(Path(summary["checkpoint"]))["learner"]["cur_nimg"] == kimg * 1000
    again = run_salon("train", "--data", tiny_dataset, "--out", tmp_path, *LONG)
    assert again.code == 0 and "Resuming from" in again.err
    assert equal(checkpoint.load_newest(only_run(tmp_path).checkpoints)[1]["learner"], uninterrupted)


def test_a_closed_terminal_stops_with_a_checkpoint(tiny_dataset, tmp_path):
    terminal, end = os.openpty()
    train = ["train", "--data", tiny_dataset, "--out", tmp_path / "runs", *LONG, "--total-kimg", "1000"]
    process = SalonProcess(tmp_path, *train, "--workers", "1", "--json", terminal=os.ttyname(end))
    until(lambda: select.select([terminal], [], [], 0)[0] and b"tick 1" in os.read(terminal, 1000), process)
    os.close(end)
    os.close(terminal)  # from here on the process writes to nowhere
    os.kill(process.pid, signal.SIGHUP)
    process.process.join(HANG)
    summary = json.loads(process.out)
    assert process.returncode == 0 and not summary["finished"]
    assert checkpoint.load(Path(summary["checkpoint"]))["learner"]["cur_nimg"] == summary["kimg"] * 1000


def test_what_a_second_signal_does():
    before = signal.getsignal(signal.SIGHUP)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)  # of the shell and of the terminal
        assert stop.wanted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGHUP) == before


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.wanted
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_before_the_first_iteration_claims_nothing(tiny_dataset, tmp_path):
    event = (signal.SIGINT, "open", r"reals\.jpg.*partial", 1)
    _, _, _, *arguments = command(tiny_dataset, tmp_path / "one")
    said = SalonProcess(tmp_path, *arguments, event=event).wait().out
    assert said.startswith("Stopped at 0.0 kimg, before the first iteration: there was nothing to save.")
    assert "Snapshot" not in said and not list(only_run(tmp_path / "one").snapshots.iterdir())
    _, _, _, *arguments = command(tiny_dataset, tmp_path / "other", "--json")
    outcome = SalonProcess(tmp_path, *arguments, name="other", event=event).wait()
    assert outcome.code == 0
    summary = outcome.json
    assert summary["checkpoint"] is None and summary["snapshot"] is None and Path(summary["sheet"]).exists()


def test_a_damaged_checkpoint_is_passed_over(tiny_dataset, tmp_path, uninterrupted):
    options = [*LONG, "--keep", "0", "--total-kimg", "0.04"]
    assert run_salon("train", "--data", tiny_dataset, "--out", tmp_path, *options).code == 0
    newest, second, *_ = checkpoint.list_newest_first(only_run(tmp_path).checkpoints)
    newest.write_bytes(newest.read_bytes()[:-100])
    again = run_salon("train", "--data", tiny_dataset, "--out", tmp_path, *LONG)
    assert again.code == 0
    assert f"Passing over a damaged checkpoint: {newest}" in again.err and f"Resuming from {second}" in again.err
    assert equal(checkpoint.load_newest(only_run(tmp_path).checkpoints)[1]["learner"], uninterrupted)


def test_a_full_disk_loses_nothing(tiny_dataset, tmp_path):
    train = ["train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING]
    assert run_salon(*train).code == 0
    run = only_run(tmp_path)
    before = {path: path.read_bytes() for path in run.checkpoints.iterdir()}
    with full_disk(20_000):
        outcome = run_salon(*train, "--total-kimg", "0.064", "--image-snapshot-ticks", "0")
    assert outcome.code == 1 and "could not be written" in outcome.err and "GB are free" in outcome.err
    assert {path: path.read_bytes() for path in run.checkpoints.iterdir()} == before
    assert run_salon(*train, "--total-kimg", "0.064").code == 0


def test_divergence_stops_and_names_the_last_good_checkpoint(tiny_dataset, tmp_path):
    train = ["train", "--data", tiny_dataset, "--out", tmp_path, *LONG, "--set", "learning_rate=1e30"]
    outcome = run_salon(*train)
    assert outcome.code == 1 and "Traceback" not in outcome.err
    assert "became" in outcome.err and "in iteration" in outcome.err and "checkpoint" in outcome.err


def test_a_finished_run_stays_finished_and_can_be_prolonged(tiny_dataset, tmp_path):
    train = ["train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING]
    first = run_salon(*train, "--json").json
    assert run_salon(*train, "--json").json["kimg"] == first["kimg"] == 0.032
    longer = run_salon(*train, "--total-kimg", "0.064", "--json").json
    assert longer["run"] == first["run"] and longer["kimg"] == 0.064
    other = run_salon(*train, "--seed", "1", "--json").json
    new = run_salon(*train, "--resume", "never", "--json").json
    assert len({first["run"], other["run"], new["run"]}) == 3


def test_what_a_run_leaves_behind(tiny_run):
    run = Run(tiny_run)
    rows = run.read_stats()
    assert [row["kimg"] for row in rows] == [0.016, 0.032]
    assert {"loss/G", "loss/D", "r1/penalty", "path_length/mean", "sec_per_kimg", "memory_gb"} <= rows[0].keys()
    assert len(run.list_grids()) == 3  # at the start and after each tick
    for path in (run.grids / "reals.jpg", run.list_grids()[0]):
        with Image.open(path) as sheet:
            assert sheet.size == (16 * GRID[0], 16 * GRID[1])
    assert json.loads((run.path / "config.json").read_text())["network"]["resolution"] == 16
    assert any((run.path / "tensorboard").iterdir())
    assert checkpoint.load_newest(run.checkpoints)[1]["tf32"] == {"convolutions": True, "matmul": False}


def test_start_from_another_runs_checkpoint_or_snapshot(tiny_dataset, tiny_run, tmp_path):
    train = ["train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING]
    going_on = run_salon(*train, "--set", "pl_weight=1", "--resume", tiny_run, "--total-kimg", "0.048", "--json")
    assert going_on.code == 0 and going_on.json["kimg"] == 0.048
    (source,) = (tiny_run / "snapshots").iterdir()
    fine_tune = ["--resume", source, "--resume-kimg", "10", "--total-kimg", "10.008", "--set", "learning_rate=0"]
    tuned = run_salon(*train, *fine_tune, "--json")
    assert tuned.code == 0 and tuned.json["kimg"] == 10.008
    before, after = snapshot.load(source), snapshot.load(Path(tuned.json["snapshot"]))
    assert equal(dict(before.D.state_dict()), dict(after.D.state_dict()))


def test_transfer_to_another_resolution_and_other_classes(tiny_run, tmp_path):
    (source,) = (tiny_run / "snapshots").iterdir()
    data = write_dataset(tmp_path / "larger.zip", [(32, 32)] * 8, [0, 1, 2, 0] * 2, ["a", "b", "c"])
    train = ["train", "--data", data, "--out", tmp_path / "runs", *TINY_TRAINING, "--conditional", "--seed", "7"]
    train += ["--set", "learning_rate=0", "--json"]
    refused = run_salon(*train, "--resume", source)
    assert refused.code == 2 and "must have this run's architecture" in refused.err and "--transfer" in refused.err
    outcome = run_salon(*train, "--transfer", source, "--resume-kimg", "5", "--total-kimg", "5.008")
    assert outcome.code == 0 and outcome.json["kimg"] == 5.008
    lines = {line.split()[0]: line.split()[1:] for line in outcome.err.splitlines() if line.startswith(("G.", "D."))}
    assert lines["G.synthesis.b32"][0] == "-" and lines["G.synthesis.b16"][1:] == ["-", "-"]
    assert lines["D.b32"][0] == "-" and lines["D.b16"][2] == "2" and lines["D.mapping"][0] == "-"  # fromrgb stays out
    before, after = snapshot.load(source), snapshot.load(Path(outcome.json["snapshot"]))
    was, became = before.G_ema.state_dict(), after.G_ema.state_dict()
    for name in ("synthesis.b16.conv1.weight", "mapping.fc1.weight"):
        assert torch.equal(was[name], became[name])
    assert became["mapping.fc0.weight"].shape != was["mapping.fc0.weight"].shape
    assert torch.equal(before.D.state_dict()["b8.conv0.weight"], after.D.state_dict()["b8.conv0.weight"])
    both = run_salon(*train, "--transfer", source, "--resume", source)
    assert both.code == 2 and "exclude each other" in both.err


def test_transfer_refuses_weights_that_fit_nowhere():
    network = torch.nn.Linear(2, 3)
    outcomes = transfer.load_matching(network, {"weight": torch.zeros(3, 3), "other": torch.zeros(1)})
    assert outcomes == {"weight": "new", "bias": "new", "other": "left out"}
    with pytest.raises(RequestError, match="nothing does"):
        transfer.describe_matching(outcomes)


def test_training_on_a_manifest_sees_only_what_it_keeps(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(SampleGrids, "COLUMNS", 8)
    monkeypatch.setattr(SampleGrids, "ROWS", 2)
    dataset = ImageDataset(tiny_dataset)
    kept = dataset.names[:9]
    rows = [{"name": n, "verdict": "keep" if n in kept else "drop"} for n in dataset.names]
    manifest.write(tmp_path / "m", rows, dataset=dataset.fingerprint(), parent=None)
    outcome = run_salon(
        "train", "--data", tiny_dataset, "--out", tmp_path / "runs", *TINY_TRAINING, "--manifest", tmp_path / "m"
    )
    assert outcome.code == 0 and "Images: 9 of 12" in outcome.err
    assert "Its labels, of 2 classes, are not learned: --conditional learns them\n" in outcome.err
    with Image.open(only_run(tmp_path / "runs").grids / "reals.jpg") as image:
        sheet = np.asarray(image)
    assert (sheet[16:, 16:] == 255).all() and not (sheet[16:, :16] == 255).all()  # nine images


def test_conditional_training(tiny_dataset, tmp_path):
    train = ["train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING, "--conditional", "--json"]
    path = Path(run_salon(*train).json["snapshot"])
    source = snapshot.load(path)
    assert source.config.network.num_classes == 2 and source.classes == ["day", "night"]
    out = tmp_path / "night.png"
    assert run_salon("generate", path, "--seeds", "0", "--class", "night", "--grid", "1x1", "--out", out).code == 0
    assert out.exists()


def test_the_command_that_a_training_ends_with_works(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, more in (("plain", []), ("by class", ["--conditional"])):
        outcome = run_salon("train", "--data", tiny_dataset, "--out", "my runs", "--name", name, *TINY_TRAINING, *more)
        salon, *words = shlex.split(outcome.out.splitlines()[0].partition("kimg. ")[2])
        assert salon == "salon" and run_salon(*words, "--overwrite").code == 0


def test_a_killed_run_is_free_at_once(tiny_dataset, tmp_path):
    train = ["train", "--data", tiny_dataset, "--out", tmp_path / "runs", *LONG, "--workers", "1"]
    process = SalonProcess(tmp_path, *train, "--total-kimg", "1000")
    until(lambda: "tick 1" in process.err, process)
    process.kill()
    run = only_run(tmp_path / "runs")
    config = TrainingConfig.from_dict(json.loads((run.path / "config.json").read_text()))

    def is_free():
        try:
            with run.claim(config):
                return True
        except RequestError:
            return False

    until(is_free)  # once the process that loads images has seen that it is alone


def test_two_processes_cannot_train_one_run(tiny_dataset, tmp_path):
    train = ["train", "--data", tiny_dataset, "--out", tmp_path / "runs", *LONG]
    process = SalonProcess(tmp_path, *train, "--total-kimg", "1000")
    try:
        until(lambda: "Run: " in process.err, process)
        outcome = run_salon(*train)
    finally:
        process.kill()
    assert outcome.code == 2 and "is being trained by another process" in outcome.err


def test_hooks_are_called(tiny_dataset, tiny_run, tmp_path):
    calls = []

    class Recorder:
        def on_tick(self, row):
            calls.append(("tick", row["kimg"]))

        def on_snapshot(self, path):
            calls.append(("snapshot", snapshot.load(path).cur_nimg))

    config = TrainingConfig.from_dict(json.loads((tiny_run / "config.json").read_text()))
    options = TrainingOptions(total_kimg=0.016, kimg_per_tick=0.008, network_snapshot_ticks=2, workers=0)
    dataset, device = ImageDataset(tiny_dataset), torch.device("cpu")
    train(Run(tmp_path), config, options, dataset, np.arange(12), device, hooks=[Recorder()])
    assert calls == [("tick", 0.008), ("tick", 0.016), ("snapshot", 16)]


def test_metrics_are_recorded_and_keep_to_their_budget(tiny_dataset, tiny_run, tmp_path):
    def brightness(path, count):
        G = snapshot.load(path).G_ema
        means = [pixels.mean() for pixels in generate.generate(G, range(count))]
        clock.now += 1 + count / 64
        return {"brightness": float(np.mean(means))}

    class Timed(BudgetedMetrics):
        def on_tick(self, row):
            clock.now += 1  # what a tick takes

    clock = Clock(1000.0)  # no matter when it starts
    hook = Timed(brightness, 20, smallest=8, largest=1000, clock=clock)
    config = TrainingConfig.from_dict(json.loads((tiny_run / "config.json").read_text()))
    options = TrainingOptions(total_kimg=0.2, kimg_per_tick=0.008, network_snapshot_ticks=4, workers=0)
    dataset, device = ImageDataset(tiny_dataset), torch.device("cpu")
    train(Run(tmp_path), config, options, dataset, np.arange(12), device, hooks=[hook])
    rows = [json.loads(line) for line in Run(tmp_path).metrics.read_text().splitlines()]
    # The first shows what it costs; the third snapshot affords one again, and the fourth has the rest of the budget.
    assert [(row["nimg"], row["images"]) for row in rows] == [(32, 8), (96, 13), (128, 43), (192, 64)]
    assert [row["seconds"] for row in rows] == [1 + row["images"] / 64 for row in rows]
    spent, elapsed = np.cumsum([row["seconds"] for row in rows]), np.array([row["nimg"] / 8 for row in rows])
    assert [row["percent_of_time"] for row in rows] == pytest.approx(100 * spent / (elapsed + spent))
    assert rows[0]["percent_of_time"] > 20 and all(row["percent_of_time"] <= 20 + 1e-9 for row in rows[1:])
    assert all(0 < row["brightness"] < 255 for row in rows)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("metrics/brightness")] == [row["nimg"] for row in rows]


def test_the_budget_fits_fixed_and_variable_cost_and_spends_no_more():
    hook = BudgetedMetrics(lambda path, count: {}, 10, smallest=100, largest=10_000)
    assert hook.images_within(0) == 100  # to learn what it costs
    hook.costs = [(100, 3.0), (300, 5.0)]
    assert hook.fit() == pytest.approx((2.0, 0.01))
    assert hook.spent == 8
    # (share * elapsed - spent) / (1 - share) seconds are there, 2 of them fixed
    assert hook.images_within(80) == 0 and hook.images_within(106) == 0
    assert hook.images_within(134) == pytest.approx(((13.4 - 8) / 0.9 - 2) / 0.01, abs=1)
    assert hook.images_within(1e6) == 10_000
    hook.costs = [(100, 2.0), (100, 4.0)]
    assert hook.fit() == pytest.approx((0, 0.03))
    hook.costs = [(100, 1.0), (300, 5.0)]  # a line through them would begin below zero
    assert hook.fit() == pytest.approx((0, 0.016))
    hook.costs = [(100, 5.0), (300, 3.0)]  # more images took less
    assert hook.fit() == (4, 0)
    assert (hook.images_within(115.9), hook.images_within(116.1)) == (
        0,
        10_000,
    )  # 10 % of it are 8 and nine tenths of 4
    hook.costs = [(100, 1.0), (200, 2.0)]
    assert (hook.images_within(38.9), hook.images_within(39.1)) == (0, 101)  # `smallest` is affordable from 39 s on
    for wrong in (0, 100):
        with pytest.raises(RequestError, match=f"`percent` must be between 0 and 100 percent; got {wrong} instead"):
            BudgetedMetrics(lambda path, count: {}, wrong)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_wandb_names_its_remedy(tiny_dataset, tmp_path):
    outcome = run_salon(
        "train", "--data", tiny_dataset, "--out", tmp_path / "runs", *TINY_TRAINING, "--wandb", "paintings"
    )
    assert outcome.code == 2 and "pip install wandb" in outcome.err and not (tmp_path / "runs").exists()


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_logs_offline(tiny_dataset, tmp_path):
    train = command(
        tiny_dataset, tmp_path, "--total-kimg", "0.064", "--image-snapshot-ticks", "1", "--wandb", "paintings"
    )
    for total in ("0.064", "0.128"):  # the second goes on
        subprocess.run(
            [*train, "--total-kimg", total],
            check=True,
            capture_output=True,
            env={**os.environ, "WANDB_MODE": "offline"},
        )
    run = only_run(tmp_path)
    (first, second) = run.path.glob("wandb/offline-run-*")
    for folder in (first, second):
        assert list(folder.glob(f"run-{run.path.name}.wandb"))
        assert list(folder.rglob("*.jpg"))


def test_schedule_by_ticks():
    schedule = Schedule(ticks=2, minutes=0)
    assert [schedule.due(tick, True) for tick in (1, 2, 3, 4)] == [False, True, False, True]
    assert not schedule.due(2, False)


def test_schedule_by_time_comes_first_and_again():
    clock = Clock(1000)
    schedule = Schedule(ticks=0, minutes=5, clock=clock)
    due = []
    for clock.now in (1000, 1059, 1060, 1061, 1359, 1360, 1361):  # first after a minute, then every five
        due.append(schedule.due(1, False))
    assert due == [False, False, True, False, False, True, False]


def test_preflight_finds_a_bad_image_before_training(tiny_dataset, tmp_path):
    dataset = ImageDataset(tiny_dataset)
    for name in dataset.names:
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(dataset.read_bytes(name))
    bad = tmp_path / "images" / dataset.names[7]
    bad.write_bytes(bad.read_bytes()[:300])
    outcome = run_salon("train", "--data", tmp_path / "images", "--out", tmp_path / "runs", *TINY_TRAINING)
    assert outcome.code == 2 and dataset.names[7] in outcome.err and "1 images that cannot be trained on" in outcome.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ""])
def test_a_run_stays_inside_its_folder(tiny_dataset, tmp_path, name):
    outcome = run_salon("train", "--data", tiny_dataset, "--out", tmp_path / "runs", "--name", name, *TINY_TRAINING)
    assert outcome.code == 2 and "--name must be the name of one folder in --out" in outcome.err
    assert not list(tmp_path.iterdir())
