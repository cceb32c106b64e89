"""A retraining experiment carried out, from a checked plan to the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.retrain.experiment import Arm, Experiment
from curation.retrain.multi_device import train_side_by_side
from curation.retrain.plan import RetrainPlan
from curation.retrain.report import REPORT, write_report
from curation.retrain.results import conclude
from eval.features.registry import INCEPTION
from eval.suite import tell_missing
from gan.runtime import distributed
from gan.runtime.console import say
from gan.runtime.files import write_json
from gan.training.request import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an experiment ended."""

    unfinished: list[str]  # names of the arms that were stopped before their end
    figures: dict[str, Any] | None  # of results.json; None with unfinished arms, and in all processes but the main one


def retrain(plan: RetrainPlan) -> Outcome:
    """Train and evaluate all arms, and write the report; what is done already is not done again.

    Raises RequestError for what only the evaluation can tell to be wrong, SalonError when an arm fails.
    """
    device, request = plan.devices[0], plan.request
    options = TrainingOptions(batch_gpu=request.batch_gpu, workers=request.workers, cache=request.cache)
    with distributed.joined(device):
        distributed.require_same(str(plan.identity), "request and dataset")
        experiment = Experiment(plan)
        experiment.prepare()
        evaluator = experiment.evaluator(device)
        deciding = experiment.deciding(evaluator)
        if request.extractor is None:
            tell_missing([plan.extractor], [INCEPTION])
        arms = experiment.arms()
        if len(plan.devices) > 1 and not train_side_by_side(experiment, arms, request.devices, options):
            return _stopped(experiment, arms)
        for position, arm in enumerate(arms):
            say(f"Arm {position + 1} of {len(arms)}: {arm.name}, {arm.images} images")
            if not experiment.train(arm, device, options):
                return _stopped(experiment, arms)
            experiment.evaluate(arm, evaluator)
        experiment.evaluate_noise(evaluator)
        if not distributed.is_main():
            return Outcome(unfinished=[], figures=None)
        figures = conclude(experiment, arms, deciding)
        write_json(experiment.out / "results.json", figures)
        write_report(figures, [experiment.entry(arm).pictures for arm in arms], experiment.out / REPORT)
    return Outcome(unfinished=[], figures=figures)


def _stopped(experiment: Experiment, arms: Sequence[Arm]) -> Outcome:
    return Outcome(unfinished=[arm.name for arm in arms if not experiment.finished(arm)], figures=None)
