"""A dataset with its manifest, and a new manifest with more columns. Neither of the two is ever changed."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gan import __version__
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.data.manifest import Manifest
from gan.errors import RequestError
from gan.runtime import distributed


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A dataset and its manifest; `rows` of the manifest are the images at `indices` of the dataset."""

    dataset: ImageDataset
    manifest: Manifest
    rows: NDArray[np.int64] = field(repr=False)
    indices: NDArray[np.int64] = field(repr=False)

    def column(self, name: str) -> list[Any]:
        """A column's values for the images of the dataset; None where the manifest has no such column."""
        if name not in self.manifest.rows.column_names:
            return [None] * len(self.rows)
        values: list[Any] = self.manifest.rows.column(name).take(pa.array(self.rows)).to_pylist()
        return values

    def strata(self, name: str) -> NDArray[np.int64]:
        """Each image's stratum by a column, such as "style": a number that follows from the value, so that it is the
        same in all manifests; 0 for "none". Images without a value share one.

        Raises RequestError when none has a value.
        """
        if name == "none":
            return np.zeros(len(self.rows), np.int64)
        values = ["" if value is None else str(value) for value in self.column(name)]
        if not any(values):
            raise RequestError(f"{self.manifest.path} must have a {name} for some image to go by it; it has none")
        number = {value: int(hashlib.sha256(value.encode()).hexdigest()[:12], 16) for value in set(values)}
        return np.array([number[value] for value in values], np.int64)

    def write(self, out: Path, columns: dict[str, pa.Array], **details: Any) -> str:
        """Write a new manifest, a child of this one, in which the images of the dataset have these columns -> its hash.

        Of several processes the main one writes. Raises RequestError when `out` exists.
        """
        rows = self.manifest.rows
        place = np.full(len(rows), -1)
        place[self.rows] = np.arange(len(self.rows))
        taken = pa.array(place, pa.int64(), mask=place < 0)
        for name, values in columns.items():
            if name in rows.column_names:
                rows = rows.drop_columns([name])
            rows = rows.append_column(name, values.take(taken))
        origin = {"parent": self.manifest.hash, "dataset": self.manifest.dataset}
        digest = self.manifest.hash  # in the others, until the main process has told
        with distributed.main_first():
            if distributed.is_main():
                digest = manifest.write_tables(out, [rows], **origin, versions={"salon": __version__}, **details)
        return distributed.from_main(digest)


def open_collection(dataset: Path, path: Path | None) -> Collection:
    """A dataset and its manifest, by default the one that salon prepare wrote beside it.

    Raises RequestError when there is none, or it is of another dataset.
    """
    images = ImageDataset(dataset)
    if path is None:
        path = dataset.with_suffix(".manifest") if dataset.is_file() else dataset.with_name(f"{dataset.name}.manifest")
        if not path.exists():
            raise RequestError(f"--manifest must name the manifest of {dataset}; there is none beside it")
    found = manifest.read(path)
    if found.dataset != images.fingerprint():
        raise RequestError(f"--manifest {path} must be of the dataset {dataset}; it is of another")
    place = {name: index for index, name in enumerate(images.names)}
    pairs = [(row, place[n]) for row, n in enumerate(found.rows.column("name").to_pylist()) if n in place]
    if not pairs:
        raise RequestError(f"--manifest {path} must name images of {dataset}; it names none")
    rows, indices = np.array(pairs, np.int64).T
    return Collection(dataset=images, manifest=found, rows=rows, indices=indices)
