"""The manifest of a list of ZIPs, from those that `salon prepare` wrote beside its ZIPs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.prepare.pipeline import CROP, SQUARE_CROP
from gan import __version__
from gan.data import archives, manifest
from gan.data.collection import Collection, manifest_beside
from gan.data.dataset import ImageDataset
from gan.errors import RequestError

COMMAND = "salon dataset join"


def join_manifests(dataset: Path) -> dict[str, Any]:
    """Write the manifest beside the list `dataset` -> figures.

    It has the rows of all, with the names that the images have in the list, and the columns that `salon prepare`
    writes: what commands found out about the images of one ZIP does not hold among those of all. Raises RequestError
    when `dataset` is no list, a ZIP of it has no manifest beside it, or the list has one.
    """
    if not archives.is_list(dataset):
        raise RequestError(f"{dataset} must be a list of ZIPs, a text file that ends in .zips")
    out = manifest_beside(dataset)
    if out.exists():
        raise RequestError(f"{out} must not exist yet; it may be another's work, and is not replaced")
    images = ImageDataset(dataset)
    parts = {path: Collection.open(path).require_manifest() for path in archives.listed(dataset)}
    schemas = [manifest.header_schema(part.header) for part in parts.values()]
    crops = pa.schema([(name, pa.int64()) for name in dict.fromkeys([*SQUARE_CROP, *CROP])])
    columns = [*manifest.SCHEMA, *(field for field in crops if any(field in schema for schema in schemas))]
    digest = manifest.write_tables(
        out,
        (table for path, part in parts.items() for table in _renamed(part.path, archives.prefix(path), columns)),
        dataset=images.fingerprint(),
        parent=None,
        command=COMMAND,
        parameters={"manifests": {path.name: part.hash for path, part in parts.items()}},
        versions={"salon": __version__},
    )
    return {
        "manifest": str(out),
        "hash": digest,
        "fingerprint": images.fingerprint(),
        "zips": len(parts),
        "images": len(images),
        "rows": sum(part.header["rows"] for part in parts.values()),
    }


def _renamed(path: Path, prefix: str, columns: list[pa.Field]) -> Iterator[pa.Table]:
    # Part by part. The name of an image that is not in the dataset stays null.
    for part in manifest.parts(path):
        names = pc.binary_join_element_wise(prefix, part.column("name"), "")
        values = {
            field.name: part.column(field.name) if field.name in part.column_names else pa.nulls(len(part), field.type)
            for field in columns
        }
        yield pa.table({**values, "name": names}, schema=pa.schema(columns))
