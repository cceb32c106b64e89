"""Several processes as torchrun starts them, on gloo: what one process learns, who writes, how a job ends."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import HANG, TINY_TRAINING, SalonProcess, as_torchrun, free_port, run_salon, until

from gan.augment.ada import AdaController
from gan.config import TrainingConfig
from gan.runtime import distributed, parallel
from gan.training import checkpoint
from gan.training.run_dir import Run

BATCH = 16  # four groups: two processes with two passes each
LINE_EACH_ITERATION = [
    *(*TINY_TRAINING, "--set", f"batch_size={BATCH}", "--kimg-per-tick", str(BATCH / 1000), "--mirror"),
    *("--image-snapshot-ticks", "0", "--set", "r1_interval=4", "--conditional"),
    # Little enough that what rounding does to one activation at its kink is not multiplied by what is learned from it.
    *("--set", "learning_rate=0.0005"),
]
ENDLESS = [*LINE_EACH_ITERATION, "--network-snapshot-ticks", "2", "--total-kimg", "1000"]


def launch(folder: Path, data: Path, runs: Path, *options: object) -> SalonProcess:
    launcher = ["--nproc-per-node", "2", "--max-restarts", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint"]
    return SalonProcess(folder, "train", "--data", data, "--out", runs, *options, torchrun=[*launcher, "localhost:0"])


def workers(launcher: SalonProcess) -> dict[int, int]:
    """The launched processes: rank -> pid."""
    found = {}
    for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        entries = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found.update({int(entry[5:]): int(child) for entry in entries if entry.startswith(b"RANK=")})
    return found


def only_run(runs: Path) -> Run:
    (path,) = (p for p in runs.iterdir() if p.is_dir())
    return Run(path)


def newest(run: Run):
    return checkpoint.load_newest(run.checkpoints)[1]


@pytest.fixture(scope="module")
def one(tiny_dataset, tmp_path_factory) -> Run:
    """A run of 10 iterations in one process, with all checkpoints."""
    runs = tmp_path_factory.mktemp("one")
    options = [*LINE_EACH_ITERATION, "--network-snapshot-ticks", "4", "--keep", "0"]
    assert (
        run_salon("train", "--data", tiny_dataset, "--out", runs, *options, "--total-kimg", 10 * BATCH / 1000).code == 0
    )
    return only_run(runs)


def test_two_processes_learn_what_one_does_and_one_goes_on(tiny_dataset, tmp_path, one):
    runs = tmp_path / "runs"
    request = ["train", "--data", tiny_dataset, "--out", runs, "--json", *LINE_EACH_ITERATION]
    job = as_torchrun(tmp_path, *request, "--total-kimg", 8 * BATCH / 1000, "--batch-gpu", 4)
    (code, out, err), (other_code, *silence) = (dataclasses.astuple(process.wait()) for process in job)
    assert (code, other_code, silence) == (0, 0, ["", ""]), err
    assert json.loads(out)["finished"] and err.count("Run: ") == 1 and "in 2 processes" in err  # one line each
    run = only_run(runs)
    expected, found = one.read_stats()[:8], run.read_stats()
    assert [row["nimg"] for row in found] == [row["nimg"] for row in expected]
    for before, after in zip(expected, found, strict=True):
        names = {name for name in before if "/" in name}
        assert names == {name for name in after if "/" in name}
        for name in names:  # logits/ are close to zero, gradient/ jumps at kinks
            tolerance = {"gradient": 1e-3, "logits": 1e-4}.get(name.split("/")[0], 1e-5)
            assert after[name] == pytest.approx(before[name], rel=tolerance), (name, after["tick"])
    assert not list(run.path.rglob("*.partial"))

    mine, its = newest(run), checkpoint.load(checkpoint.path_for(one.checkpoints, 8 * BATCH))
    assert mine.keys() == its.keys() and mine["learner"].keys() == its["learner"].keys()
    assert torch.equal(mine["learner"]["rng_cpu"], its["learner"]["rng_cpu"])
    for name, weights in its["learner"]["G"].items():
        torch.testing.assert_close(mine["learner"]["G"][name], weights, rtol=1e-3, atol=1e-4)

    more = [*LINE_EACH_ITERATION, "--total-kimg", 10 * BATCH / 1000]
    again = run_salon("train", "--data", tiny_dataset, "--out", runs, *more)
    assert again.code == 0 and "Resuming from" in again.err
    last, its_last = run.read_stats()[-1], one.read_stats()[-1]
    assert last["nimg"] == 10 * BATCH and last["loss/D"] == pytest.approx(its_last["loss/D"], rel=1e-4)


def test_a_killed_process_ends_the_job_and_a_restart_goes_on(tiny_dataset, tmp_path):
    runs = tmp_path / "runs"
    job = launch(tmp_path, tiny_dataset, runs, *ENDLESS)
    try:
        until(lambda: "tick 4 " in job.err, job)
        os.kill(workers(job)[1], signal.SIGKILL)
        until(lambda: "tick 7 " in job.err.partition("Resuming from")[2], job)
        os.kill(workers(job)[1], signal.SIGKILL)  # the restarts are used up
        seen, _, err = job.wait().err.partition("Resuming from")  # less than they wait for each other's gradients
    finally:
        if job.poll() is None:
            for child in workers(job).values():
                os.kill(child, signal.SIGKILL)
            job.kill()
    assert job.returncode != 0
    assert "lost another one" in seen and "lost another one" in err and "fault of Salon" not in seen + err
    run = only_run(runs)
    assert [row["nimg"] for row in run.read_stats()] == [BATCH * (n + 1) for n in range(len(run.read_stats()))]
    with run.claim(TrainingConfig.from_dict(json.loads((run.path / "config.json").read_text()))):
        pass  # nobody holds the run any more


def test_a_stop_asked_of_one_process_stops_all_with_a_checkpoint(tiny_dataset, tmp_path):
    runs = tmp_path / "runs"
    job = as_torchrun(tmp_path, "train", "--data", tiny_dataset, "--out", runs, "--json", *ENDLESS)
    until(lambda: "tick 2 " in job[0].err, job[0])
    os.kill(job[1].pid, signal.SIGTERM)
    main, other = (process.wait() for process in job)
    assert main.code == other.code == 0, main.err + other.err
    assert not main.json["finished"]
    assert newest(only_run(runs))["learner"]["cur_nimg"] == round(main.json["kimg"] * 1000) > 0


def adapt(rank: int, port: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with distributed.joined(torch.device("cpu")):
        controller = AdaController(p=0.5, target=0.6, interval=1, kimg=1)
        logits = torch.ones(10, 1)
        logits[: 5 * rank] = -1  # r_t is 1 in one process and 0 in the other
        controller.observe(logits)
        controller.update(1)
        (folder / f"p{rank}").write_text(str(controller.p))


def test_ada_adapts_to_what_all_processes_see(tmp_path):
    port = free_port()
    processes = [parallel.start([__name__], adapt, rank, port, tmp_path) for rank in range(2)]
    for process in processes:
        process.join(HANG)
        assert process.exitcode == 0
    assert [float((tmp_path / f"p{rank}").read_text()) for rank in range(2)] == pytest.approx([0.48] * 2)  # 20 images


def test_other_processes_keep_silent(monkeypatch, tiny_dataset, tmp_path):
    monkeypatch.setenv("RANK", "1")
    outcome = run_salon("train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING, "--batch-gpu", "3")
    assert outcome.code == 2 and outcome.out == outcome.err == ""


def test_one_process_needs_no_group():
    tensor = torch.ones(3)
    distributed.sum_in_place([tensor])
    assert tensor.sum() == 3 and distributed.anyone(True) and not distributed.anyone(False)
    distributed.require_same("a", "thing")
    with distributed.main_first(), distributed.joined(torch.device("cpu")):
        assert not torch.distributed.is_initialized()
