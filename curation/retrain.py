"""Put a curation to the test: train on what it keeps, on everything, and on as many at random, and judge all three.

The arms start from one checkpoint, see equally many images, and differ in nothing but which. An experiment that was
stopped goes on where it was: sets, arms and evaluations that are done are not made again.

OUT/plan.json       what decides the outcome; another plan needs another folder
    start.pt        the checkpoint that all arms start from
    manifests/      held-out, curated, full, random-0, ...
    arms/           curated-0, full-0, random-0, ...: a run of salon train each
    evaluations/    as salon eval run writes them
    results.json    what came out
    report.html     the same for people
"""

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation import retrain_sets as sets
from curation.retrain_sets import ARMS, HELD_OUT, Sets
from curation.retrain_verdict import deciding_metric
from eval import reference
from eval.compare import Entry, read_entry
from eval.evaluate import IMAGES_A_DIMENSION, RESULTS
from eval.judge import Judge, default_extractor, parse_weights
from eval.measures import require_possible
from eval.sources import DatasetSource
from gan import checkpoint, distributed, snapshot
from gan import manifest as manifests
from gan.config import TrainingConfig
from gan.console import progress
from gan.dataset import ImageDataset
from gan.errors import RequestError
from gan.files import atomic, read_json, sha256, write_json
from gan.run import Run
from gan.trainer import TrainingOptions, load_source, train

FORMAT = "salon-retraining-1"
METRICS = ("fid", "kid", "pr", "dc")
AUTO = ("label", "style", "genre")  # the first that parts the images
KEEP_CHECKPOINTS = 2


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


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training: an arm of one repeat."""

    arm: str
    repeat: int
    images: int
    config: TrainingConfig

    @property
    def name(self) -> str:
        """Of its folders."""
        return f"{self.arm}-{self.repeat}"


class Experiment:
    """A request that was checked. Nothing is written before `prepare`.

    Raises RequestError, naming the option, for what does not fit together.
    """

    def __init__(self, request: Request) -> None:
        self.request, self.out = request, request.out
        self.plan_file, self.start = self.out / "plan.json", self.out / "start.pt"
        begun = read_json(self.plan_file) if self.plan_file.exists() else None
        run = find_run(request.run)
        newest = (self.start, checkpoint.load(self.start)) if begun else checkpoint.load_newest(run / "checkpoints")
        if newest is None:
            raise RequestError(f"--run {run} must hold a checkpoint; salon train writes them after its first minute")
        self.checkpoint, state = newest
        self.base = TrainingConfig.from_dict(state["config"])
        self.start_nimg = int(state["learner"]["cur_nimg"])
        self.extractor = request.extractor or default_extractor(parse_weights(request.weights))
        self.dataset = ImageDataset(request.data)
        self.labelled = ImageDataset(request.data)  # the split follows labels that the run may not learn
        self.fingerprint = self.dataset.fingerprint()
        self.manifest = manifests.read(request.manifest)
        if self.manifest.dataset != self.fingerprint:
            raise RequestError(f"--manifest {request.manifest} must be of the dataset {request.data}; it is of another")
        self._require_fitting_network()
        self.strata_by = self._choose_strata()
        self.sets = self._split()
        self.judging = self._require_other_images() if request.holdout_data else len(self.sets.held_out)
        self.total_kimg = self.start_nimg / 1000 + request.kimg
        self.plan = self._plan()
        if begun:
            self._require_same(begun)

    def describe(self) -> dict[str, Any]:
        """The plan with the sizes of its parts."""
        kept = self.manifest.kept()
        left_out = sum(self.dataset.names[index] not in kept for index in self.sets.held_out)
        seen = self.request.holdout_data is None and self.base.dataset == self.fingerprint
        return {
            **self.plan,
            "repeats": self.request.repeats,
            "images": {arm: len(self.sets.of(arm, 0)) for arm in ARMS},
            "held_out": {"images": self.judging, "curation_leaves_out": left_out, "base_has_seen_them": seen},
            "strata": self._stratum_sizes(),
            "start_kimg": self.start_nimg / 1000,
        }

    def prepare(self) -> None:
        """Write plan, start and manifests, as far as they are not there. Of several processes the main one does."""
        with distributed.main_first():
            if not distributed.is_main():
                return
            if not self.plan_file.exists():
                with atomic(self.start) as temporary:
                    shutil.copyfile(self.checkpoint, temporary)
                write_json(self.plan_file, self.plan)
            elif sha256(self.start) != self.plan["start"]:
                raise RequestError(f"{self.start} must be as it was at first; it was changed. Choose another --out")
            self._write_manifests()
            self.dataset.preflight(self.fingerprint)

    def arms(self) -> list[Arm]:
        """All trainings, in order: repeat by repeat, so that the first answer comes early."""
        return [
            Arm(
                arm=arm,
                repeat=repeat,
                images=len(self.sets.of(arm, repeat)),
                config=replace(
                    self.base,
                    dataset=self.fingerprint,
                    manifest=str(manifests.read(self._manifest(arm, repeat)).header["hash"]),
                    seed=self.request.seed + repeat,
                    resume_from=self.plan["start"],
                    resume_kimg=None,
                    transfer=False,
                ),
            )
            for repeat in range(self.request.repeats)
            for arm in ARMS
        ]

    def judge(self, device: torch.device) -> Judge:
        """What judges all arms alike, by the held-out images."""
        own = self.request.holdout_data is None
        judge = Judge(
            self.request.data if own else Path(self.request.holdout_data or ""),
            device,
            metrics=METRICS,
            manifest=self.out / "manifests" / HELD_OUT if own else None,
            num_images=self.request.num_images,
            strata_by=self.strata_by,
            extractors=[self.extractor],
            files=self.request.weights,
        )
        require_possible(list(METRICS), judge.extractors[0], self.request.num_images, len(judge.real))
        return judge

    def deciding(self, judge: Judge) -> str:
        """The metric that decides, named before anything is measured."""
        fewest = min(self.request.num_images, len(judge.real))
        enough = fewest >= IMAGES_A_DIMENSION * judge.extractors[0].dim
        inception = judge.extractors[0].is_inception
        return deciding_metric(["fid_corrected", "kid"] if inception else ["fd_corrected", "kd"], enough=enough)

    def train(self, arm: Arm, device: torch.device, options: TrainingOptions) -> bool:
        """Train an arm, or go on with it -> whether it is finished; a wish to stop leaves it unfinished."""
        run = Run(self.out / "arms" / arm.name)
        finished = run.path / "finished.json"
        if finished.exists():
            return True
        # Read anew for each arm: an optimizer takes over the tensors it is given, and changes them.
        source = load_source(self.start, arm.config)
        options = replace(options, total_kimg=self.total_kimg, keep=KEEP_CHECKPOINTS)
        indices = self.sets.of(arm.arm, arm.repeat)
        summary = train(run, arm.config, options, self.dataset, indices, device, source=source)
        with distributed.main_first():
            if distributed.is_main() and summary["finished"]:
                write_json(finished, {name: summary[name] for name in ("kimg", "seconds", "stats")})
        return bool(summary["finished"])

    def evaluate(self, arm: Arm, judge: Judge) -> None:
        """Judge an arm's last snapshot, unless that is done."""
        folder = self.evaluation(arm)
        if not (folder / RESULTS).exists():
            judge(snapshot.list_newest_first(Run(self.out / "arms" / arm.name).snapshots)[0], folder)

    def evaluation(self, arm: Arm) -> Path:
        """Folder of an arm's evaluation."""
        return self.out / "evaluations" / arm.name

    def entry(self, arm: Arm) -> Entry:
        """An arm's results."""
        return read_entry(self.evaluation(arm))

    def _manifest(self, arm: str, repeat: int) -> Path:
        return self.out / "manifests" / (f"random-{repeat}" if arm == "random" else arm)

    def _write_manifests(self) -> None:
        held = self.sets.held_out
        work = {self._manifest(arm, r): self.sets.of(arm, r) for r in range(self.request.repeats) for arm in ARMS}
        reasons = dict.fromkeys(work, sets.NOT_DRAWN)
        if len(held):
            work[self.out / "manifests" / HELD_OUT] = held
        for path, chosen in work.items():
            reason = reasons.get(path, sets.FOR_TRAINING)
            others = held if path in reasons else held[:0]
            sets.write_set(path, self.manifest, self.dataset.names, chosen, others, reason=reason, parameters=self.plan)

    def _require_fitting_network(self) -> None:
        network, labelled = self.base.network, self.labelled
        if network.resolution != labelled.resolution:
            raise RequestError(
                f"--data {labelled.path} must hold images of {network.resolution} pixels, as --run paints; "
                f"got {labelled.resolution} instead"
            )
        if network.num_classes and network.num_classes != labelled.num_classes:
            raise RequestError(
                f"--data {labelled.path} must have the {network.num_classes} classes of --run; "
                f"got {labelled.num_classes} instead"
            )
        if not network.num_classes:
            self.dataset.labels, self.dataset.classes, self.dataset.num_classes = None, None, 0

    def _choose_strata(self) -> str | None:
        wanted = self.request.strata_by
        if wanted == "none":
            return None
        if wanted != "auto":
            self._strata(wanted)
            return wanted
        for kind in AUTO:
            try:
                if len(set(self._strata(kind))) > 1:
                    return kind
            except RequestError:  # no image has one
                continue
        return None

    def _strata(self, kind: str | None) -> list[str | None]:
        source = DatasetSource(self.labelled, fingerprint=self.fingerprint)
        return [None] * len(source) if kind is None else reference.strata(source, self.manifest, kind)

    def _split(self) -> Sets:
        request, names = self.request, self.dataset.names
        kept_names = self.manifest.kept()
        kept = np.array([index for index, name in enumerate(names) if name in kept_names], np.int64)
        if not len(kept):
            raise RequestError(f"--manifest {request.manifest} keeps no image of {request.data}")
        candidates = kept if request.holdout_of == "kept" else np.arange(len(names), dtype=np.int64)
        share = 0.0 if request.holdout_data else request.holdout
        held_out = sets.hold_out(candidates, self._strata(self.strata_by), share, request.seed)
        if not request.holdout_data and len(held_out) <= reference.NEIGHBOURS:
            raise RequestError(
                f"--holdout {request.holdout:g} leaves {len(held_out)} images to judge by; "
                f"it must leave at least {reference.NEIGHBOURS + 1}, or name a dataset with --holdout-data"
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
        assert self.request.holdout_data is not None
        other = ImageDataset(self.request.holdout_data)
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
        if len(other) <= reference.NEIGHBOURS:
            raise RequestError(
                f"--holdout-data must hold at least {reference.NEIGHBOURS + 1} images; got {len(other)} instead"
            )
        return len(other)

    def _plan(self) -> dict[str, Any]:
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
            "holdout_data": None if own else ImageDataset(Path(request.holdout_data or "")).fingerprint(),
            "strata_by": self.strata_by,
            "seed": request.seed,
            "num_images": request.num_images,
            "extractor": self.extractor,
            "metrics": list(METRICS),
        }

    def _require_same(self, begun: dict[str, Any]) -> None:
        # Repeats are no part of the plan: they may be added later.
        if found := [f"{k} is {v} there, {self.plan.get(k)} here" for k, v in begun.items() if self.plan.get(k) != v]:
            raise RequestError(f"--out {self.out} holds another experiment: {'; '.join(found)}. Choose another --out")

    def _stratum_sizes(self) -> list[dict[str, Any]]:
        # How many images of each stratum the arms and the judges have.
        if self.strata_by is None:
            return []
        names = self._strata(self.strata_by)
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
