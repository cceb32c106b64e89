"""What `salon curate check` does: every image measured, duplicates and series grouped, suspects flagged."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.child_manifest import stratum_names, stratum_numbers, write_child
from curation.score import copies, duplicates, image_checks
from curation.score.alike import cosines, found_neighbours, nearest_pairs, similar
from curation.score.copies import View
from curation.score.image_checks import EXACT, KNOWN, MISLABELLED, NEAR, Measures
from curation.score.inputs import cluster_of, opened
from curation.score.label_noise import mislabelled
from curation.score.measured_images import measured_images
from curation.score.request import CheckRequest
from eval.data import cluster_features
from eval.data.feature_cache import stored_features_of
from eval.metrics.feature_stats import joined
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images of a dataset that are compared."""

    dataset: ImageDataset
    indices: NDArray[np.int64]  # [M] in the dataset
    keys: list[str | None]  # hash of each one's pixels as prepared, where a manifest tells it

    @classmethod
    def of(cls, collection: Collection) -> "Images":
        """Those that the collection's manifest has."""
        return cls(dataset=collection.dataset, indices=collection.indices, keys=collection.column("pixel_sha256"))

    @classmethod
    def all_of(cls, collection: Collection) -> "Images":
        """All images of the dataset; it may have no manifest."""
        told = dict(zip(collection.indices.tolist(), collection.column("pixel_sha256"), strict=True))
        indices = np.arange(len(collection.dataset))
        return cls(dataset=collection.dataset, indices=indices, keys=[told.get(index) for index in indices.tolist()])


def check(request: CheckRequest) -> dict[str, Any]:
    """Write a manifest with hashes, groups, measures and flags -> figures.

    Raises RequestError when the dataset has no manifest, or no image has a value in the column `request.labels`.
    """
    with opened(request) as (collection, extractors), cluster_of(request) as cluster:
        extractor = extractors["content"]
        labels = None if request.labels is None else stratum_numbers(collection, request.labels)
        images = Images.of(collection)
        known = None if request.known is None else _known(request.known, collection)
        sets = [images] if known is None else [known, images]  # the known first
        measured = [measured_images(one.dataset, one.indices, cluster) for one in sets]
        if cluster is not None:
            for one in sets:
                cluster_features.extract(one.dataset, one.indices, extractor, cluster, request.weights)
        measures = [m for m, _ in measured[-1]]
        views = [some for of_set in measured for _, some in of_set]
        features = [stored_features_of(one.dataset, one.indices, extractor) for one in sets]
        first_new = 0 if known is None else len(known.indices)
        together = joined(features) if len(features) > 1 else features[0]
        near = found_neighbours(together, extractor.gpu)
        alike = similar(together, copies.MIN_COSINE, extractor.gpu, near)
        cosine = cosines(together, alike)
        every = _groups(sets, views, alike[nearest_pairs(alike, cosine)], first_new)
        known_copy = _known_copies(every, first_new)
        group = renumbered(every[first_new:])
        of_series = alike[(cosine >= duplicates.MIN_SERIES) & (alike >= first_new).all(axis=1)]
        series = duplicates.groups(of_series - first_new, len(group))
        series[group >= 0] = np.where(series == group, -1, series)[group >= 0]  # near duplicates alone are no series
        own = near if known is None or near is None else found_neighbours(features[-1], extractor.gpu)
        wrong = {} if labels is None else mislabelled(features[-1], labels, extractor.gpu, own)
        pixels = _pixels(collection, views[first_new:])
        best_first = np.argsort(-pixels, kind="stable")
        best = best_copies(group, best_first)
        flags = _flags(collection, measures, best, best_first, wrong)
        for place in np.flatnonzero(known_copy >= 0).tolist():
            flags[place].append(KNOWN)
        columns = {
            "perceptual_hash": pa.array([duplicates.to_text(some[0][0]) for some in views[first_new:]]),
            "embedding_group": _group_column(group),
            "check_pixels": pa.array(pixels),
            "copy_of": _names(images, np.where(best == np.arange(len(best)), -1, best)),
            **({} if known is None else {"known_copy": _names(known, known_copy)}),
            **({} if request.labels is None else {"probable_label": _probable(collection, request.labels, wrong)}),
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
            "known": None if request.known is None else request.known.name,
            "extractor": extractor.identity,
        }
        digest = write_child(collection, request.out, columns, parameters=parameters)
    return {
        "images": len(group),
        "flagged": sum(bool(codes) for codes in flags),
        "flags": dict(Counter(code for codes in flags for code in codes).most_common()),
        "duplicate_groups": len(np.unique(group[group >= 0])),
        **({} if known is None else {"known_images": first_new}),
        "series_groups": len(np.unique(series[series >= 0])),
        "neighbours_recall": None if near is None else asdict(near.recall),
        "manifest": str(request.out),
        "hash": digest,
        **parameters,
    }


def _known(path: Path, collection: Collection) -> Images:
    # The dataset that new images are compared with.
    known = Collection.open(path)
    if known.fingerprint == collection.fingerprint:
        raise RequestError(f"`known` must be another dataset than the one that is checked; got {path} for both")
    return Images.all_of(known)


def _groups(
    sets: list[Images],
    views: list[list[View]],
    alike: duplicates.Pairs,
    first_new: int,
) -> NDArray[np.int64]:
    # Groups of copies among the images of all sets, of which those from `first_new` on are compared with all.
    images = [(one.dataset, index) for one in sets for index in one.indices.tolist()]
    same = exact_pairs([key for one in sets for key in one.keys])
    near = copies.find(
        copies.collected(views), alike, lambda place: images[place][0].rgb(images[place][1]), first_new, same
    )
    return duplicates.groups(np.concatenate([same, near]), len(images))


def _known_copies(group: NDArray[np.int64], first_new: int) -> NDArray[np.int64]:
    # Groups of the known and the new images [K + N] -> the known image of each new one's group, -1 where there is none.
    known, first = np.unique(group[:first_new], return_index=True)
    place = dict(zip(known.tolist(), first.tolist(), strict=True))
    return np.array([place.get(number, -1) if number >= 0 else -1 for number in group[first_new:].tolist()], np.int64)


def renumbered(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups [N] in any numbers, -1 for an image alone -> those of two images at least, named by their first."""
    _, first, inverse, counts = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    return np.asarray(np.where((group >= 0) & (counts[inverse] > 1), first[inverse], -1), np.int64)


def _pixels(collection: Collection, views: list[list[View]]) -> NDArray[np.float64]:
    # How many pixels of the originals show the picture, without border and frame; 0 where that is not known.
    width, height = _size(collection)
    inside = [copies.area(some[-1], collection.dataset.shape.area) for some in views]
    return np.asarray(width * height * np.array(inside), np.float64)


def _size(collection: Collection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    width, height = (
        np.array([side or 0 for side in collection.column(name)], np.int64) for name in ("width", "height")
    )
    return width, height


def _names(images: Images, places: NDArray[np.int64]) -> pa.Array:
    # Names in the dataset of the images at these places; null for -1.
    names = images.dataset.names
    return pa.array([names[images.indices[p]] if p >= 0 else None for p in places.tolist()], pa.string())


def _probable(collection: Collection, column: str, wrong: dict[int, int]) -> pa.Array:
    # The label that speaks for itself in each mislabelled image, by its name; null for all others.
    names = stratum_names(collection, column)
    labels: list[str | None] = [None] * len(names)
    for place, example in wrong.items():
        labels[place] = names[example]
    return pa.array(labels, pa.string())


def _flags(
    collection: Collection,
    measures: list[Measures],
    best: NDArray[np.int64],
    best_first: NDArray[np.int64],
    wrong: Iterable[int],
) -> list[list[str]]:
    # Codes of each image; `best` [M] are the places of the best copies, `wrong` those of wrong labels.
    flags = image_checks.flags(measures, *_size(collection), collection.dataset.shape)
    for place in exact(collection.column("pixel_sha256"), best_first):
        flags[place].append(EXACT)
    for place in np.flatnonzero(best != np.arange(len(best))).tolist():
        if EXACT not in flags[place]:
            flags[place].append(NEAR)
    for place in wrong:
        flags[place].append(MISLABELLED)
    return flags


def exact(keys: list[str | None], order: NDArray[np.int64]) -> list[int]:
    """Places of images whose content comes before them in `order`, by a hash of the content; None is like nothing."""
    first: dict[str | None, int] = {}
    return [place for place in order.tolist() if (key := keys[place]) and first.setdefault(key, place) != place]


def exact_pairs(keys: list[str | None]) -> duplicates.Pairs:
    """Pairs of each image and the first of the same content, by a hash of the content -> [P, 2]."""
    first: dict[str | None, int] = {}
    pairs = [(first.setdefault(key, place), place) for place, key in enumerate(keys) if key]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)


def best_copies(group: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups [N], -1 for an image alone -> places [N] of the copies first in `order`; one alone is its own."""
    best = np.arange(len(group))
    together = order[group[order] >= 0]
    _, first, inverse = np.unique(group[together], return_index=True, return_inverse=True)
    best[together] = together[first][inverse]
    return best


def _group_column(group: NDArray[np.int64]) -> pa.Array:
    return pa.array(group, pa.int64(), mask=group < 0)
