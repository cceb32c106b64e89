"""Columns of a manifest's rows: names in lists of images, strata, scores, flags."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gan.errors import RequestError

NAMES = ("name", "source", "file_sha256")  # columns by which a list may name an image
NONE, ALL = "(none)", "(all)"
COMMAND_PREFIX = "salon "  # of reviewers that are commands


def listed(rows: pa.Table, file: Path, parameter: str) -> NDArray[np.bool_]:
    """The rows that a text file names, one a line: by name in the dataset, source or SHA-256 -> mask [N].

    Raises RequestError, naming `parameter`, when the file cannot be read or a line names no row.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"`{parameter}` must be a list of images, one a line; {file} cannot be read: {error}"
        ) from error
    entries = pa.array([line for line in lines if line and not line.startswith("#")], pa.string())
    mask = np.zeros(len(rows), bool)
    known = np.zeros(len(entries), bool)
    for column in NAMES:
        mask |= np.asarray(pc.is_in(rows.column(column), value_set=entries))
        known |= np.asarray(pc.is_in(entries, value_set=rows.column(column).combine_chunks()))
    if not known.all():
        first = entries[int(np.argmin(known))].as_py()
        raise RequestError(
            f"`{parameter}` must name images of the manifest by name, source or SHA-256; {(~known).sum()} of "
            f"{len(entries)} lines in {file} do not, the first is {first!r}"
        )
    return mask


def strata(rows: pa.Table, column: str | None) -> tuple[NDArray[np.int64], list[str]]:
    """Each row's stratum by a column of STRATA -> indices [N], and the names of the strata, in their order.

    Without a column there is one stratum. Rows without a value are the stratum NONE.
    """
    if column is None:
        return np.zeros(len(rows), np.int64), [ALL]
    values = pc.fill_null(rows.column(column).cast(pa.string()), NONE).combine_chunks()
    by_length = column == "label"  # numbers
    names = sorted(pc.unique(values).to_pylist(), key=lambda name: (len(name) if by_length else 0, name))
    return np.asarray(pc.index_in(values, value_set=pa.array(names, pa.string())), np.int64), names


def floats(rows: pa.Table, column: str) -> NDArray[np.float64]:
    """A column of numbers -> float64 [N], NaN where there is none."""
    return np.asarray(pc.fill_null(rows.column(column).cast(pa.float64()), float("nan")), np.float64)


def without(flags: str | None, code: str) -> list[str]:
    """The codes in a row's flags, save `code`."""
    return [flag for flag in (flags or "").split(",") if flag and flag != code]


def by_person(rows: pa.Table) -> NDArray[np.bool_]:
    """The rows on which a person decided, not a command -> mask [N]."""
    return ~np.asarray(pc.starts_with(pc.fill_null(rows.column("reviewer"), COMMAND_PREFIX), COMMAND_PREFIX))


def score_columns(columns: Sequence[str]) -> list[str]:
    """Those of the columns that hold scores, without the standard errors."""
    return [name for name in columns if name.startswith("score_") and not name.endswith("_se")]
