"""A dataset of its own from what a manifest keeps: the same bytes under new names, and the source as it was."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.decide.prune import relative, with_columns
from gan import __version__
from gan.data import manifest
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.errors import RequestError
from gan.runtime.console import progress
from gan.runtime.files import atomic, refuse_existing

COMMAND = "salon curate materialize"


def materialize(path: Path, data: Path, out: Path) -> dict[str, Any]:
    """Write the images of `data` that the manifest at `path` keeps to the archive `out` -> figures.

    Beside it lies its manifest: all rows of the other, with the names that the kept images have now.
    Raises RequestError when `out` or its manifest exists, or the manifest is of another dataset or keeps nothing.
    """
    beside = out.with_suffix(".manifest")
    if out.suffix != ".zip":
        raise RequestError(f"--out must end in .zip; got {out} instead")
    refuse_existing([out, beside])
    dataset, found = open_pair(path, data, out)
    kept = found.kept()
    indices = [index for index, name in enumerate(dataset.names) if name in kept]
    if not indices or len(indices) < len(kept):
        raise RequestError(f"{path} must keep images of {data}; it keeps {len(kept)}, of which it has {len(indices)}")
    suffixes = {Path(dataset.names[index]).suffix for index in indices}
    if len(suffixes) > 1:
        raise RequestError(f"{data} must hold images of one format; it has {', '.join(sorted(suffixes))}")
    names: dict[str, str] = {}
    with atomic(out) as archive, atomic(beside) as folder:
        writer = DatasetWriter(archive, suffixes.pop())
        for index in progress(indices, "Writing", len(indices)):
            label = None if dataset.labels is None else dataset.label(index)
            names[dataset.names[index]] = writer.add(dataset.read_bytes(dataset.names[index]), label)
        writer.close(dataset.classes)
        fingerprint = ImageDataset(archive).fingerprint()
        digest = manifest.write_tables(
            folder,
            _renamed(path, names),
            dataset=fingerprint,
            parent=found.hash,
            parent_at=relative(path, out),
            command=COMMAND,
            parameters={"dataset": found.dataset},
            versions={"salon": __version__},
        )
    return {
        "archive": str(out),
        "images": len(indices),
        "left_out": len(dataset) - len(indices),
        "bytes": out.stat().st_size,
        "fingerprint": fingerprint,
        "manifest": str(beside),
        "hash": digest,
        "parent": found.hash,
    }


def open_pair(path: Path, data: Path, out: Path) -> tuple[ImageDataset, manifest.Manifest]:
    """A dataset and a manifest of it. Raises RequestError when they do not fit, or `out` lies among the images."""
    dataset, found = ImageDataset(data), manifest.read(path)
    if data.is_dir() and Path(os.path.realpath(data)) in Path(os.path.realpath(out)).parents:
        raise RequestError(f"--out must lie outside the dataset {data}; got {out} instead")
    if found.dataset != dataset.fingerprint():
        raise RequestError(f"{path} must be a manifest of the dataset {data}; it is of another")
    return dataset, found


def _renamed(path: Path, names: dict[str, str]) -> Iterator[pa.Table]:
    for part in manifest.parts(path):
        new = [names.get(name) if name else None for name in part.column("name").to_pylist()]
        yield with_columns(part, {"name": pa.array(new, pa.string())})
