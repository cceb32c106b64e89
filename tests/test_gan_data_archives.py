"""The files of datasets: members of ZIPs read by a table, and lists of ZIPs against a folder of the same content."""

import contextlib
import json
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK_TRAINING, run_salon, write_dataset
from PIL import Image

from curation.prepare.dataset_info import describe
from eval.blind.pictures import open_pictures
from gan.data import archives, manifest
from gan.data.archives import Zips
from gan.data.collection import Collection, manifest_beside
from gan.data.dataset import UNREADABLE, ImageDataset
from gan.data.images import encode
from gan.data.name_table import NameTable
from gan.data.zip_directory import entries
from gan.errors import RequestError

COUNTS = {"sea": 5, "sea-2": 3, "land": 4}  # images by ZIP; "sea-2/" comes before "sea/", as "-" does before "/"
CLASSES = ["day", "night"]


def list_of(folder, counts=COUNTS, *, classes=CLASSES, size=16, lines=None):
    """A list of ZIPs of images that all differ, in an order that is not that of their names."""
    (folder / "zips").mkdir(parents=True, exist_ok=True)
    images = iter(some_files(sum(counts.values()), size).values())
    for place, (stem, count) in enumerate(counts.items()):
        files = {f"00000/img{index:08d}.png": next(images) for index in range(count)}
        labels = [(place + index) % 2 for index in range(count)] if classes else None
        write_zip(folder / f"zips/{stem}.zip", files, labels, classes)
    path = folder / "all.zips"
    path.write_text("\n".join(lines if lines is not None else [f"zips/{stem}.zip" for stem in counts]) + "\n")
    return path


def write_zip(path, files, labels=None, classes=None, method=zipfile.ZIP_STORED):
    content = {"labels": None if labels is None else list(zip(files, labels, strict=True)), "classes": classes}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, each in files.items():
            archive.writestr(name, each)
        archive.writestr("dataset.json", json.dumps(content))
    return path


def as_folder(path, out):
    """What a list of ZIPs holds, as one folder."""
    labels, classes = [], None
    for file in archives.listed(path):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(out / file.stem)
        content = json.loads((out / file.stem / "dataset.json").read_text())
        (out / file.stem / "dataset.json").unlink()
        labels += [[f"{file.stem}/{name}", label] for name, label in content["labels"] or ()]
        classes = content["classes"]
    (out / "dataset.json").write_text(json.dumps({"labels": labels or None, "classes": classes}))
    return out


@pytest.mark.parametrize("classes", [CLASSES, None])
def test_a_list_is_the_dataset_of_a_folder_of_its_zips(tmp_path, classes):
    path = list_of(tmp_path, classes=classes)
    joined, folder = ImageDataset(path), ImageDataset(as_folder(path, tmp_path / "folder"))
    assert joined.names == folder.names == sorted(folder.names) and len(joined) == 12
    assert joined.fingerprint() == folder.fingerprint()
    assert (joined.classes, joined.num_classes, joined.shape.size) == (classes, folder.num_classes, (16, 16))
    assert [joined.label(index) for index in range(12)] == [folder.label(index) for index in range(12)]
    assert len({joined.read_bytes(name) for name in joined.names}) == 12
    for index in range(12):
        assert np.array_equal(joined.image(index), folder.image(index))
        assert joined.file_size(index) == folder.file_size(index) == len(joined.file_bytes(index))


def test_a_list_has_the_images_of_its_parts_in_their_order(tmp_path):
    path = list_of(tmp_path, lines=["# two of them", "", "  zips/sea.zip\r", str(tmp_path / "zips/sea-2.zip")])
    joined, first, second = (ImageDataset(each) for each in (path, *archives.listed(path)))
    assert [first.path.name, second.path.name] == ["sea-2.zip", "sea.zip"]
    assert joined.names == [f"sea-2/{name}" for name in first.names] + [f"sea/{name}" for name in second.names]
    assert joined.labels.tolist() == first.labels.tolist() + second.labels.tolist()
    for index in range(3):
        assert np.array_equal(joined.pixels(index), first.pixels(index))
        assert np.array_equal(joined.pixels(3 + index), second.pixels(index))


def _hashes(dataset):
    return dataset.fingerprint(), os.getpid()


def test_a_list_is_read_by_threads_and_processes_and_few_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_OPEN", 2)
    dataset = ImageDataset(list_of(tmp_path))
    expected = [dataset.file_bytes(index) for index in range(12)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            assert list(pool.map(dataset.file_bytes, range(12))) == expected
    assert sum(str(tmp_path) in file for file in open_files()) == 2
    fingerprint = dataset.fingerprint()
    with get_context("fork").Pool(2) as pool:
        assert {each for each, _ in pool.map(_hashes, [pickle.loads(pickle.dumps(dataset))] * 2)} == {fingerprint}


def open_files():
    """The files that this process has open."""
    files = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            files.append(str(descriptor.readlink()))
    return files


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"all\.zips must list the ZIPs of a dataset, one a line; it lists none"),
        (["# nothing"], "it lists none"),
        (["zips/sea.zip", "zips/none.zip"], r"all\.zips must list ZIPs; .*zips/none\.zip does not exist"),
        (["zips/sea.zip", "zips"], r"must list ZIPs; .*/zips is a folder"),
        (["all.zips"], r"must list ZIPs; .*all\.zips is a list"),
        (["zips/sea.zip", "zips/../zips/sea.zip"], r"must list each ZIP once; it lists .*sea\.zip twice"),
        (["zips/sea.zip", "more/sea.zip"], r"of different names, .*zips/sea\.zip and .*more/sea\.zip have one"),
        (["zips/sea.zip", "zips/small.zip"], r"of images of one shape; .*sea\.zip has 16x16, .*small\.zip 8x8"),
        (["zips/sea.zip", "zips/bare.zip"], r"same order; .*bare\.zip has no classes, .*sea\.zip day, night"),
        (["zips/sea.zip", "zips/other.zip"], r"same order; .*other\.zip has night, day, .*sea\.zip day, night"),
        (["zips/sea.zip", "zips/text.zip"], r"text\.zip must be a ZIP or a folder of images; it is none"),
    ],
)
def test_what_is_no_list_of_like_zips(tmp_path, lines, message):
    path = list_of(tmp_path, lines=lines)
    (tmp_path / "more").mkdir()
    write_dataset(tmp_path / "more/sea.zip", [(16, 16)], [0], CLASSES)
    write_dataset(tmp_path / "zips/small.zip", [(8, 8)], [0], CLASSES)
    write_dataset(tmp_path / "zips/bare.zip", [(16, 16)])
    write_dataset(tmp_path / "zips/other.zip", [(16, 16)], [0], CLASSES[::-1])
    (tmp_path / "zips/text.zip").write_text("no ZIP")
    with pytest.raises(RequestError, match=message):
        ImageDataset(path)


def test_a_list_in_another_encoding_is_refused(tmp_path):
    path = list_of(tmp_path)
    path.write_bytes("zips/Küste.zip".encode("latin-1"))
    with pytest.raises(RequestError, match=r"all\.zips must be a text file in UTF-8 that lists ZIPs"):
        ImageDataset(path)


def test_training_and_checking_take_a_list(tmp_path):
    path = list_of(tmp_path, {"a": 6, "b": 6})
    trained = run_salon("train", "--data", path, "--out", tmp_path / "runs", *QUICK_TRAINING, "--conditional")
    assert trained.code == 0, trained.err
    dataset = ImageDataset(path)
    rows = [{"name": name, "verdict": manifest.KEEP} for name in dataset.names]
    manifest.write(tmp_path / "all.manifest", rows, dataset=dataset.fingerprint(), parent=None)
    checked = run_salon("curate", "check", path, "--out", tmp_path / "checked")
    assert checked.code == 0, checked.err
    found = manifest.read(tmp_path / "checked")
    assert found.dataset == dataset.fingerprint() and found.rows["name"].to_pylist() == dataset.names
    told = run_salon("dataset", "info", path, "--json").json
    assert told["images"] == 12 and told["formats"]["png"]["files"] == 12


def test_the_manifest_of_a_list_lies_beside_it(tmp_path):
    path = list_of(tmp_path)
    dataset = ImageDataset(path)
    assert manifest_beside(path) == tmp_path / "all.manifest"
    rows = [{"name": name, "verdict": "keep" if name.startswith("land/") else "drop"} for name in dataset.names]
    manifest.write(tmp_path / "all.manifest", rows, dataset=dataset.fingerprint(), parent=None)
    assert Collection.open(path).column("verdict") == [row["verdict"] for row in rows]
    assert Collection.open(path, tmp_path / "all.manifest").kept.tolist() == [0, 1, 2, 3]
    assert describe(dataset)["manifest"]["fits"] and dataset.cache("0" * 64).parent == tmp_path
    assert len(open_pictures(path, "data")) == 12


def some_files(count=3, size=8):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, [size, size, 3], np.uint8)) for _ in range(count)]
    return {f"{number}.png": encode(image, "png") for number, image in enumerate(images)}


def opened(path):
    files, labels = archives.open_files(path)
    assert isinstance(files, Zips) and labels is not None
    return files


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_are_read_as_zipfile_reads_them(tmp_path, method):
    files = {**some_files(), "empty.png": b"", "flat.png": bytes(100_000)}
    zips = opened(write_zip(tmp_path / "d.zip", files, method=method))
    assert zips.names == sorted(files)
    for index, name in enumerate(zips.names):
        assert zips.read(index) == files[name] and zips.size(index) == len(files[name])
        assert Zips.joined([zips.prefixed()]).read(index) == files[name]


def test_zips_with_something_before_them_and_in_zip64_are_read(tmp_path, monkeypatch):
    files = some_files()
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # as if these were beyond four gigabytes
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    path = write_zip(tmp_path / "d.zip", files)
    assert b"PK\6\6" in path.read_bytes()
    assert [opened(path).read(index) for index in range(3)] == list(files.values())
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert [opened(path).read(index) for index in range(3)] == list(files.values())


def test_names_and_places_are_those_of_zipfile(tmp_path):
    path = write_zip(tmp_path / "d.zip", {"ä/ł.png": b"1", "caf_.png": b"22", "nul_b.png": b"", "a/": b""})
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"of three images"
    path.write_bytes(b"before" + path.read_bytes().replace(b"caf_", b"caf\x82").replace(b"nul_", b"nul\0"))
    with zipfile.ZipFile(path) as archive:
        expected = [
            (each.filename, each.header_offset, each.compress_size, each.file_size, each.CRC, each.compress_type)
            for each in archive.infolist()
        ]
    assert [(name, *member[:5]) for name, member in entries(path)] == expected and len(expected) == 5


@pytest.mark.parametrize("part", [slice(0, 40), slice(-40, None), slice(-22, None)])
def test_a_part_of_a_zip_is_none(tmp_path, part):
    path = write_zip(tmp_path / "d.zip", some_files())
    path.write_bytes(path.read_bytes()[part])
    with pytest.raises(zipfile.BadZipFile):
        archives.open_files(path)


def test_of_members_of_one_name_the_last_is_read(tmp_path):
    first, second, _ = some_files().values()
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("a.png", first)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", second)
        archive.writestr("folder.png/", b"")
        archive.writestr("dataset.json", "{}")
    zips = opened(tmp_path / "d.zip")
    assert zips.names == ["a.png"] and zips.read(0) == second


def test_damaged_and_encrypted_members_are_refused_in_the_words_of_zipfile(tmp_path):
    path = write_zip(tmp_path / "d.zip", some_files())
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\3\4", 4)
    for change, message in (
        ((second + 60, 0xFF), "Bad CRC-32 for file '1.png'"),
        ((second, 0), "Bad magic number for file header"),
        ((content.index(b"PK\1\2", content.index(b"PK\1\2") + 4) + 8, 1), "File '1.png' is encrypted, password"),
    ):
        changed = bytearray(content)
        changed[change[0]] = change[1]
        path.write_bytes(changed)
        zips = opened(path)
        assert zips.read(0) == some_files()["0.png"]
        with pytest.raises(UNREADABLE, match=message):
            zips.read(1)
    path.write_bytes(content)
    zips = opened(path)
    os.truncate(path, second + 60)
    with pytest.raises(EOFError):
        zips.read(1)


def test_names_are_a_sequence_without_objects():
    names = sorted({"a/1.png", "ä.png", "z", "\udcff.png", "\U0001f3a8.png", "b" * 300})
    table = NameTable(names)
    assert table == names and list(table) == names and table != names[:-1] and table != 3
    assert table[-1] == names[-1] and table[1:3] == names[1:3] and table[np.int64(2)] == names[2]
    assert [table.index(name) for name in names] == list(range(len(names)))
    assert all(name in table for name in names) and "c" not in table and None not in table
    assert pickle.loads(pickle.dumps(table)) == table and not NameTable([])
    with pytest.raises(ValueError, match="there is no c"):
        table.index("c")
    with pytest.raises(ValueError, match="there is no z"):
        table.index("z", 0, 2)
    with pytest.raises(IndexError):
        table[len(names)]
