"""A dataset of its own from what a manifest keeps: the same bytes under new names, and the source as it was."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.child_manifest import relative
from curation.decide.prune import with_columns
from gan import __version__
from gan.data import manifest as manifests
from gan.data.collection import Collection, manifest_beside
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.errors import RequestError
from gan.runtime.console import progress
from gan.runtime.files import atomic, refuse_existing

COMMAND = "salon curate materialize"


def materialize(manifest: Path, data: Path, out: Path) -> dict[str, Any]:
    """Write the images of the dataset `data` that the manifest keeps to the archive `out` -> figures.

    Beside it lies its manifest: all rows of the other, with the names that the kept images have now.
    Raises RequestError when `out` or its manifest exists, or the manifest is of another dataset or keeps nothing.
    """
    beside = manifest_beside(out)
    if out.suffix != ".zip":
        raise RequestError(f"`out` must end in .zip; got {out} instead")
    refuse_existing([out, beside])
    collection = open_to_write(data, manifest, out)
    dataset, parent = collection.dataset, collection.require_manifest()
    kept = _kept(collection)
    names: dict[str, str] = {}  # in `data` -> in `out`
    with atomic(out) as archive, atomic(beside) as folder:
        writer = DatasetWriter(archive, _suffix(collection, kept), dataset.shape.channels)
        for index in progress(kept.tolist(), "Writing", len(kept)):
            label = None if dataset.labels is None else dataset.label(index)
            names[dataset.names[index]] = writer.add(dataset.file_bytes(index), label)
        writer.close(dataset.classes)
        fingerprint = ImageDataset(archive).fingerprint()
        digest = manifests.write_tables(
            folder,
            _renamed(manifest, names),
            dataset=fingerprint,
            parent=parent.hash,
            parent_at=relative(manifest, out),
            command=COMMAND,
            parameters={"dataset": parent.dataset},
            versions={"salon": __version__},
        )
    return {
        "archive": str(out),
        "images": len(kept),
        "left_out": len(dataset) - len(kept),
        "bytes": out.stat().st_size,
        "fingerprint": fingerprint,
        "manifest": str(beside),
        "hash": digest,
        "parent": parent.hash,
    }


def open_to_write(data: Path, manifest: Path, *outs: Path) -> Collection:
    """A dataset and a manifest of it. Raises RequestError when they do not fit, or an out lies among the images."""
    for out in outs:
        if data.is_dir() and Path(os.path.realpath(data)) in Path(os.path.realpath(out)).parents:
            raise RequestError(f"`out` must lie outside the dataset {data}; got {out} instead")
    return Collection.open(data, manifest)


def _kept(collection: Collection) -> NDArray[np.int64]:
    # Indices of the kept images, all of which the dataset must have.
    kept, manifest = collection.kept, collection.require_manifest()
    count = len(pc.unique(manifest.rows.column("name").filter(manifests.is_kept(manifest.rows))))
    if not len(kept) or len(kept) < count:
        raise RequestError(
            f"{manifest.path} must keep images of {collection.dataset.path}; it keeps {count}, "
            f"of which it has {len(kept)}"
        )
    return kept


def _suffix(collection: Collection, kept: NDArray[np.int64]) -> str:
    suffixes = {Path(collection.dataset.names[index]).suffix for index in kept}
    if len(suffixes) > 1:
        raise RequestError(
            f"{collection.dataset.path} must hold images of one format; it has {', '.join(sorted(suffixes))}"
        )
    return suffixes.pop()


def _renamed(manifest: Path, names: dict[str, str]) -> Iterator[pa.Table]:
    for part in manifests.parts(manifest):
        new = [names.get(name) if name else None for name in part.column("name").to_pylist()]
        yield with_columns(part, {"name": pa.array(new, pa.string())})
