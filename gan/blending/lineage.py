"""Whether two generators are of one lineage: by the hashes of the files that each is known to come from.

Layers of two generators fit together where one was trained on from the other, or both from a third, so that their
features still mean the same (Pinkney and Adler 2020).
"""

from pathlib import Path

from gan.errors import RequestError
from gan.runtime.files import sha256
from gan.snapshot import Snapshot

# What two generators must have alike for their weights to be of the same shape and to mean the same.
ALIKE = (
    *("resolution", "base", "image_channels", "num_classes", "z_dim", "w_dim", "mapping_layers"),
    *("channel_base", "channel_max", "conv_clamp"),
)


def known(source: Snapshot) -> set[str]:
    """SHA-256 of a snapshot's file, of what its training started from, and of what it was made of since."""
    made = source.lineage or {}
    before = (source.config.resume_from, made.get("parent"), *made.get("ancestors", ()))
    return {each for each in (sha256(source.path), *before) if each is not None}


def related(a: Snapshot, b: Snapshot) -> bool:
    """Whether two snapshots are known to be of one lineage: of one run, or one from the other, or both from a third."""
    if a.config == b.config or known(a) & known(b):
        return True
    # Training may have started from another snapshot of the run, or from a checkpoint.
    return any(
        younger.config.resume_from is not None and _in_run_of(elder.path, younger.config.resume_from)
        for elder, younger in ((a, b), (b, a))
    )


def require_alike(a: Snapshot, b: Snapshot) -> None:
    """Raise RequestError, which names `b`, unless both generators have weights of the same names and shapes."""
    mine, theirs = vars(a.config.network), vars(b.config.network)
    differing = [f"{name} is {mine[name]} in A, {theirs[name]} in B" for name in ALIKE if mine[name] != theirs[name]]
    if differing:
        raise RequestError(f"`b` {b.path} must be a generator of the same shape as A; {'; '.join(differing)}")


def require_related(a: Snapshot, b: Snapshot) -> None:
    """Raise RequestError, which names `b` and `unrelated`, unless both are known to be of one lineage."""
    if not related(a, b):
        raise RequestError(
            f"`b` {b.path} must be of one lineage with A; {_origin(a, 'A')}, {_origin(b, 'B')}, and neither is of a "
            "run that the other started from. `unrelated` blends them all the same"
        )


def _origin(source: Snapshot, name: str) -> str:
    start = source.config.resume_from
    return f"{name} started from {start[:12]}" if start else f"{name} from random weights"


def _in_run_of(path: Path, digest: str) -> bool:
    # Whether a file of the run that a snapshot lies in has this hash.
    run = path.absolute().parent.parent
    if path.absolute().parent.name != "snapshots" or not (run / "config.json").is_file():
        return False
    files = [*(run / "checkpoints").glob("*.pt"), *(run / "snapshots").glob("snapshot-*.safetensors")]
    return any(sha256(file) == digest for file in files)
