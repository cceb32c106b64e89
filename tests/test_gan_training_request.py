"""What a training was asked for, and what becomes of it: the config, the images, the start."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, run_salon, write_dataset

import gan.__main__
from gan import snapshot
from gan.data import dataset as datasets
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.networks import precision
from gan.training import checkpoint, defaults
from gan.training.learner import Learner
from gan.training.request import TrainingOptions, TrainingRequest, resolve
from gan.training.run_dir import Run, default_name
from gan.training.sample_grids import SampleGrids


def request(data, **fields):
    return TrainingRequest(data=data, out=Path("runs"), preset="tiny", **fields)


def test_only_fields_that_are_set_reach_the_config(tiny_dataset):
    wanted = request(tiny_dataset, batch_size=8, mirror=True, overrides=("z_dim=8", "batch_size=4", "r1_gamma=none"))
    assert wanted.fields() == {"seed": 0, "mirror": True, "batch_size": 4, "z_dim": 8, "r1_gamma": None}
    config = resolve(wanted).config
    assert (config.batch_size, config.network.z_dim, config.mirror, config.precision) == (4, 8, True, "fp32")
    assert config.r1_gamma == 0.0002 * 16**2 / 4


def test_a_training_without_classes_leaves_the_datasets_labels_as_they_are(tiny_dataset):
    plain, conditional = (resolve(request(tiny_dataset, conditional=flag)) for flag in (False, True))
    assert plain.config.network.num_classes == 0 and conditional.config.network.num_classes == 2
    for training in (plain, conditional):
        labels = training.collection.dataset.labels
        assert labels is not None and set(labels.tolist()) == {0, 1}


def test_labels_that_are_not_learned_and_classes_without_images_are_told(tiny_dataset, tmp_path):
    told = [resolve(request(tiny_dataset, conditional=flag)).class_note() for flag in (False, True)]
    assert told == ["Its labels, of 2 classes, are not learned: `conditional` learns them", None]
    for name, labels, classes in (("plain", None, None), ("one", [0, 0], ["day"])):
        data = write_dataset(tmp_path / f"{name}.zip", [(16, 16)] * 2, labels, classes)
        assert resolve(request(data)).class_note() is None
    sparse = write_dataset(tmp_path / "sparse.zip", [(16, 16)] * 2, [1, 5], ["day", "night"])
    note = resolve(request(sparse, conditional=True)).class_note()
    assert note == "4 of 6 classes have no image to learn from: day, 2, 3, ..."


def test_sample_grids_show_the_classes_that_have_images(tmp_path, monkeypatch):
    monkeypatch.setattr(SampleGrids, "COLUMNS", 8)
    data = write_dataset(tmp_path / "sparse.zip", [(16, 16)] * 6, [9, 2, 9, 2, 4, 2])
    training = resolve(request(data, conditional=True, overrides=("channel_base=128", "channel_max=8")))
    dataset, run = training.collection.dataset, Run(tmp_path / "run")
    learner = Learner(training.config, torch.device("cpu"), dataset.labels)
    assert SampleGrids(run, learner, dataset, np.arange(6)).classes[:8] == [2, 4, 9, 2, 4, 9, 2, 4]
    assert set(SampleGrids(run, learner, dataset, np.arange(4)).classes) == {2, 9}


def test_a_manifest_beside_the_dataset_selects_nothing_and_is_not_read(tiny_dataset, tmp_path):
    data = tmp_path / "set.zip"
    data.write_bytes(tiny_dataset.read_bytes())
    dataset = ImageDataset(data)
    rows = [{"name": name, "verdict": "keep" if name == dataset.names[0] else "drop"} for name in dataset.names]
    manifest.write(tmp_path / "set.manifest", rows, dataset=dataset.fingerprint(), parent=None)
    chosen = resolve(request(data, manifest=tmp_path / "set.manifest"))
    assert chosen.collection.kept.tolist() == [0] and chosen.config.manifest == chosen.collection.selection
    (tmp_path / "set.manifest" / "part-00000.parquet").write_bytes(b"damaged")
    every = resolve(request(data))
    assert len(every.collection.kept) == len(dataset) and every.config.manifest is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "../x"}, "`name` must be the name of one folder in `out`; got '../x' instead"),
        ({"metrics_budget": 5.0}, "`metrics_budget` needs `metrics`"),
        ({"metrics_weights": ("x=y",)}, "`metrics_weights` needs `metrics`"),
        ({"resume_kimg": 1.0}, "`resume_kimg` needs `resume` FILE or `transfer` FILE"),
        ({"resume_kimg": 1.0, "resume": "never"}, "`resume_kimg` needs"),
    ],
)
def test_fields_that_contradict_one_another(fields, message, tiny_dataset):
    with pytest.raises(RequestError, match=message):
        request(tiny_dataset, **fields)


def test_a_file_is_no_folder_of_runs(tiny_dataset):
    with pytest.raises(RequestError, match=f"`out` must be a folder of runs; got {tiny_dataset} instead"):
        TrainingRequest(data=tiny_dataset, out=tiny_dataset)


def test_ada_target_needs_ada(tiny_dataset):
    with pytest.raises(RequestError, match="`ada_target` needs `augment` ada"):
        resolve(request(tiny_dataset, augment="none", ada_target=0.5))


@pytest.mark.parametrize("metrics", ["none", "kid"])
def test_a_command_opens_and_hashes_the_dataset_once(metrics, tiny_dataset, tmp_path, monkeypatch):
    hashed, handed_over = [], []

    def progress(items, description, *rest):
        hashed.append(description)
        return items

    def hook(collection, names, percent, **_):
        handed_over.append((collection.dataset.path, collection.dataset.labels is not None, names, percent))

    monkeypatch.setattr(datasets, "progress", progress)
    monkeypatch.setattr(gan.__main__, "metrics_hook", hook)
    arguments = ("--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING, "--metrics", metrics, "--dry-run")
    assert run_salon("train", *arguments).code == 0
    assert hashed.count("Hashing the dataset") == 1
    assert handed_over == ([] if metrics == "none" else [(tiny_dataset, True, "kid", 5)])


def test_auto_is_fp32_on_a_cpu_and_what_a_gpu_is_fast_at(tiny_dataset, monkeypatch):
    gpu, capability = torch.device("cuda"), (8, 6)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    # torch says of many CPUs that they compute bf16 fast, too; a run on one stays exact all the same.
    monkeypatch.setattr("gan.networks.precision.bf16_is_fast", lambda d: d.type == "cpu" or capability >= (8, 0))
    for device in (None, torch.device("cpu")):
        training = resolve(request(tiny_dataset), device)
        assert (training.config.precision, training.chosen["precision"]) == ("fp32", "fp32, on a CPU")
    assert resolve(request(tiny_dataset), gpu).config.precision == "bf16"
    assert resolve(request(tiny_dataset, precision="fp32"), gpu).config.precision == "fp32"
    for minor in (0, 5):
        capability = (7, minor)
        training = resolve(request(tiny_dataset), gpu)
        assert (training.config.precision, training.config.network.conv_clamp) == ("fp16", 256)
        assert training.chosen["precision"] == "fp16, which this GPU computes faster than fp32, and bf16 it does not"
        assert precision.describe(gpu, "fp16") == "fp16"
        assert precision.describe(gpu, "fp32") == "fp32; `precision` fp16 is faster here"
        assert "no faster than fp32" in precision.describe(gpu, "bf16")
    capability = (6, 1)
    training = resolve(request(tiny_dataset), gpu)
    assert (training.config.precision, training.config.network.conv_clamp) == ("fp32", None)
    assert training.chosen["precision"] == "fp32, since this GPU computes neither bf16 nor fp16 faster"
    assert precision.describe(gpu, "fp32") == "fp32" and "no faster than fp32" in precision.describe(gpu, "fp16")
    capability = (8, 0)
    assert precision.describe(gpu, "fp16").startswith("fp16; `precision` bf16 is as fast here")


@pytest.mark.parametrize(("overrides", "clamp"), [((), 256), (("conv_clamp=none",), None), (("conv_clamp=64",), 64)])
def test_new_networks_in_fp16_limit_their_activations(tiny_dataset, overrides, clamp):
    assert resolve(request(tiny_dataset, precision="fp16", overrides=overrides)).config.network.conv_clamp == clamp


@pytest.mark.parametrize("kind", ["checkpoints", "snapshots"])
def test_networks_that_a_run_starts_from_keep_their_limit(tiny_dataset, tiny_run, tmp_path, kind):
    start = max((tiny_run / kind).iterdir())
    command = request(tiny_dataset, precision="fp16", resume=str(start))
    assert resolve(command).config.network.conv_clamp is None
    found = snapshot.find(tiny_run)
    limited = replace(found.config, network=replace(found.config.network, conv_clamp=64.0))
    start = tmp_path / start.name
    if kind == "snapshots":
        snapshot.save(start, found.G_ema, found.D, limited, 0, None)
    else:
        checkpoint.save(start, {"learner": {}, "config": limited.to_dict()})
    for fields in ({"resume": str(start)}, {"transfer": start}):
        assert resolve(request(tiny_dataset, **fields)).config.network.conv_clamp == 64
        assert resolve(request(tiny_dataset, overrides=("conv_clamp=8",), **fields)).config.network.conv_clamp == 8


def test_auto_augments_few_images(tiny_dataset, monkeypatch):
    few = resolve(request(tiny_dataset))
    assert (few.config.augment, few.chosen["augment"]) == ("ada", "ada, since 12 images are fewer than 30,000")
    none = resolve(request(tiny_dataset, augment="none"))
    assert none.config.augment == "none" and "augment" not in none.chosen
    assert resolve(request(tiny_dataset, overrides=("augment=none",))).config.augment == "none"
    monkeypatch.setattr(defaults, "ADA_BELOW", 12)
    many = resolve(request(tiny_dataset))
    assert (many.config.augment, many.chosen["augment"]) == ("none", "none, since 12 images are no fewer than 12")
    for fields in ({"ada_target": 0.5}, {"ada_target": 0.5, "augment_p": 0.1}, {"overrides": ("ada_target=0.5",)}):
        assert resolve(request(tiny_dataset, **fields)).config.augment == "ada"


@pytest.mark.parametrize("name", [None, "mine"])
@pytest.mark.parametrize(
    "began_with", [("fp32", "none"), ("bf16", "none"), ("bf16", "ada"), ("fp32", "ada"), ("fp16", "ada")]
)
def test_a_run_keeps_what_auto_was_when_it_began(tiny_dataset, tmp_path, name, began_with):
    low, augment = began_with
    command = replace(request(tiny_dataset, name=name), out=tmp_path)
    began = resolve(replace(command, precision=low, augment=augment)).config
    run = Run(tmp_path / (name or default_name(tiny_dataset, began)))
    with run.claim(began):
        pass
    again = resolve(command)
    assert again.config == began
    reasons = ["fp32, on a CPU", "ada, since 12 images are fewer than 30,000"]
    changed = [low != "fp32", augment != "ada"]
    values = zip(began_with, reasons, changed, strict=True)
    assert list(again.chosen.values()) == [f"{v}, as the run began" if c else reason for v, reason, c in values]
    # Another command is another run, and so is one that is to begin anew.
    for other in ({"seed": 1}, {"resume": "never"}):
        config = resolve(replace(command, **other)).config
        assert (config.precision, config.augment) == ("fp32", "ada")


def test_an_unknown_place_for_the_pixels():
    with pytest.raises(RequestError, match="`data_on_device` must be one of auto, yes, no; got gpu instead"):
        TrainingOptions(data_on_device="gpu")


def train(data, runs, *more):
    return run_salon("train", "--data", data, "--out", runs, *TINY_TRAINING, *more, "--json")


@pytest.fixture(scope="module")
def family(tiny_dataset, tmp_path_factory):
    """A folder with a parent's checkpoint and a run that began from it, which is finished."""
    runs = tmp_path_factory.mktemp("family")
    parent = train(tiny_dataset, runs / "parents", "--seed", "3")
    file = Path(parent.json["checkpoint"]).rename(runs / "parent.pt")
    child = train(tiny_dataset, runs, "--name", "child", "--resume", file, "--total-kimg", "0.048")
    assert child.code == 0, child.err
    file.unlink()
    return runs, file


@pytest.mark.parametrize("how", ["the same command", "without the file", "by the run's folder", "by both"])
def test_a_run_goes_on_without_the_file_that_it_began_from(tiny_dataset, family, how):
    runs, file = family
    child = ["--resume", runs / "child"]
    more = {
        "the same command": ["--name", "child", "--resume", file],
        "without the file": ["--name", "child"],
        "by the run's folder": child,
        "by both": ["--name", "child", *child],
    }[how]
    again = train(tiny_dataset, runs, *more, "--total-kimg", "0.064", "--dry-run")
    assert again.code == 0 and Path(again.json["run"]) == runs / "child", again.err
    assert train(tiny_dataset, runs, *more, "--total-kimg", "0.064").json["kimg"] == 0.064


def test_a_run_without_a_name_is_found_by_the_file_that_it_began_from(tiny_dataset, tiny_run, tmp_path):
    parent = tmp_path / "parent.pt"
    parent.write_bytes(next((tiny_run / "checkpoints").iterdir()).read_bytes())
    began = train(tiny_dataset, tmp_path / "runs", "--resume", parent, "--total-kimg", "0.048")
    parent.unlink()
    again = train(tiny_dataset, tmp_path / "runs", "--resume", parent, "--total-kimg", "0.056")
    assert again.json["run"] == began.json["run"] and again.json["kimg"] == 0.056
    assert f"{parent} is gone; {began.json['run']}, which began from it, goes on" in again.err
    for other in (["--resume", tmp_path / "other.pt"], ["--resume", parent, "--seed", "4"]):
        refused = train(tiny_dataset, tmp_path / "runs", *other)
        assert refused.code == 2 and "must be auto, never, or an existing checkpoint or snapshot" in refused.err


def test_another_request_does_not_go_on_in_a_run_that_began_from_a_file(tiny_dataset, family):
    runs, _ = family
    for more, difference in ((["--seed", "4"], "seed is 4"), (["--set", "w_dim=16"], "w_dim is 16")):
        refused = train(tiny_dataset, runs, "--name", "child", *more)
        assert refused.code == 2 and difference in refused.err and "Choose another --name" in refused.err


def test_a_renamed_dataset_goes_on_with_its_run(tiny_dataset, tmp_path):
    data = tmp_path / "before.zip"
    data.write_bytes(tiny_dataset.read_bytes())
    began = train(data, tmp_path / "runs")
    again = train(data.rename(tmp_path / "after.zip"), tmp_path / "runs", "--total-kimg", "0.048")
    assert again.json["run"] == began.json["run"] and "Resuming from" in again.err
    assert f"{began.json['run']} has this run's config and data" in again.err
    other = train(tmp_path / "after.zip", tmp_path / "runs", "--seed", "2", "--dry-run")
    never = train(tmp_path / "after.zip", tmp_path / "runs", "--resume", "never", "--dry-run")
    assert all(Path(one.json["run"]).name.startswith("after-") for one in (other, never))


def test_checkpoints_of_another_config_are_refused(tiny_dataset, tiny_run, tmp_path):
    shutil.copytree(tiny_run / "checkpoints", tmp_path / "copied" / "checkpoints")
    more = ["--seed", "5", "--set", "z_dim=16", "--total-kimg", "0.064"]
    refused = train(tiny_dataset, tmp_path, "--name", "copied", *more)
    assert refused.code == 2 and "is of another run: z_dim is 16, not 8; seed is 5, not 0" in refused.err
    assert train(tiny_dataset, tmp_path, "--name", "copied").code == 0
    shutil.rmtree(tmp_path / "copied" / "checkpoints")
    elsewhere = train(tiny_dataset, tmp_path / "elsewhere", *more)
    shutil.copytree(Path(elsewhere.json["checkpoint"]).parent, tmp_path / "copied" / "checkpoints")
    refused = train(tiny_dataset, tmp_path, "--name", "copied", "--total-kimg", "0.1")
    assert refused.code == 2 and "is of another run: z_dim is 8, not 16; seed is 0, not 5" in refused.err


def test_runs_are_kept_out_of_the_dataset(tiny_dataset, tmp_path):
    with zipfile.ZipFile(tiny_dataset) as archive:
        archive.extractall(tmp_path / "set")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    before = sorted((tmp_path / "set").rglob("*"))
    for out in (tmp_path / "set", tmp_path / "set" / "runs", tmp_path / "link" / "runs"):
        refused = train(tmp_path / "set", out)
        assert refused.code == 2 and "--out must lie outside --data, which stays as it is" in refused.err
    assert sorted((tmp_path / "set").rglob("*")) == before
    assert train(tmp_path / "set", tmp_path, "--dry-run").code == 0
