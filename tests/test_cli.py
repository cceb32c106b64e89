"""The command line: every help, every exit code, JSON, and the one line that a bad request gets."""

import contextlib
import json
import os
import pty
import resource
import subprocess
import sys
import termios
import zipfile
from pathlib import Path

import av
import click
import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, full_disk, run_salon, write_dataset
from PIL import Image

from gan import snapshot
from gan.__main__ import salon
from gan.config import NetworkConfig, TrainingConfig
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator

ROOT = Path(__file__).parent.parent


def commands(command=salon, name="salon", parent=None):
    """Every command and group below `command`, with its full name."""
    context = click.Context(command, info_name=name, parent=parent)
    yield context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from commands(command.get_command(context, child), child, context)


COMMANDS = {context.command_path: context for context in commands()}


def refused(outcome, *fragments):
    """Check that the request was refused with one clear line that holds all `fragments`."""
    assert outcome.code == 2, outcome.err
    assert outcome.out == "" and "Traceback" not in outcome.err
    lines = [line for line in outcome.err.splitlines() if line]
    assert lines[-1].startswith("Error: ") and sum("Error" in line for line in lines) == 1
    for fragment in fragments:
        assert str(fragment) in lines[-1]


# Help


def test_no_command_is_lost_or_renamed():
    single = (
        "blend card demo doctor ema export gallery import prepare project pull push run serve synthetic train verify"
    )
    groups = {
        "curate": "auto check diff learn log map materialize prune retrain review score",
        "dataset": "info join",
        "directions": "find rename sheet show",
        "eval": "blind compare ema novelty reference run sweep",
        "generate": "edit images interpolate mix timelapse",
        "query": "classify directions edit generate interpolate mix status",
        "style": "check train",
    }
    expected = {f"salon {name}" for name in [*single.split(), *groups]} | {"salon"}
    expected |= {f"salon {group} {name}" for group, names in groups.items() for name in names.split()}
    assert set(COMMANDS) == expected


@pytest.mark.parametrize("path", COMMANDS)
def test_help(path):
    outcome = run_salon(*path.split()[1:], "--help")
    assert outcome.code == 0 and outcome.err == ""
    assert outcome.out.startswith(f"Usage: {path}") and "--help" in outcome.out
    command = COMMANDS[path].command
    assert command.help and command.help.strip().splitlines()[0] in " ".join(outcome.out.split())
    for option in (p for p in command.params if isinstance(p, click.Option)):
        assert option.help or option.metavar, f"{path} {option.opts[0]} says nothing about itself"
        assert option.opts[0] in outcome.out


@pytest.mark.parametrize(
    "path", [path for path, context in COMMANDS.items() if isinstance(context.command, click.Group)]
)
def test_the_help_of_a_group_lists_its_commands(path):
    out = run_salon(*path.split()[1:], "--help").out
    for name in COMMANDS[path].command.list_commands(COMMANDS[path]):
        assert f"\n  {name} " in out


def test_every_command_that_prints_figures_takes_json():
    for path, context in COMMANDS.items():
        if not isinstance(context.command, click.Group):
            assert any("--json" in option.opts for option in context.command.params), path


# Exit codes of the real program


def program(*arguments, stdout=subprocess.PIPE, **options):
    command = [sys.executable, "-m", "gan", *map(str, arguments)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT, **options)


def test_exit_code_0_and_nothing_but_json_on_standard_output(tmp_path):
    ended = program("synthetic", tmp_path / "paintings", "--count", 2, "--size", 16, "--json")
    assert ended.returncode == 0
    folder = tmp_path / "paintings"
    expected = {"folder": str(folder), "count": 2, "made": 2, "outliers": 0, "list": str(folder / "paintings.csv")}
    assert json.loads(ended.stdout) == expected


def test_exit_code_1_on_a_full_disk(tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # noqa: E731
    ended = program("synthetic", tmp_path, "--count", 1, "--json", preexec_fn=limit)
    assert ended.returncode == 1 and ended.stdout == "" and "Traceback" not in ended.stderr
    assert ended.stderr.startswith("Error: ") and "GB are free" in ended.stderr
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_exit_code_1_when_standard_output_cannot_be_written(tmp_path):
    with open("/dev/full", "w") as full:
        ended = program("synthetic", tmp_path, "--count", 1, "--size", 16, stdout=full)
    assert ended.returncode == 1
    assert ended.stderr == "Error: standard output could not be written: No space left on device\n"


def test_exit_code_2_for_an_unknown_command():
    ended = program("paint")
    assert ended.returncode == 2 and ended.stdout == "" and "Error: No such command 'paint'" in ended.stderr


def test_exit_code_3_when_the_doctor_misses_something(tmp_path, monkeypatch):
    broken = "raise ImportError('libcudart.so.99: cannot open shared object file')\n"
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(broken)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = program("doctor", "--json")
    assert ended.returncode == 3, ended.stderr
    findings = {finding["name"]: finding for finding in json.loads(ended.stdout)["findings"]}
    assert findings["torch"]["status"] == "FAILED" and "libcudart.so.99" in findings["torch"]["found"]
    assert ended.stderr == "Error: not ready: torch\n"


# Terminals


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_move_on_a_terminal_and_only_there(tmp_path, terminal):
    command = [sys.executable, "-m", "gan", "synthetic", tmp_path / "paintings", "--count", "2", "--size", "16"]
    reader, writer = pty.openpty() if terminal else os.pipe()
    if terminal:
        termios.tcsetwinsize(writer, (24, 80))
    surroundings = os.environ | {"TERM": "xterm-256color", "FORCE_COLOR": "1"}
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, cwd=ROOT, env=surroundings)
    os.close(writer)
    said = b"".join(chunks(reader)).replace(b"\r\n", b"\n")
    assert ended.returncode == 0, said
    assert (b"\r" in said) is terminal and (b"img/s" in said) is terminal
    assert "\x1b" not in ended.stdout and "\r" not in ended.stdout and (terminal or b"\x1b" not in said)


def chunks(descriptor):
    """What is left in a pipe or a terminal whose other end is closed."""
    with open(descriptor, "rb", buffering=0) as stream, contextlib.suppress(OSError):  # a terminal ends with EIO
        while part := stream.read(65536):
            yield part


def test_no_help_shows_a_range_without_an_end():
    assert "None" not in run_salon("generate", "images", "--help").out


# JSON of the commands


def test_doctor():
    findings = run_salon("doctor", "--json").json["findings"]
    assert {"status", "name", "found", "remedy", "commands"} == set(findings[0])
    text = run_salon("doctor")
    assert text.code == 0 and all(finding["name"] in text.out for finding in findings)


def test_synthetic_says_what_is_new(tmp_path):
    assert "2 of them new" in run_salon("synthetic", tmp_path, "--count", 2, "--size", 16).out
    assert run_salon("synthetic", tmp_path, "--count", 3, "--size", 16, "--json").json["made"] == 1


def test_train_dry_run_writes_nothing(tiny_dataset, tmp_path):
    outcome = run_salon(
        "train", "--data", tiny_dataset, "--out", tmp_path / "runs", "--preset", "tiny", "--dry-run", "--json"
    )
    assert outcome.code == 0 and not (tmp_path / "runs").exists()
    figures = outcome.json
    assert figures["images"] == 12 and figures["config"]["network"]["resolution"] == 16
    assert figures["config"]["r1_gamma"] == 0.0002 * 16**2 / 16
    assert f"R1 gamma: {figures['config']['r1_gamma']:.4g} (from the images' size and the batch size)" in outcome.err
    assert Path(figures["run"]).parent == tmp_path / "runs"


def test_train_with_a_gamma_prints_it(tiny_dataset, tmp_path):
    outcome = run_salon("train", "--data", tiny_dataset, "--out", tmp_path, "--gamma", 3, "--dry-run", "--json")
    assert "R1 gamma: 3\n" in outcome.err and outcome.json["config"]["r1_gamma"] == 3


def test_train_takes_what_the_manifest_keeps(tiny_dataset, tmp_path):
    dataset = ImageDataset(tiny_dataset)
    rows = [{"name": n, "verdict": "keep" if i % 3 else "drop"} for i, n in enumerate(dataset.names)]
    manifest.write(tmp_path / "m", rows, dataset=dataset.fingerprint(), parent=None)
    outcome = run_salon(
        "train", "--data", tiny_dataset, "--out", tmp_path, "--manifest", tmp_path / "m", "--dry-run", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["images"] == 8
    assert outcome.json["config"]["manifest"] == json.loads((tmp_path / "m" / "manifest.json").read_text())["hash"]


def test_train_prints_figures_that_are_true(tiny_run, tiny_dataset):
    # The same command again finds the run finished, and says so in the same words.
    arguments = ("train", "--data", tiny_dataset, "--out", tiny_run.parent, *TINY_TRAINING)
    figures = run_salon(*arguments, "--json").json
    assert figures["run"] == str(tiny_run) and figures["finished"] and figures["kimg"] == 0.032
    for name in ("sheet", "snapshot", "checkpoint"):
        assert Path(figures[name]).is_file() and tiny_run in Path(figures[name]).parents
    outcome = run_salon(*arguments)
    assert outcome.code == 0 and f"Snapshot: {figures['snapshot']}" in outcome.out and "Done: 0.0 kimg" in outcome.out
    rows = [json.loads(line) for line in (tiny_run / "stats.jsonl").read_text().splitlines()]
    assert [row["nimg"] for row in rows] == [16, 32]


# generate


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    """A snapshot of an untrained generator of two classes, "day" and "night"."""
    network = NetworkConfig(
        resolution=16, num_classes=2, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("painter") / "painter.safetensors"
    config = TrainingConfig(network=network, dataset="0" * 64)
    snapshot.save(path, Generator(network), Discriminator(network), config, 0, ["day", "night"])
    return path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("format, suffix", [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_generate_writes_one_file_a_seed(format, suffix, tiny_run, tmp_path):
    figures = run_salon("generate", tiny_run, "--seeds", "0-1,42", "--out", tmp_path, "--format", format, "--json").json
    names = [f"seed{seed:04d}{suffix}" for seed in (0, 1, 42)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert figures["images"] == 3 and figures["files"] == [str(tmp_path / name) for name in names]
    assert Path(figures["snapshot"]).parent == tiny_run / "snapshots"
    assert pixels(tmp_path / names[0]).shape == (16, 16, 3)


def test_generate_paints_the_same_in_a_grid_and_alone(tiny_run, tmp_path):
    # `images` may be left out or not; a run and a folder of runs are the same here.
    alone = run_salon("generate", "images", tiny_run, "--seeds", "3-5", "--out", tmp_path, "--batch-size", 1)
    grid = run_salon("generate", tiny_run.parent, "--seeds", "3-5", "--grid", "2x3", "--out", tmp_path / "grid.png")
    assert alone.code == grid.code == 0
    sheet = pixels(tmp_path / "grid.png")
    assert sheet.shape == (48, 32, 3) and (sheet[32:] == 255).all() and (sheet[16:32, 16:] == 255).all()
    for seed, (y, x) in zip((3, 4, 5), ((0, 0), (0, 16), (16, 0)), strict=True):
        assert np.array_equal(sheet[y : y + 16, x : x + 16], pixels(tmp_path / f"seed000{seed}.png"))


def test_a_seed_given_twice_is_one_file(tiny_run, tmp_path):
    figures = run_salon("generate", tiny_run, "--seeds", "1,0,1", "--out", tmp_path, "--json").json
    assert figures["images"] == 2 and figures["seeds"] == [1, 0] and len(list(tmp_path.iterdir())) == 2


def test_generate_by_class(painter, tmp_path):
    for name in ("0", "1", "day", "night"):
        assert run_salon("generate", painter, "--seeds", 0, "--out", tmp_path / name, "--class", name).code == 0
    painted = {name: pixels(tmp_path / name / "seed0000.png") for name in ("0", "1", "day", "night")}
    assert np.array_equal(painted["0"], painted["day"]) and np.array_equal(painted["1"], painted["night"])
    assert not np.array_equal(painted["0"], painted["1"])


def test_mix(tiny_run, tmp_path):
    table, single = tmp_path / "mix.png", tmp_path / "single"
    figures = run_salon(
        *("generate", "mix", tiny_run, "--rows", "0,1", "--columns", "2-4", "--layers", "0-5", "--out", table, "--json")
    ).json
    assert (figures["rows"], figures["columns"], figures["layers"]) == ([0, 1], [2, 3, 4], [0, 1, 2, 3, 4, 5])
    cells = {
        (row, column): pixels(table)[row * 18 : row * 18 + 16, column * 18 : column * 18 + 16]
        for row in range(3)
        for column in range(4)
    }
    assert pixels(table).shape == (3 * 18 - 2, 4 * 18 - 2, 3) and (cells[0, 0] == 255).all()
    run_salon("generate", tiny_run, "--seeds", "0-4", "--out", single)
    for position, seed in {(0, 1): 2, (0, 2): 3, (0, 3): 4, (1, 0): 0, (2, 0): 1}.items():
        assert np.array_equal(cells[position], pixels(single / f"seed000{seed}.png"))
    for row in (1, 2):  # every layer comes from the column
        assert all(np.array_equal(cells[row, column], cells[0, column]) for column in (1, 2, 3))


@pytest.mark.parametrize("name", ["loop.mp4", "loop.webp", "loop.gif"])
def test_interpolate(name, painter, tmp_path):
    out = tmp_path / name
    figures = run_salon(
        *("generate", "interpolate", painter, "--seeds", "0-2", "--frames", 4, "--fps", 10, "--class", "day"),
        *("--out", out, "--json"),
    ).json
    assert figures["frames"] == 12 and figures["seconds"] == 1.2
    with av.open(str(out)) as container:  # FFmpeg reads GIF too, but no animated WebP
        decoded = 12 if out.suffix == ".webp" else sum(1 for _ in container.decode(video=0))
    assert decoded == 12


def test_timelapse(tiny_run, tmp_path):
    figures = run_salon(
        "generate", "timelapse", tiny_run, "--out", tmp_path / "learning.mp4", "--fps", 2, "--json"
    ).json
    assert figures["frames"] == 3
    with av.open(str(tmp_path / "learning.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3 + 3  # the last sheet stays for two seconds


def test_overwrite(tiny_run, tmp_path):
    out = tmp_path / "grid.png"
    out.write_text("mine")
    command = ("generate", tiny_run, "--seeds", "0", "--grid", "1x1", "--out", out)
    refused(run_salon(*command), "--out would replace", out, "--overwrite")
    assert out.read_text() == "mine"
    assert run_salon(*command, "--overwrite").code == 0
    assert pixels(out).shape == (16, 16, 3)


def test_generate_on_a_full_disk(tiny_run, tmp_path):
    with full_disk(50):
        outcome = run_salon("generate", tiny_run, "--seeds", "0", "--out", tmp_path, "--json")
    assert outcome.code == 1 and outcome.out == "" and "GB are free" in outcome.err
    assert not list(tmp_path.iterdir())


GENERATE = {  # arguments after the snapshot -> what the message must say
    "no seeds": (["--out", "{new}"], ["Missing option '--seeds'"]),
    "bad seeds": (["--seeds", "a-b", "--out", "{new}"], ["--seeds must be numbers and ranges", "'a-b'"]),
    "falling seeds": (["--seeds", "5-2", "--out", "{new}"], ["--seeds must rise", "5-2"]),
    "seeds too high": (["--seeds", "4294967296", "--out", "{new}"], ["--seeds must rise within 0 to 4294967295"]),
    "grid of words": (
        ["--seeds", "0", "--grid", "four", "--out", "{new}.png"],
        ["--grid must be columns x rows", "four"],
    ),
    "grid of nothing": (["--seeds", "0", "--grid", "0x3", "--out", "{new}.png"], ["--grid must be columns x rows"]),
    "grid of odd digits": (["--seeds", "0", "--grid", "²x2", "--out", "{new}.png"], ["--grid must be columns x rows"]),
    "grid too small": (["--seeds", "0-4", "--grid", "2x2", "--out", "{new}.png"], ["4 cells", "5 images"]),
    "grid without suffix": (["--seeds", "0", "--grid", "1x1", "--out", "{new}"], ["--out must end in one of .jpg"]),
    "grid as animation": (["--seeds", "0", "--grid", "1x1", "--out", "{new}.gif"], ["--out must end in one of .jpg"]),
    "grid of millions": (["--seeds", "0", "--grid", "9999x9999", "--out", "{new}.png"], ["at most 500,000,000 pixels"]),
    "grid too broad": (["--seeds", "0", "--grid", "1025x1", "--out", "{new}.webp"], ["16,383 a side", "16,400x16"]),
    "out like a picture": (["--seeds", "0-3", "--out", "{new}.png"], ["--out must be a folder", "add --grid"]),
    "class": (["--seeds", "0", "--class", "1", "--out", "{new}"], ["--class must be left out"]),
    "class by name": (["--seeds", "0", "--class", "day", "--out", "{new}"], ["--class must be left out"]),
    "psi": (["--seeds", "0", "--truncation-psi", "nan", "--out", "{new}"], ["'--truncation-psi'", "nan"]),
    "psi beyond": (["--seeds", "0", "--truncation-psi", "1e308", "--out", "{new}"], ["'--truncation-psi'", "-2<=x<=2"]),
    "count": (["--count", "abc", "--out", "{new}"], ["'--count': 'abc' is not a valid whole number"]),
    "noise mode": (["--seeds", "0", "--noise-mode", "loud", "--out", "{new}"], ["'--noise-mode'", "'loud'"]),
    "format": (["--seeds", "0", "--format", "bmp", "--out", "{new}"], ["'--format'", "'bmp'"]),
    "batch size": (["--seeds", "0", "--batch-size", "0", "--out", "{new}"], ["'--batch-size'"]),
    "device": (["--seeds", "0", "--device", "tpu", "--out", "{new}"], ["--device must be auto, cpu, cuda", "tpu"]),
    "out in a file": (["--seeds", "0", "--out", "{file}"], ["could not be written", "{file}"]),
}


@pytest.mark.parametrize("case", GENERATE)
def test_generate_refuses(case, tiny_run, tmp_path):
    places = {"new": tmp_path / "new", "file": tmp_path / "file"}
    places["file"].write_text("a file")
    arguments, fragments = ([text.format(**places) for text in texts] for texts in GENERATE[case])
    refused(run_salon("generate", "images", tiny_run, *arguments), *fragments)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_generate_refuses_what_is_no_snapshot(tiny_dataset, tmp_path):
    request = ("--seeds", "0", "--out", tmp_path / "new")
    refused(run_salon("generate", tmp_path / "absent", *request), "does not exist")
    refused(run_salon("generate", tmp_path, *request), "must hold a snapshot")
    refused(run_salon("generate", tiny_dataset, *request), "must be a snapshot", "it is none")
    (tmp_path / "checkpoint.pt").write_bytes(b"PK")
    refused(run_salon("generate", tmp_path / "checkpoint.pt", *request), "folder snapshots; it is a checkpoint")


def test_generate_refuses_classes_that_do_not_exist(painter, tmp_path):
    request = ("generate", painter, "--seeds", "0", "--out", tmp_path / "new")
    refused(run_salon(*request), "--class must be given", "day, night")
    refused(run_salon(*request, "--class", "2"), "--class must be one of 2 classes, day, night", "2")
    refused(run_salon(*request, "--class", "dusk"), "--class must be one of 2 classes, day, night", "dusk")
    refused(run_salon(*request, "--class", "²"), "--class must be one of 2 classes, day, night", "²")


def test_mix_interpolate_and_timelapse_refuse(tiny_run, tmp_path):
    mix = ("generate", "mix", tiny_run, "--rows", "0", "--columns", "1")
    refused(run_salon(*mix, "--layers", "0-6", "--out", tmp_path / "new.png"), "--layers must be from 0 to 5", "6")
    refused(run_salon(*mix, "--out", tmp_path / "new.gif"), "--out must end in one of .jpg")
    refused(run_salon(*mix[:-1], "x", "--out", tmp_path / "new.png"), "--columns must be numbers")
    loop = ("generate", "interpolate", tiny_run, "--seeds", "0,1", "--out")
    refused(run_salon(*loop, tmp_path / "new.avi"), "--out must end in one of .mp4, .webp, .gif")
    refused(run_salon(*loop, tmp_path / "new.mp4", "--fps", "0"), "'--fps'")
    lapse = ("generate", "timelapse", "--out", tmp_path / "new.mp4")
    refused(run_salon(*lapse, tmp_path / "absent"), "RUN must be a run", "absent does not exist")
    refused(run_salon(*lapse, tmp_path), "RUN must be a run, a folder with a config.json")
    refused(run_salon(*lapse, tiny_run.parent), "is a folder of runs: name one of them, such as", tiny_run)
    many = ("generate", "mix", tiny_run, "--rows", "0-99999", "--columns", "0-99999", "--out", tmp_path / "new.png")
    refused(run_salon(*many), "--out", "must be a grid of at most 500,000,000 pixels", "100001x100001 images")
    refused(
        run_salon("generate", "timelapse", tiny_run, "--out", tmp_path / "new.png"), "--out must end in one of .mp4"
    )
    assert not list(tmp_path.iterdir())


# What train refuses


def train(data, out, *arguments):
    return run_salon("train", "--data", data, "--out", out, *TINY_TRAINING, *arguments)


def test_train_refuses_data_that_cannot_be_learnt_from(tmp_path):
    out = tmp_path / "runs"
    refused(train(tmp_path / "absent.zip", out), "absent.zip does not exist", "salon prepare")
    refused(train(write_dataset(tmp_path / "empty.zip", []), out), "empty.zip holds no images")
    refused(
        train(write_dataset(tmp_path / "wide.zip", [(36, 16)]), out),
        "2 to 8 times one power of two",
        "36x16",
        "salon prepare",
    )
    mixed = write_dataset(tmp_path / "mixed.zip", [(16, 16), (32, 32), (16, 16)])
    refused(train(mixed, out), "1 images that cannot be trained on", "32x32 pixels, others 16x16")
    refused(train(write_dataset(tmp_path / "36.zip", [(36, 36)] * 4), out), "2 to 8 times one power of two", "36x36")
    (tmp_path / "text.zip").write_text("no archive")
    refused(train(tmp_path / "text.zip", out), "must be a ZIP or a folder of images")
    with zipfile.ZipFile(write_dataset(tmp_path / "broken.zip", [(16, 16)] * 2), "a") as archive:
        archive.writestr("00000/torn.png", archive.read("00000/img00000000.png")[:60])
    refused(train(tmp_path / "broken.zip", out), "1 images that cannot be trained on", "torn.png")
    refused(
        train(write_dataset(tmp_path / "plain.zip", [(16, 16)]), out, "--conditional"), "--conditional needs labels"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (["--batch-size", "6", "--set", "batch_size=6"], ["--batch-size must be a multiple of", "4; got 6"]),
        (
            ["--preset", "huge"],
            ["--preset must be one of auto, config-f, paper256, paper512, paper1024, tiny; got huge"],
        ),
        (["--set", "z_dim"], ["--set must be FIELD=VALUE", "got z_dim"]),
        (["--set", "depth=3"], ["--set must be FIELD=VALUE", "mapping_layers", "got depth=3"]),
        (["--set", "resolution=64"], ["--set must be FIELD=VALUE", "got resolution=64", "comes from --data"]),
        (["--set", "learning-rate=0.1"], ["--set must be FIELD=VALUE", "Did you mean learning_rate?"]),
        (["--set", "seed=4294967296"], ["--seed must be at most 4294967295; got 4294967296"]),
        (["--set", "batch_size=100000000"], ["--batch-size must be at most 4096; got 100000000"]),
        (["--seed", "99999999999999999999999"], ["'--seed'", "0<=x<=4294967295"]),
        (["--batch-size", "100000000"], ["'--batch-size'", "1<=x<=4096"]),
        (["--batch-size", "many"], ["'--batch-size': 'many' is not a valid whole number"]),
        (["--gamma", "95%"], ["'--gamma': '95%' is not a valid number"]),
        (["--total-kimg", "1e308"], ["'--total-kimg'", "0<x<=1000000000"]),
        (["--resume-kimg", "1e308"], ["'--resume-kimg'", "0<=x<=1000000000"]),
        (["--metrics-budget", "10"], ["--metrics-budget needs --metrics"]),
        (["--metrics-weights", "x=nope"], ["--metrics-weights needs --metrics"]),
        (["--metrics", "fid", "--metrics-weights", "x=nope"], ["Error: --metrics-weights must be NAME=PATH"]),
        (["--set", "z_dim=many"], ["--set z_dim must be a whole number; got 'many'"]),
        (["--set", "z_dim=0"], ["z_dim must be at least 1; got 0"]),
        (["--set", "batch_size=0"], ["--batch-size must be at least 1; got 0"]),
        (["--set", "mirror=perhaps"], ["--set mirror must be true or false; got 'perhaps'"]),
        (["--set", "style_mixing_prob=1.5"], ["style_mixing_prob must be in [0, 1]; got 1.5"]),
        (["--total-kimg", "0"], ["'--total-kimg'"]),
        (["--total-kimg", "inf"], ["'--total-kimg'", "inf"]),
        (["--kimg-per-tick", "nan"], ["'--kimg-per-tick'", "nan is not a finite number"]),
        (["--device", "tpu"], ["--device must be auto, cpu, cuda or cuda:N; got tpu"]),
        (["--metrics", "ppl"], ["kid,mind,pr,dc,authenticity,is; got ppl instead"]),
        (["--resume", "absent.pt"], ["--resume must be auto, never, or an existing", "absent.pt"]),
        (["--resume-kimg", "1"], ["--resume-kimg needs --resume FILE"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") and len(value) == 2 else "",
)
def test_train_refuses(arguments, fragments, tiny_dataset, tmp_path):
    refused(train(tiny_dataset, tmp_path / "runs", *arguments), *fragments)
    assert not (tmp_path / "runs").exists()


def test_train_refuses_manifests_that_do_not_fit(tiny_dataset, tmp_path):
    dataset = ImageDataset(tiny_dataset)
    rows = [{"name": name, "verdict": "drop"} for name in dataset.names]
    manifest.write(tmp_path / "other", rows, dataset="1" * 64, parent=None)
    manifest.write(tmp_path / "nothing", rows, dataset=dataset.fingerprint(), parent=None)
    for name, fragment in (
        ("other", f"must be of the dataset {tiny_dataset}; it is of another"),
        ("nothing", f"keeps no image of {tiny_dataset}"),
        ("absent", "must be a manifest, a folder with a manifest.json; it does not exist"),
    ):
        refused(train(tiny_dataset, tmp_path / "runs", "--manifest", tmp_path / name), tmp_path / name, fragment)
    assert not (tmp_path / "runs").exists()


def test_train_refuses_weights_of_another_architecture(tiny_run, tiny_dataset, tmp_path):
    for source in (*tiny_run.glob("checkpoints/*.pt"), *tiny_run.glob("snapshots/*.safetensors"), tiny_run):
        outcome = train(tiny_dataset, tmp_path / "runs", "--resume", source, "--set", "w_dim=16")
        refused(outcome, "must have this run's architecture", "w_dim is 8 there, 16 here")


def test_train_refuses_weights_that_are_none(tiny_dataset, tmp_path):
    (tmp_path / "weights.pt").write_text("no weights")
    refused(
        train(tiny_dataset, tmp_path / "runs", "--resume", tmp_path / "weights.pt"),
        f"--resume {tmp_path / 'weights.pt'} cannot be read: it is no checkpoint",
    )
    (tmp_path / "folder").mkdir()
    refused(train(tiny_dataset, tmp_path / "runs", "--resume", tmp_path / "folder"), "--resume must be a run")


@pytest.mark.parametrize("option", ["--resume", "--transfer"])
def test_train_refuses_a_folder_of_runs_to_start_from(option, tiny_run, tiny_dataset, tmp_path):
    outcome = train(tiny_dataset, tmp_path / "runs", option, tiny_run.parent)
    refused(outcome, f"{option} must be a run", "is a folder of runs: name one of them, such as", tiny_run)


def test_train_refuses_to_train_nothing(tiny_run, tiny_dataset, tmp_path):
    again = ("--resume", tiny_run, "--dry-run")
    outcome = train(tiny_dataset, tmp_path, *again)
    refused(outcome, "--total-kimg must be above 0.032, where the run starts; got 0.032", "or add --resume-kimg 0")
    outcome = train(tiny_dataset, tmp_path, *again, "--resume-kimg", 1)
    refused(outcome, "--total-kimg must be above 1.0", "raise it")
    assert train(tiny_dataset, tmp_path, *again, "--resume-kimg", 0).code == 0
    assert train(tiny_dataset, tmp_path, *again, "--total-kimg", 0.04).code == 0


def test_train_refuses_places_that_are_taken(tiny_run, tiny_dataset, tmp_path):
    (tmp_path / "file").write_text("a file")
    for more in ((), ("--dry-run",)):
        refused(train(tiny_dataset, tmp_path / "file", *more), "--out must be a folder of runs", "which is a file")
        outcome = train(tiny_dataset, tiny_run.parent, "--name", tiny_run.name, "--seed", 1, *more)
        refused(outcome, "holds another run: seed is 1, not 0. Choose another --name")
        assert outcome.err.count("\n") == 1  # no page of config before it


def test_names_of_other_bytes_than_utf_8(tmp_path):
    place = tmp_path / os.fsdecode(b"\xe4")
    source = place / "p" / os.fsdecode(b"k\xe4se")
    source.mkdir(parents=True)
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(source / os.fsdecode(b"\xe4%d.png" % number))
    data = place / "set.zip"
    prepared = run_salon("prepare", place / "p", "--out", data, "--resolution", "16", "--labels", "folders", "--json")
    assert prepared.code == 0 and prepared.json["archive"] == str(data), prepared.err
    assert run_salon("dataset", "info", data).code == 0
    trained = run_salon("train", "--data", data, "--out", place / "runs", *TINY_TRAINING, "--json")
    assert trained.code == 0, trained.err
    snapshot = Path(trained.json["snapshot"])
    assert snapshot.exists()
    assert run_salon("generate", snapshot, "--seeds", "0-3", "--grid", "2x2", "--out", place / "grid.png").code == 0
    again = run_salon(
        "train", "--data", data, "--out", place / "runs", *TINY_TRAINING, "--resume", snapshot, "--dry-run"
    )
    assert again.code == 0, again.err
