"""The manifest: what is known and decided about every image of a collection, apart from the images themselves.

A directory with `manifest.json` (provenance and counts) and `part-*.parquet` (one row an image). It is never changed
in place: a decision makes a new manifest that names its parent.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gan.errors import RequestError
from gan.files import atomic, read_json

SCHEMA_VERSION = 1
KEEP, DROP, QUARANTINE = "keep", "drop", "quarantine"
ROWS_PER_PART = 100_000

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


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest that was read: its folder, the contents of `manifest.json`, and its rows."""

    path: Path
    header: dict[str, Any]
    rows: pa.Table = field(repr=False)

    @property
    def dataset(self) -> str:
        """Fingerprint of the dataset whose images it judges."""
        return str(self.header["dataset"])

    def kept(self) -> set[str]:
        """Names, in the dataset, of the images whose verdict is keep."""
        names, verdicts = self.rows.column("name").to_pylist(), self.rows.column("verdict").to_pylist()
        return {name for name, verdict in zip(names, verdicts, strict=True) if name and verdict == KEEP}


def write(path: Path, rows: Iterable[dict[str, Any]], *, dataset: str, parent: str | None, **details: Any) -> str:
    """Write a manifest to the new folder `path`, atomically and part by part -> its hash.

    `dataset` is the fingerprint of the dataset it judges; `details` join the header: parameters, seed, versions.
    """
    with atomic(path) as folder:
        folder.mkdir()
        verdicts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        hashes = []
        for number, part in enumerate(_parts(rows)):
            verdicts.update(row["verdict"] for row in part)
            reasons.update(row["reason"].partition(":")[0] for row in part if row.get("reason"))
            file = folder / f"part-{number:05d}.parquet"
            pq.write_table(pa.Table.from_pylist(part, schema=SCHEMA), file, compression="zstd")
            hashes.append(_rows_hash(part))
        digest = hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()
        header = {
            "schema_version": SCHEMA_VERSION,
            "hash": digest,
            "parent": parent,
            "dataset": dataset,
            "verdicts": dict(sorted(verdicts.items())),
            "reasons": dict(sorted(reasons.items())),
            **details,
        }
        (folder / "manifest.json").write_text(json.dumps(header, indent=2) + "\n")
    return digest


def read(path: Path) -> Manifest:
    """Read a manifest.

    Raises RequestError when it is missing, of another version, or its rows do not match its hash.
    """
    path = Path(path)
    header = read_json(path / "manifest.json")
    if not isinstance(header, dict) or header.get("schema_version") != SCHEMA_VERSION:
        raise RequestError(f"{path} must be a manifest of schema version {SCHEMA_VERSION}")
    try:
        tables = [pq.read_table(part) for part in sorted(path.glob("part-*.parquet"))]
        rows = pa.concat_tables([SCHEMA.empty_table(), *tables])
    except (OSError, pa.ArrowException) as error:
        raise RequestError(f"{path} holds rows that cannot be read: {error}") from error
    hashes = sorted(_rows_hash(table.to_pylist()) for table in tables)
    if hashlib.sha256("".join(hashes).encode()).hexdigest() != header.get("hash"):
        raise RequestError(f"{path} must hold the rows its hash names; they were changed after it was written")
    return Manifest(path=path, header=header, rows=rows)


def _rows_hash(rows: list[dict[str, Any]]) -> str:
    # Of the rows' values, not of the Parquet bytes, which differ between library versions.
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.get(name) for name in SCHEMA.names], ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def _parts(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == ROWS_PER_PART:
            yield part
            part = []
    if part:
        yield part
