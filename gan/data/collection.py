"""A collection: a dataset, its fingerprint, its manifest, and the images to use; opened once, passed on.

collection = Collection.open(Path("paintings64.zip"), manifest=Path("pruned.manifest"))
collection.dataset.image(int(collection.kept[0]))
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gan.data import manifest as manifests
from gan.data.dataset import ImageDataset
from gan.data.manifest import Manifest
from gan.data.strata import STRATA as STRATA
from gan.errors import RequestError

_COLUMNS = ("name", "verdict")  # that are read when a collection is opened


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A dataset and its manifest, if it has one; `selected` says that the manifest chose among the images."""

    dataset: ImageDataset
    fingerprint: str  # of the dataset
    manifest: Manifest | None = None
    selected: bool = False  # True: a manifest was named, and its verdicts count; False: it only describes the images
    only_kept: bool = False  # whether `rows` and `indices` are those of `kept` images alone

    @classmethod
    def open(
        cls,
        dataset: Path,
        manifest: Path | None = None,
        *,
        beside: bool = True,
    ) -> "Collection":
        """Open a dataset with the `manifest` that selects among its images.

        Without `manifest` the one beside the dataset (see manifest_beside) describes the images, where it is of this
        dataset; all images are used. `beside` False leaves that one unread. The manifest's `rows` have
        its columns "name" and "verdict", see `column` for others. Raises RequestError when there is no such dataset or
        manifest, `manifest` is of another dataset, or names no image of it.
        """
        images = ImageDataset(dataset)
        fingerprint = images.fingerprint()
        if manifest is None:
            path = manifest_beside(dataset)
            description = manifests.read(path, _COLUMNS) if beside and path.is_dir() else None
            if description is not None and description.dataset != fingerprint:
                description = None
            return cls(dataset=images, fingerprint=fingerprint, manifest=description)
        return cls(dataset=images, fingerprint=fingerprint)._selected_by(manifests.read(manifest, _COLUMNS))

    def selecting(self, manifest: Path) -> "Collection":
        """The same dataset, not hashed again, with the images that `manifest` selects. Raises as `open` does."""
        return self._selected_by(manifests.read(manifest, _COLUMNS))

    def _selected_by(self, manifest: Manifest) -> "Collection":
        if manifest.dataset != self.fingerprint:
            raise RequestError(
                f"`manifest` {manifest.path} must be of the dataset {self.dataset.path}; it is of another"
            )
        collection = Collection(dataset=self.dataset, fingerprint=self.fingerprint, manifest=manifest, selected=True)
        if not len(collection.rows):
            raise RequestError(f"`manifest` {manifest.path} must name images of {self.dataset.path}; it names none")
        return collection

    def of_kept(self) -> "Collection":
        """The same collection with `rows` and `indices` of the `kept` images alone.

        Raises RequestError when none is kept.
        """
        self.require_kept()
        return replace(self, only_kept=True)

    def require_manifest(self) -> Manifest:
        """The manifest. Raises RequestError where there is none."""
        if self.manifest is None:
            raise RequestError(f"`manifest` must name the manifest of {self.dataset.path}; there is none beside it")
        return self.manifest

    def require_kept(self) -> NDArray[np.int64]:
        """`kept`. Raises RequestError when it is empty."""
        if not len(self.kept):
            assert self.manifest is not None
            raise RequestError(f"`manifest` {self.manifest.path} keeps no image of {self.dataset.path}")
        return self.kept

    @property
    def selection(self) -> str | None:
        """Hash of the manifest that selected the images; None where all are used."""
        return self.manifest.hash if self.manifest is not None and self.selected else None

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """Indices of the images to use: those with the verdict keep where a manifest was named, else all; int64 [K]."""
        if self.manifest is None or not self.selected:
            return np.arange(len(self.dataset))
        rows = self.manifest.rows
        names = _binary(rows.column("name").filter(manifests.is_kept(rows)))
        return np.flatnonzero(pc.is_in(self.dataset.names.array, value_set=names))

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        # [2, M]: rows of the manifest that are images of the dataset, and the indices of these.
        if self.manifest is None:
            return np.empty([2, 0], np.int64)
        names = self.dataset.names.array
        place = pc.index_in(_binary(self.manifest.rows.column("name")), value_set=names)
        indices = np.asarray(pc.fill_null(place, -1), np.int64)
        pairs = np.stack([np.flatnonzero(indices >= 0), indices[indices >= 0]])
        return pairs[:, np.isin(pairs[1], self.kept)] if self.only_kept else pairs

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the manifest that are images of the dataset, whatever their verdict save `only_kept`; int64 [M]."""
        rows: NDArray[np.int64] = self._pairs[0]
        return rows

    @property
    def indices(self) -> NDArray[np.int64]:
        """Indices in the dataset of the images at `rows`; int64 [M]."""
        indices: NDArray[np.int64] = self._pairs[1]
        return indices

    def column(self, name: str) -> list[Any]:
        """The manifest's values for the images at `indices`; None for each where it has no such column."""
        if self.manifest is None or name not in self.manifest.schema.names:
            return [None] * len(self.rows)
        values: list[Any] = self.manifest.column(name).take(pa.array(self.rows)).to_pylist()
        return values

    def stratum_names(self, column: str) -> list[str | None]:
        """Each image's stratum by a column of STRATA, for all images of the dataset; None where it has none.

        "label" is the class in the dataset, by its name where it has one; the others are of the manifest.
        Raises RequestError when no image has one.
        """
        if column not in STRATA:
            raise RequestError(f"`strata` must be one of {', '.join(STRATA)}; got {column} instead")
        dataset = self.dataset
        names: list[str | None] = [None] * len(dataset)
        if column == "label":
            if dataset.labels is None:
                raise RequestError(f"`strata` label needs labels in the dataset; {dataset.path} has none")
            names = [dataset.class_name(label) for label in dataset.labels.tolist()]
        else:
            for index, value in zip(self.indices, self.column(column), strict=True):
                names[index] = str(value) if value else None
        if not any(names):
            path = None if self.manifest is None else self.manifest.path
            lack = f"{path} has no {column}" if path else f"{dataset.path} has none beside it"
            raise RequestError(f"`strata` {column} needs a manifest with a {column} for some image; {lack}")
        return names


def _binary(names: pa.ChunkedArray) -> pa.Array:
    # As NameTable has them.
    return names.cast(pa.large_binary()).combine_chunks()


def manifest_beside(dataset: Path) -> Path:
    """Where `salon prepare` writes a dataset's manifest: paintings64.zip -> paintings64.manifest, for a folder
    set.v1 -> set.v1.manifest (only a file's suffix is replaced).
    """
    return dataset.with_name(f"{dataset.name}.manifest") if dataset.is_dir() else dataset.with_suffix(".manifest")
