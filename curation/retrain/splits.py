"""The split of a dataset when a curation is put to the test: the held-out images, and the images of the three arms.

curated: what the manifest keeps. full: every image. random: as many as curated, drawn from full. No arm has a held-out
image. Each set is a manifest of its own, whose parent is the one that is tested; so the data of an arm can be looked
at, and trained on again, as any other.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.data import manifest as manifests
from gan.data.manifest import DROP, KEEP, SCHEMA, Manifest

Indices = NDArray[np.int64]  # of images in the dataset, rising

ARMS = ("curated", "full", "random")
HELD_OUT, NOT_DRAWN, FOR_TRAINING = "held-out", "not-drawn", "for-training"  # reasons in the manifests
REVIEWER = "curate retrain"
_SPLIT, _DRAW = 0, 1  # streams of random numbers


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The split of a dataset. `random` has a draw for each repeat."""

    held_out: Indices  # empty where another dataset evaluates
    curated: Indices
    full: Indices
    random: tuple[Indices, ...]

    def of(self, arm: str, repeat: int) -> Indices:
        """What an arm learns from."""
        return {"curated": self.curated, "full": self.full}[arm] if arm != "random" else self.random[repeat]


def hold_out(candidates: Indices, strata: Sequence[str | None], share: float, seed: int) -> Indices:
    """Choose round(share * N) of N candidates at random, of each stratum its share, up to rounding.

    `strata` names the stratum of every image of the dataset; those without one are a stratum of their own.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index in candidates.tolist():
        groups[strata[index] or ""].append(index)
    names = sorted(groups)
    exact = np.array([share * len(groups[name]) for name in names])
    counts = np.floor(exact).astype(int)
    # Largest remainders get what rounding down has left over.
    left = round(share * len(candidates)) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    rng = np.random.default_rng([seed, _SPLIT])
    held_out = [rng.permutation(groups[name])[:count] for name, count in zip(names, counts, strict=True)]
    return np.sort(np.concatenate(held_out)).astype(np.int64)


def split(kept: Indices, count: int, held_out: Indices, *, repeats: int, seed: int) -> Sets:
    """The arms' images, of `count` in the dataset, of which a manifest keeps `kept`."""
    full = np.setdiff1d(np.arange(count, dtype=np.int64), held_out)
    curated = np.setdiff1d(kept, held_out)
    draws = [np.random.default_rng([seed, _DRAW, repeat]) for repeat in range(repeats)]
    random = tuple(np.sort(rng.choice(full, len(curated), replace=False)) for rng in draws)
    return Sets(held_out=held_out, curated=curated, full=full, random=random)


def write_set(
    path: Path,
    parent: Manifest,
    names: Sequence[str],
    kept: Indices,
    held_out: Indices,
    *,
    reason: str,
    **details: Any,
) -> str:
    """Write the manifest that keeps the images at `kept` of a dataset's `names` -> its hash; one that is there stays.

    What `parent` left out keeps its reason, held-out images get HELD_OUT, and all others `reason`.
    """
    if path.exists():
        return manifests.read(path, []).hash
    keep, held = {names[index] for index in kept}, {names[index] for index in held_out}
    rows = _rows(parent, names, keep, held, reason)
    return manifests.write(path, rows, dataset=parent.dataset, parent=parent.hash, **details)


def _rows(
    parent: Manifest, names: Sequence[str], keep: Collection[str], held: Collection[str], reason: str
) -> Iterator[dict[str, Any]]:
    missing = set(names)
    for part in manifests.parts(parent.path, SCHEMA.names):
        for row in part.to_pylist():
            missing.discard(row["name"])
            yield _decided(row, keep, held, reason) if row["name"] else row
    for name in sorted(missing):  # the parent does not know them, and so does not keep them
        yield _decided({column: name if column == "name" else None for column in SCHEMA.names}, keep, held, reason)


def _decided(row: dict[str, Any], keep: Collection[str], held: Collection[str], reason: str) -> dict[str, Any]:
    if row["name"] in keep:
        return {**row, "verdict": KEEP, "reason": None, "reviewer": REVIEWER}
    if row["name"] in held:
        return {**row, "verdict": DROP, "reason": HELD_OUT, "reviewer": REVIEWER}
    if row["verdict"] in (KEEP, None):
        return {**row, "verdict": DROP, "reason": reason, "reviewer": REVIEWER}
    return row
