"""Datasets: written and read again, as ZIP and folder, and those of the stylegan3 family."""

import io
import json
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import encode
from gan.errors import ImageError, RequestError


def images(count: int, size: int = 8) -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def write(path: Path, count: int = 5, labels: list[int] | None = None, classes: list[str] | None = None) -> Path:
    writer = DatasetWriter(path, ".png")
    for index, image in enumerate(images(count)):
        writer.add(encode(image, "png"), labels[index] if labels else None)
    writer.close(classes)
    return path


def stylegan3(folder: Path, labels: object, count: int = 3, size: int = 8) -> Path:
    """A folder as stylegan3's dataset_tool leaves it."""
    for index, image in enumerate(images(count, size)):
        (folder / "00000").mkdir(parents=True, exist_ok=True)
        image.save(folder / f"00000/img{index:08d}.png", optimize=False, compress_level=0)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def test_round_trip(tmp_path: Path) -> None:
    dataset = ImageDataset(write(tmp_path / "d.zip", labels=[0, 2, 1, 0, 2], classes=["a", "b", "c"]))
    assert (len(dataset), dataset.shape.width, dataset.num_classes, dataset.classes) == (5, 8, 3, ["a", "b", "c"])
    assert [dataset.label(i) for i in range(5)] == [0, 2, 1, 0, 2]
    for index, image in enumerate(images(5)):
        pixels = dataset.pixels(index)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, np.asarray(image).transpose(2, 0, 1))
        assert np.array_equal(dataset.image(index), np.asarray(image))


def test_same_images_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.zip").read_bytes() == write(tmp_path / "b.zip").read_bytes()


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    archive = write(tmp_path / "d.zip", labels=[0, 1, 0, 1, 0])
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "folder")
    fingerprint = ImageDataset(archive).fingerprint()
    assert ImageDataset(tmp_path / "folder").fingerprint() == fingerprint
    assert ImageDataset(write(tmp_path / "other.zip", labels=[1, 1, 0, 1, 0])).fingerprint() != fingerprint
    (tmp_path / "folder/00000/img00000000.png").write_bytes(encode(images(9)[8], "png"))
    assert ImageDataset(tmp_path / "folder").fingerprint() != fingerprint


def test_stylegan3_folder_with_labels(tmp_path: Path) -> None:
    pairs = [[f"00000/img{index:08d}.png", label] for index, label in ((2, 0), (0, 4), (1, 1))]
    dataset = ImageDataset(stylegan3(tmp_path / "d", pairs))
    assert [dataset.label(i) for i in range(3)] == [4, 1, 0]
    assert (dataset.num_classes, dataset.classes) == (5, None)


def test_one_hot_vectors_and_whole_reals_are_classes(tmp_path: Path) -> None:
    vectors = [
        [f"00000/img{index:08d}.png", label] for index, label in enumerate([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1.0, 0]])
    ]
    dataset = ImageDataset(stylegan3(tmp_path / "d", vectors))
    assert [dataset.label(i) for i in range(3)] == [1, 0, 2] and dataset.num_classes == 4
    dataset = ImageDataset(
        stylegan3(tmp_path / "d", [[f"00000/img{index:08d}.png", float(index)] for index in range(3)])
    )
    assert [dataset.label(i) for i in range(3)] == [0, 1, 2]


def test_names_that_systems_write_otherwise(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for number, name in enumerate(("cafe\u0301/a.png", "b\\c.png", "d/e.png")):
            archive.writestr(name, encode(images(3)[number], "png"))
        labels = [["café/a.png", 0], ["b/c.png", 1], ["d\\e.png", 2]]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    dataset = ImageDataset(tmp_path / "d.zip")
    assert {name: dataset.label(index) for index, name in enumerate(dataset.names)} == {
        "b\\c.png": 1,
        "cafe\u0301/a.png": 0,
        "d/e.png": 2,
    }


@pytest.mark.parametrize("as_zip", [False, True])
def test_files_that_systems_add_are_no_images(tmp_path: Path, as_zip: bool) -> None:
    folder = stylegan3(tmp_path / "d", [[f"00000/img{i:08d}.png", i] for i in range(3)])
    fingerprint = ImageDataset(folder).fingerprint()
    for name in (
        "__MACOSX/00000/._img00000000.png",
        "00000/._img00000001.png",
        ".trash/x.png",
        ".DS_Store",
        "Thumbs.db",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"of the system")
    if as_zip:
        with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
            for path in folder.rglob("*"):
                archive.write(path, path.relative_to(folder))
        folder = tmp_path / "d.zip"
    dataset = ImageDataset(folder)
    assert len(dataset) == 3 and dataset.fingerprint() == fingerprint


def test_stylegan3_without_labels(tmp_path: Path) -> None:
    dataset = ImageDataset(stylegan3(tmp_path / "d", None))
    assert (dataset.num_classes, dataset.label(0), dataset.labels) == (0, 0, None)


def test_ours_is_laid_out_as_stylegan3_reads_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(write(tmp_path / "d.zip", count=1001, labels=[0] * 1001)) as archive:
        labels = json.loads(archive.read("dataset.json"))["labels"]
        names = [name for name in archive.namelist() if name != "dataset.json"]
        assert names[0] == "00000/img00000000.png" and names[-1] == "00001/img00001000.png"
        assert labels == [[name, 0] for name in names]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_threads_and_pickles(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(ImageDataset(write(tmp_path / "d.zip", count=40))))
    expected = [np.asarray(image).transpose(2, 0, 1) for image in images(40)]
    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(dataset.pixels, range(40)), expected, strict=True):
            assert np.array_equal(found, wanted)


def test_cache_holds_the_pixels(tmp_path: Path) -> None:
    dataset = ImageDataset(write(tmp_path / "d.zip"))
    cached = np.load(dataset.cache("0" * 64), mmap_mode="r")
    assert np.array_equal(cached, np.stack([dataset.pixels(i) for i in range(5)]))


def test_bad_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALON_CACHE", str(tmp_path / "cache"))
    folder = stylegan3(tmp_path / "d", None)
    dataset = ImageDataset(folder)
    dataset.preflight("good")
    images(1, 16)[0].save(folder / "00000/img00000001.png")
    (folder / "00000/img00000002.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"size: .*img00000001\.png has 16x16 pixels, others 8x8"):
        dataset.pixels(1)
    with pytest.raises(ImageError, match=r"unreadable: 00000/img00000002\.png: corrupt: it begins like an image"):
        dataset.pixels(2)
    with pytest.raises(RequestError, match="holds 2 images that cannot be trained on"):
        dataset.preflight("bad")
    dataset.preflight("good")  # remembered


def test_damaged_first_image(tmp_path: Path) -> None:
    folder = stylegan3(tmp_path / "d", None)
    (folder / "00000/img00000000.png").write_bytes(b"nothing")
    with pytest.raises(RequestError, match=r"must hold images; 00000/img00000000\.png cannot be read: it is no image"):
        ImageDataset(folder)


def test_damaged_member(tmp_path: Path) -> None:
    path = write(tmp_path / "d.zip")
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 4] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(RequestError, match="Bad CRC-32"):
        ImageDataset(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["00000/img00000000.png", 0]], "has no label for 2 images, e.g. 00000/img00000001.png"),
        ([[f"00000/img{i:08d}.png", -1] for i in range(3)], "classes from 0 on; got -1 instead"),
        ("nonsense", "must hold {'labels'"),
        ([["a", "b", "c"]], "must hold {'labels'"),
        ([[f"00000/img{i:08d}.png", i / 2] for i in range(3)], r"got the real number 0\.5 instead, for .*1\.png"),
        ([[f"00000/img{i:08d}.png", [0.5, 0.5]] for i in range(3)], "got a vector that is not one-hot instead, for"),
        ([[f"00000/img{i:08d}.png", [1, 1]] for i in range(3)], "got a vector that is not one-hot instead, for"),
        ([[f"00000/img{i:08d}.png", [1] + [0] * (i % 2)] for i in range(3)], r"vectors of one length; got \[1, 2\]"),
        ([[f"00000/img{i:08d}.png", "cat"] for i in range(3)], "got 'cat' instead, for"),
        ([[f"00000/img{i:08d}.png", None] for i in range(3)], "got None instead, for"),
        ([[f"00000/img{i:08d}.png", 2**40] for i in range(3)], "at most 100,000 classes; got class 1099511627776"),
        ([[f"00000/img{i:08d}.png", 2**70] for i in range(3)], "at most 100,000 classes"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ImageDataset(stylegan3(tmp_path / "d", labels))


def test_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist; make a dataset with `salon prepare`"):
        ImageDataset(tmp_path / "nothing.zip")
    (tmp_path / "text.zip").write_text("no ZIP")
    with pytest.raises(RequestError, match="must be a ZIP or a folder of images; it is none, or is damaged"):
        ImageDataset(tmp_path / "text.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="holds no images"):
        ImageDataset(tmp_path / "empty")
    buffer = io.BytesIO()
    Image.new("RGB", (9, 6)).save(buffer, "PNG")
    (tmp_path / "empty/oblong.png").write_bytes(buffer.getvalue())
    with pytest.raises(RequestError, match=r"2 to 8 times one power of two in width and height; oblong\.png has 9x6"):
        ImageDataset(tmp_path / "empty")


def test_the_same_files_of_other_channels_are_another_dataset(tmp_path):
    files = [encode(Image.new("RGBA", (8, 8), (level, 0, 0, 128)), "png") for level in (10, 200)]
    prints = {}
    for channels in (1, 3, 4):
        writer = DatasetWriter(tmp_path / f"{channels}.zip", ".png", channels)
        for content in files:
            writer.add(content)
        writer.close()
        dataset = ImageDataset(tmp_path / f"{channels}.zip")
        assert dataset.image(1).shape == (8, 8, channels)
        prints[channels] = dataset.fingerprint()
    assert len(set(prints.values())) == 3
