"""Which class each image gets: from its folder, from a CSV file, or from the WikiArt lists."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.prepare.find_images import ImageFile
from curation.prepare.wikiart import KINDS, Painting, name_key
from gan.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A class for each image file, None for one without; `classes` names the classes 0, 1, ... if they have names."""

    indices: list[int | None]
    classes: list[str] | None
    unused: int = 0  # rows of the CSV file that no image file matches

    def name(self, index: int) -> str:
        """What to call a class in a report."""
        return self.classes[index] if self.classes else str(index)


def assign(labels: str, files: Sequence[ImageFile], paintings: Sequence[Painting | None]) -> Labels:
    """Label the image files by their "folders", by one of KINDS of their paintings, or by the path of a CSV file.

    String labels become the classes 0, 1, ... in alphabetical order. Raises RequestError for an unusable CSV file.
    """
    if labels == "folders":
        return _named(_folders(files))
    if labels in KINDS:
        return _named([getattr(painting, labels) if painting else None for painting in paintings])
    by_name = _read_csv(Path(labels))
    values, used = _look_up(files, by_name)
    unused = len(by_name) - len(used)
    if all(value.isdecimal() for value in by_name.values()):
        return Labels(indices=[None if v is None else int(v) for v in values], classes=None, unused=unused)
    return _named(values, unused)


def _named(values: list[str | None], unused: int = 0) -> Labels:
    classes = sorted({value for value in values if value is not None})
    index = {name: number for number, name in enumerate(classes)}
    return Labels(indices=[None if v is None else index[v] for v in values], classes=classes, unused=unused)


def _folders(files: Sequence[ImageFile]) -> list[str | None]:
    """The folder directly inside a source; one that holds all of its images, in folders again, is passed over."""
    depths = {}  # source -> how many folders are passed over
    for source in {file.source for file in files}:
        parts = [tuple(file.name.split("/")[:-1]) for file in files if file.source == source]
        depth = 0
        while len({p[: depth + 1] for p in parts}) == 1 and all(len(p) > depth + 1 for p in parts):
            depth += 1
        depths[source] = depth
    values: list[str | None] = []
    for file in files:
        inner = file.name.split("/")[depths[file.source] : -1]
        values.append(inner[0] if inner else None)
    return values


def _look_up(files: Sequence[ImageFile], by_name: dict[str, str]) -> tuple[list[str | None], set[str]]:
    """Find each file by its path inside the source, by source/path, or by a base name that one row and file has."""
    rows_with = Counter(key.rpartition("/")[2] for key in by_name)
    files_with = Counter(name_key(file.name).rpartition("/")[2] for file in files)
    by_base = {key.rpartition("/")[2]: key for key in by_name}
    by_base = {base: key for base, key in by_base.items() if rows_with[base] == 1 and files_with[base] == 1}
    values: list[str | None] = []
    used = set()
    for file in files:
        name = name_key(file.name)
        keys = (name, name_key(file.shown), by_base.get(name.rpartition("/")[2]))
        key = next((key for key in keys if key is not None and key in by_name), None)
        values.append(None if key is None else by_name[key])
        used.update([] if key is None else [key])
    return values, used


def _read_csv(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"`labels`: {path} must be a CSV file in UTF-8; got {error.reason} instead") from error
    except OSError as error:
        raise RequestError(
            f"`labels` must be folders, style, genre, artist or the path of a CSV file; got {path} instead: "
            f"{error.strerror}"
        ) from error
    try:
        rows = [(number, row) for number, row in enumerate(csv.reader(io.StringIO(text)), 1) if any(row)]
    except csv.Error as error:
        raise RequestError(f"`labels`: {path} must be a CSV file; got {error} instead") from error
    columns = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    name_at, label_at = 0, 1
    if "name" in columns and "label" in columns:
        name_at, label_at = columns.index("name"), columns.index("label")
        rows = rows[1:]
    labels: dict[str, str] = {}
    for number, row in rows:
        if len(row) <= max(name_at, label_at) or not row[label_at].strip():
            raise RequestError(f"`labels`: line {number} of {path} must hold a name and a label; got {row} instead")
        key, label = name_key(row[name_at].strip().removeprefix("./")), row[label_at].strip()
        if labels.setdefault(key, label) != label:
            raise RequestError(f"`labels`: line {number} of {path} labels {row[name_at]} again, and otherwise")
        if label.startswith("-") and label[1:].isdecimal():
            raise RequestError(f"`labels`: line {number} of {path} must hold a class from 0 on; got {label} instead")
    if not labels:
        raise RequestError(f"`labels`: {path} must hold rows of name and label; it holds none")
    return labels
