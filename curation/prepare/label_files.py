"""Files of labels: CSV and TSV, with a header or without, and JSON lines, as others write them too.

A header may have any names. The column of names is the one that names most of the images; that of the labels is the one
that is asked for, has a usual name, or is alone.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from gan.data.names import canonical_name
from gan.errors import RequestError

NAME_HEADERS = ("file_name", "filename", "file", "name", "image", "image_name", "path", "image_path", "file_path")
LABEL_HEADERS = ("label", "labels", "class", "classes", "class_name", "category", "target")
_IMAGE = re.compile(r".+\.(jpe?g|png|webp|gif|bmp|tiff?|avif|jp2|ppm|tga|psd)", re.IGNORECASE)
Row = tuple[int, list[str]]  # number of the line, and its cells
Count = Callable[[Sequence[str]], int]  # of the names, those that are an image's


def read(path: Path, label_column: str | None, count: Count) -> dict[str, str]:
    """The label of each canonical name. `count` says how many of some names are images'.

    Raises RequestError for a file that cannot be read or used, and where its columns could be meant in several ways.
    """
    header, rows = _json_lines(path) if path.suffix.lower() in (".jsonl", ".ndjson") else _csv(path)
    width = max((len(row) for _, row in rows), default=0)
    if header is None and rows and _is_header(rows[0][1], count):
        header, rows = [cell.strip() for cell in rows[0][1]], rows[1:]
    if not rows:
        raise RequestError(f"`labels`: {path} must hold rows of name and label; it holds none")
    names = _name_column(header, rows, width, count)
    labels = _label_column(path, header, rows, names, width, label_column)
    found: dict[str, str] = {}
    for number, row in rows:
        if len(row) <= max(names, labels) or not row[labels].strip():
            raise RequestError(f"`labels`: line {number} of {path} must hold a name and a label; got {row} instead")
        label = row[labels].strip()
        if found.setdefault(canonical_name(row[names].strip()), label) != label:
            raise RequestError(f"`labels`: line {number} of {path} labels {row[names]} again, and otherwise")
        if label.startswith("-") and label[1:].isdecimal():
            raise RequestError(f"`labels`: line {number} of {path} must hold a class from 0 on; got {label} instead")
    return found


def _is_header(cells: Sequence[str], count: Count) -> bool:
    usual = any(_usual(cell) in NAME_HEADERS + LABEL_HEADERS for cell in cells)
    return not any(_IMAGE.fullmatch(cell.strip()) for cell in cells) and (usual or not count(cells))


def _name_column(header: list[str] | None, rows: Sequence[Row], width: int, count: Count) -> int:
    columns = [index for index, cell in enumerate(header or []) if _usual(cell) in NAME_HEADERS]
    matched = {index: count(_column(rows, index)) for index in columns}
    if not any(matched.values()):  # those without a usual name, too
        matched |= {index: count(_column(rows, index)) for index in range(width) if index not in columns}
    return max(matched, key=lambda index: matched[index], default=0)  # of equal ones the first


def _label_column(
    path: Path, header: list[str] | None, rows: Sequence[Row], names: int, width: int, label_column: str | None
) -> int:
    if label_column is not None:
        if header is None or header.count(label_column) != 1:
            has = f"columns {', '.join(header)}" if header else "no header"
            raise RequestError(f"`label_column` must be one of the columns of {path}; got {label_column}, it has {has}")
        return header.index(label_column)
    others = [index for index in range(width) if index != names and any(map(str.strip, _column(rows, index)))]
    if header is not None:
        others = [index for index in others if index < len(header) and header[index] not in ("", "Unnamed: 0")]
    usual = [index for index in others if header and _usual(header[index]) in LABEL_HEADERS]
    unusual = [index for index in others if not header or _usual(header[index]) not in NAME_HEADERS]
    candidates = usual or unusual or others
    if len(candidates) > 1:
        which = ", ".join(header[index] for index in candidates) if header else f"{width} columns and no header"
        raise RequestError(
            f"`labels`: {path} must hold one column of labels; it has {which}: choose one by its name in a header "
            "with `label_column`"
        )
    return candidates[0] if candidates else names + 1  # each row then lacks it, and is told


def _column(rows: Sequence[Row], index: int) -> list[str]:
    return [row[index] for _, row in rows if index < len(row)]


def _usual(cell: str) -> str:
    return re.sub(r"[\s-]+", "_", cell.strip().lower())


def _csv(path: Path) -> tuple[None, list[Row]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        reader = csv.reader(io.StringIO(_text(path)), delimiter=delimiter)
        return None, [(number, row) for number, row in enumerate(reader, 1) if any(row)]
    except csv.Error as error:
        raise RequestError(f"`labels`: {path} must be a CSV file; got {error} instead") from error


def _json_lines(path: Path) -> tuple[list[str], list[Row]]:
    objects = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise RequestError(f"`labels`: line {number} of {path} must be a JSON object: {error}") from error
        if not isinstance(value, dict):
            raise RequestError(f"`labels`: line {number} of {path} must be a JSON object; got {line[:40]} instead")
        objects.append((number, value))
    columns = list(dict.fromkeys(key for _, value in objects for key in value))
    return columns, [(number, [_cell(value.get(key)) for key in columns]) for number, value in objects]


def _cell(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"`labels`: {path} must be a CSV file in UTF-8; got {error.reason} instead") from error
    except OSError as error:
        raise RequestError(
            f"`labels` must be dataset, none, folders, folders:innermost, folders:N, style, genre, artist or the path "
            f"of a CSV or JSON lines file; got {path} instead: {error.strerror}"
        ) from error
