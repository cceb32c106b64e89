"""The hash of a table's content: of its values in their order, not of how they are cut into chunks, parts or files.

Each column is hashed as a stream, so that a million rows cost a second and a table need not be in memory at once.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class TableHash:
    """Hash rows that arrive as tables of one schema: columns of string, int64, float64 or bool, nulls among them."""

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = {field.name: _ColumnHash(field.type) for field in schema}

    def update(self, table: pa.Table) -> None:
        """Append the table's rows."""
        for name, column in self._columns.items():
            for chunk in table.column(name).chunks:
                column.update(chunk)

    def hexdigest(self) -> str:
        """SHA-256 over the names, types and hashes of the columns in the order of their names."""
        digest = hashlib.sha256()
        for name, column in sorted(self._columns.items()):
            digest.update(f"{len(name)}:{name}:{column.type}:{column.hexdigest()}\n".encode())
        return digest.hexdigest()


class _ColumnHash:
    """Three streams: which rows are null, the lengths of strings, and the values, empty or zero for nulls."""

    def __init__(self, type: pa.DataType) -> None:
        self.type = type
        self._valid, self._lengths, self._values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()

    def update(self, chunk: pa.Array) -> None:
        self._valid.update(_bytes(chunk.is_valid()))
        if not pa.types.is_string(self.type):
            filled = pc.fill_null(chunk, pa.scalar(0).cast(self.type))
            self._values.update(_bytes(filled))
            return
        filled = pc.fill_null(chunk, "")
        lengths = np.asarray(pc.binary_length(filled), "<i8")
        self._lengths.update(lengths.data)
        _, offsets, values = filled.buffers()
        start = np.frombuffer(offsets, "<i4")[filled.offset] if len(filled) else 0  # a slice begins inside its buffer
        if values is not None:
            self._values.update(values.slice(start, int(lengths.sum())))

    def hexdigest(self) -> str:
        parts = (self._valid, self._lengths, self._values)
        return hashlib.sha256(b"".join(part.digest() for part in parts)).hexdigest()


def _bytes(array: pa.Array) -> memoryview:
    # -> contiguous little-endian values, of bools one byte each
    values = array.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data
