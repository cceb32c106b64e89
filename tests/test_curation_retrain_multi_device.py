"""Arms side by side, in real processes: Ctrl-C, an end of the command itself, an arm that fails."""

import json
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import SalonProcess, run_salon, until
from test_curation_retrain import HOW, TOGETHER, base_run, curation, dataset  # noqa: F401

from gan.runtime.files import read_json
from gan.training import checkpoint

RETRAIN = ("curate", "retrain")
LONG = (*HOW[2:], *TOGETHER, "--kimg", "20", "--json")  # not to be finished


def learning(out: Path, process: SalonProcess, count: int) -> dict[str, int]:
    """Wait until `count` arms have learned more than now -> the processes that train them, by the log they write to."""

    def ticks() -> Counter[str]:
        return Counter({str(file): file.read_text().count("\n") for file in out.glob("arms/*/stats.jsonl")})

    before = ticks()
    until(lambda: len(ticks() - before) >= count, process)
    found = {}
    for stderr in Path("/proc").glob("[0-9]*/fd/2"):
        with suppress(OSError):  # it ended, or is somebody else's
            log = stderr.readlink()
            if log.suffix == ".log" and log.is_relative_to(out):
                found[log.stem] = int(stderr.parts[2])
    assert len(found) == count
    return found


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be counted by a parent that is not ours."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
def test_ctrl_c_stops_all_arms_with_checkpoints_and_they_go_on(curation, base_run, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    command = (*RETRAIN, "--run", base_run, "--manifest", curation, "--out", out, *LONG)
    reached: dict[str, int] = {}
    for call in range(2):
        process = SalonProcess(tmp_path, *command, name=f"call-{call}")
        trainers = learning(out, process, 2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        stopped = process.wait()
        assert stopped.code == 0, stopped.err
        assert stopped.json == {"out": str(out), "finished": None, "arm": "curated-0"}
        assert all(ended(pid) for pid in trainers.values())
        before = dict(reached)
        for arm in ("curated-0", "full-0"):
            path, _ = checkpoint.load_newest(out / "arms" / arm / "checkpoints")
            reached[arm] = int(path.stem.split("-")[1])
            assert reached[arm] > before.get(arm, 0)
        assert not (out / "arms" / "random-0").exists()
    assert "Resuming from" in (out / "arms" / "full-0.log").read_text()


@pytest.mark.slow
def test_no_arm_outlives_the_command(curation, base_run, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    process = SalonProcess(tmp_path, *RETRAIN, "--run", base_run, "--manifest", curation, "--out", out, *LONG)
    trainers = learning(out, process, 2)
    process.kill()
    until(lambda: all(ended(pid) for pid in trainers.values()))
    for arm in trainers:
        assert checkpoint.load_newest(out / "arms" / arm / "checkpoints")


@pytest.mark.slow
def test_an_arm_that_fails_is_named_with_its_reason_and_the_others_save(curation, base_run, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    command = (*RETRAIN, "--run", base_run, "--manifest", curation, "--out", out, *LONG)
    process = SalonProcess(tmp_path, *command)
    trainers = learning(out, process, 2)
    os.kill(trainers["full-0"], signal.SIGKILL)
    failed = process.wait()
    assert failed.code == 1
    assert any(line.startswith("Error: full-0 on cpu failed: ") for line in failed.err.splitlines())
    assert checkpoint.load_newest(out / "arms" / "curated-0" / "checkpoints")
    # Another run in the arm's place is a fault of the request, which the arm's own message explains.
    config = out / "arms" / "full-0" / "config.json"
    config.write_text(json.dumps({**read_json(config), "seed": 7}))
    again = SalonProcess(tmp_path, *command, name="again").wait()
    assert again.code == 1
    assert "full-0 on cpu failed: Error: " in again.err and "holds another run: seed" in again.err


@pytest.mark.parametrize("names", ["cpu,gpu", "cpu,"])
def test_wrong_devices_are_named(names, curation, base_run, tmp_path):  # noqa: F811
    arguments = ("--run", base_run, "--manifest", curation, "--out", tmp_path / "out", *HOW, "--device", names)
    outcome = run_salon("curate", "retrain", *arguments)
    assert outcome.code == 2 and "--device must be" in outcome.err


def test_torchrun_shares_one_device_out(curation, base_run, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = ("--run", base_run, "--manifest", curation, "--out", tmp_path / "out", *HOW, *TOGETHER)
    outcome = run_salon("curate", "retrain", *arguments)
    assert outcome.code == 2 and "--device must name one device under torchrun" in outcome.err
