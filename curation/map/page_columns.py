"""What the page knows of each image: columns of the manifest to colour by and to read, and the line of a list for it.

Axis legend: N images, the real ones first, then the generated.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.columns import NAMES
from gan.data.collection import Collection
from gan.data.strata import STRATA

ORIGIN, REAL, GENERATED = "origin", "real", "generated"
DECISION = ("verdict", "reason", "flags", "reviewer")
# Columns that are no property of a picture that many share, or only repeat one.
OF_ONE = {*NAMES, "pixel_sha256", "perceptual_hash", "copy_of", "known_copy", "embedding_group", "series_group"}
SCORES = ("fused_rank", "score_")
NUMBERS_LAST = ("width", "height")

Column = dict[str, Any]


def page_columns(collection: Collection, places: list[int], classes: Sequence[str | None]) -> list[Column]:
    """Columns of the real images at `places` of the collection's rows and of generated ones of these `classes`.

    Categories have `values`, the most frequent first, and `codes` [N], the place of each image's value or -1; numbers
    have `numbers` [N]. Only what differs among real images, or what some of them have and others lack, is a column.
    """
    manifest, chosen = collection.require_manifest(), pa.array(collection.rows[places])
    rows = pa.table({name: manifest.column(name).take(chosen) for name in manifest.schema.names})
    none = [None] * len(classes)
    columns = []
    if classes:
        columns.append(_category(ORIGIN, [*[REAL] * len(rows), *[GENERATED] * len(classes)]))
    columns.append(_category("label", [*_labels(collection, places), *classes]))
    first = (*STRATA[1:], *DECISION)
    others = [name for name in rows.column_names if name not in (*first, *NUMBERS_LAST, "label", *OF_ONE)]
    others.sort(key=lambda name: not name.startswith(SCORES))  # these first, all else in its order
    for name in (*first, *others, *NUMBERS_LAST):
        if name not in rows.column_names or name.endswith("_se"):
            continue
        values = rows.column(name)
        if pa.types.is_string(values.type) or pa.types.is_boolean(values.type):
            columns.append(_category(name, [*map(_said, values.to_pylist()), *none]))
        else:
            numbers = [*map(_rounded, pc.cast(values, pa.float64()).to_pylist()), *none]
            columns.append({"name": name, "numbers": numbers})
    return [column for column in columns if _tells(column, len(rows))]


def lines(collection: Collection, places: list[int]) -> list[str | None]:
    """What names each real image in a list that salon curate prune reads: its name, or else its source or SHA-256.

    None where no line can: a list has one name a line, no space around it, and lines with # in front are comments.
    """
    columns = [[values[place] for place in places] for values in map(collection.column, NAMES)]
    return [next((text for text in told if text and _is_line(text)), None) for told in zip(*columns, strict=True)]


def _is_line(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a file's name in other bytes than UTF-8
        return False
    return text.splitlines() == [text.strip()] and not text.startswith("#")


def _labels(collection: Collection, places: list[int]) -> list[str | None]:
    # Classes by name: those of the dataset, which training goes by, else the manifest's.
    dataset = collection.dataset
    if dataset.labels is not None:
        return [dataset.class_name(dataset.label(index)) for index in collection.indices[places].tolist()]
    values = collection.column("label")
    return [None if values[place] is None else str(values[place]) for place in places]


def _said(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")


def _category(name: str, values: list[str | None]) -> Column:
    # Of reasons the code counts: "low rank: 0.0417 by density" is a low rank.
    kinds = [value.partition(":")[0] if name == "reason" and value else value for value in values]
    names, inverse, counts = np.unique([kind or "" for kind in kinds], return_inverse=True, return_counts=True)
    order = [i for i in np.lexsort((names, -counts)).tolist() if names[i]]
    code = np.full(len(names), -1)
    code[order] = np.arange(len(order))
    column: Column = {"name": name, "values": [str(names[i]) for i in order], "codes": code[inverse].tolist()}
    if name == "reason":
        column["texts"] = values
    return column


def _tells(column: Column, real: int) -> bool:
    # Whether it tells real images apart.
    if column["name"] in (ORIGIN, "verdict"):
        return True
    if "numbers" in column:
        return len(set(column["numbers"][:real]) - {None}) > 1
    return len(set(column["codes"][:real])) > 1
