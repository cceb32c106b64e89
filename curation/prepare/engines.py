"""The same preparation of each file by the processes of this machine, or by a cluster: the same images in one order."""

import hashlib
import json
from collections.abc import Generator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from curation.prepare.image_files import ImageFile
from curation.prepare.request import PrepareRequest
from curation.prepare.resize import EncodedImage, ImageSettings, crashed, prepare
from curation.prepare.worker_pool import cores, fault_tolerant_map
from gan import __version__
from gan.runtime import cluster as clusters
from gan.runtime.cluster import KeptBlocks, connected
from gan.runtime.files import cache_folder

Row = dict[str, Any]


def prepared(
    files: Sequence[ImageFile], settings: ImageSettings, request: PrepareRequest
) -> Generator[list[EncodedImage]]:
    """The encoded images of each file, in the files' order.

    What a cluster has prepared is kept until `remove_kept`, but for files at addresses, which may change unseen.
    """
    if request.engine == "local":
        yield from fault_tolerant_map(partial(prepare, settings=settings), files, crashed, request.workers or cores())
        return
    with connected(request.address, request.workers) as cluster:
        function, kept = partial(_row, settings=settings), _kept(settings, files)
        rows = cluster.ordered_map(function, files, _crashed, block=block_size(files, settings), kept=kept)
        for row in rows:
            yield [_of_row(image) for image in row["images"]]


def block_size(files: Sequence[ImageFile], settings: ImageSettings) -> int:
    """Files of a task of the cluster: as many as give BLOCK images at most, since all of them are in memory at once."""
    frames = max((file.clip.count for file in files if file.clip), default=1)
    return max(1, clusters.BLOCK // (frames * settings.crops))


def remove_kept(settings: ImageSettings, files: Sequence[ImageFile]) -> None:
    """Remove what was kept of these files: the dataset is written."""
    _kept(settings, files).remove()


def versions() -> dict[str, str]:
    """Of what decides the pixels."""
    return {"salon": __version__, "pillow": PIL.__version__, "numpy": np.__version__}


def _row(file: ImageFile, *, settings: ImageSettings) -> Row:
    return _as_row(prepare(file, settings))


def _crashed(file: ImageFile) -> Row:
    return _as_row(crashed(file))


def _as_row(images: list[EncodedImage]) -> Row:
    # As Parquet takes it.
    rows = [{field.name: getattr(image, field.name) for field in fields(EncodedImage)} for image in images]
    for row in rows:
        row["histograms"] = None if row["histograms"] is None else row["histograms"].tolist()
    return {"images": rows}


def _of_row(row: Row) -> EncodedImage:
    crop, histograms = row["crop"], row["histograms"]
    return EncodedImage(
        **row
        | {
            "crop": None if crop is None else tuple(crop),
            "histograms": None if histograms is None else np.array(histograms, np.float32),
        }
    )


def _kept(settings: ImageSettings, files: Sequence[ImageFile]) -> KeptBlocks[ImageFile]:
    every = {"settings": repr(settings), "versions": versions(), "files": [file.shown for file in files]}
    return KeptBlocks(folder=cache_folder() / "prepared" / _digest(every), name=_name)


def _name(files: Sequence[ImageFile]) -> str | None:
    states = [(repr(file), _state(file.path)) for file in files]
    return None if any(state is None for _, state in states) else _digest(states)


def _state(path: Path | str) -> list[int] | None:
    # What tells whether a file is still the same.
    if not isinstance(path, Path):
        return None
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
