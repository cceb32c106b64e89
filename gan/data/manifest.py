"""The manifest: what is known and decided about every image of a collection, apart from the images themselves.

A directory with `manifest.json` (provenance and counts) and `part-*.parquet` (one row an image). It is never changed
in place: a decision makes a new manifest that names its parent. Beside the columns of SCHEMA, which all manifests have,
a manifest may have any of string, int64, float64 or bool: flags, hashes, scores with their standard errors.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gan.data.manifest_hash import TableHash
from gan.errors import RequestError
from gan.runtime.files import atomic, read_json

SCHEMA_VERSION = 2
KEEP, DROP, QUARANTINE = "keep", "drop", "quarantine"
ROWS_PER_PART = 100_000
TYPES = (pa.string(), pa.int64(), pa.float64(), pa.bool_())  # that a column may have

SCHEMA = pa.schema(
    [
        ("name", pa.string()),  # in the dataset; null when the image did not enter it
        ("source", pa.string()),  # where it came from: SOURCE/path, or SOURCE.zip/member
        ("file_sha256", pa.string()),
        ("pixel_sha256", pa.string()),  # of the prepared RGB pixels
        ("label", pa.int64()),  # class index in the dataset, null without labels
        ("style", pa.string()),
        ("genre", pa.string()),
        ("artist", pa.string()),
        ("width", pa.int64()),  # of the original, in pixels, upright
        ("height", pa.int64()),
        ("mode", pa.string()),  # of the original, as Pillow names it
        ("verdict", pa.string()),  # keep, drop or quarantine
        ("reason", pa.string()),  # a code, or "code: detail"; null when kept
        ("reviewer", pa.string()),  # who decided: a command's name or a person's
    ]
)

_NO_COLUMNS = pa.schema([])


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest that was read: its folder, the contents of `manifest.json`, and the columns of its rows that were."""

    path: Path
    header: dict[str, Any]
    rows: pa.Table = field(repr=False)

    @property
    def dataset(self) -> str:
        """Fingerprint of the dataset whose images it describes."""
        return str(self.header["dataset"])

    @property
    def hash(self) -> str:
        """Of the rows: their values in their order."""
        return str(self.header["hash"])

    @property
    def schema(self) -> pa.Schema:
        """All columns that it has."""
        return header_schema(self.header)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows, from the disk where `rows` lacks it. Raises RequestError when it cannot be read."""
        if name in self.rows.column_names:
            return self.rows.column(name)
        return _concatenated(parts(self.path, [name]), pa.schema([self.schema.field(name)])).column(name)

    def whole(self) -> "Manifest":
        """The same with all columns in `rows`. Raises RequestError when they cannot be read."""
        return replace(self, rows=_concatenated(parts(self.path), self.schema))

    def kept(self) -> set[str]:
        """Names, in the dataset, of the images whose verdict is keep."""
        names = self.rows.column("name").filter(is_kept(self.rows))
        return set(names.to_pylist())


def is_kept(rows: pa.Table) -> pa.ChunkedArray:
    """Which rows are images of the dataset whose verdict is keep -> bool, without nulls."""
    named = pc.not_equal(pc.fill_null(rows.column("name"), ""), "")
    return pc.and_(named, pc.equal(pc.fill_null(rows.column("verdict"), ""), KEEP))


def write(
    path: Path,
    rows: Iterable[dict[str, Any]],
    *,
    dataset: str,
    parent: str | None,
    columns: pa.Schema = _NO_COLUMNS,
    **details: Any,
) -> str:
    """Write a manifest of SCHEMA's columns and those of `columns`, row by row -> its hash. See `write_tables`."""
    tables = _tables(rows, pa.schema([*SCHEMA, *columns]))
    return write_tables(path, tables, dataset=dataset, parent=parent, **details)


def write_tables(path: Path, tables: Iterable[pa.Table], *, dataset: str, parent: str | None, **details: Any) -> str:
    """Write a manifest to the new folder `path`, atomically and part by part -> its hash.

    The tables have SCHEMA's columns, in any order, and the same others; they may be of any length.
    `dataset` is the fingerprint of the dataset it describes; `details` join the header: parameters, seed, versions.
    Raises RequestError when `path` exists, ValueError when a table does not fit.
    """
    if Path(path).exists():
        raise RequestError(f"a manifest must be written to a new folder; {path} exists")
    with atomic(path) as folder:
        folder.mkdir()
        verdicts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        digest, count, schema = TableHash(SCHEMA), 0, SCHEMA
        for number, part in enumerate(_parts(tables)):
            if number == 0:
                digest, schema = TableHash(part.schema), part.schema
            digest.update(part)
            count += len(part)
            verdicts.update(_counts(part.column("verdict")))
            for reason, rows in _counts(part.column("reason")).items():
                reasons[reason.partition(":")[0]] += rows
            with open(folder / f"part-{number:05d}.parquet", "wb") as file:  # pyarrow's own takes names in UTF-8 alone
                pq.write_table(part, file, compression="zstd")
        header = {
            "schema_version": SCHEMA_VERSION,
            "hash": digest.hexdigest(),
            "parent": parent,
            "dataset": dataset,
            "rows": count,
            "columns": {column.name: str(column.type) for column in schema},
            "verdicts": dict(sorted(verdicts.items())),
            "reasons": dict(sorted(reasons.items())),
            **details,
        }
        (folder / "manifest.json").write_text(json.dumps(header, indent=2) + "\n")
    return digest.hexdigest()


def read(path: Path, columns: Sequence[str] | None = None) -> Manifest:
    """Read a manifest, or of its columns those named; all are verified, a part at a time.

    Raises RequestError when it is missing, of another version, its rows do not match its hash, or a column is missing.
    """
    header = read_header(path)
    schema = header_schema(header)
    if missing := [name for name in columns or () if name not in schema.names]:
        raise RequestError(f"{path} must have the column {missing[0]}; it has {', '.join(schema.names)}")
    chosen = schema.names if columns is None else list(columns)
    old = header["schema_version"] == 1
    digest, hashes_v1, tables = TableHash(schema), [], []
    for table in parts(path):
        if old:
            hashes_v1.append(_hash_v1(table))
        else:
            digest.update(table)
        tables.append(table.select(chosen))
    content_hash = hashlib.sha256("".join(sorted(hashes_v1)).encode()).hexdigest() if old else digest.hexdigest()
    if content_hash != header.get("hash"):
        raise RequestError(f"{path} must hold the rows its hash names; they were changed after it was written")
    fields = pa.schema([schema.field(name) for name in chosen])
    return Manifest(path=Path(path), header=header, rows=_concatenated(tables, fields))


def parts(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows part by part, for those who verified them by `read` and cannot hold them all; None: with all columns.

    Raises RequestError when a part cannot be read.
    """
    schema = header_schema(read_header(path))
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    try:
        for part in sorted(Path(path).glob("part-*.parquet")):
            table = pq.read_table(pa.BufferReader(part.read_bytes()), columns=schema.names)
            yield table.select(schema.names).cast(schema)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise RequestError(f"{path} holds rows that cannot be read: {error}") from error


def read_header(path: Path) -> dict[str, Any]:
    """The contents of `manifest.json`. Raises RequestError when it is missing or of an unknown version."""
    if not (Path(path) / "manifest.json").is_file():
        reason = "it is none" if Path(path).exists() else "it does not exist"
        raise RequestError(f"{path} must be a manifest, a folder with a manifest.json; {reason}")
    header = read_json(Path(path) / "manifest.json")
    version = header.get("schema_version") if isinstance(header, dict) else None
    if not isinstance(header, dict) or version not in (1, SCHEMA_VERSION):
        raise RequestError(f"{path} must be a manifest of schema version 1 or {SCHEMA_VERSION}; got {version} instead")
    return header


def header_schema(header: dict[str, Any]) -> pa.Schema:
    """The columns of a manifest with that header. Raises RequestError when it names none or an unknown type."""
    if header["schema_version"] == 1:
        return SCHEMA
    columns, types = header.get("columns"), {str(type): type for type in TYPES}
    if not isinstance(columns, dict) or not all(type in types for type in columns.values()):
        raise RequestError(f"manifest.json must name columns of {', '.join(types)}; got {columns} instead")
    if not all(columns.get(column.name) == str(column.type) for column in SCHEMA):
        raise RequestError(f"manifest.json must name the columns {', '.join(SCHEMA.names)}; got {columns} instead")
    return pa.schema([(name, types[type]) for name, type in columns.items()])


def _concatenated(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *tables])


def _tables(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    part: list[dict[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == ROWS_PER_PART:
            yield pa.Table.from_pylist(part, schema=schema)
            part = []
    if part:
        yield pa.Table.from_pylist(part, schema=schema)


def _parts(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    # Whatever lengths arrive -> ROWS_PER_PART rows, the last part fewer, with SCHEMA's columns first.
    schema: pa.Schema | None = None
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        schema = schema or _whole_schema(table.schema)
        fitting = _fit(table, schema)
        for start in range(0, len(fitting), ROWS_PER_PART):
            waiting.append(fitting.slice(start, ROWS_PER_PART))
            count += len(waiting[-1])
            if count >= ROWS_PER_PART:
                together = pa.concat_tables(waiting)
                yield together.slice(0, ROWS_PER_PART)
                waiting = [together.slice(ROWS_PER_PART)]
                count -= ROWS_PER_PART
    if count:
        yield pa.concat_tables(waiting)


def _whole_schema(given: pa.Schema) -> pa.Schema:
    extra = [pa.field(column.name, column.type) for column in given if column.name not in SCHEMA.names]
    if bad := [column for column in extra if column.type not in TYPES]:
        raise ValueError(f"{bad[0].name} must be one of {', '.join(map(str, TYPES))}; got {bad[0].type} instead")
    return pa.schema([*SCHEMA, *extra])


def _fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if sorted(table.column_names) != sorted(schema.names):
        raise ValueError(f"a table must have the columns {schema.names}; got {table.column_names} instead")
    try:
        return table.select(schema.names).cast(schema)
    except pa.ArrowException as error:
        raise ValueError(f"a table must have the types of {schema}; got {table.schema} instead") from error


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = pc.value_counts(column.drop_null())
    return dict(zip(pairs.field("values").to_pylist(), pairs.field("counts").to_pylist(), strict=True))


def _hash_v1(table: pa.Table) -> str:
    # Schema version 1 hashed each part's rows as lines of JSON.
    digest = hashlib.sha256()
    for row in table.to_pylist():
        digest.update(json.dumps([row.get(name) for name in SCHEMA.names], ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()
