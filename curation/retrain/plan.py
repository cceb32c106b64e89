"""What a retraining experiment will do, checked before anything is written: start, images of each arm, judges."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.retrain import splits as sets
from curation.retrain.splits import ARMS, Sets
from eval.data.reference import NEIGHBOURS
from eval.evaluator import default_extractor, parse_weights
from gan.config import TrainingConfig
from gan.data import manifest as manifests
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.runtime.console import progress
from gan.runtime.files import read_json, sha256
from gan.training import checkpoint

FORMAT = "salon-retraining-1"
METRICS = ("fid", "kid", "pr", "dc")
PLAN, START = "plan.json", "start.pt"  # in the experiment's folder
AUTO = ("label", "style", "genre")  # the first that parts the images


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be tried."""

    run: Path  # whose newest checkpoint the arms start from
    data: Path
    manifest: Path  # the curation
    kimg: float  # of training for each arm, thousands of images
    out: Path
    holdout: float = 0.1  # share of the images that judge and train nothing
    holdout_of: str = "full"  # or "kept": what the curation keeps
    holdout_data: Path | None = None  # dataset that judges instead; None: a part of `data`
    strata_by: str = "auto"  # label, style, genre, artist; auto: the first of AUTO; none
    repeats: int = 1
    seed: int = 0  # of split, draws and order
    num_images: int = 10_000  # that each arm paints to be judged
    extractor: str | None = None  # None: as salon eval chooses
    weights: tuple[str, ...] = ()  # NAME=PATH


class Plan:
    """A request that was checked. `identity` is all that decides the outcome, as plain values.

    Raises RequestError, naming the option, for what does not fit together.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        file, start = request.out / PLAN, request.out / START
        begun = read_json(file) if file.exists() else None
        run = find_run(request.run)
        newest = (start, checkpoint.load(start)) if begun else checkpoint.load_newest(run / "checkpoints")
        if newest is None:
            raise RequestError(f"--run {run} must hold a checkpoint; salon train writes them after its first minute")
        self.checkpoint, state = newest
        self.base = TrainingConfig.from_dict(state["config"])
        self.start_nimg = int(state["learner"]["cur_nimg"])
        self.extractor = request.extractor or default_extractor(parse_weights(request.weights))
        self.dataset = ImageDataset(request.data)
        self.fingerprint = self.dataset.fingerprint()
        self.manifest = manifests.read(request.manifest)
        if self.manifest.dataset != self.fingerprint:
            raise RequestError(f"--manifest {request.manifest} must be of the dataset {request.data}; it is of another")
        self._require_fitting_network()
        # What the strata are told of: all images, of which some will judge, or those of the other dataset.
        self.judges = (
            Collection.open(request.holdout_data)
            if request.holdout_data
            else Collection(dataset=ImageDataset(request.data), fingerprint=self.fingerprint, manifest=self.manifest)
        )
        self.strata_by = self._choose_strata()
        self.sets = self._split()
        self.judging = self._require_other_images() if request.holdout_data else len(self.sets.held_out)
        self.total_kimg = self.start_nimg / 1000 + request.kimg
        self.identity = self._identity()
        if begun:
            self._require_same(begun)

    def describe(self) -> dict[str, Any]:
        """The plan with the sizes of its parts."""
        kept = self.manifest.kept()
        left_out = sum(self.dataset.names[index] not in kept for index in self.sets.held_out)
        seen = self.request.holdout_data is None and self.base.dataset == self.fingerprint
        return {
            **self.identity,
            "repeats": self.request.repeats,
            "images": {arm: len(self.sets.of(arm, 0)) for arm in ARMS},
            "held_out": {"images": self.judging, "curation_leaves_out": left_out, "base_has_seen_them": seen},
            "strata": self._stratum_sizes(),
            "start_kimg": self.start_nimg / 1000,
        }

    def _require_fitting_network(self) -> None:
        network, dataset = self.base.network, self.dataset
        if network.resolution != dataset.resolution:
            raise RequestError(
                f"--data {dataset.path} must hold images of {network.resolution} pixels, as --run paints; "
                f"got {dataset.resolution} instead"
            )
        if network.num_classes and network.num_classes != dataset.num_classes:
            raise RequestError(
                f"--data {dataset.path} must have the {network.num_classes} classes of --run; "
                f"got {dataset.num_classes} instead"
            )
        if not network.num_classes:
            self.dataset.labels, self.dataset.classes, self.dataset.num_classes = None, None, 0

    def _choose_strata(self) -> str | None:
        wanted = self.request.strata_by
        if wanted == "none":
            return None
        if wanted != "auto":
            self.judges.stratum_names(wanted)
            return wanted
        for kind in AUTO:
            with suppress(RequestError):  # no image has one
                if len(set(self.judges.stratum_names(kind))) > 1:
                    return kind
        return None

    def _strata(self) -> list[str | None]:
        # Of every image of the dataset; nothing is known of them where another one judges.
        if self.strata_by is None or self.request.holdout_data:
            return [None] * len(self.dataset)
        return self.judges.stratum_names(self.strata_by)

    def _split(self) -> Sets:
        request, names = self.request, self.dataset.names
        kept_names = self.manifest.kept()
        kept = np.array([index for index, name in enumerate(names) if name in kept_names], np.int64)
        if not len(kept):
            raise RequestError(f"--manifest {request.manifest} keeps no image of {request.data}")
        candidates = kept if request.holdout_of == "kept" else np.arange(len(names), dtype=np.int64)
        share = 0.0 if request.holdout_data else request.holdout
        held_out = sets.hold_out(candidates, self._strata(), share, request.seed)
        if not request.holdout_data and len(held_out) <= NEIGHBOURS:
            raise RequestError(
                f"--holdout {request.holdout:g} leaves {len(held_out)} images to judge by; "
                f"it must leave at least {NEIGHBOURS + 1}, or name a dataset with --holdout-data"
            )
        found = sets.split(kept, len(names), held_out, repeats=request.repeats, seed=request.seed)
        if not len(found.curated):
            raise RequestError(f"--holdout {request.holdout:g} leaves no image that the manifest keeps to train on")
        if len(found.curated) == len(found.full):
            raise RequestError(
                f"--manifest {request.manifest} must leave out some image to be tested; it keeps all {len(names)}"
            )
        return found

    def _require_other_images(self) -> int:
        # -> how many images --holdout-data has
        other = self.judges.dataset
        if other.resolution != self.dataset.resolution:
            raise RequestError(
                f"--holdout-data {other.path} must hold images of {self.dataset.resolution} pixels, as --data; "
                f"got {other.resolution} instead"
            )
        if (classes := self.base.network.num_classes) and other.num_classes != classes:
            raise RequestError(
                f"--holdout-data {other.path} must have the {classes} classes of --run; got {other.num_classes} instead"
            )
        mine = {_pixel_hash(self.dataset, index) for index in progress(range(len(self.dataset)), "Comparing images")}
        shared = [name for index, name in enumerate(other.names) if _pixel_hash(other, index) in mine]
        if shared:
            raise RequestError(
                f"--holdout-data {other.path} must share no image with --data; {len(shared)} are in both, "
                f"e.g. {shared[0]}"
            )
        if len(other) <= NEIGHBOURS:
            raise RequestError(f"--holdout-data must hold at least {NEIGHBOURS + 1} images; got {len(other)} instead")
        return len(other)

    def _identity(self) -> dict[str, Any]:
        request = self.request
        own = request.holdout_data is None
        return {
            "format": FORMAT,
            "start": sha256(self.checkpoint),
            "run_config": TrainingConfig.from_dict(read_json(find_run(request.run) / "config.json")).digest(),
            "dataset": self.fingerprint,
            "manifest": str(self.manifest.header["hash"]),
            "kimg": request.kimg,
            "holdout": request.holdout if own else None,
            "holdout_of": request.holdout_of if own else None,
            "holdout_data": None if own else self.judges.fingerprint,
            "strata_by": self.strata_by,
            "seed": request.seed,
            "num_images": request.num_images,
            "extractor": self.extractor,
            "metrics": list(METRICS),
        }

    def _require_same(self, begun: dict[str, Any]) -> None:
        # Repeats are no part of it: they may be added later.
        mine, out = self.identity, self.request.out
        found = [f"{key} is {was} there, {mine.get(key)} here" for key, was in begun.items() if mine.get(key) != was]
        if found:
            raise RequestError(f"--out {out} holds another experiment: {'; '.join(found)}. Choose another --out")

    def _stratum_sizes(self) -> list[dict[str, Any]]:
        # How many images of each stratum the arms and the judges have.
        names = self._strata()
        parts = {"full": self.sets.full, "curated": self.sets.curated, "held_out": self.sets.held_out}
        return [
            {"name": name, **{part: sum(names[i] == name for i in indices) for part, indices in parts.items()}}
            for name in sorted({name for name in names if name})
        ]


def find_run(path: Path) -> Path:
    """The run at `path`, or the newest in a folder of runs. Raises RequestError when there is none."""
    runs = [path] if (path / "config.json").exists() else [file.parent for file in path.glob("*/config.json")]
    if not runs:
        raise RequestError(f"--run must be a run of salon train, or a folder of runs; got {path} instead")
    return max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime)


def _pixel_hash(dataset: ImageDataset, index: int) -> bytes:
    return hashlib.sha256(dataset.pixels(index).tobytes()).digest()
