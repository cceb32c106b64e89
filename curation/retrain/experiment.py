"""Put a curation to the test: train on what it keeps, on everything, and on as many at random, and evaluate all three.

The arms start from one checkpoint, see equally many images, and differ in nothing but which. An experiment that was
stopped goes on where it was: sets, arms and evaluations that are done are not made again.

OUT/plan.json       what decides the outcome; another plan needs another folder
    start.pt        the checkpoint that all arms start from
    manifests/      held-out, curated, full, random-0, ...
    arms/           curated-0, full-0, random-0, ...: a run of salon train each
    evaluations/    as salon eval run writes them; noise is what every arm must beat
    results.json    what came out
    report.html     the same for people
"""

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from curation.retrain.noise import NOISE, NoiseSource
from curation.retrain.plan import METRICS, PLAN, START, RetrainPlan
from curation.retrain.splits import ARMS, FOR_TRAINING, HELD_OUT, NOT_DRAWN, write_set
from curation.retrain.verdict import deciding_metric
from eval.compare import Entry, read_entry
from eval.evaluate import RESULTS
from eval.evaluator import Evaluator
from eval.metric_registry import require_possible
from eval.metrics.frechet import IMAGES_A_DIMENSION
from eval.request import EvaluationRequest
from gan import snapshot
from gan.config import TrainingConfig
from gan.data import manifest as manifests
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.files import atomic, write_json
from gan.training.request import TrainingOptions
from gan.training.run_dir import Run
from gan.training.start import load_source
from gan.training.training_loop import train

KEEP_CHECKPOINTS = 2
FINISHED = "finished.json"  # in an arm's run


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training: an arm of one repeat."""

    arm: str
    repeat: int
    images: int
    config: TrainingConfig

    @property
    def name(self) -> str:
        """Name of its folders."""
        return f"{self.arm}-{self.repeat}"


class Experiment:
    """The folder of an experiment, and each step towards its end. Nothing is written before `prepare`."""

    def __init__(self, plan: RetrainPlan) -> None:
        self.plan, self.out = plan, plan.request.out

    def prepare(self) -> None:
        """Write plan, start and manifests, as far as they are not there. Of several processes the main one does."""
        with distributed.main_first():
            if not distributed.is_main():
                return
            if not (self.out / PLAN).exists():
                with atomic(self.out / START) as temporary:
                    shutil.copyfile(self.plan.checkpoint, temporary)
                write_json(self.out / PLAN, self.plan.identity)
            self._write_manifests()
            self.plan.dataset.preflight(self.plan.fingerprint)

    def arms(self) -> list[Arm]:
        """All trainings, in order: repeat by repeat, so that the first answer comes early."""
        return [
            Arm(
                arm=arm,
                repeat=repeat,
                images=len(self.plan.sets.of(arm, repeat)),
                config=replace(
                    self.plan.base,
                    dataset=self.plan.fingerprint,
                    manifest=manifests.read(self._manifest(arm, repeat), []).hash,
                    seed=self.plan.request.seed + repeat,
                    resume_from=self.plan.identity["start"],
                    resume_kimg=None,
                    transfer=False,
                    **self.plan.changes,
                ),
            )
            for repeat in range(self.plan.repeats)
            for arm in ARMS
        ]

    def evaluator(self, device: torch.device) -> Evaluator:
        """The evaluator of all arms, by the held-out images.

        Raises RequestError when there are too few of them, or no stratum has two.
        """
        request = EvaluationRequest(
            metrics=METRICS,
            num_images=self.plan.request.num_images,
            strata=self.plan.strata_by,
            extractors=(self.plan.extractor,),
            weights=tuple(self.plan.request.weights),
        )
        reference = self.plan.reference
        if self.plan.request.holdout_data is None:
            reference = reference.selecting(self.out / "manifests" / HELD_OUT)
        evaluator = Evaluator(reference, request, device)
        require_possible(list(METRICS), evaluator.extractors[0], self.plan.request.num_images, len(evaluator.real))
        if evaluator.strata and max(Counter(name for name in evaluator.strata if name).values(), default=0) < 2:
            raise RequestError(
                f"`strata_by` {self.plan.strata_by} must have 2 held-out images in some stratum; each has 1. "
                "Choose a larger `holdout`, or `strata_by` none"
            )
        return evaluator

    def deciding(self, evaluator: Evaluator) -> str:
        """The metric that decides, named before anything is measured."""
        fewest = min(self.plan.request.num_images, len(evaluator.real))
        enough = fewest >= IMAGES_A_DIMENSION * evaluator.extractors[0].dim
        inception = evaluator.extractors[0].is_inception
        return deciding_metric(["fid_corrected", "kid"] if inception else ["fd_corrected", "kd"], enough=enough)

    def train(self, arm: Arm, device: torch.device, options: TrainingOptions) -> bool:
        """Train an arm, or resume it -> whether it is finished; a request to stop leaves it unfinished."""
        if self.finished(arm):
            return True
        # Read again for each arm: an optimizer takes over the tensors it is given, and changes them.
        source = load_source(self.out / START, arm.config)
        # By its ticks the others know how far an arm is, where it has a process of its own.
        kimg_per_tick = min(options.kimg_per_tick, self.plan.request.kimg / 100)
        total_kimg = self.plan.total_kimg
        options = replace(options, total_kimg=total_kimg, kimg_per_tick=kimg_per_tick, keep=KEEP_CHECKPOINTS)
        indices = self.plan.sets.of(arm.arm, arm.repeat)
        run = self.run(arm)
        summary = train(run, arm.config, options, self.plan.dataset, indices, device, source=source)
        with distributed.main_first():
            if distributed.is_main() and summary["finished"]:
                write_json(run.path / FINISHED, {name: summary[name] for name in ("kimg", "seconds", "stats")})
        return bool(summary["finished"])

    def run(self, arm: Arm) -> Run:
        """Where an arm is trained."""
        return Run(self.out / "arms" / arm.name)

    def finished(self, arm: Arm) -> bool:
        """Whether an arm's training is complete."""
        return (self.run(arm).path / FINISHED).exists()

    def evaluate(self, arm: Arm, evaluator: Evaluator) -> None:
        """Evaluate an arm's last snapshot, unless that is done."""
        folder = self.evaluation(arm)
        if not (folder / RESULTS).exists():
            evaluator(snapshot.list_newest_first(self.run(arm).snapshots)[0], folder)

    def evaluate_noise(self, evaluator: Evaluator) -> None:
        """Evaluate noise made of the full arm's images, unless that is done."""
        if not (self.evaluations / NOISE / RESULTS).exists():
            plan, full = self.plan, self.plan.sets.full
            drawn_from = manifests.read(self._manifest("full", 0), []).hash
            count, seed = plan.request.num_images, plan.request.seed
            source = NoiseSource(plan.dataset, full, count, seed=seed, drawn_from=drawn_from)
            evaluator.evaluate(source, self.evaluations / NOISE)

    @property
    def evaluations(self) -> Path:
        """Folder of all evaluations."""
        return self.out / "evaluations"

    def evaluation(self, arm: Arm) -> Path:
        """Folder of an arm's evaluation."""
        return self.evaluations / arm.name

    def entry(self, arm: Arm) -> Entry:
        """An arm's results."""
        return read_entry(self.evaluation(arm))

    def _manifest(self, arm: str, repeat: int) -> Path:
        return self.out / "manifests" / (f"random-{repeat}" if arm == "random" else arm)

    def _write_manifests(self) -> None:
        plan, held = self.plan, self.plan.sets.held_out
        repeats = range(plan.repeats)
        work = {self._manifest(arm, repeat): (plan.sets.of(arm, repeat), held) for repeat in repeats for arm in ARMS}
        if len(held):
            work[self.out / "manifests" / HELD_OUT] = held, held[:0]
        for path, (kept, others) in work.items():
            reason = NOT_DRAWN if len(others) or not len(held) else FOR_TRAINING
            write_set(path, plan.manifest, plan.dataset.names, kept, others, reason=reason, parameters=plan.identity)
