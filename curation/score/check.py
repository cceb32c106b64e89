"""What `salon curate check` does: every image measured, duplicates and series grouped, suspects flagged."""

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.collection import Collection
from curation.score import duplicates, image_checks
from curation.score.density import BLOCK, normalized
from curation.score.image_checks import EXACT, MISLABELLED, NEAR, Measures
from eval.data.feature_cache import features_of
from eval.features.extractor import Extractor
from eval.metrics.neighbours import neighbours
from gan.runtime.console import progress
from gan.runtime.parallel import ordered_map

NEIGHBOURS = 10  # of an image, that speak for its label
MIN_AGREEMENT = 0.8  # share of the neighbours that agree on another label
MIN_LIFT = 1.5
MIN_CLASS = 20  # images

Floats = NDArray[np.float32]


def check(collection: Collection, extractor: Extractor, out: Path, labels: str) -> dict[str, Any]:
    """Write a manifest with hashes, groups, measures and flags -> figures. `labels` is the column to doubt, or none."""
    dataset, indices = collection.dataset, collection.indices

    def look(index: int) -> tuple[Measures, int]:
        pixels = dataset.pixels(index).transpose(1, 2, 0)  # CHW -> HWC
        return image_checks.measure(pixels), duplicates.perceptual_hash(pixels)

    with ThreadPoolExecutor() as pool:
        looks = ordered_map(pool, look, (int(i) for i in indices))
        seen = list(progress(looks, "Measuring", len(indices)))
    measures = [found for found, _ in seen]
    hashes = np.array([value for _, value in seen], np.uint64)
    features = features_of(dataset, indices, extractor)
    near = duplicates.confirmed(duplicates.near_hashes(hashes), features)
    group = duplicates.groups(near, len(indices))
    series = duplicates.groups(similar(features), len(indices))
    series[group >= 0] = np.where(series == group, -1, series)[group >= 0]  # what is one picture is no series

    sizes = [np.array([value or 0 for value in collection.column(side)], np.int64) for side in ("width", "height")]
    flags = image_checks.flags(measures, sizes[0], sizes[1], dataset.resolution)
    for place in exact(collection.column("pixel_sha256")):
        flags[place].append(EXACT)
    for place in np.flatnonzero((group >= 0) & (group != np.arange(len(group)))).tolist():  # the first stays clean
        if EXACT not in flags[place]:
            flags[place].append(NEAR)
    if labels != "none":
        for place in mislabelled(features, collection.strata(labels)):
            flags[place].append(MISLABELLED)

    counts = Counter(code for codes in flags for code in codes)
    columns = {
        "perceptual_hash": pa.array([duplicates.to_text(int(value)) for value in hashes]),
        "embedding_group": _group_column(group),
        "series_group": _group_column(series),
        "flags": pa.array([",".join(codes) or None for codes in flags], pa.string()),
        **{
            f"check_{f.name}": pa.array([float(getattr(m, f.name)) for m in measures], pa.float64())
            for f in fields(Measures)
        },
    }
    parameters = {"command": "salon curate check", "labels": labels, "extractor": extractor.identity}
    digest = collection.write(out, columns, parameters=parameters)
    return {
        "images": len(indices),
        "flagged": sum(bool(codes) for codes in flags),
        "flags": dict(counts.most_common()),
        "duplicate_groups": len(np.unique(group[group >= 0])),
        "series_groups": len(np.unique(series[series >= 0])),
        "manifest": str(out),
        "hash": digest,
        **parameters,
    }


def exact(keys: list[str | None]) -> list[int]:
    """Places of images whose content was there before, by a hash of the content; None is like nothing."""
    first: dict[str, int] = {}
    return [place for place, key in enumerate(keys) if key and first.setdefault(key, place) != place]


def similar(features: Floats, least: float = duplicates.MIN_SERIES) -> duplicates.Pairs:
    """Pairs of features [N, dim] with a cosine of `least` or more around the set's mean, block by block -> [P, 2]."""
    unit = normalized(features - features.mean(axis=0))
    found = [np.empty([0, 2], np.int64)]
    for a in range(0, len(unit), BLOCK):
        for b in range(a, len(unit), BLOCK):
            pairs: duplicates.Pairs = np.argwhere(unit[a : a + BLOCK] @ unit[b : b + BLOCK].T >= least)
            pairs += np.array([a, b])
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def mislabelled(features: Floats, labels: NDArray[np.int64]) -> list[int]:
    """Places of images whose nearest neighbours agree on another label, and hardly one has theirs.

    Neighbours are weighted by how rare their label is, so that a large class does not outvote a small one. Nor does it
    where it is around everything: the label must be MIN_LIFT times as frequent among the neighbours as in the set.
    Classes of fewer than MIN_CLASS images are left alone.
    """
    unit = normalized(features - features.mean(axis=0))
    labels, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    found = []
    for place, (own, near) in enumerate(zip(labels, labels[most_alike(unit, NEIGHBOURS)], strict=True)):
        votes: dict[int, float] = defaultdict(float)
        for label in near:
            votes[int(label)] += 1 / counts[label]
        best = max(votes, key=lambda label: votes[label])
        agreed = best != own and votes[best] / sum(votes.values()) >= MIN_AGREEMENT and (near == own).sum() <= 1
        telling = (near == best).mean() >= MIN_LIFT * counts[best] / len(labels)
        if agreed and telling and min(counts[own], counts[best]) >= MIN_CLASS:
            found.append(place)
    return found


def most_alike(unit: Floats, k: int) -> NDArray[np.int64]:
    """Of each unit vector [N, dim] the `k` others (or all, where fewer) of the largest cosine, places [N, k]."""
    k = min(k, len(unit) - 1)
    return neighbours(unit, k, dtype=np.float32).indices if k else np.empty([len(unit), 0], np.int64)


def _group_column(group: NDArray[np.int64]) -> pa.Array:
    return pa.array(group, pa.int64(), mask=group < 0)
