"""What is in a dataset: counts, sizes, its manifest, and a grid of its images."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from gan.data import manifest as manifests
from gan.data.collection import manifest_beside
from gan.data.dataset import ImageDataset
from gan.data.images import SUFFIXES, for_display, save, tile

MAX_IMAGES = 64  # of a grid


def describe(dataset: ImageDataset) -> dict[str, Any]:
    """Figures of a dataset, and of the manifest beside it. Raises RequestError when that cannot be read."""
    shape = dataset.shape
    return {
        "path": str(dataset.path),
        "images": len(dataset),
        "resolution": shape.width if shape.width == shape.height else None,
        "width": shape.width,
        "height": shape.height,
        "channels": shape.channels,
        "classes": _classes(dataset),
        "formats": _formats(dataset),
        "fingerprint": dataset.fingerprint(),
        "manifest": _manifest(dataset),
    }


def draw_montage(dataset: ImageDataset, montage: Path) -> None:
    """Write a grid of at most 64 evenly spaced images. Raises RequestError for an unknown suffix."""
    count = min(len(dataset), MAX_IMAGES)
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    pixels = np.stack([dataset.image(int(index)) for index in indices])  # NHWC
    save(tile(for_display(pixels), columns=int(np.ceil(np.sqrt(count))), gap=2), montage)


def _classes(dataset: ImageDataset) -> dict[str, int] | None:
    if dataset.labels is None:
        return None
    counts = Counter(dataset.labels.tolist())
    named = len(dataset.classes or [])
    # Sparse integers leave many classes empty; only names say that a class was meant to be there.
    return {dataset.class_name(i): counts[i] for i in range(dataset.num_classes) if counts[i] or i < named}


def _formats(dataset: ImageDataset) -> dict[str, dict[str, int]]:
    formats: dict[str, dict[str, int]] = {}
    for index, name in enumerate(dataset.names):
        entry = formats.setdefault(SUFFIXES[Path(name).suffix.lower()], {"files": 0, "bytes": 0})
        entry["files"] += 1
        entry["bytes"] += dataset.file_size(index)
    return formats


def _manifest(dataset: ImageDataset) -> dict[str, Any] | None:
    path = manifest_beside(dataset.path)
    if not path.exists():
        return None
    manifest = manifests.read(path, [])
    return {
        "path": str(path),
        "hash": manifest.hash,
        "verdicts": manifest.header["verdicts"],
        "fits": manifest.dataset == dataset.fingerprint(),
    }
