"""A run's folder: its name, whose it is, its records."""

import dataclasses
import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import full_disk

from gan import snapshot
from gan.errors import RequestError, SalonError
from gan.runtime.console import duration
from gan.training import checkpoint
from gan.training.run_dir import Run, default_name, unused

ROWS = [{"tick": tick, "nimg": tick * 8, "loss/G": tick / 3} for tick in (1, 2, 3, 4)]


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


@pytest.fixture
def written(run, tiny_config):
    with run.claim(tiny_config):
        for row in ROWS:
            run.append_stats(row)
    return run


def test_default_name_is_the_same_for_the_same_config_only(tiny_config):
    data = Path("paintings64.zip")
    name = default_name(data, tiny_config)
    assert name.startswith("paintings64-auto-") and default_name(data, dataclasses.replace(tiny_config)) == name
    others = [
        dataclasses.replace(tiny_config, **change)
        for change in (
            {"seed": 1},
            {"dataset": "1" * 64},
            {"manifest": "2" * 64},
            {"mirror": True},
            {"resume_from": "3" * 64},
            {"network": dataclasses.replace(tiny_config.network, w_dim=9)},
        )
    ]
    assert len({name, *(default_name(data, other) for other in others)}) == 7


def test_claim_makes_the_folder_and_writes_the_config(run, tiny_config):
    with run.claim(tiny_config):
        assert run.grids.is_dir() and run.snapshots.is_dir() and run.checkpoints.is_dir()
    assert json.loads((run.path / "config.json").read_text()) == tiny_config.to_dict()
    with run.claim(tiny_config):
        pass


def test_claim_of_another_process_is_respected_and_ends_with_it(run, tiny_config):
    with run.claim(tiny_config):
        pass
    lines = ["import fcntl, sys", "file = open(sys.argv[1], 'w')", "fcntl.flock(file, fcntl.LOCK_EX)"]
    code = "\n".join([*lines, "print('held', flush=True)", "input()"])
    command = [sys.executable, "-c", code, str(run.path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RequestError, match="is being trained by another process"), run.claim(tiny_config):
            pass
        other.kill()
        other.wait()
        with run.claim(tiny_config):
            pass


def test_a_file_system_without_locks_is_trained_on(run, tiny_config, monkeypatch, capsys):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with run.claim(tiny_config):
        assert run.config_file.exists()
    assert "has no locks (No locks available)" in capsys.readouterr().err


def test_a_second_claim_is_refused_while_the_first_is_held(run, tiny_config):
    with run.claim(tiny_config), pytest.raises(RequestError, match="being trained"), Run(run.path).claim(tiny_config):
        pass


def test_claim_refuses_another_config_and_names_the_difference(written, tiny_config):
    other = dataclasses.replace(tiny_config, seed=5, network=dataclasses.replace(tiny_config.network, w_dim=9))
    with pytest.raises(RequestError) as caught, written.claim(other):
        pass
    assert "w_dim is 9, not 8" in str(caught.value) and "seed is 5, not 0" in str(caught.value)
    assert "mapping_layers" not in str(caught.value) and "Choose another `name`" in str(caught.value)
    with written.claim(tiny_config):  # and it is free again
        pass


def test_claim_removes_what_a_killed_process_left(written, tiny_config):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = written.checkpoints / f".checkpoint-0000000008.pt.{dead.pid}.partial"
    mine = written.checkpoints / f".checkpoint-0000000008.pt.{os.getpid()}.partial"
    for file in (stale, mine):
        file.write_text("half")
    with written.claim(tiny_config):
        assert not stale.exists() and mine.exists()


def test_claim_where_no_folder_can_be(tmp_path, tiny_config):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RequestError, match="could not be written"), Run(tmp_path / "file").claim(tiny_config):
        pass


def test_stats_round_trip(written, run):
    assert written.read_stats() == ROWS
    assert Run(run.path.with_name("absent")).read_stats() == []


def test_a_torn_last_line_is_left_out(written):
    content = written.stats.read_bytes()
    for length in (len(content) - 2, len(content) - 20):
        written.stats.write_bytes(content[:length])
        assert written.read_stats() == ROWS[:3]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((-3, "0.0 s"), (-0.0, "0.0 s"), (0.4, "0.4 s"), (59.9, "59.9 s"), (59.99, "1 min 0 s"), (200, "3 min 20 s")),
        *((3599.7, "1 h 0 min"), (7500, "2 h 5 min"), (86399, "23 h 59 min"), (273600, "3 d 4 h")),
    ],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_rewind_drops_what_was_written_after_the_checkpoint(written):
    written.stats.write_bytes(written.stats.read_bytes() + b'{"tick": 5, "ni')
    written.rewind_stats(16)
    assert written.read_stats() == ROWS[:2]
    written.append_stats(ROWS[2])
    assert written.read_stats() == ROWS[:3]  # no torn line in between


def test_rewind_before_anything_was_written(run):
    run.path.mkdir()
    run.rewind_stats(0)
    assert not run.stats.exists()


def test_stats_on_a_full_disk(written):
    size = written.stats.stat().st_size
    with full_disk(size), pytest.raises(SalonError, match=r"stats\.jsonl could not be written: .* GB are free"):
        written.append_stats(ROWS[0])
    assert written.read_stats() == ROWS


def test_grids_are_listed_in_order(written):
    for cur_nimg in (100, 20, 3_000_000):
        written.grid_path(cur_nimg).write_text("sheet")
    (written.grids / "reals.jpg").write_text("reals")
    assert written.list_grids() == [written.grid_path(cur_nimg) for cur_nimg in (20, 100, 3_000_000)]


@pytest.mark.parametrize(
    "keep, left", [(0, [8, 16, 24, 1000]), (1, [1000]), (3, [16, 24, 1000]), (9, [8, 16, 24, 1000])]
)
def test_prune_keeps_the_newest(written, keep, left):
    for cur_nimg in (8, 1000, 24, 16):
        checkpoint.path_for(written.checkpoints, cur_nimg).write_text("c")
        snapshot.path_for(written.snapshots, cur_nimg).write_text("s")
    mine = written.snapshots / "best.safetensors"
    mine.write_text("my own copy")
    written.prune(keep)
    assert sorted(written.checkpoints.iterdir()) == [checkpoint.path_for(written.checkpoints, n) for n in left]
    assert sorted(written.snapshots.iterdir()) == [mine, *(snapshot.path_for(written.snapshots, n) for n in left)]


def test_unused(tmp_path):
    assert unused(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    assert unused(tmp_path / "run") == tmp_path / "run-2"
    (tmp_path / "run-2").mkdir()
    assert unused(tmp_path / "run") == tmp_path / "run-3"
