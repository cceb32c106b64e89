"""What is in a dataset: counts, sizes, and a sheet of images."""

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.data.images import SUFFIXES, save, tile

SHEET = 64  # images of a montage at most


def describe(path: Path) -> dict[str, Any]:
    """Figures of a dataset, and of the manifest beside it. Raises RequestError when either is none."""
    dataset = ImageDataset(path)
    sizes = _sizes(dataset)
    formats: dict[str, dict[str, int]] = {}
    for name in dataset.names:
        entry = formats.setdefault(SUFFIXES[Path(name).suffix.lower()], {"files": 0, "bytes": 0})
        entry["files"] += 1
        entry["bytes"] += sizes[name]
    classes = None
    if dataset.labels is not None:
        counts = Counter(dataset.labels.tolist())
        names = dataset.classes or []
        label = [names[i] if i < len(names) else str(i) for i in range(dataset.num_classes)]
        # Sparse integers leave many classes empty; only names say that a class was meant to be there.
        classes = {label[i]: counts[i] for i in range(dataset.num_classes) if counts[i] or i < len(names)}
    fingerprint = dataset.fingerprint()
    return {
        "path": str(path),
        "images": len(dataset),
        "resolution": dataset.resolution,
        "classes": classes,
        "formats": formats,
        "fingerprint": fingerprint,
        "manifest": _manifest(path, fingerprint),
    }


def draw_montage(path: Path, montage: Path) -> None:
    """Draw at most 64 evenly spaced images of a dataset on one sheet. Raises RequestError for an unknown suffix."""
    dataset = ImageDataset(path)
    count = min(len(dataset), SHEET)
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    pixels = np.stack([dataset.image(int(index)) for index in indices])  # NHWC
    save(tile(pixels, columns=int(np.ceil(np.sqrt(count))), gap=2), montage)


def _sizes(dataset: ImageDataset) -> dict[str, int]:
    if dataset.path.is_dir():
        return {name: (dataset.path / name).stat().st_size for name in dataset.names}
    with zipfile.ZipFile(dataset.path) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def _manifest(path: Path, fingerprint: str) -> dict[str, Any] | None:
    beside = path.with_suffix(".manifest") if path.is_file() else path.with_name(f"{path.name}.manifest")
    if not beside.exists():
        return None
    found = manifest.read(beside)
    header = found.header
    return {
        "path": str(beside),
        "hash": header["hash"],
        "verdicts": header["verdicts"],
        "fits": found.dataset == fingerprint,
    }
