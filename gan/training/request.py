"""What a training was asked for, resolved: the dataset, which of its images, the config, and where it starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.config import TrainingConfig, make_config
from gan.data import manifest as manifests
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.runtime import files
from gan.training import checkpoint
from gan.training.run_dir import require_run


@dataclass(frozen=True)
class Training:
    """What there is to train."""

    dataset: ImageDataset
    fingerprint: str  # of the dataset
    indices: NDArray[np.int64]  # of the images to learn from
    config: TrainingConfig
    start: Path | None  # checkpoint or snapshot to start from; None: from nothing


def resolve(
    data: Path,
    *,
    preset: str,
    fields: Mapping[str, Any],
    conditional: bool = False,
    manifest: Path | None = None,
    resume: str = "auto",
    transfer: Path | None = None,
    resume_kimg: float | None = None,
) -> Training:
    """Read what the options of `salon train` name. `fields` of the config override the preset's.

    Raises RequestError where they contradict one another or the data.
    """
    start = _start(resume, transfer)
    if resume_kimg is not None and start is None:
        raise RequestError("--resume-kimg needs --resume FILE or --transfer FILE")
    dataset = ImageDataset(data)
    if conditional and dataset.labels is None:
        raise RequestError(f"--conditional needs labels; {data} has none: prepare it with --labels")
    fingerprint = dataset.fingerprint()
    if not conditional:
        dataset.labels, dataset.classes, dataset.num_classes = None, None, 0
    chosen = manifests.read(manifest) if manifest else None
    config = make_config(
        preset=preset,
        resolution=dataset.resolution,
        num_classes=dataset.num_classes,
        dataset=fingerprint,
        overrides=dict(fields),
        manifest=chosen.header["hash"] if chosen else None,
        resume_from=files.sha256(start) if start else None,
        transfer=transfer is not None,
        resume_kimg=resume_kimg,
    )
    return Training(dataset, fingerprint, _select(dataset, fingerprint, chosen), config, start)


def require_kimg_left(total_kimg: float, config: TrainingConfig, source: Mapping[str, Any] | None) -> None:
    """Raise RequestError when what a new run starts from has seen all the images that it is to see."""
    start = config.resume_kimg
    if start is None and source:
        start = source.get("cur_nimg", 0) / 1000
    if start is not None and start >= total_kimg:
        remedy = "raise it, or add --resume-kimg 0" if config.resume_kimg is None else "raise it"
        raise RequestError(
            f"--total-kimg must be above {start}, where the run starts; got {total_kimg} instead: {remedy}"
        )


def _start(resume: str, transfer: Path | None) -> Path | None:
    resumed = None if resume in ("auto", "never") else _start_file(Path(resume), "--resume")
    if transfer is None:
        return resumed
    if resumed is not None:
        raise RequestError("--transfer and --resume FILE exclude each other")
    return _start_file(transfer, "--transfer")


def _start_file(path: Path, option: str) -> Path:
    if path.is_dir():
        found = checkpoint.list_newest_first(path / "checkpoints") or checkpoint.list_newest_first(path)
        if not found:
            require_run(path, option)  # not the newest of several: the same command shall find the same start again
            raise RequestError(f"{option} {path} must hold checkpoints; it has none")
        return found[0]
    if not path.exists():
        also = "auto, never, or " if option == "--resume" else ""
        raise RequestError(f"{option} must be {also}an existing checkpoint or snapshot; got {path} instead")
    return path


def _select(dataset: ImageDataset, fingerprint: str, manifest: manifests.Manifest | None) -> NDArray[np.int64]:
    # -> indices of the images to learn from
    if manifest is None:
        return np.arange(len(dataset.names))
    if manifest.dataset != fingerprint:
        raise RequestError(f"--manifest {manifest.path} must be of the dataset {dataset.path}; it is of another")
    kept = manifest.kept()
    indices = np.array([i for i, name in enumerate(dataset.names) if name in kept], np.int64)
    if not len(indices):
        raise RequestError(f"--manifest {manifest.path} keeps no image of {dataset.path}")
    return indices
