"""Which class each image gets: by the dataset that it is of, its folder, a file of labels, or the WikiArt lists."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from curation.prepare import label_files
from curation.prepare.archives import without_suffix
from curation.prepare.image_files import ImageFile, read
from curation.prepare.match_names import base_name, loose_name, match
from curation.prepare.request import FOLDERS
from curation.prepare.wikiart import KINDS, Painting
from gan.data import dataset_json
from gan.data.classes import MAX_CLASSES, class_name
from gan.data.names import canonical_name
from gan.errors import ImageError, RequestError
from gan.runtime.console import say

_WHOLE = re.compile(r"\d+(\.0+)?")  # pandas writes whole numbers as 1.0 where some are missing
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_MAX_JSON = 2**30  # bytes of a dataset.json
_MAX_SAMPLE = 2**20  # bytes of a sample's .json
_LONGEST = 200  # characters of a label in a .cls


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A class for each image file, None for one without; `classes` names the classes 0, 1, ... if they have names."""

    indices: list[int | None]
    classes: list[str] | None
    unused: int = 0  # rows of the file of labels that no image file matches
    loosely: int = 0  # image files that a row matches by `loose_name` alone

    def __post_init__(self) -> None:
        if self.num_classes > MAX_CLASSES:
            raise RequestError(
                f"`labels` must make at most {MAX_CLASSES:,} classes; got {self.num_classes:,}: are these labels?"
            )

    @property
    def num_classes(self) -> int:
        """How many classes there are, with images or without."""
        return len(self.classes) if self.classes else max((i for i in self.indices if i is not None), default=-1) + 1

    def name(self, index: int) -> str:
        """What to call a class in a report."""
        return class_name(index, self.classes)


def assign(
    labels: str | None,
    files: Sequence[ImageFile],
    paintings: Sequence[Painting | None],
    *,
    label_column: str | None = None,
    datasets: Sequence[ImageFile] = (),
    beside: Mapping[str, ImageFile] | None = None,
    classes: Sequence[list[str] | None] = (),
) -> Labels | None:
    """Label the image files: see PrepareRequest.labels; `datasets`, `beside` and `classes`: see Listing.

    Whole numbers that are 0, 1, ... without a gap stay as they are; others are the names of classes, in their order, as
    words are in the alphabet's. None: no labels. Raises RequestError for a file of labels that cannot be used.
    """
    if labels == "none":
        return None
    if labels in (None, "dataset"):
        samples = _of_samples(beside or {}, files, label_column)
        found = _of_datasets(() if label_column else datasets, files, samples, required=labels is not None)
        return _in_their_order(found, classes) if found else None
    if FOLDERS.fullmatch(labels):
        return _numbered(_folders(files, labels.partition(":")[2]))
    if labels in KINDS:
        return _numbered([getattr(painting, labels) if painting else None for painting in paintings])
    return _of_file(Path(labels), label_column, files)


def _numbered(values: Sequence[str | None], *, unused: int = 0, loosely: int = 0) -> Labels:
    values = [None if value is None else unicodedata.normalize("NFC", value) for value in values]
    names = {value for value in values if value is not None}
    if names and all(map(_WHOLE.fullmatch, names)):
        number = {name: int(name.partition(".")[0]) for name in names}
        found = sorted(set(number.values()))
        place = {number: index for index, number in enumerate(found)}
        index = {name: place[number[name]] for name in names}
        classes = None if found == list(range(len(found))) else list(map(str, found))
    else:
        classes = sorted(names)
        index = {name: place for place, name in enumerate(classes)}
    indices = [None if value is None else index[value] for value in values]
    return Labels(indices=indices, classes=classes, unused=unused, loosely=loosely)


def _folders(files: Sequence[ImageFile], which: str) -> list[str | None]:
    parents = [[without_suffix(part) for part in file.name.split("/")[:-1]] for file in files]
    if which == "innermost":
        return [inside[-1] if inside else None for inside in parents]
    if which:
        return [inside[int(which) - 1] if len(inside) >= int(which) else None for inside in parents]
    passed_over = {source: _depth(source, files) for source in {file.source for file in files}}
    inner = [inside[passed_over[file.source] :] for file, inside in zip(files, parents, strict=True)]
    if any(inner) and all(len(inside) != 1 for inside in inner):
        names = sorted({inside[0] for inside in inner if inside})
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        say(f"`labels` folders takes {shown}, which hold folders again; folders:innermost takes those")
    return [inside[0] if inside else None for inside in inner]


def _depth(source: str, files: Sequence[ImageFile]) -> int:
    """How many folders around all images of a source, which are in folders again, are passed over."""
    parts = [tuple(file.name.split("/")[:-1]) for file in files if file.source == source]
    depth = 0
    while len({p[: depth + 1] for p in parts}) == 1 and all(len(p) > depth + 1 for p in parts):
        depth += 1
    return depth


def _of_file(path: Path, label_column: str | None, files: Sequence[ImageFile]) -> Labels:
    known = {loose_name(base_name(file.name)) for file in files}
    by_name = label_files.read(path, label_column, lambda names: sum(loose_name(base_name(n)) in known for n in names))
    real = [label for label in by_name.values() if not _WHOLE.fullmatch(label)]
    if real and all(map(_REAL.fullmatch, by_name.values())):
        raise RequestError(f"`labels`: {path} must hold classes; got the real number {real[0]} instead")
    found = _match(by_name, files)
    if files and not found:
        raise RequestError(
            f"`labels`: {path} must name some of the images; it names {next(iter(by_name))}, and they are "
            f"{files[0].shown}"
        )
    rows = [found.get(index) for index in range(len(files))]
    values = [None if row is None else by_name[row[0]] for row in rows]
    used = {row for row, _ in found.values()}
    loosely = sum(loose for _, loose in found.values())
    return _numbered(values, unused=len(by_name) - len(used), loosely=loosely)


def _match(names_in_rows: Iterable[str], files: Sequence[ImageFile]) -> dict[int, tuple[str, bool]]:
    """Place of each file that a row names -> the row's canonical name, and whether it is equal loosely alone.

    By the path inside the source, by source/path, or by a base name that one row and one file have.
    """
    names, shown = [canonical_name(file.name) for file in files], [canonical_name(file.shown) for file in files]
    rows = list(dict.fromkeys(map(canonical_name, names_in_rows)))
    by_name, by_shown = match(rows, names), match(rows, shown)
    bases = {base_name(row): row for row in rows}
    rows_with, files_with = Counter(map(base_name, rows)), Counter(map(base_name, names))
    by_base = match(bases, files_with)
    found = {}
    for place, (name, path) in enumerate(zip(names, shown, strict=True)):
        base = base_name(name)
        if name in by_name:
            found[place] = by_name[name], by_name[name] != name
        elif path in by_shown:
            found[place] = by_shown[path], by_shown[path] != path
        elif base in by_base and rows_with[by_base[base]] == files_with[base] == 1:
            found[place] = bases[by_base[base]], by_base[base] != base
    return found


def _of_datasets(
    datasets: Sequence[ImageFile], files: Sequence[ImageFile], samples: Sequence[str | None], *, required: bool
) -> Labels | None:
    """The labels that dataset.json has in its sources, else those of the samples.

    Without any for some image, none, unless they are `required`.
    """
    parsed = [(file, labels) for file in datasets if (labels := _parse(file)) is not None]
    by_path = {
        (file.source, canonical_name(str(PurePosixPath(file.name).parent / name))): (labels, number)
        for file, labels in parsed
        for name, number in labels.by_name.items()
    }
    found = [by_path.get((file.source, canonical_name(file.name))) for file in files]
    values = [
        sample if entry is None else class_name(entry[1], entry[0].classes)
        for entry, sample in zip(found, samples, strict=True)
    ]
    if not any(value is not None for value in values):
        if required:
            raise RequestError(
                "`labels` dataset needs a dataset.json with labels in a source, WebDataset's .cls (with "
                "`label_column`, .json with this key) beside the images, or a label in Parquet; there is none"
            )
        return None
    without = [file.shown for file, value in zip(files, values, strict=True) if value is None]
    if without and not required:
        which = "dataset.json" if any(found) else "The dataset"
        say(
            f"{which} labels {len(files) - len(without):,} of {len(files):,} images, and not {without[0]}: no "
            "labels are kept; `labels` dataset keeps them, and leaves the others out"
        )
        return None
    if len(parsed) == 1 and not any(samples) and (classes := parsed[0][1].classes):
        return Labels(indices=[None if entry is None else entry[1] for entry in found], classes=classes)
    return _numbered(values)


def _in_their_order(labels: Labels, classes: Sequence[list[str] | None]) -> Labels:
    """The labels with the classes of Parquet files, where all name the same, and name all of them."""
    names = classes[0] if classes and all(other == classes[0] for other in classes) else None
    if not names or not labels.classes or not set(labels.classes) <= set(names):
        return labels
    place = {name: index for index, name in enumerate(names)}
    indices = [None if index is None else place[labels.classes[index]] for index in labels.indices]
    return Labels(indices=indices, classes=names)


def _of_samples(beside: Mapping[str, ImageFile], files: Sequence[ImageFile], key: str | None) -> list[str | None]:
    """The label of each file by the .cls, or with a `key` the .json, of its WebDataset sample; None: it has none.

    A sample's files have one name up to the first dot; where one is named as the whole image but for the suffix, that.
    """
    suffix, labels = ".json" if key else ".cls", []
    for file in files:
        folder, slash, base = file.shown.rpartition("/")
        stems = base.rpartition(".")[0], base.partition(".")[0]
        sample = next((found for stem in stems if (found := beside.get(folder + slash + stem + suffix))), None)
        labels.append(_of_sample(sample, key) if sample else file.label)
    return labels


def _of_sample(file: ImageFile, key: str | None) -> str | None:
    try:
        text = read(file, _MAX_SAMPLE if key else 4 * _LONGEST).decode("utf-8-sig").strip()
        value = json.loads(text) if key else text
    except (ImageError, ValueError, RecursionError):
        return None
    if key:
        value = value.get(key) if isinstance(value, dict) else None
        value = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    label = value.strip() if isinstance(value, str) else ""
    return label if label and len(label) <= _LONGEST and label.isprintable() else None


def _parse(file: ImageFile) -> dataset_json.DatasetLabels | None:
    try:
        return dataset_json.parse(read(file, _MAX_JSON), file.shown)
    except RequestError as error:
        raise RequestError(f"{error}. `labels` none prepares the images without") from error
    except ImageError as error:
        raise RequestError(f"{file.shown} cannot be read: {error}") from error
