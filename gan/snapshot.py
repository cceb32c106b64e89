"""Snapshots: a trained G_ema and D for everything after training. Safetensors, with the config in the metadata."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from gan import __version__
from gan.config import TrainingConfig
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.runtime.console import say
from gan.runtime.file_kinds import foreign_kind
from gan.runtime.files import atomic, require_format, utf8_path

FORMAT = "salon-snapshot-1"
_NAME = re.compile(r"snapshot-(\d{10})\.safetensors")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A snapshot that was read: networks in evaluation mode without gradients, on the CPU."""

    path: Path
    G_ema: Generator
    D: Discriminator | None  # None: imported from a file without
    G: Generator | None = None  # not averaged, to train on from; None: as G_ema
    config: TrainingConfig
    cur_nimg: int
    classes: list[str] | None  # names of the classes, where the dataset has them
    ema_width: float | None = None  # sigma_rel of G_ema's average; None: that of training, of the config's half-life
    lineage: Mapping[str, Any] | None = None  # what it was made of without training, by hashes; None: training made it


def path_for(folder: Path, cur_nimg: int) -> Path:
    """Name of the snapshot after `cur_nimg` images."""
    return folder / f"snapshot-{cur_nimg:010d}.safetensors"


def save(
    path: Path,
    G_ema: Generator,
    D: Discriminator | None,
    config: TrainingConfig,
    cur_nimg: int,
    classes: list[str] | None,
    G: Generator | None = None,
    ema_width: float | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> None:
    """Write a snapshot, atomically; see Snapshot. Raises SalonError when the disk is full."""
    tensors = {
        f"{prefix}.{k}": v.detach()
        for prefix, network in (("G_ema", G_ema), ("D", D), ("G", G))
        if network is not None
        for k, v in network.state_dict().items()
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {
        "format": FORMAT,
        "salon": __version__,
        "config": json.dumps(config.to_dict()),
        "dataset": config.dataset,
        "cur_nimg": str(cur_nimg),
        "classes": json.dumps(classes),
    }
    if ema_width is not None:
        metadata["ema_width"] = f"{ema_width:g}"
    if lineage is not None:
        metadata["lineage"] = json.dumps(lineage)
    metadata["sha256"] = _digest(tensors, metadata)
    with atomic(path) as temporary:
        # Not save_file: its errors hide the operating system's.
        temporary.write_bytes(serialize(tensors, metadata))


def load(path: Path) -> Snapshot:
    """Read a snapshot and verify it. Raises RequestError when it is missing, damaged or none of Salon's."""
    try:
        with utf8_path(path) as name, safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        if not Path(path).is_file():
            raise RequestError(f"{path} must be a snapshot; it is no file") from error
        if not (kind := foreign_kind(path)):
            kind = "none, or is damaged"
            if Path(path).suffix in (".pt", ".pth", ".pkl"):
                kind = "a checkpoint, or of another implementation, which `salon import` reads"
        raise RequestError(f"{path} must be a snapshot, as in a run's folder snapshots; it is {kind}") from error
    require_format(path, "a snapshot", metadata.get("format"), FORMAT)
    if _digest(tensors, metadata) != metadata.get("sha256"):
        raise RequestError(f"{path} is corrupt: its tensors and metadata do not match their hash")
    try:
        config = TrainingConfig.from_dict(json.loads(metadata["config"]))
    except (KeyError, TypeError, RequestError) as error:
        raise RequestError(
            f"{path} must have the config of this version of Salon; it is of {metadata.get('salon')}"
        ) from error
    prefixes = {name.split(".")[0] for name in tensors}
    G_ema = Generator(config.network)
    D = Discriminator(config.network) if "D" in prefixes else None
    G = Generator(config.network) if "G" in prefixes else None
    for part, network in (("G_ema", G_ema), ("D", D), ("G", G)):
        if network is not None:
            own = {k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")}
            network.load_state_dict(own)
            network.eval().requires_grad_(False)
    return Snapshot(
        path=Path(path),
        G_ema=G_ema,
        D=D,
        G=G,
        config=config,
        cur_nimg=int(metadata["cur_nimg"]),
        classes=json.loads(metadata["classes"]),
        ema_width=float(metadata["ema_width"]) if "ema_width" in metadata else None,
        lineage=json.loads(metadata["lineage"]) if "lineage" in metadata else None,
    )


def list_newest_first(folder: Path) -> list[Path]:
    """The snapshots in a folder, newest first."""
    return sorted((p for p in folder.glob("snapshot-*.safetensors") if _NAME.fullmatch(p.name)), reverse=True)


def find(path: Path | str) -> Snapshot:
    """The snapshot at `path`: a file, or the newest that verifies in a run, or in the newest run of a folder of runs.

    Raises RequestError when there is none.
    """
    path = Path(path)
    if not path.exists():
        raise RequestError(f"{path} must be a snapshot, a run or a folder of runs; it does not exist")
    if path.is_file():
        return load(path)
    folders = [path, path / "snapshots"]
    runs = [run / "snapshots" for run in path.iterdir() if (run / "snapshots").is_dir()]
    folders += sorted(runs, key=lambda folder: folder.stat().st_mtime, reverse=True)
    for candidate in (file for folder in folders for file in list_newest_first(folder)):
        try:
            return load(candidate)
        except RequestError as error:
            say(f"Passing over a damaged snapshot: {error}")
    raise RequestError(f"{path} must hold a snapshot; `salon train` writes them after its first minute")


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    # Of the tensors and of all metadata but the digest itself.
    digest = hashlib.sha256(json.dumps(sorted(item for item in metadata.items() if item[0] != "sha256")).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
