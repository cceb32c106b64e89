"""What `salon curate score` does: features, fitted models, scores with their standard errors, a new manifest."""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.child_manifest import stratum_names, stratum_numbers, write_child
from curation.score import density, discriminator_scores, image_score
from curation.score.inputs import cluster_of, opened
from curation.score.methods import BY_FEATURES, of_features, score_column
from curation.score.request import ScoreRequest
from eval.data import cluster_features
from eval.data.feature_cache import stored_features_of
from eval.features.extractor import Extractor
from gan import snapshot
from gan.data import manifest
from gan.data.collection import Collection
from gan.errors import RequestError
from gan.runtime import distributed

Columns = dict[str, NDArray[np.float64]]
Models = dict[str, dict[str, int]]  # own, pooled or all -> stratum -> images
Scores = tuple[NDArray[np.float64], NDArray[np.float64]]  # scores [N], and their standard errors [N]


def score(request: ScoreRequest) -> dict[str, Any]:
    """Write a manifest with score_METHOD and score_METHOD_se for each of `request.methods` -> figures.

    density and knn are fitted on all images and saved to `state`; where that file exists, it scores with it instead.
    Raises RequestError for a request that does not fit the collection, or the state.
    """
    with opened(request) as (collection, extractors):
        return score_collection(collection, extractors, request)


def score_collection(
    collection: Collection, extractors: Mapping[str, Extractor], request: ScoreRequest
) -> dict[str, Any]:
    """The same for a collection and extractors that are open, by what they see of an image: content, style."""
    started = time.perf_counter()
    count = len(collection.rows)
    by_features = [method for method in request.methods if method in BY_FEATURES]
    offered = image_score.load_all(request.methods)
    compared = [*by_features, *(name for name, own in offered.items() if own.score.of_features)]
    others = [method for method in request.methods if method not in compared]
    methods = [of_features(method, features) for features in extractors for method in compared] + others
    columns = {f"{score_column(method)}{part}": np.full(count, np.nan) for method in methods for part in ("", "_se")}
    fresh = np.arange(count) if request.known is None else _keep_known(collection, request.known, columns)
    by_method: dict[str, Scores] = {}
    models: Models | None = None
    if request.engine == "ray" and len(fresh) and compared:
        with cluster_of(request) as cluster:
            for features, extractor in extractors.items():
                weights = request.weights if features == "content" else None
                assert cluster is not None
                cluster_features.extract(collection.dataset, collection.indices[fresh], extractor, cluster, weights)
    for features, extractor in extractors.items():
        if len(fresh) and by_features:
            found, models = _by_features(collection, extractor, request, fresh, standardized=features == "style")
            by_method |= {of_features(method, features): scores for method, scores in found.items()}
        for method in compared[len(by_features) :]:
            by_method[of_features(method, features)] = offered[method].by_features(collection, fresh, extractor)
    for method in offered.keys() - {*compared}:
        by_method[method] = offered[method].by_images(collection, fresh)
    if request.run is not None:
        device = next(iter(extractors.values())).device
        by_method["d-low"] = discriminator_scores.d_low(
            _snapshots(request.run), collection.dataset, collection.indices, device, seed=request.seed
        )
    for method in by_method.keys() & set(methods):
        for part, values in zip(("", "_se"), by_method[method], strict=True):
            columns[f"{score_column(method)}{part}"][fresh] = values
    parameters = {
        "command": "salon curate score",
        "methods": methods,
        "strata": request.strata or "none",
        "models": models if request.strata else None,
        "seed": request.seed,
        "extractor": next(iter(extractors.values())).identity,
        "extractors": {features: extractor.identity for features, extractor in extractors.items()},
        "state": None if request.state is None else request.state.name,
    }
    if offered:
        parameters["packages"] = {method: own.package for method, own in offered.items()}
    arrays = {name: pa.array(values, pa.float64(), from_pandas=True) for name, values in columns.items()}
    digest = write_child(collection, request.out, arrays, parameters=parameters)
    seconds = time.perf_counter() - started
    return {
        "images": count,
        "scored": len(fresh),
        "seconds": round(seconds, 3),
        "images_per_second": round(len(fresh) / seconds, 1),
        "manifest": str(request.out),
        "hash": digest,
        **parameters,
    }


def _by_features(
    collection: Collection,
    extractor: Extractor,
    request: ScoreRequest,
    fresh: NDArray[np.int64],
    *,
    standardized: bool,
) -> tuple[dict[str, Scores], Models]:
    # Method -> scores of the images at the places `fresh`, and what they were compared with. All processes look for the
    # state before one writes it.
    fitted = request.state is not None and request.state.exists()
    strata = stratum_numbers(collection, request.strata)[fresh]
    features = stored_features_of(collection.dataset, collection.indices[fresh], extractor)
    if request.state is not None and fitted:
        state = density.load(request.state)
        if state.extractor != extractor.key:
            raise RequestError(
                f"`state` {request.state} must be of the features {extractor.key}; it is of {state.extractor}"
            )
        scores = density.score(state, features, strata, fitted=False, device=extractor.gpu)
        return scores, _models(collection, request.strata, fresh, state, strata)
    state = density.fit(
        features,
        strata,
        seed=request.seed,
        extractor=extractor.key,
        standardized=standardized,
        device=extractor.gpu,
    )
    with distributed.main_first():
        if request.state is not None and distributed.is_main():
            state.save(request.state)
    pooled = density.pool_small(strata)
    scores = density.score(state, features, pooled, fitted=True, device=extractor.gpu)
    return scores, _models(collection, request.strata, fresh, state, pooled)


def _models(
    collection: Collection, column: str | None, fresh: NDArray[np.int64], state: density.State, strata: density.Strata
) -> Models:
    # What each image was compared with: its own stratum, the pool of the small ones, or where there is none, all.
    names = stratum_names(collection, column)
    others = "pooled" if density.POOLED in state.strata else "all"
    models: dict[str, Counter[str]] = {"own": Counter(), others: Counter()}
    for place, number in zip(fresh.tolist(), strata.tolist(), strict=True):
        own = number in state.strata and number != density.POOLED
        models["own" if own else others][names[place]] += 1
    return {kind: dict(sorted(counts.items())) for kind, counts in models.items() if counts}


def _snapshots(path: Path) -> list[snapshot.Snapshot]:
    # All that a run kept: one snapshot's logit is noisy.
    kept = snapshot.list_newest_first(path / "snapshots") if path.is_dir() else []
    return [snapshot.load(file) for file in kept] or [snapshot.find(path)]


def _keep_known(collection: Collection, known: Path, columns: Columns) -> NDArray[np.int64]:
    # Fill in what `known` has scored -> places of the others.
    table = manifest.read(known, ["pixel_sha256", *columns]).rows
    keys = table.column("pixel_sha256").to_pylist()
    old = {key: column.to_numpy(zero_copy_only=False) for key, column in zip(columns, table.columns[1:], strict=True)}
    scored = ~np.isnan(next(iter(old.values())))
    row_of = {key: row for row, key in enumerate(keys) if key and scored[row]}
    places = [(place, row_of[key]) for place, key in enumerate(collection.column("pixel_sha256")) if key in row_of]
    for place, row in places:
        for key, values in old.items():
            columns[key][place] = values[row]
    return np.setdiff1d(np.arange(len(collection.rows)), [place for place, _ in places])
