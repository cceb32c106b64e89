"""Averages of any width after training: what a run stores, exact resume with it, and snapshots made of it."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, run_salon
from safetensors import safe_open
from torch import nn

from gan import snapshot
from gan.errors import RequestError
from gan.training import checkpoint, power_averages, start
from gan.training.learner import Learner
from gan.training.power_averages import POINTS, WIDTHS, PowerAverages, interval, is_kept
from gan.training.power_function import gamma_of
from gan.training.reconstruct import open_stored, reconstruct
from gan.training.run_dir import Run

BATCH, STEPS = 8, 22
LONG = (*TINY_TRAINING, "--total-kimg", "0.176", "--network-snapshot-ticks", "1", "--kimg-per-tick", "0.064")


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.fixture(autouse=True)
def short_interval(monkeypatch):
    """Runs of hundreds of images store as those of thousands do."""
    monkeypatch.setattr(power_averages, "FIRST_INTERVAL", 8)


def trained(data: Path, runs: Path, *more: object) -> Run:
    outcome = run_salon("train", "--data", data, "--out", runs, *LONG, *more, "--json")
    assert outcome.code == 0, outcome.err
    return Run(Path(outcome.json["run"]))


def state(run: Run) -> dict:
    return checkpoint.load_newest(run.checkpoints)[1]["learner"]


def stored(run: Run) -> dict[str, dict[str, torch.Tensor]]:
    """File name -> what is in it."""
    found = {}
    for _, path in power_averages.list_oldest_first(run.averages):
        with safe_open(path, framework="pt") as file:
            found[path.name] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


@pytest.fixture(scope="module")
def whole(tiny_dataset, tmp_path_factory):
    """A run with averages that nothing disturbed, and G's parameters after each iteration."""
    iterates = []
    step = Learner.step

    def watched(learner, *batch):
        stats = step(learner, *batch)
        iterates.append({name: value.detach().clone() for name, value in learner.G.named_parameters()})
        return stats

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", watched)
        patch.setattr(power_averages, "FIRST_INTERVAL", 8)
        run = trained(tiny_dataset, tmp_path_factory.mktemp("whole"), "--post-hoc-ema")
    return run, iterates


def brute_force(iterates: list[dict[str, torch.Tensor]], width: float) -> dict[str, torch.Tensor]:
    """The average over all iterates, each with the profile's share of its own step."""
    weights = np.diff(np.linspace(0, 1, len(iterates) + 1) ** (gamma_of(width) + 1))
    return {
        name: sum(float(w) * one[name].double() for w, one in zip(weights, iterates, strict=True))
        for name in iterates[0]
    }


def test_stored_times_are_few_and_follow_from_the_images_alone():
    assert [interval(seen) for seen in (1, 128, 129, 256, 257, 8000)] == [8, 8, 16, 16, 32, 512]
    for now in (8, 64, 128, 136, 1000, 8000, 100_000):
        times = [seen for seen in range(BATCH, now + 1, BATCH) if is_kept(seen, BATCH, now)]
        assert len(times) <= POINTS and (now < 128 or len(times) >= POINTS // 2)
        later = [seen for seen in times if is_kept(seen, BATCH, 2 * now)]
        assert later == [seen for seen in range(BATCH, now + 1, BATCH) if is_kept(seen, BATCH, 2 * now)]
    odd = [seen for seen in range(24, 10_000, 24) if is_kept(seen, 24, 10_000)]
    assert 8 <= len(odd) <= POINTS and all(seen % interval(10_000) < 24 for seen in odd)


def test_a_run_stores_averages_that_change_nothing_else(whole, tiny_dataset, tmp_path):
    run, iterates = whole
    assert len(iterates) == STEPS
    names = [f"averages-{nimg:010d}.safetensors" for nimg in range(16, 177, 16)]
    assert list(stored(run)) == names
    learner = state(run)
    for width in WIDTHS:
        expected = brute_force(iterates, width)
        for name, value in learner["averages"][f"{width:g}"].items():
            torch.testing.assert_close(value.double(), expected[name], atol=1e-6, rtol=1e-5)
        older = brute_force(iterates[:8], width)
        for name, value in older.items():
            torch.testing.assert_close(stored(run)[names[3]][f"{width:g}.{name}"].double(), value, atol=1e-6, rtol=1e-5)
    without = trained(tiny_dataset, tmp_path)
    assert not without.averages.exists() and without.path.name == run.path.name
    assert equal(state(without), {name: value for name, value in learner.items() if name != "averages"})


def test_resume_is_exact_in_averages_and_files(whole, tiny_dataset, tmp_path):
    run, _ = whole
    trained(tiny_dataset, tmp_path, "--post-hoc-ema", "--total-kimg", "0.064")
    half = Run(next(path for path in tmp_path.iterdir() if path.is_dir()))
    assert list(stored(half))[-1] == "averages-0000000064.safetensors"
    for nimg in (72, 80):  # of a process that was killed before its next checkpoint
        stray = half.averages / f"averages-{nimg:010d}.safetensors"
        stray.write_bytes(next(run.averages.iterdir()).read_bytes())
    resumed = trained(tiny_dataset, tmp_path, "--post-hoc-ema")
    assert resumed.path == half.path
    assert equal(state(resumed), state(run)) and equal(stored(resumed), stored(run))


def learner_of(config, **state: object) -> Learner:
    learner = Learner(config, torch.device("cpu"), post_hoc_ema=True)
    if state:
        learner.load_state_dict(learner.state_dict() | state)
    return learner


def test_averages_begin_where_a_checkpoint_has_none(tiny_config):
    old = learner_of(tiny_config, cur_nimg=64).state_dict()
    averages = old.pop("averages")  # as checkpoints of before are
    assert averages["start_nimg"] == 0
    learner = learner_of(tiny_config)
    learner.load_state_dict(old)
    assert learner.averages.start_nimg == 64
    plain = Learner(tiny_config, torch.device("cpu"))
    plain.load_state_dict({**old, "averages": averages})  # without the option they end
    assert plain.averages is None and "averages" not in plain.state_dict()


def test_a_run_from_another_ones_checkpoint_begins_its_own(tiny_config, tmp_path):
    source = learner_of(tiny_config, cur_nimg=64).state_dict()
    for kimg, begun in ((None, 64), (0.1, 100)):
        learner = learner_of(dataclasses.replace(tiny_config, resume_from="x", resume_kimg=kimg))
        start.resume(Run(tmp_path), learner, source)
        assert learner.cur_nimg == learner.averages.start_nimg == begun


def test_what_was_stored_of_other_averages_goes(tiny_config, tmp_path):
    first, second = PowerAverages(nn.Linear(2, 2)), PowerAverages(nn.Linear(2, 2), 24)
    for nimg in (8, 16, 24, 32):
        power_averages.keep(tmp_path, first, 8, nimg)
    for nimg in (40, 48, 56):
        power_averages.keep(tmp_path, second, 8, nimg)
    assert [nimg for nimg, _ in power_averages.list_oldest_first(tmp_path)] == [8, 16, 24, 32, 40, 48, 56]
    power_averages.rewind(tmp_path, second, 48)
    assert [nimg for nimg, _ in power_averages.list_oldest_first(tmp_path)] == [40, 48]
    (tmp_path / "averages-0000000032.safetensors").write_bytes(b"no such file")
    power_averages.rewind(tmp_path, second, 48)
    assert [nimg for nimg, _ in power_averages.list_oldest_first(tmp_path)] == [40, 48]


@pytest.mark.parametrize("width", [0.04, 0.05, 0.13])
def test_any_width_is_that_of_all_iterates(whole, tmp_path, width):
    run, iterates = whole
    out = tmp_path / "wide.safetensors"
    outcome = run_salon("ema", "--run", run.path, "--width", width, "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["averages"] == 22 and outcome.json["error"] < 0.02 and "Note" not in outcome.err
    made, newest = snapshot.load(out), snapshot.load(snapshot.list_newest_first(run.snapshots)[0])
    assert made.ema_width == width and newest.ema_width is None
    assert (made.cur_nimg, made.classes, made.config) == (176, newest.classes, newest.config)
    assert made.D is not None and equal(dict(made.D.state_dict()), dict(newest.D.state_dict()))

    def apart(width: float) -> float:
        """Distance from the average of all iterates in a width."""
        expected = brute_force(iterates, width)
        parts = [value.double() - expected[name] for name, value in made.G_ema.named_parameters()]
        return float(sum(part.square().sum() for part in parts)) ** 0.5

    assert apart(width) < 0.1 * min(apart(0.8 * width), apart(1.25 * width))
    assert equal(dict(made.G_ema.named_buffers()), dict(newest.G_ema.named_buffers()))


def test_the_snapshot_is_one_as_any_other(whole, tmp_path):
    run, _ = whole
    out = tmp_path / "wide.safetensors"
    assert run_salon("ema", "--run", run.path, "--width", "0.1", "--out", out).code == 0
    generated = run_salon("generate", out, "--seeds", "0-1", "--out", tmp_path / "images")
    assert generated.code == 0 and len(list((tmp_path / "images").glob("*.png"))) == 2
    refused = run_salon("ema", "--run", run.path, "--width", "0.1", "--out", out)
    assert refused.code == 2 and "--overwrite" in refused.err
    said = run_salon("ema", "--run", run.path, "--width", "0.28", "--out", out, "--overwrite")
    assert said.code == 0 and "--width 0.28 within" in said.err


def test_requests_that_cannot_be_carried_out(whole, tiny_run, tmp_path):
    run, _ = whole
    out = tmp_path / "x.safetensors"

    def refused(*arguments: object) -> str:
        outcome = run_salon("ema", *arguments)
        assert outcome.code == 2 and not out.exists()
        return outcome.err

    assert "trained with post_hoc_ema" in refused("--run", tiny_run, "--width", "0.1", "--out", out)
    assert "--run must be a run" in refused("--run", tmp_path, "--width", "0.1", "--out", out)
    assert "at most 0.28" in refused("--run", run.path, "--width", "0.3", "--out", out)
    assert "--out must end in .safetensors" in refused("--run", run.path, "--width", "0.1", "--out", tmp_path / "x.pt")


def test_a_damaged_file_is_named(whole, tmp_path):
    run, _ = whole
    found = open_stored(run.path)
    damaged = tmp_path / "averages-0000000016.safetensors"
    damaged.write_bytes(found.files[0][1].read_bytes()[:-100])
    broken = copy.copy(found)
    object.__setattr__(broken, "files", [(16, damaged), *found.files[1:]])
    with pytest.raises(RequestError, match=r"averages-0000000016\.safetensors cannot be read, or is damaged"):
        reconstruct(broken, 0.1, tmp_path / "x.safetensors")


def test_the_state_is_copied_and_taken_back():
    module = nn.Linear(2, 2)
    averages = PowerAverages(module, 100)
    with torch.no_grad():
        module.weight.fill_(3.0)
    averages.update(8, 108)
    assert all(torch.equal(average["weight"], module.weight) for average in averages.averages.values())
    with torch.no_grad():
        module.weight.fill_(5.0)
    averages.update(8, 116)
    wide, narrow = (averages.averages[width]["weight"][0, 0].item() for width in (0.10, 0.05))
    assert 3 < wide < narrow < 5  # the narrow one is nearer to the last
    other = PowerAverages(nn.Linear(2, 2))
    other.load_state_dict(kept := averages.state_dict())
    assert equal(other.state_dict(), kept) and other.start_nimg == 100
