"""Parquet files of images: Hugging Face's layout, bytes and paths, labels and their names, and damaged files."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from test_curation_prepare_pipeline import fill, hidden, image, request, rows

from curation.prepare.pipeline import collect
from gan.data.dataset import ImageDataset
from gan.errors import RequestError

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
NAMES = ["sun", "moon", "comet", "star"]
FEATURES = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}


def hugging_face(path: Path, images: list[dict[str, Any]], labels: list[int | None], **columns: list[Any]) -> Path:
    """A Parquet file as Hugging Face's `datasets` writes it, of two rows a row group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [("image", IMAGE), ("label", pyarrow.int64()), *((name, pyarrow.string()) for name in columns)]
    schema = pyarrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})})
    table = pyarrow.table({"image": images, "label": labels, **columns}, schema=schema)
    parquet.write_table(table, path, row_group_size=2)
    return path


def embedded(*seeds: int) -> list[dict[str, Any]]:
    return [{"bytes": image(seed), "path": f"{seed}.png"} for seed in seeds]


def labels(out: Path) -> dict[str, str | None]:
    dataset = ImageDataset(out)
    found = rows(out).items()
    return {name: None if row["label"] is None else dataset.class_name(row["label"]) for name, row in found}


def test_hugging_faces_layout(tmp_path: Path) -> None:
    source = hugging_face(tmp_path / "train.parquet", embedded(3, 1, 2, 3), [2, 0, 1, 2])
    before = source.read_bytes()
    figures = collect(request(source, tmp_path / "out/d.zip"))
    assert (figures["images"], figures["duplicates"], figures["quarantined"]) == (3, 1, {})
    assert labels(tmp_path / "out/d.zip") == {
        "train.parquet/000000": "comet",  # two rows have its path
        "train.parquet/1.png": "sun",
        "train.parquet/2.png": "moon",
        "train.parquet/000003": "comet",
    }
    assert ImageDataset(tmp_path / "out/d.zip").classes == NAMES
    assert hidden(tmp_path / "out") == [] and source.read_bytes() == before
    collect(request(source, tmp_path / "e.zip", workers=2))
    assert ImageDataset(tmp_path / "e.zip").fingerprint() == figures["fingerprint"]


def test_a_folder_of_shards_beside_other_files(tmp_path: Path) -> None:
    hugging_face(tmp_path / "in/data/0.parquet", embedded(1, 2), [3, 0])
    hugging_face(tmp_path / "in/data/1.parquet", embedded(3), [0])
    parquet.write_table(pyarrow.table({"score": [1.0]}), tmp_path / "in/scores.parquet")
    fill(tmp_path / "in", {"none.parquet": b"PAR1"})
    figures = collect(request(tmp_path / "in", tmp_path / "d.zip", labels="dataset"))
    assert (figures["images"], figures["quarantined"], figures["ignored"]) == (3, {}, 1)
    assert figures["unlabelled"] == 1  # what is damaged has no label, too
    kept = {name: label for name, label in labels(tmp_path / "d.zip").items() if label}
    assert kept == {
        "in/data/0.parquet/1.png": "star",
        "in/data/0.parquet/2.png": "sun",
        "in/data/1.parquet/3.png": "sun",
    }
    figures = collect(request(tmp_path / "in", tmp_path / "e.zip", labels="none"))
    assert figures["quarantined"] == {"corrupt": 1}


def test_a_table_of_paths_in_a_folder_does_not_list_its_images_twice(tmp_path: Path) -> None:
    fill(tmp_path / "in", {"1.png": image(1), "2.png": image(2)})
    rows = [{"bytes": None, "path": "1.png"}, {"bytes": None, "path": "2.png"}]
    parquet.write_table(pyarrow.table({"image": rows}), tmp_path / "in/index.parquet")
    figures = collect(request(tmp_path / "in", tmp_path / "d.zip", labels="none"))
    assert (figures["images"], figures["quarantined"], figures["ignored"]) == (2, {}, 1)


def test_columns_of_labels(tmp_path: Path) -> None:
    source = hugging_face(tmp_path / "a.parquet", embedded(1, 2, 3), [0, -1, None], style=["b", "a", "b"])
    collect(request(source, tmp_path / "d.zip", labels="dataset"))
    assert list(labels(tmp_path / "d.zip").values()) == ["sun", None, None]
    collect(request(source, tmp_path / "e.zip", labels="dataset", label_column="style"))
    assert list(labels(tmp_path / "e.zip").values()) == ["b", "a", "b"]
    with pytest.raises(RequestError, match=r"`label_column` must be one of .*; got genre, it has image, label, style"):
        collect(request(source, tmp_path / "f.zip", labels="dataset", label_column="genre"))


def test_bytes_without_paths_and_paths_without_bytes(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"picture": [image(1), None, b""]}), tmp_path / "a.parquet")
    figures = collect(request(tmp_path / "a.parquet", tmp_path / "d.zip"))
    assert (figures["images"], figures["quarantined"]) == (1, {"empty": 2})
    fill(tmp_path / "b", {"x/1.png": image(1), "2.png": image(2)})
    fill(tmp_path, {"out.png": image(3)})
    paths = ["x/1.png", "2.png", "../out.png", str(tmp_path / "out.png"), "none.png"]
    parquet.write_table(pyarrow.table({"image": paths}), tmp_path / "b/b.parquet")
    figures = collect(request(tmp_path / "b/b.parquet", tmp_path / "e.zip"))
    assert (figures["images"], figures["quarantined"]) == (2, {"outside of the source": 2, "unreadable": 1})
    assert rows(tmp_path / "e.zip")["b.parquet/x/1.png"]["verdict"] == "keep"
    assert collect(request(tmp_path / "b", tmp_path / "f.zip"))["ignored"] == 1  # the images lie beside it


def test_files_that_are_refused(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"score": [1.0]}), tmp_path / "a.parquet")
    with pytest.raises(RequestError, match=r"a.parquet must have a column of images"):
        collect(request(tmp_path / "a.parquet", tmp_path / "d.zip"))
    whole = hugging_face(tmp_path / "b.parquet", embedded(1, 2, 3), [0, 1, 2]).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-20])
    with pytest.raises(RequestError, match=r"b\.parquet instead, which is none or is damaged"):
        collect(request(tmp_path / "b.parquet", tmp_path / "d.zip"))
    assert hidden(tmp_path) == []
