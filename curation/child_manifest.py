"""Child manifests: the rows of a collection's manifest with more columns. The manifest itself is never changed."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.columns import ALL, NONE
from gan import __version__
from gan.data import manifest
from gan.data.collection import Collection
from gan.errors import RequestError
from gan.runtime import distributed


def write_child(collection: Collection, out: Path, columns: dict[str, pa.Array], **details: Any) -> str:
    """Write a child of the collection's manifest with these columns -> its hash.

    The columns are those of the images at `collection.indices`, [M] each; all other rows have nulls in them. `details`
    join the header, beside where the parent lies. Of several processes the main one writes. Raises RequestError when
    `out` exists.
    """
    parent = collection.require_manifest()
    place = np.full(len(parent.rows), -1)
    place[collection.rows] = np.arange(len(collection.rows))
    taken = pa.array(place, pa.int64(), mask=place < 0)
    tables = _with_columns(parent.path, {name: values.take(taken) for name, values in columns.items()})
    origin = {"parent": parent.hash, "parent_at": relative(parent.path, out), "dataset": parent.dataset}
    digest = parent.hash  # in the others, until the main process has told
    with distributed.main_first():
        if distributed.is_main():
            digest = manifest.write_tables(out, tables, **origin, versions={"salon": __version__}, **details)
    return distributed.from_main(digest)


def _with_columns(parent: Path, columns: dict[str, pa.Array]) -> Iterator[pa.Table]:
    # The manifest's rows part by part, with these columns behind its others.
    start = 0
    for part in manifest.parts(parent):
        rest = part.drop_columns([name for name in columns if name in part.column_names])
        for name, values in columns.items():
            rest = rest.append_column(name, values.slice(start, len(part)))
        start += len(part)
        yield rest


def relative(parent: Path, out: Path) -> str:
    """Where a parent lies as seen from the folder that holds `out`: the two may move together."""
    return Path(os.path.relpath(parent.absolute(), out.absolute().parent)).as_posix()


def stratum_numbers(collection: Collection, column: str | None) -> NDArray[np.int64]:
    """Each image's stratum by a column of STRATA, for the images at `collection.indices`; int64 [M].

    The number follows from the value, so that it is the same in all manifests; 0 without a column. Images without a
    value share a number. Raises RequestError when none has a value.
    """
    if column is None:
        return np.zeros(len(collection.rows), np.int64)
    values = ["" if value is None else str(value) for value in collection.column(column)]
    if not any(values):
        path = collection.require_manifest().path
        raise RequestError(f"{path} must have a {column} for some image to go by it; it has none")
    numbers = {value: int(hashlib.sha256(value.encode()).hexdigest()[:12], 16) for value in set(values)}
    return np.array([numbers[value] for value in values], np.int64)


def stratum_names(collection: Collection, column: str | None) -> list[str]:
    """Each image's stratum by a column of STRATA as text, for the images at `collection.indices`; classes by name.

    NONE where an image has no value, ALL without a column.
    """
    if column is None:
        return [ALL] * len(collection.rows)
    classes = (collection.dataset.classes or []) if column == "label" else []
    values = collection.column(column)
    named = [
        classes[value] if column == "label" and value is not None and value < len(classes) else value
        for value in values
    ]
    return [NONE if value is None else str(value) for value in named]
