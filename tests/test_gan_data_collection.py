"""A dataset and its manifest as one thing: which manifest is found, which images are kept, and what is refused."""

import zipfile

import numpy as np
import pytest
from conftest import write_dataset

from gan.data import manifest as manifests
from gan.data.collection import Collection, manifest_beside
from gan.data.dataset import ImageDataset
from gan.errors import RequestError


@pytest.fixture
def dataset(tmp_path):
    """A ZIP of four images with labels 0, 1, 0, 1."""
    return write_dataset(tmp_path / "set.zip", [(8, 8)] * 4, [0, 1, 0, 1], ["cat", "dog"])


def row(name, verdict="keep", **values):
    return {"name": name, "source": name, "verdict": verdict, **values}


def write_manifest(path, dataset, rows):
    manifests.write(path, rows, dataset=ImageDataset(dataset).fingerprint(), parent=None)
    return path


def test_a_named_manifest_selects(dataset, tmp_path):
    names = ImageDataset(dataset).names
    rows = [row(names[2]), row(names[0], "drop"), row("elsewhere.png"), row(names[3])]
    collection = Collection.open(dataset, write_manifest(tmp_path / "chosen", dataset, rows))
    assert collection.kept.tolist() == [2, 3]
    assert collection.rows.tolist() == [0, 1, 3] and collection.indices.tolist() == [2, 0, 3]
    assert collection.selection == collection.manifest.hash
    assert collection.fingerprint == collection.manifest.dataset == ImageDataset(dataset).fingerprint()


def test_what_is_kept_alone(dataset, tmp_path):
    names = ImageDataset(dataset).names
    rows = [row(names[2], style="a"), row(names[0], "drop", style="b"), row(names[3], style="c")]
    collection = Collection.open(dataset, write_manifest(tmp_path / "chosen", dataset, rows)).of_kept()
    assert collection.rows.tolist() == [0, 2] and collection.indices.tolist() == [2, 3]
    assert collection.column("style") == ["a", "c"]
    write_manifest(manifest_beside(dataset), dataset, [row(name, "drop") for name in names])
    assert Collection.open(dataset).of_kept().indices.tolist() == [0, 1, 2, 3]  # it does not select
    gone = write_manifest(tmp_path / "gone", dataset, [row(name, "drop") for name in names])
    with pytest.raises(RequestError, match="keeps no image"):
        Collection.open(dataset, gone).of_kept()


def test_the_manifest_beside_describes_and_does_not_select(dataset):
    names = ImageDataset(dataset).names
    write_manifest(manifest_beside(dataset), dataset, [row(name, "drop", style="ukiyo-e") for name in names])
    collection = Collection.open(dataset)
    assert collection.kept.tolist() == [0, 1, 2, 3] and collection.selection is None
    assert collection.stratum_names("style") == ["ukiyo-e"] * 4


@pytest.mark.parametrize("name", ["set", "set.v1", "set.manifest.v2"])
def test_the_manifest_beside_a_folder_is_found_whatever_its_name(dataset, tmp_path, name):
    folder = tmp_path / "elsewhere" / name
    with zipfile.ZipFile(dataset) as archive:
        archive.extractall(folder)
    path = folder.with_name(f"{name}.manifest")
    write_manifest(path, folder, [row(name) for name in ImageDataset(folder).names])
    assert Collection.open(folder).require_manifest().path == path


def test_without_a_manifest_all_images_are_used(dataset, tmp_path):
    collection = Collection.open(dataset)
    assert collection.kept.tolist() == [0, 1, 2, 3] and collection.column("style") == []
    with pytest.raises(RequestError, match="none beside it"):
        collection.require_manifest()
    write_manifest(tmp_path / "other", write_dataset(tmp_path / "other.zip", [(8, 8)]), [row("x")])
    (tmp_path / "other").rename(manifest_beside(dataset))
    assert Collection.open(dataset).manifest is None  # it is of another dataset


def test_what_does_not_fit_is_refused(dataset, tmp_path):
    other = write_dataset(tmp_path / "other.zip", [(16, 16)])
    foreign = write_manifest(tmp_path / "foreign", other, [row("x")])
    with pytest.raises(RequestError, match=r"`manifest` .* must be of the dataset .*; it is of another"):
        Collection.open(dataset, foreign)
    with pytest.raises(RequestError, match="it names none"):
        Collection.open(dataset, write_manifest(tmp_path / "none", dataset, [row("elsewhere.png")]))
    dropped = write_manifest(tmp_path / "dropped", dataset, [row(ImageDataset(dataset).names[0], "drop")])
    with pytest.raises(RequestError, match="keeps no image"):
        Collection.open(dataset, dropped).require_kept()
    kept = Collection.open(dataset, write_manifest(tmp_path / "kept", dataset, [row(ImageDataset(dataset).names[2])]))
    assert kept.require_kept().tolist() == [2]


def test_the_manifest_beside_has_the_datasets_name(tmp_path):
    assert manifest_beside(tmp_path / "set.v1.zip") == tmp_path / "set.v1.manifest"
    assert manifest_beside(tmp_path) == tmp_path.with_name(f"{tmp_path.name}.manifest")


def test_names_and_verdicts_are_held_and_other_columns_read_when_asked_for(dataset, tmp_path):
    names = ImageDataset(dataset).names
    chosen = write_manifest(tmp_path / "chosen", dataset, [row(names[1], style="cubism"), row(names[2], "drop")])
    collection = Collection.open(dataset, chosen)
    assert collection.manifest.rows.column_names == ["name", "verdict"]
    assert collection.kept.tolist() == [1] and collection.column("style") == ["cubism", None]
    assert collection.column("none of its columns") == [None, None]
    assert collection.manifest.whole().rows == manifests.read(chosen).rows


def test_strata(dataset, tmp_path):
    names = ImageDataset(dataset).names
    rows = [row(names[3], style="rococo"), row(names[0]), row(names[1], style="cubism")]
    collection = Collection.open(dataset, write_manifest(tmp_path / "chosen", dataset, rows))
    assert collection.stratum_names("style") == [None, "cubism", None, "rococo"]
    assert collection.stratum_names("label") == ["cat", "dog", "cat", "dog"]
    with pytest.raises(RequestError, match="has no genre"):
        collection.stratum_names("genre")
    with pytest.raises(RequestError, match=r"`strata` must be one of .*label.*; got name instead"):
        collection.stratum_names("name")
    fewer = write_dataset(tmp_path / "fewer.zip", [(8, 8)] * 3, [0, 1, 2], ["cat"])  # names of some classes only
    assert Collection.open(fewer).stratum_names("label") == ["cat", "1", "2"]
    with pytest.raises(RequestError, match=r"`strata` label needs labels in the dataset; .*bare\.zip has none"):
        Collection.open(write_dataset(tmp_path / "bare.zip", [(8, 8)])).stratum_names("label")


def test_a_dataset_is_hashed_once(dataset, tmp_path, monkeypatch):
    read = []
    original = ImageDataset.file_bytes
    monkeypatch.setattr(
        ImageDataset, "file_bytes", lambda self, index: read.append(self.names[index]) or original(self, index)
    )
    chosen = write_manifest(tmp_path / "chosen", dataset, [row(name) for name in ImageDataset(dataset).names])
    read.clear()
    collection = Collection.open(dataset, chosen)
    assert collection.dataset.fingerprint() == collection.fingerprint
    counts = np.array([read.count(name) for name in collection.dataset.names])
    assert (counts[1:] == 1).all() and counts[0] == 2  # the first one was opened for its size


def test_another_manifest_selects_without_another_hash(dataset, tmp_path, monkeypatch):
    collection = Collection.open(dataset)
    monkeypatch.setattr(ImageDataset, "file_bytes", None)
    rows = [row(collection.dataset.names[3])]
    manifests.write(tmp_path / "chosen", rows, dataset=collection.fingerprint, parent=None)
    assert collection.selecting(tmp_path / "chosen").kept.tolist() == [3] and collection.kept.tolist() == [0, 1, 2, 3]
