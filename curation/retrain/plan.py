"""What a retraining experiment will do, checked before anything is written: start, images of each arm, evaluation."""

import copy
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.retrain import splits
from curation.retrain.request import REPEATS, SHORT, RetrainRequest
from curation.retrain.splits import ARMS, Sets
from eval.data.reference import NEIGHBOURS
from eval.suite import default_extractor, parse_weights
from gan.config import FROM_WEIGHTS, TrainingConfig
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.data.manifest import Manifest
from gan.device.selection import select
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.console import progress
from gan.runtime.files import read_json, sha256
from gan.training import checkpoint

FORMAT = "salon-retraining-1"
METRICS = ("fid", "kid", "pr", "dc")
PLAN, START = "plan.json", "start.pt"  # in the experiment's folder
AUTO = ("label", "style", "genre")  # columns of strata, of which the first counts that parts the images


class RetrainPlan:
    """A request that was checked. `identity` is all that decides the outcome, as plain values.

    Raises RequestError for what does not fit together.
    """

    def __init__(self, request: RetrainRequest) -> None:
        self.request = request
        self.repeats = request.repeats or (REPEATS if request.kimg <= SHORT else 1)
        self.devices = _devices(request)
        file, start = request.out / PLAN, request.out / START
        begun = read_json(file) if file.exists() else None
        run = find_run(request.run)
        newest = (start, checkpoint.load(start)) if begun else checkpoint.load_newest(run / "checkpoints")
        if newest is None:
            raise RequestError(f"`run` {run} must hold a checkpoint; salon train writes them after its first minute")
        self.checkpoint, state = newest
        self.base = TrainingConfig.from_dict(state["config"])
        self.start_nimg = int(state["learner"]["cur_nimg"])
        self.extractor = request.extractor or default_extractor(parse_weights(request.weights))
        self.collection = Collection.open(request.dataset, request.manifest)
        self.fingerprint = self.collection.fingerprint
        self.dataset = self._training_dataset()
        # The images with the strata: all of the dataset, of which a part is held out, or those of the other one.
        self.reference = Collection.open(request.holdout_data) if request.holdout_data else self.collection
        self.strata_by = self._choose_strata()
        self.sets = self._split()
        self.held_out = self._require_other_images() if request.holdout_data else len(self.sets.held_out)
        self.total_kimg = self.start_nimg / 1000 + request.kimg
        # What the arms change in the run's config; an experiment goes on as it began.
        self.changes: dict[str, Any] = FROM_WEIGHTS if begun is None else begun.get("changes", {})
        self.identity = self._identity()
        if begun:
            self._require_same(begun)

    @property
    def manifest(self) -> Manifest:
        """The curation."""
        return self.collection.require_manifest()

    def describe(self) -> dict[str, Any]:
        """The plan with the sizes of its parts."""
        left_out = len(np.setdiff1d(self.sets.held_out, self.collection.kept))
        seen = self.request.holdout_data is None and self.base.dataset == self.fingerprint
        return {
            **self.identity,
            "repeats": self.repeats,
            "images": {arm: len(self.sets.of(arm, 0)) for arm in ARMS},
            "held_out": {"images": self.held_out, "curation_leaves_out": left_out, "base_has_seen_them": seen},
            "strata": self._stratum_sizes(),
            "start_kimg": self.start_nimg / 1000,
        }

    def _training_dataset(self) -> ImageDataset:
        # What the arms learn from; without labels where the network knows no classes.
        network, dataset = self.base.network, copy.copy(self.collection.dataset)
        if network.shape != dataset.shape:
            raise RequestError(
                f"`data` {dataset.path} must hold images of {network.shape}, as the network of `run` "
                f"generates; got {dataset.shape} instead"
            )
        if network.num_classes and network.num_classes != dataset.num_classes:
            raise RequestError(
                f"`data` {dataset.path} must have the {network.num_classes} classes of `run`; "
                f"got {dataset.num_classes} instead"
            )
        if not network.num_classes:
            dataset.labels, dataset.classes, dataset.num_classes = None, None, 0
        return dataset

    def _choose_strata(self) -> str | None:
        column = self.request.strata_by
        if column == "none":
            return None
        if column != "auto":
            self.reference.stratum_names(column)  # raises where no image has one
            return column
        for column in AUTO:
            with suppress(RequestError):  # no image has one
                if len(set(self.reference.stratum_names(column))) > 1:
                    return column
        return None

    def _strata(self) -> list[str | None]:
        # Of every image of the dataset; nothing is known of them where another one evaluates.
        if self.strata_by is None or self.request.holdout_data:
            return [None] * len(self.dataset)
        return self.collection.stratum_names(self.strata_by)

    def _split(self) -> Sets:
        request, count = self.request, len(self.dataset)
        kept = self.collection.require_kept()
        candidates = kept if request.holdout_of == "kept" else np.arange(count, dtype=np.int64)
        share = 0.0 if request.holdout_data else request.holdout
        held_out = splits.hold_out(candidates, self._strata(), share, request.seed)
        if not request.holdout_data and len(held_out) <= NEIGHBOURS:
            raise RequestError(
                f"`holdout` {request.holdout:g} leaves {len(held_out)} images to evaluate by; "
                f"it must leave at least {NEIGHBOURS + 1}, or name a dataset with `holdout_data`"
            )
        sets = splits.split(kept, count, held_out, repeats=self.repeats, seed=request.seed)
        if not len(sets.curated):
            raise RequestError(f"`holdout` {request.holdout:g} leaves no image that the manifest keeps to train on")
        if len(sets.curated) == len(sets.full):
            raise RequestError(
                f"`manifest` {request.manifest} must leave out some image to be tested; it keeps all {count}"
            )
        return sets

    def _require_other_images(self) -> int:
        # -> how many images the other dataset has
        other = self.reference.dataset
        if other.shape != self.dataset.shape:
            raise RequestError(
                f"`holdout_data` {other.path} must hold images of {self.dataset.shape}, as `data`; "
                f"got {other.shape} instead"
            )
        if (classes := self.base.network.num_classes) and other.num_classes != classes:
            raise RequestError(
                f"`holdout_data` {other.path} must have the {classes} classes of `run`; got {other.num_classes} instead"
            )
        hashes = {_pixel_hash(self.dataset, index) for index in progress(range(len(self.dataset)), "Comparing images")}
        shared = [name for index, name in enumerate(other.names) if _pixel_hash(other, index) in hashes]
        if shared:
            raise RequestError(
                f"`holdout_data` {other.path} must share no image with `data`; {len(shared)} are in both, "
                f"e.g. {shared[0]}"
            )
        if len(other) <= NEIGHBOURS:
            raise RequestError(f"`holdout_data` must hold at least {NEIGHBOURS + 1} images; got {len(other)} instead")
        return len(other)

    def _identity(self) -> dict[str, Any]:
        request = self.request
        own = request.holdout_data is None
        return {
            "format": FORMAT,
            "start": sha256(self.checkpoint),
            "run_config": TrainingConfig.from_dict(read_json(find_run(request.run) / "config.json")).digest(),
            "dataset": self.fingerprint,
            "manifest": self.manifest.hash,
            "kimg": request.kimg,
            "changes": self.changes,
            "holdout": request.holdout if own else None,
            "holdout_of": request.holdout_of if own else None,
            "holdout_data": None if own else self.reference.fingerprint,
            "strata_by": self.strata_by,
            "seed": request.seed,
            "num_images": request.num_images,
            "extractor": self.extractor,
            "metrics": list(METRICS),
        }

    def _require_same(self, begun: dict[str, Any]) -> None:
        # Repeats are no part of it: they may be added later.
        here, out = self.identity, self.request.out
        differing = [
            f"{key} is {was} there, {here.get(key)} here" for key, was in begun.items() if here.get(key) != was
        ]
        if differing:
            raise RequestError(f"`out` {out} holds another experiment: {'; '.join(differing)}. Choose another `out`")

    def _stratum_sizes(self) -> list[dict[str, Any]]:
        # How many images of each stratum the arms have, and how many are held out.
        names = self._strata()
        parts = {"full": self.sets.full, "curated": self.sets.curated, "held_out": self.sets.held_out}
        return [
            {"name": name, **{part: sum(names[i] == name for i in indices) for part, indices in parts.items()}}
            for name in sorted({name for name in names if name})
        ]


def _devices(request: RetrainRequest) -> list[torch.device]:
    selected = [select(name) for name in request.devices]
    if distributed.world_size() > 1 < len(selected):
        raise RequestError(
            f"`device` must name one device under torchrun, which shares it out; got {request.device} instead"
        )
    return selected


def find_run(path: Path) -> Path:
    """The run at `path`, or the newest in a folder of runs. Raises RequestError when there is none."""
    runs = [path] if (path / "config.json").exists() else [file.parent for file in path.glob("*/config.json")]
    if not runs:
        raise RequestError(f"`run` must be a run of salon train, or a folder of runs; got {path} instead")
    return max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime)


def _pixel_hash(dataset: ImageDataset, index: int) -> bytes:
    return hashlib.sha256(dataset.pixels(index).tobytes()).digest()
