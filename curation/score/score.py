"""What `salon curate score` does: features, a state to score with, scores with standard errors, a new manifest."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from curation.collection import Collection
from curation.score import density, discriminator_scores
from eval.data.feature_cache import features_of
from eval.features.extractor import Extractor
from gan import snapshot
from gan.config import make_config
from gan.data import manifest
from gan.errors import RequestError
from gan.runtime import distributed

METHODS = (*density.METHODS, *discriminator_scores.METHODS)
Columns = dict[str, NDArray[np.float64]]


def score(
    collection: Collection,
    extractor: Extractor,
    out: Path,
    *,
    methods: Sequence[str] = density.METHODS,
    strata: str = "none",
    seed: int = 0,
    state: Path | None = None,
    known: Path | None = None,
    snapshots: Path | None = None,
    folder: Path | None = None,
    preset: str = "tiny",
    kimg: float = 20.0,
    device: torch.device,
) -> dict[str, Any]:
    """Write a manifest with score_METHOD and score_METHOD_se for each of `methods` -> figures.

    density and knn are fitted on all images and saved to `state`; where that file exists, it scores with it instead.
    Images that the manifest `known` has scored, by the hash of their pixels, keep those scores and are not looked at.
    d-low needs `snapshots`: a file, a run, or a folder of runs; d-core and d-cross train in `folder`.
    Raises RequestError for what does not go together.
    """
    started = time.perf_counter()
    by_density = [method for method in methods if method in density.METHODS]
    if known is not None and (set(methods) - set(density.METHODS) or state is None or not state.exists()):
        raise RequestError("--known needs an existing --state, and the methods density and knn alone")
    if snapshots is not None and "d-low" not in methods:
        raise RequestError("--run needs --method d-low; other methods look at no run")
    if folder is not None and not {"d-core", "d-cross"} & set(methods):
        raise RequestError("--folder needs --method d-core or d-cross, which train in it")
    columns = {
        f"score_{name(method)}{part}": np.full(len(collection.rows), np.nan)
        for method in methods
        for part in ("", "_se")
    }
    fresh = np.arange(len(collection.rows)) if known is None else _keep_known(collection, known, columns)
    groups = collection.strata(strata)
    typical = None
    if by_density or "d-core" in methods:
        features = features_of(collection.dataset, collection.indices[fresh], extractor)
        fitted = state is None or not state.exists()
        if fitted:
            model = density.fit(features, groups[fresh], seed=seed, extractor=extractor.key)
            with distributed.main_first():
                if state is not None and distributed.is_main():
                    model.save(state)
        else:
            assert state is not None
            model = density.load(state)
            if model.extractor != extractor.key:
                raise RequestError(
                    f"--state {state} must be of the features {extractor.key}; it is of {model.extractor}"
                )
        pooled = density.pool_small(groups[fresh]) if fitted else groups[fresh]
        found = density.score(model, features, pooled, fitted=fitted) if len(fresh) else {}
        for method in by_density if len(fresh) else ():
            _set(columns, method, found[method], fresh)
        if "d-core" in methods:
            typical = density.fused_ranks([found[m][0] for m in density.METHODS], pooled)
    _by_discriminators(collection, columns, methods, typical, snapshots, folder, preset, kimg, seed, device)
    parameters = {
        **{"command": "salon curate score", "methods": list(methods), "strata": strata, "seed": seed},
        **{"extractor": extractor.identity, "state": None if state is None else state.name},
    }
    digest = collection.write(
        out,
        {key: pa.array(values, pa.float64(), from_pandas=True) for key, values in columns.items()},
        parameters=parameters,
    )
    seconds = time.perf_counter() - started
    return {
        "images": len(collection.rows),
        "scored": len(fresh),
        "seconds": round(seconds, 3),
        "images_per_second": round(len(fresh) / seconds, 1),
        "manifest": str(out),
        "hash": digest,
        **parameters,
    }


def name(method: str) -> str:
    """A method as its columns name it: d-low -> d_low."""
    return method.replace("-", "_")


def _by_discriminators(
    collection: Collection,
    columns: Columns,
    methods: Sequence[str],
    typical: NDArray[np.float64] | None,
    snapshots: Path | None,
    folder: Path | None,
    preset: str,
    kimg: float,
    seed: int,
    device: torch.device,
) -> None:
    dataset, indices = collection.dataset, collection.indices
    every = np.arange(len(indices))
    if "d-low" in methods:
        if snapshots is None:
            raise RequestError("--method d-low needs --run: a snapshot, a run or a folder of runs")
        _set(
            columns,
            "d-low",
            discriminator_scores.d_low(_snapshots(snapshots), dataset, indices, device, seed=seed),
            every,
        )
    if not {"d-core", "d-cross"} & set(methods):
        return
    if folder is None:
        raise RequestError("--method d-core and d-cross need --folder, where their discriminators are trained")
    config = make_config(
        preset=preset,
        resolution=dataset.resolution,
        num_classes=0,
        dataset=collection.manifest.dataset,
        manifest=collection.manifest.hash,
        overrides={"seed": seed, "mirror": True},
    )
    if "d-core" in methods:
        assert typical is not None
        _set(
            columns,
            "d-core",
            discriminator_scores.d_core(folder, config, kimg, dataset, indices, typical, device),
            every,
        )
    if "d-cross" in methods:
        _set(columns, "d-cross", discriminator_scores.d_cross(folder, config, kimg, dataset, indices, device), every)


def _snapshots(path: Path) -> list[snapshot.Snapshot]:
    # All that a run kept: one snapshot's logit is noisy.
    kept = snapshot.list_newest_first(path / "snapshots") if path.is_dir() else []
    return [snapshot.load(file) for file in kept] or [snapshot.find(path)]


def _set(columns: Columns, method: str, found: tuple[NDArray[Any], NDArray[Any]], rows: NDArray[np.int64]) -> None:
    for part, values in zip(("", "_se"), found, strict=True):
        columns[f"score_{name(method)}{part}"][rows] = values


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
