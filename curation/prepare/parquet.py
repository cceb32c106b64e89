"""Parquet files with images, as Hugging Face's datasets hold them: bytes in a column, or paths beside the file.

The bytes are copied to one file meanwhile, a few rows at a time: workers could otherwise read no image without all of
its row group.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from curation.prepare.label_files import LABEL_HEADERS
from gan.data.names import printable
from gan.errors import RequestError, SalonError

_ROWS = 16  # that are in memory at a time
_PATH_COLUMNS = ("image", "image_path", "file_name")  # may hold nothing but paths
_FIRST = ("image", "img")  # of several columns of images


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An image of a Parquet file; without `span`, `path` is a file of its own."""

    name: str  # its path where no other row has that, else the row's number
    path: Path
    span: tuple[int, int] | None = None  # offset and length in `path`, bytes
    label: str | None = None
    problem: str | None = None  # why it cannot be read


@dataclass(frozen=True, kw_only=True)
class Table:
    """The images of a Parquet file in its order; `classes` names its labels in their order, where the file does."""

    rows: list[Row]
    classes: list[str] | None


def is_parquet(path: Path) -> bool:
    """Whether a file begins like Parquet. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def read_table(path: Path, copy: Path, label_column: str | None, *, paths: bool) -> Table | None:
    """The images of a Parquet file, whose bytes are copied to `copy`; None: it has no column of images.

    `paths`: also where the column holds nothing but paths. Raises ValueError for a damaged file, RequestError for a
    `label_column` that it has not, SalonError when the disk is full.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            schema = file.schema_arrow
            features = _features(schema)
            images = _image_column(schema, features, paths)
            if images is None:
                return None
            labels = _label_column(path, schema.names, features, label_column)
            classes = _classes(features.get(labels)) if labels else None
            columns = list(dict.fromkeys((images, labels) if labels else (images,)))
            found = list(_copied(path, copy, file.iter_batches(_ROWS, columns=columns), images, labels, classes))
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(str(error)) from error
    if not paths and not any(span for _, span, _ in found):
        return None
    names = Counter(name for name, _, _ in found)
    rows = [_row(path, copy, number, names[row[0]] == 1, *row) for number, row in enumerate(found)]
    return Table(rows=rows, classes=classes)


def _copied(
    path: Path, copy: Path, batches: Any, images: str, labels: str | None, classes: list[str] | None
) -> Iterator[tuple[str, tuple[int, int] | None, str | None]]:
    """Path in the column, span in the copy and label of each row."""
    with open(copy, "xb") as file:
        for batch in batches:
            for row in batch.to_pylist():
                image = row[images]
                if isinstance(image, bytes):
                    image = {"bytes": image}
                elif isinstance(image, str):
                    image = {"path": image}
                content, name = (image or {}).get("bytes"), (image or {}).get("path") or ""
                span = None if content is None else (file.tell(), len(content))
                try:
                    file.write(content or b"")
                except OSError as error:
                    raise SalonError(f"{copy.parent.parent} has no room to unpack {path}: {error.strerror}") from error
                yield name, span, _label(row[labels], classes) if labels else None


def _row(
    path: Path, copy: Path, number: int, unique: bool, name: str, span: tuple[int, int] | None, label: str | None
) -> Row:
    inside = PurePosixPath(name.replace("\\", "/"))
    shown = printable(inside.as_posix().lstrip("/")) if name and unique else ""
    shown = shown or f"{number:06d}"
    if span:
        return Row(name=shown, path=copy, span=span, label=label)
    problem = "empty" if not name else "outside of the source" if inside.is_absolute() or ".." in inside.parts else None
    return Row(name=shown, path=path if problem else path.parent / inside, label=label, problem=problem)


def _image_column(schema: Any, features: dict[str, Any], paths: bool) -> str | None:
    from pyarrow import types

    def holds_bytes(type: Any) -> bool:
        if types.is_struct(type):
            return any(field.name == "bytes" and holds_bytes(field.type) for field in type)
        return bool(types.is_binary(type) or types.is_large_binary(type))

    declared = [field.name for field in schema if _is(features.get(field.name), "Image")]
    found = declared or [field.name for field in schema if holds_bytes(field.type)]
    if not found and paths:
        found = [field.name for field in schema if field.name in _PATH_COLUMNS and types.is_string(field.type)]
    return next((name for name in found if name.lower() in _FIRST), found[0] if found else None)


def _label_column(path: Path, names: list[str], features: dict[str, Any], label_column: str | None) -> str | None:
    if label_column is not None:
        if names.count(label_column) != 1:
            raise RequestError(
                f"`label_column` must be one of the columns of {path}; got {label_column}, it has {', '.join(names)}"
            )
        return label_column
    for found in (
        [name for name in names if name.lower() in LABEL_HEADERS],
        [name for name in names if _is(features.get(name), "ClassLabel")],
    ):
        if len(found) == 1:
            return found[0]
    return None


def _label(value: object, classes: list[str] | None) -> str | None:
    if isinstance(value, int) and classes is not None:
        return classes[value] if 0 <= value < len(classes) else None
    if isinstance(value, int) and (isinstance(value, bool) or value >= 0):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def _features(schema: Any) -> dict[str, Any]:
    """What Hugging Face wrote of the columns, by their names."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _is(feature: Any, type: str) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == type


def _classes(feature: Any) -> list[str] | None:
    names = feature.get("names") if _is(feature, "ClassLabel") else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        return None
    return names if len(set(names)) == len(names) else None
