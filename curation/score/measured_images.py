"""Measures and views of a dataset's images, by the threads of this process or by a cluster, to the same numbers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.score import copies, image_checks
from curation.score.copies import View
from curation.score.image_checks import Measures
from eval.metrics.result_key import digest
from gan import __version__
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.runtime.cluster import Cluster, KeptBlocks
from gan.runtime.console import progress
from gan.runtime.files import cache_folder
from gan.runtime.parallel import ordered_map

Measured = tuple[Measures, list[View]]


def measured_images(
    dataset: ImageDataset, indices: NDArray[np.int64], cluster: Cluster | None = None
) -> list[Measured]:
    """Measures and views of the images at `indices`, in their order; what a `cluster` has done is kept meanwhile."""
    places = indices.tolist()
    if cluster is None:
        with ThreadPoolExecutor() as pool:
            every = ordered_map(pool, lambda index: _measure(dataset, index), places)
            return list(progress(every, "Measuring", len(places)))
    identity = {"dataset": dataset.fingerprint(), "version": __version__}
    kept: KeptBlocks[int] = KeptBlocks(folder=cache_folder() / "measures" / digest(identity), name=_name)
    function = partial(_row, dataset=dataset.path.resolve())
    rows = cluster.ordered_map(function, places, partial(_crashed, dataset=dataset.path), kept=kept)
    found = [_of_row(row) for row in progress(rows, "Measuring", len(places))]
    kept.remove()
    return found


def _measure(dataset: ImageDataset, index: int) -> Measured:
    pixels = dataset.rgb(index)
    return image_checks.measure(pixels), copies.views(pixels)


def _row(index: int, *, dataset: Path) -> dict[str, Any]:
    # As Parquet takes it: hashes do not fit into signed integers.
    measures, views = _measure(_opened(dataset), index)
    return {"measures": asdict(measures), "hashes": [f"{view[0]:x} {view[1]:x}" for view in views], "box": views[-1][2]}


def _of_row(row: dict[str, Any]) -> Measured:
    hashes = [[int(text, 16) for text in both.split()] for both in row["hashes"]]
    box = None if row["box"] is None else tuple(row["box"])
    views = [(own, transposed, box if number else None) for number, (own, transposed) in enumerate(hashes)]
    return Measures(**row["measures"]), views


def _name(indices: Sequence[int]) -> str:
    return digest({"indices": list(indices)})


def _crashed(index: int, *, dataset: Path) -> dict[str, Any]:
    raise RequestError(f"the processes that measured image {index} of {dataset} died")


@lru_cache(maxsize=2)
def _opened(dataset: Path) -> ImageDataset:
    return ImageDataset(dataset)
