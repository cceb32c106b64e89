"""The feature cache: an image goes through a network once, whoever asks, and by threads as by the extractor alone."""

import hashlib
import json
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import STYLE_FIGURES, empty_cache, run_salon, write_dataset

from eval.data import feature_cache
from eval.data.decoding import decoded, processes_for
from eval.data.feature_cache import FeatureShards, features_of, one_pass
from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetImages
from eval.data.thumbnails import Thumbnails
from eval.features.extractor import Extractor
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.errors import RequestError
from gan.runtime.files import cache_folder


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2  # also for whatever comes after the features
    torch.set_num_threads(before)


@pytest.fixture(name="empty_cache")
def use_empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(empty_cache(tmp_path / "cache")))


@pytest.fixture
def seen(monkeypatch):
    """How often each image goes through each network: (network, preprocessing and so on; SHA-256 of the pixels)."""
    counts: Counter[tuple[str, str]] = Counter()
    call = Extractor.__call__

    def counted(self, pixels):
        for image in pixels:
            counts[json.dumps(self.identity), hashlib.sha256(np.ascontiguousarray(image)).hexdigest()] += 1
        return call(self, pixels)

    monkeypatch.setattr(Extractor, "__call__", counted)
    return counts


def images(dataset, indices):
    return np.stack([dataset.pixels(int(index)).transpose(1, 2, 0) for index in indices])


def test_threads_that_share_the_images_find_what_the_extractor_finds(
    lite, tiny_dataset, two_threads, monkeypatch, empty_cache, seen
):
    monkeypatch.setattr(lite, "batch_size", 4)
    dataset = ImageDataset(tiny_dataset)
    indices = np.array([11, 0, 3, 5, 4, 2, 7, 1, 10, 9])
    features = features_of(dataset, indices, lite)
    assert features.shape == (10, lite.dim) and features.dtype == np.float32
    assert set(seen.values()) == {1} and len(seen) == 12  # the whole shard
    assert (features_of(dataset, indices[::-1], lite) == features[::-1]).all()
    assert set(seen.values()) == {1}  # nothing is computed again
    assert np.abs(features - lite(images(dataset, indices))["features"]).max() < 1e-5
    assert np.abs(features[0] - features[1]).max() > 1e-3


def test_a_part_of_a_dataset_takes_the_shards_that_it_needs(lite, tiny_dataset, empty_cache, seen, small_shards):
    dataset = ImageDataset(tiny_dataset)
    features = features_of(dataset, np.array([9, 1]), lite)  # in the third and the first shard of 4
    (files,) = (sorted(file.name for file in folder.iterdir()) for folder in (cache_folder() / "features").iterdir())
    assert files == ["features-00000.npy", "features-00002.npy"] and len(seen) == 8
    every = features_of(dataset, np.arange(12), lite)
    assert (every[[9, 1]] == features).all() and len(seen) == 12 and set(seen.values()) == {1}
    assert features_of(dataset, np.arange(0), lite).shape == (0, lite.dim)


def test_a_bad_image_is_named_where_it_is_asked_for(lite, tmp_path, two_threads, empty_cache):
    path = write_dataset(tmp_path / "set.zip", [(16, 16), (17, 17), (16, 16)])
    dataset = ImageDataset(path)
    with pytest.raises(RequestError, match=r"holds an image that cannot be read: .*17x17.*drop it with a manifest"):
        features_of(dataset, np.arange(3), lite)
    assert not list((tmp_path / "cache").rglob("*.npy"))
    features = features_of(dataset, np.array([2, 0]), lite)
    assert np.abs(features - lite(images(dataset, [2, 0]))["features"]).max() < 1e-5
    with pytest.raises(RequestError, match="17x17"):
        features_of(dataset, np.array([1]), lite)


@pytest.mark.slow
def test_all_commands_share_what_a_network_has_seen(two_styles, tmp_path, empty_cache, seen, monkeypatch):
    for name, value in STYLE_FIGURES.items():
        monkeypatch.setattr(name, value)
    data, images = tmp_path / "set.zip", tmp_path / "images"
    for file in two_styles.rglob("*-[0-9].png"):  # 20 of them
        (images / file.parent.name).mkdir(parents=True, exist_ok=True)
        (images / file.parent.name / file.name).symlink_to(file)
    assert run_salon("prepare", images, "--out", data, "--resolution", 32, "--labels", "folders").code == 0
    network = ("--device", "cpu", "--extractor", "efficientnet-lite0")
    checked = tmp_path / "checked.manifest"
    for request in (
        ("curate", "check", data, "--out", checked),
        ("curate", "score", data, "--manifest", checked, "--out", tmp_path / "scored.manifest"),
        ("eval", "reference", data),
        ("eval", "reference", data, "--manifest", checked),
        ("style", "train", "--data", data, "--target", "Stripes", "--group-by", "image", "--out", tmp_path / "s.onnx"),
    ):
        outcome = run_salon(*request, *network)
        assert outcome.code == 0, outcome.err
    networks = Counter(network for network, _ in seen)
    assert sorted(networks.values()) == [20, 20, 20]  # as it is for all; mirrored and uncropped for styles
    assert set(seen.values()) == {1}


def contents(folder):
    """What the files of shards hold: small images and what they were, and features."""
    arrays = {file.name: np.load(file) for file in folder.glob("*.npy")}
    pictures = {}
    for file in folder.glob("*.zip"):
        with zipfile.ZipFile(file) as archive:
            pictures[file.name] = {name: archive.read(name) for name in archive.namelist()}
    return arrays, pictures


def test_what_a_gpu_is_told_to_do_ahead_is_what_threads_do(lite, tmp_path, monkeypatch):
    # The order of work for a GPU, on a CPU: shards, one behind the other, are the same files.
    monkeypatch.setattr(feature_cache, "SHARD", 4)
    path = write_dataset(tmp_path / "set.zip", [(16, 16)] * 10, [0] * 10)
    source = DatasetImages(ImageDataset(path), np.arange(10))
    monkeypatch.setattr(
        source, "read", lambda position: None if position in (1, 9) else DatasetImages.read(source, position)
    )
    for name, fill in (("threads", feature_cache._fill), ("ahead", feature_cache._fill_ahead)):
        monkeypatch.setattr(feature_cache, "_fill", fill)
        sets = [Thumbnails(tmp_path / name, 4), FeatureShards(tmp_path / name, lite, logits=True)]
        assert one_pass(source, sets, batch_size=3, description="") == 10
    (arrays, pictures), (others, same_pictures) = contents(tmp_path / "threads"), contents(tmp_path / "ahead")
    assert len(pictures) == 3 and pictures == same_pictures and len(arrays) == 6 and set(arrays) == set(others)
    for name, rows in arrays.items():  # batches of other sizes round otherwise
        np.testing.assert_allclose(others[name], rows, rtol=1e-4, atol=1e-4)
    assert np.isnan(arrays["features-00000.npy"][1]).all() and np.isnan(arrays["features-00002.npy"][1]).all()


def test_processes_decode_what_the_source_reads(tmp_path, tiny_dataset):
    images = DatasetImages(ImageDataset(tiny_dataset), np.arange(12))
    positions = [*range(12)] * 2  # more than a chunk
    assert all(
        np.array_equal(*pair)
        for pair in zip(decoded(images.read, positions, 2), map(images.read, positions), strict=True)
    )
    source = FilesSource(tiny_dataset)
    assert all(
        np.array_equal(*pair) for pair in zip(decoded(source.read, [3, 1], 1), map(source.read, [3, 1]), strict=True)
    )
    writer = DatasetWriter(tmp_path / "bad.zip", ".png")
    for content in (images.dataset.read_bytes(images.dataset.names[0]), b"no image"):
        writer.add(content)
    writer.close()
    images = DatasetImages(ImageDataset(tmp_path / "bad.zip"), np.array([1]))
    with pytest.raises(RequestError, match="holds an image that cannot be read"):
        list(decoded(images.read, [0, 1], 1))


def test_processes_are_for_many_images_alone(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(64))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert (processes_for(100), processes_for(5000)) == (0, 16)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert processes_for(5000) == 7
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(16))
    assert processes_for(5000) == 0
