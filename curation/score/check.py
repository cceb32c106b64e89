"""What `salon curate check` does: every image measured, duplicates and series grouped, suspects flagged."""

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.child_manifest import stratum_numbers, write_child
from curation.score import duplicates, image_checks
from curation.score.density import BLOCK, normalized
from curation.score.image_checks import EXACT, MISLABELLED, NEAR, Measures
from curation.score.inputs import opened
from curation.score.request import CheckRequest
from eval.data.feature_cache import features_of
from eval.metrics.feature_stats import as_features
from eval.metrics.neighbours import neighbours
from gan.data.collection import Collection
from gan.runtime.console import progress
from gan.runtime.parallel import ordered_map

if TYPE_CHECKING:
    import torch  # only named here

NEIGHBOURS = 10  # of an image, that speak for its label
MIN_AGREEMENT = 0.8  # share of the neighbours that agree on another label
MIN_LIFT = 1.5
MIN_CLASS = 20  # images

Floats = NDArray[np.float32]


def check(request: CheckRequest) -> dict[str, Any]:
    """Write a manifest with hashes, groups, measures and flags -> figures.

    Raises RequestError when the dataset has no manifest, or no image has a value in the column `request.labels`.
    """
    with opened(request) as (collection, extractor):
        labels = None if request.labels is None else stratum_numbers(collection, request.labels)
        measures, hashes = _measure(collection)
        features = features_of(collection.dataset, collection.indices, extractor)
        near = duplicates.confirmed(duplicates.near_hashes(hashes), features)
        group = duplicates.groups(near, len(hashes))
        series = duplicates.groups(similar(features, device=extractor.gpu), len(hashes))
        series[group >= 0] = np.where(series == group, -1, series)[group >= 0]  # near duplicates alone are no series
        wrong = [] if labels is None else mislabelled(features, labels, extractor.gpu)
        flags = _flags(collection, measures, group, wrong)
        columns = {
            "perceptual_hash": pa.array([duplicates.to_text(int(value)) for value in hashes]),
            "embedding_group": _group_column(group),
            "series_group": _group_column(series),
            "flags": pa.array([",".join(codes) or None for codes in flags], pa.string()),
            **{
                f"check_{field.name}": pa.array([float(getattr(m, field.name)) for m in measures], pa.float64())
                for field in fields(Measures)
            },
        }
        parameters = {
            "command": "salon curate check",
            "labels": request.labels or "none",
            "extractor": extractor.identity,
        }
        digest = write_child(collection, request.out, columns, parameters=parameters)
    return {
        "images": len(hashes),
        "flagged": sum(bool(codes) for codes in flags),
        "flags": dict(Counter(code for codes in flags for code in codes).most_common()),
        "duplicate_groups": len(np.unique(group[group >= 0])),
        "series_groups": len(np.unique(series[series >= 0])),
        "manifest": str(request.out),
        "hash": digest,
        **parameters,
    }


def _measure(collection: Collection) -> tuple[list[Measures], duplicates.Hashes]:
    # Measures and perceptual hashes of the images at collection.indices.
    def measure(index: int) -> tuple[Measures, int]:
        pixels = collection.dataset.image(index)
        return image_checks.measure(pixels), duplicates.perceptual_hash(pixels)

    with ThreadPoolExecutor() as pool:
        pairs = ordered_map(pool, measure, collection.indices.tolist())
        measured = list(progress(pairs, "Measuring", len(collection.indices)))
    return [measures for measures, _ in measured], np.array([value for _, value in measured], np.uint64)


def _flags(
    collection: Collection, measures: list[Measures], group: NDArray[np.int64], wrong: list[int]
) -> list[list[str]]:
    # Codes of each image; `group` [M] are near duplicates, -1 for an image alone, `wrong` the places of wrong labels.
    width, height = (
        np.array([side or 0 for side in collection.column(name)], np.int64) for name in ("width", "height")
    )
    flags = image_checks.flags(measures, width, height, collection.dataset.resolution)
    best_first = np.argsort(-width * height, kind="stable")
    for place in exact(collection.column("pixel_sha256"), best_first):
        flags[place].append(EXACT)
    for place in np.flatnonzero((group >= 0) & (best_copies(group, best_first) != np.arange(len(group)))).tolist():
        if EXACT not in flags[place]:
            flags[place].append(NEAR)
    for place in wrong:
        flags[place].append(MISLABELLED)
    return flags


def exact(keys: list[str | None], order: NDArray[np.int64]) -> list[int]:
    """Places of images whose content comes before them in `order`, by a hash of the content; None is like nothing."""
    first: dict[str | None, int] = {}
    return [place for place in order.tolist() if (key := keys[place]) and first.setdefault(key, place) != place]


def best_copies(group: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups [N], -1 for an image alone -> places [N] of the copies first in `order`; one alone is its own."""
    best = np.arange(len(group))
    together = order[group[order] >= 0]
    _, first, inverse = np.unique(group[together], return_index=True, return_inverse=True)
    best[together] = together[first][inverse]
    return best


def similar(
    features: Floats, least: float = duplicates.MIN_SERIES, device: "torch.device | None" = None
) -> duplicates.Pairs:
    """Pairs of features [N, dim] with a cosine of `least` or more around the set's mean, block by block -> [P, 2].

    Searched on a `device` where one is given.
    """
    unit = normalized(features - features.mean(axis=0))
    if device is not None:
        from eval.metrics import on_device

        return on_device.alike(as_features(unit), least, device)
    blocks = [np.empty([0, 2], np.int64)]
    for a in range(0, len(unit), BLOCK):
        for b in range(a, len(unit), BLOCK):
            pairs: duplicates.Pairs = np.argwhere(unit[a : a + BLOCK] @ unit[b : b + BLOCK].T >= least)
            pairs += np.array([a, b])
            blocks.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(blocks)


def mislabelled(features: Floats, labels: NDArray[np.int64], device: "torch.device | None" = None) -> list[int]:
    """Places of images whose nearest neighbours agree on another label, and hardly one has theirs.

    Neighbours are weighted by how rare their label is, so that a large class does not outvote a small one. Nor does it
    where it is around everything: the label must be MIN_LIFT times as frequent among the neighbours as in the set.
    Classes of fewer than MIN_CLASS images are left alone. Neighbours are searched on a `device` where one is given.
    """
    unit = normalized(features - features.mean(axis=0))
    labels, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    places = []
    for place, (own, near) in enumerate(zip(labels, labels[most_alike(unit, NEIGHBOURS, device)], strict=True)):
        votes: dict[int, float] = defaultdict(float)
        for label in near:
            votes[int(label)] += 1 / counts[label]
        best = max(votes, key=lambda label: votes[label])
        share = votes[best] / sum(votes.values()) + 1e-9  # 8 of 10 are 0.8, in whichever order they are added up
        agreed = best != own and share >= MIN_AGREEMENT and (near == own).sum() <= 1
        telling = (near == best).mean() >= MIN_LIFT * counts[best] / len(labels)
        if agreed and telling and min(counts[own], counts[best]) >= MIN_CLASS:
            places.append(place)
    return places


def most_alike(unit: Floats, k: int, device: "torch.device | None" = None) -> NDArray[np.int64]:
    """Of each unit vector [N, dim] the `k` others (or all, where fewer) of the largest cosine, places [N, k]."""
    k = min(k, len(unit) - 1)
    if not k:
        return np.empty([len(unit), 0], np.int64)
    return neighbours(unit, k, dtype=np.float32, device=device).indices


def _group_column(group: NDArray[np.int64]) -> pa.Array:
    return pa.array(group, pa.int64(), mask=group < 0)
