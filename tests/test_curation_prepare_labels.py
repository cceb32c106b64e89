"""Labels of others: files in every usual form, names in every script, datasets of the reference, folders in folders."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_salon
from test_curation_prepare_pipeline import fill, image, request, rows
from test_gan_data_dataset import stylegan3

from curation.prepare import labels as labels_module
from curation.prepare.labels import assign
from curation.prepare.match_names import match
from curation.prepare.pipeline import collect
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.errors import RequestError


def labelled(tmp_path: Path, names: list[str], text: str, *, file: str = "l.csv", **options: Any) -> dict[str, str]:
    """The name of the class of each file that gets one, after its source has been prepared with a file of labels."""
    source = fill(tmp_path / "in", {name: image(number) for number, name in enumerate(names)})
    (tmp_path / file).write_text(text, encoding="utf-8")
    out = tmp_path / "d.zip"
    collect(request(source, out, labels=str(tmp_path / file), overwrite=True, **options))
    dataset = ImageDataset(out)
    found = rows(out)
    return {
        name: dataset.class_name(row["label"]) for name in names if (row := found[f"in/{name}"])["label"] is not None
    }


def test_names_in_any_script_are_compared_exactly(tmp_path: Path) -> None:
    names = ["猫1.jpg", "犬1.jpg", "猫2.jpg", "犬2.jpg", "é.jpg", "Дым.jpg", "Пёс.jpg"]
    text = "name,label\n猫1.jpg,cat\n猫2.jpg,cat\nДым.jpg,cat\n"
    assert labelled(tmp_path, names, text) == {"猫1.jpg": "cat", "猫2.jpg": "cat", "Дым.jpg": "cat"}


def test_names_of_one_system_are_found_on_another(tmp_path: Path) -> None:
    names = ["cafe\u0301.jpg", "a/b.jpg", "C_D.JPG"]
    assert labelled(tmp_path, names, "café.jpg,x\n.\\a\\b.jpg,y\nc-d.jpg,z\n") == dict(zip(names, "xyz", strict=True))
    figures = json.loads((tmp_path / "d.report.json").read_text())
    assert (figures["labels_loosely"], figures["labels_unused"]) == (1, 0)


@pytest.mark.parametrize(
    ("row", "files", "found"),
    [
        ("joaquã\xadn.jpg", ["joaquín.jpg"], ["joaquín.jpg"]),
        ("joaquã\xadn.jpg", ["joaquín.jpg", "joaquén.jpg"], []),  # either could be meant
        ("a_b.jpg", ["a-b.jpg", "a_b.jpg"], ["a_b.jpg"]),
        ("é.jpg", ["ö.jpg"], []),  # nothing of the name is left
        ("猫.jpg", ["犬.jpg"], []),
        ("猫1.jpg", ["犬1.jpg"], []),
        ("Дым1.jpg", ["дым1.jpg"], ["дым1.jpg"]),
        ("かき.jpg", ["がき.jpg"], []),
    ],
)
def test_loose_names(row: str, files: list[str], found: list[str]) -> None:
    assert match([row], files) == dict.fromkeys(found, row)


def test_names_that_several_rows_resemble_or_end_in_are_found_by_none(tmp_path: Path) -> None:
    assert match(["a_1.jpg", "A-1.jpg"], ["a-1.jpg"]) == {}
    assert labelled(tmp_path, ["z/1.png", "2.png"], "x/1.png,sun\ny/1.png,moon\n2.png,sun\n") == {"2.png": "sun"}


@pytest.mark.parametrize("header", ["file_name,label", "Filename,Class", "image,category", "path,LABEL", "bild,wert"])
def test_headers_of_any_convention_keep_whole_numbers(tmp_path: Path, header: str) -> None:
    numbers = {f"{number:02d}.png": str(number) for number in range(12)}
    text = "".join(f"{name},{label}\n" for name, label in numbers.items())
    assert labelled(tmp_path, list(numbers), f"{header}\n{text}") == numbers
    assert ImageDataset(tmp_path / "d.zip").classes is None
    assert json.loads((tmp_path / "d.report.json").read_text())["labels_unused"] == 0


def test_whole_numbers_of_pandas(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(11)]
    text = "".join(f"{number},{number}.png,{number}.0\n" for number in range(11))
    found = labelled(tmp_path, names, f",file_name,label\n{text}")
    assert found == {f"{number}.png": str(number) for number in range(11)}


def test_a_row_of_headings_is_no_image_and_a_first_row_no_heading(tmp_path: Path) -> None:
    assert labelled(tmp_path, ["a.png", "b.png"], "absent.png,label\na.png,x\nb.png,y\n") == {
        "a.png": "x",
        "b.png": "y",
    }
    assert json.loads((tmp_path / "d.report.json").read_text())["labels_unused"] == 1


def test_json_lines_of_an_imagefolder(tmp_path: Path) -> None:
    lines = [{"text": "t", "file_name": "a.png", "label": 10}, {"file_name": "b.png", "label": 2, "box": [1, 2]}]
    text = "\n".join(map(json.dumps, lines))
    assert labelled(tmp_path, ["a.png", "b.png"], text, file="metadata.jsonl") == {"a.png": "10", "b.png": "2"}


def test_tab_separated(tmp_path: Path) -> None:
    assert labelled(tmp_path, ["a, b.png"], "file\tclass\na, b.png\tx\n", file="l.tsv") == {"a, b.png": "x"}


def test_the_column_of_names_is_the_one_that_names_images(tmp_path: Path) -> None:
    text = "path,file,label\n/data/17,a.png,x\n/data/18,b.png,y\n"
    assert labelled(tmp_path, ["a.png", "b.png"], text) == {"a.png": "x", "b.png": "y"}
    text = "label,id,bild\nx,17,a.png\ny,18,b.png\n"
    assert labelled(tmp_path, ["a.png", "b.png"], text) == {"a.png": "x", "b.png": "y"}


TWO = "filename,artist,genre\na.png,Monet,landscape\nb.png,Degas,portrait\n"


def test_images_stay_with_their_files_where_some_have_no_label(tmp_path: Path) -> None:
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    source = fill(tmp_path / "in", {name: image(number) for number, name in enumerate(names)})
    (tmp_path / "l.csv").write_text("name,label\nb.jpg,cat\nd.jpg,dog\n")
    collect(request(source, tmp_path / "d.zip", labels=str(tmp_path / "l.csv")))
    found = rows(tmp_path / "d.zip")
    for name in names:
        own = hashlib.sha256((source / name).read_bytes()).hexdigest()
        assert found[f"in/{name}"]["file_sha256"] == (own if name in ("b.jpg", "d.jpg") else None)


def test_a_column_of_labels_is_chosen_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"one column of labels; it has artist, genre: choose .* `label_column`"):
        labelled(tmp_path, ["a.png", "b.png"], TWO)
    with pytest.raises(RequestError, match="it has 3 columns and no header"):
        labelled(tmp_path, ["a.png"], "a.png,1,2\n")
    with pytest.raises(RequestError, match="it has label, class"):
        labelled(tmp_path, ["a.png"], "name,label,class\na.png,1,2\n")
    found = labelled(tmp_path, ["a.png", "b.png"], TWO, label_column="genre")
    assert found == {"a.png": "landscape", "b.png": "portrait"}
    for column, text, message in (
        ("style", TWO, "got style, it has columns filename, artist, genre"),
        ("genre", "a.png,x\n", "got genre, it has no header"),
    ):
        with pytest.raises(RequestError, match=f"`label_column` must be one of the columns of .*{message}"):
            labelled(tmp_path, ["a.png"], text, label_column=column)


def test_options_of_labels_that_do_not_go_together(tmp_path: Path) -> None:
    for labels in (None, "none", "folders", "folders:2"):
        with pytest.raises(RequestError, match="`label_column` needs `labels` FILE"):
            request(tmp_path, None, labels=labels, label_column="x")
    for labels in ("folders:", "folders:0", "folders:outermost"):
        with pytest.raises(RequestError, match=f"folders:N with N from 1 on; got {labels} instead"):
            request(tmp_path, None, labels=labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x.png,cat\n", "must name some of the images; it names x.png, and they are in/a.png"),
        ("a.png,0.5\nb.png,1\n", "must hold classes; got the real number 0.5 instead"),
        ("a.png,1e3\nb.png,-.5\n", "must hold classes; got the real number 1e3 instead"),
    ],
)
def test_labels_that_cannot_be_meant(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        labelled(tmp_path, ["a.png", "b.png"], text)


def test_json_lines_that_are_none(tmp_path: Path) -> None:
    for text, message in (("{", "line 1 of .* must be a JSON object"), ("\n[1]\n", r"line 2 of .*; got \[1\] instead")):
        with pytest.raises(RequestError, match=message):
            labelled(tmp_path, ["a.png"], text, file="l.jsonl")


def test_sparse_whole_numbers_are_names_of_dense_classes(tmp_path: Path) -> None:
    text = f"a.png,1890\nb.png,900\nc.png,{2**40}\nd.png,900\n"
    found = labelled(tmp_path, ["a.png", "b.png", "c.png", "d.png"], text)
    assert found == {"a.png": "1890", "b.png": "900", "c.png": str(2**40), "d.png": "900"}
    dataset = ImageDataset(tmp_path / "d.zip")
    assert (dataset.num_classes, dataset.classes) == (3, ["900", "1890", str(2**40)])


def test_classes_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_module, "MAX_CLASSES", 2)
    with pytest.raises(RequestError, match="must make at most 2 classes; got 3"):
        labelled(tmp_path, ["a.png", "b.png", "c.png"], "a.png,x\nb.png,y\nc.png,z\n")


def test_classes_that_lost_their_images_are_told(tmp_path: Path) -> None:
    files = {"a/1.png": image(1), "b/2.png": image(1), "c/3.png": b"damaged", "d/4.png": image(4)}
    source = fill(tmp_path / "in", files)
    outcome = run_salon("prepare", source, "--out", tmp_path / "d.zip", "--resolution", 8, "--labels", "folders")
    assert "2 classes have no image: b, c\n" in outcome.out
    assert ImageDataset(tmp_path / "d.zip").classes == ["a", "b", "c", "d"]


def test_the_limit_does_not_decide_what_is_a_class(tmp_path: Path) -> None:
    files = {"wrap/a/1.png": image(1), "wrap/a/2.png": image(2), "wrap/b/3.png": image(3)}
    figures = collect(request(fill(tmp_path / "in", files), tmp_path / "d.zip", labels="folders", limit=2))
    assert figures["labels"] == {"a": 2, "b": 0}
    assert ImageDataset(tmp_path / "d.zip").classes == ["a", "b"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("folders", {"train": 2, "val": 1}),
        ("folders:innermost", {"cat": 2, "dog": 1, "in_val": 1}),
        ("folders:1", {"train": 2, "val": 2}),
        ("folders:2", {"cat": 2, "dog": 1}),
    ],
)
def test_folders_of_any_depth(tmp_path: Path, how: str, expected: dict[str, int]) -> None:
    names = ["train/cat/1.png", "train/dog/2.png", "val/cat/3.png"]
    names += [] if how == "folders" else ["in_val/4.png" if how == "folders:innermost" else "val/4.png"]
    source = fill(tmp_path / "in", {name: image(number) for number, name in enumerate(names)})
    assert collect(request(source, None, labels=how))["labels"] == expected


def test_folders_that_hold_folders_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = fill(tmp_path / "in", {"train/cat/1.png": image(1), "val/dog/2.png": image(2)})
    collect(request(source, None, labels="folders"))
    assert (
        "folders takes train, val, which hold folders again; folders:innermost takes those" in capsys.readouterr().err
    )
    collect(request(fill(source, {"val/3.png": image(3)}), None, labels="folders"))
    assert "innermost" not in capsys.readouterr().err


def test_folders_in_nfc_and_nfd_are_one_class(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"café/1.png": image(1), "cafe\u0301/2.png": image(2)})
    assert collect(request(source, None, labels="folders"))["labels"] == {"café": 2}


def reference_dataset(tmp_path: Path, labels: list[object], prefix: str = "") -> Path:
    """A ZIP as the reference's dataset_tool leaves it."""
    pairs = [[f"00000/img{index:08d}.png", label] for index, label in enumerate(labels)]
    folder = stylegan3(tmp_path / "folder", pairs, count=len(labels))
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, prefix + str(path.relative_to(folder)))
    return tmp_path / "theirs.zip"


@pytest.mark.parametrize("prefix", ["", "wrapped/"])
def test_a_dataset_of_the_reference_keeps_its_labels_and_gets_a_manifest(tmp_path: Path, prefix: str) -> None:
    source = reference_dataset(tmp_path, [2, 0, 1, 0], prefix)
    outcome = run_salon("prepare", source, "--out", tmp_path / "d.zip", "--resolution", 8, "--format", "png")
    assert "0 other files ignored" in outcome.out
    ours, theirs = ImageDataset(tmp_path / "d.zip"), ImageDataset(tmp_path / "folder")
    assert ours.labels is not None and theirs.labels is not None and ours.labels.tolist() == theirs.labels.tolist()
    assert (ours.num_classes, ours.classes) == (3, None)
    assert all(np.array_equal(ours.image(index), theirs.image(index)) for index in range(4))
    collection = Collection.open(tmp_path / "d.zip")
    assert collection.manifest is not None and collection.column("label") == [2, 0, 1, 0]


def test_a_dataset_of_the_reference_in_a_folder_with_one_hot_and_sparse_labels(tmp_path: Path) -> None:
    reference_dataset(tmp_path, [[0, 0, 1], [1, 0, 0]])
    collect(request(tmp_path / "folder", tmp_path / "d.zip"))
    assert ImageDataset(tmp_path / "d.zip").classes == ["0", "2"]
    assert [ImageDataset(tmp_path / "d.zip").label(index) for index in range(2)] == [1, 0]


def test_a_dataset_of_salon_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"b/1.png": image(1), "a/2.png": image(1), "c/3.png": image(3)})
    collect(request(source, tmp_path / "d.zip", labels="folders"))  # leaves no image of b
    collect(request(tmp_path / "d.zip", tmp_path / "again.zip", resolution=8))
    first, again = ImageDataset(tmp_path / "d.zip"), ImageDataset(tmp_path / "again.zip")
    assert again.classes == first.classes == ["a", "b", "c"]
    assert [again.label(index) for index in range(2)] == [first.label(index) for index in range(2)] == [0, 2]


def test_labels_of_a_dataset_are_left_out_on_request_and_where_some_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, bare = reference_dataset(tmp_path, [1, 0]), fill(tmp_path / "bare", {"x.png": image(9)})
    figures = collect(request(theirs, tmp_path / "none.zip", labels="none"))
    assert figures["labels"] is None and ImageDataset(tmp_path / "none.zip").labels is None
    figures = collect(request([theirs, bare], tmp_path / "both.zip"))
    assert (figures["images"], figures["labels"]) == (3, None)
    assert "dataset.json labels 2 of 3 images, and not bare/x.png: no labels are kept" in capsys.readouterr().err
    figures = collect(request([theirs, bare], tmp_path / "some.zip", labels="dataset"))
    assert (figures["images"], figures["labels"], figures["unlabelled"]) == (2, {"0": 1, "1": 1}, 1)
    with pytest.raises(RequestError, match=r"`labels` dataset needs a dataset\.json with labels in a source"):
        collect(request(bare, None, labels="dataset"))


def test_labels_of_a_dataset_that_are_no_classes(tmp_path: Path) -> None:
    theirs = reference_dataset(tmp_path, [0.25, 0.5])
    with pytest.raises(RequestError, match=r"theirs\.zip/dataset\.json must hold classes, .*0\.25 .*`labels` none"):
        collect(request(theirs, None))
    assert collect(request(theirs, None, labels="none"))["images"] == 2


def test_no_files_get_no_labels() -> None:
    assert assign(None, [], []) is None
