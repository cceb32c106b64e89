"""What a training was asked for, and what becomes of it: the config, the images, the start."""

from pathlib import Path

import pytest
from conftest import TINY_TRAINING, run_salon

import gan.__main__
from gan.data import dataset as datasets
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.training.request import TrainingRequest, resolve


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
        resolve(request(tiny_dataset, ada_target=0.5))


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
