"""Where images come from: by index, the same in whatever pieces, and each source says who it is."""

import zipfile

import numpy as np
import pytest
from conftest import run_salon, write_dataset
from PIL import Image

from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetSource, IteratorSource, is_snapshot, open_source
from eval.data.snapshot_source import SnapshotSource
from gan import snapshot
from gan.data import manifest
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.sampling import generate, latents


@pytest.fixture
def pictures(tmp_path):
    """A folder of 6 images of different sizes and formats, in two folders."""
    rng = np.random.default_rng(0)
    for index in range(6):
        file = tmp_path / "pictures" / ("sea" if index % 2 else "land") / f"{index}.{'png' if index < 3 else 'jpg'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, [10 + index, 12, 3], np.uint8)).save(file)
    return tmp_path / "pictures"


def test_a_snapshots_images_are_those_of_its_seeds_in_whatever_pieces(tiny_run):
    source = SnapshotSource(tiny_run, 7, seed=3, truncation_psi=0.7)
    G = snapshot.find(tiny_run).G_ema
    expected = list(generate.generate(G, range(3, 10), truncation_psi=0.7))
    pieces = [*source.pixels(0, 2), *source.pixels(2, 7)]
    assert len(source) == 7 and all(map(np.array_equal, pieces, expected))
    assert not np.array_equal(expected[0], expected[1])
    assert source.format(0) == "array" and source.label(0) is None
    assert source.use_graphs() == "they need a CUDA GPU"


def test_classes_follow_from_seeds_as_often_as_the_data_has_them(conditional_snapshot):
    source = SnapshotSource(conditional_snapshot, 400, class_shares=[1, 3])
    classes = source.classes(range(400))
    assert source.classes([7, 5]) == [classes[7], classes[5]]
    assert 0.68 < np.mean(classes) < 0.82
    assert source.label(7) == ["day", "night"][classes[7]]
    (image,) = generate.generate(source.G, [7], [classes[7]])
    assert np.array_equal(next(source.pixels(7, 8)), image)
    assert source.z_bank != SnapshotSource(conditional_snapshot, 400, class_shares=[1, 1]).z_bank
    with pytest.raises(RequestError, match="generates 2 classes; the dataset has 3"):
        SnapshotSource(conditional_snapshot, 4, class_shares=[1, 1, 1])


def test_a_snapshots_identity_is_all_that_decides_its_images(tiny_run, conditional_snapshot):
    plain = SnapshotSource(tiny_run, 4).identity
    for other in (
        SnapshotSource(tiny_run, 4, seed=1),
        SnapshotSource(tiny_run, 4, truncation_psi=0.5),
        SnapshotSource(conditional_snapshot, 4),
    ):
        assert other.identity != plain
    assert SnapshotSource(tiny_run, 4, batch_size=3).identity == plain


def test_a_folder_and_a_zip_of_equal_files_are_one_source(pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for file in sorted(pictures.rglob("*.*")):
            archive.write(file, file.relative_to(pictures))
    folder, archive = FilesSource(pictures), FilesSource(tmp_path / "pictures.zip")
    assert folder.identity == archive.identity and len(folder) == 6
    assert all(map(np.array_equal, folder.pixels(0, 6), archive.pixels(0, 6)))
    assert [image.shape for image in folder.pixels(4, 6)] == [(13, 12, 3), (15, 12, 3)]
    assert [folder.label(index) for index in (0, 5)] == ["land", "sea"]
    assert [folder.format(index) for index in range(6)] == ["png", "png", "jpeg", "png", "jpeg", "jpeg"]


def test_one_changed_pixel_is_another_source(pictures):
    before = FilesSource(pictures).identity
    file = pictures / "land" / "0.png"
    pixels = np.array(Image.open(file))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(file)
    assert FilesSource(pictures).identity != before


def test_a_part_of_a_folder_is_drawn_from_all_of_it(pictures):
    some = FilesSource(pictures, 4, seed=1)
    assert len(some) == 4 and some.names == sorted(some.names)
    assert some.names != FilesSource(pictures, 4, seed=2).names
    assert some.names == FilesSource(pictures, 4, seed=1).names
    with pytest.raises(RequestError, match="at most the 6 images"):
        FilesSource(pictures, 7)


def test_a_dataset_gives_the_images_that_are_kept(tiny_dataset, tmp_path):
    dataset = ImageDataset(tiny_dataset)
    rows = [{"name": dataset.names[index], "verdict": "keep"} for index in (5, 2)]
    digest = manifest.write(tmp_path / "chosen", rows, dataset=dataset.fingerprint(), parent=None)
    source = DatasetSource(Collection.open(tiny_dataset, tmp_path / "chosen"))
    first, second = source.pixels(0, 2)
    assert np.array_equal(first.transpose(2, 0, 1), dataset.pixels(2))
    assert np.array_equal(second.transpose(2, 0, 1), dataset.pixels(5))
    assert [source.label(0), source.label(1), source.format(0)] == ["day", "night", "png"]
    assert source.class_shares() == [1, 1] and source.indices.tolist() == [2, 5]
    every = DatasetSource(Collection.open(tiny_dataset))
    assert every.identity == {"kind": "dataset", "sha256": dataset.fingerprint(), "manifest": None}
    assert source.identity == {**every.identity, "manifest": digest}


def test_an_iterator_is_read_once_and_in_order():
    images = [np.full([2, 2, 3], value, np.uint8) for value in range(5)]
    source = open_source(iter(images), 5)
    assert isinstance(source, IteratorSource)
    assert [int(image[0, 0, 0]) for image in source.pixels(0, 3)] == [0, 1, 2]
    with pytest.raises(RequestError, match="in order, from 3; 0 was asked for"):
        list(source.pixels(0, 1))
    assert len(list(source.pixels(3, 5))) == 2
    with pytest.raises(RequestError, match="must give 5 images; it ended after 1"):
        list(open_source(images[:1], 5).pixels(0, 5))
    with pytest.raises(RequestError, match="`num_images` must be given"):
        open_source(iter(images))
    assert source.identity != open_source(iter(images), 5).identity


def test_what_a_path_is_is_seen(tiny_run, pictures, tmp_path):
    assert isinstance(open_source(pictures), FilesSource)
    for path in (tiny_run, tiny_run.parent, next((tiny_run / "snapshots").glob("*.safetensors"))):
        assert is_snapshot(path)
        assert isinstance(open_source(path, 2), SnapshotSource)
    with pytest.raises(RequestError, match="it does not exist"):
        open_source(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="holds no images"):
        open_source(tmp_path / "empty")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(RequestError, match="must be a folder or a ZIP of images"):
        open_source(tmp_path / "text.zip")
    (pictures / "land" / "0.png").write_bytes((pictures / "land" / "0.png").read_bytes()[:99])
    assert next(open_source(pictures).pixels(0, 1)) is None
    with pytest.raises(RequestError, match="seeds at most"):
        open_source(tiny_run, 2, seed=latents.MAX_SEED)


def test_what_generate_writes_is_what_a_snapshot_gives(tiny_run, tmp_path):
    outcome = run_salon("generate", tiny_run, "--seeds", "0-3", "--out", tmp_path / "pictures", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    files, painted = FilesSource(tmp_path / "pictures"), SnapshotSource(tiny_run, 4)
    assert all(map(np.array_equal, files.pixels(0, 4), painted.pixels(0, 4)))


def test_a_prepared_dataset_can_be_judged_as_images(tmp_path):
    path = write_dataset(tmp_path / "some.zip", [(16, 16)] * 3)
    assert len(FilesSource(path)) == 3
