"""The results of a retraining experiment: each arm's values, differences with intervals, the verdict, and its cost."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from curation.retrain.experiment import FINISHED, Arm, Experiment
from curation.retrain.noise import NOISE
from curation.retrain.plan import FORMAT
from curation.retrain.splits import ARMS
from curation.retrain.verdict import (
    CONTRASTS,
    HARMED,
    HEADLINES,
    HELPED,
    NOTHING,
    RULE,
    UNKNOWN,
    UNLEARNED,
    Repeats,
    above_noise,
    better,
    contrast,
    decide,
)
from eval.compare import common_metrics, read_entry
from eval.compare_groups import trainings
from eval.evaluate import RESULTS
from eval.metric_registry import HIGHER_IS_BETTER, NAMES, Result
from eval.metrics.confidence_intervals import Estimate, Jackknife
from eval.metrics.training_seeds import Trainings
from eval.report.html import number
from gan import __version__
from gan.runtime.console import in_options
from gan.runtime.files import read_json

VARIETY = ("recall", "coverage")
THAN = {"full": "everything", "random": "as many at random"}


def conclude(experiment: Experiment, arms: Sequence[Arm], deciding: str) -> dict[str, Any]:
    """The figures of results.json, from the evaluations of all arms; `deciding` is the metric that decides."""
    described = experiment.plan.describe()
    entries = {arm.name: experiment.entry(arm) for arm in arms}
    of_arm = {name: [entries[arm.name].results for arm in arms if arm.arm == name] for name in ARMS}
    of_noise = read_entry(experiment.evaluations / NOISE)
    common_metrics([*entries.values(), of_noise])  # all of one identity: a GPU compares more real images than a CPU
    noise = of_noise.results
    evaluations = {arm.name: read_json(experiment.evaluation(arm) / RESULTS) for arm in arms}
    repeats = {id: {name: [each[id] for each in many] for name, many in of_arm.items()} for id in noise}
    metrics = [_metric(id, repeats[id], noise[id]) for id in noise]
    strata = _strata({name: [evaluations[arm.name] for arm in arms if arm.arm == name] for name in ARMS})
    verdict = decide(repeats[deciding], noise[deciding])
    return {
        "format": FORMAT,
        "verdict": verdict,
        "headline": HEADLINES[verdict],
        "sentence": sentence(verdict, repeats[deciding], noise[deciding]),
        "cost": [] if verdict == UNKNOWN else cost({metric["id"]: metric for metric in metrics}, strata),
        "decided_by": deciding,
        "rule": RULE,
        "notes": _notes(described, evaluations),
        "plan": described,
        "arms": [_arm(experiment, arm) for arm in arms],
        "metrics": metrics,
        "strata": strata,
        "versions": {"salon": __version__},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def sentence(verdict: str, repeats: Repeats, noise: Result) -> str:
    """The verdict in words, with the differences of the deciding metric that it is made of."""
    name = NAMES[noise.id]
    differences = {than: contrast(repeats["curated"], repeats[arm]).both for arm, than in THAN.items()}
    if verdict == UNKNOWN:
        apart = " and ".join(f"from {than} by {interval(found)}" for than, found in differences.items())
        return (
            f"No verdict: one repeat says nothing of the chance of training. By {name} training on what is kept "
            f"differs {apart}, with the chance of the generated images alone."
        )
    if verdict == UNLEARNED:
        apart = ", ".join(f"{arm} {interval(above_noise(repeats[arm], noise))}" for arm in ARMS)
        return (
            f"The generator has not learned enough: by {name} no arm is better than noise with the colours and the "
            f"spectrum of the training images ({apart})."
        )
    outcomes = {1: "better", -1: "worse", 0: "neither better nor worse"}
    parts = [
        f"{outcomes[better(found, noise.id)]} than training on {than} ({interval(found)})"
        for than, found in differences.items()
    ]
    words = {HELPED: "helped", HARMED: "harmed", NOTHING: "did nothing that can be told from chance"}[verdict]
    return f"Curation {words}: by {name} it is {parts[0]}, and {parts[1]}."


def cost(metrics: Mapping[str, Mapping[str, Any]], strata: Sequence[Mapping[str, Any]]) -> list[str]:
    """What curation did to variety, against training on everything: a sentence each for VARIETY, one for strata."""
    sentences = []
    for id in VARIETY:
        difference = _estimate(metrics[id]["differences"]["curated - full"])
        change = {1: "rose", -1: "fell", 0: "did not change measurably"}[better(difference, id)]
        sentences.append(f"{NAMES[id]} {change} ({interval(difference)}).")
    lost = [row["name"] for row in strata if better(_estimate(row["differences"]["curated - full"]), "recall") < 0]
    if strata:
        sentences.append(f"Recall fell in {', '.join(lost) if lost else 'no stratum'}, of {len(strata)}.")
    return sentences


def _estimate(fields: Mapping[str, Any]) -> Estimate:
    return Estimate(**{name: fields[name] for name in ("value", "se", "low", "high", "n", "method")})


def interval(difference: Estimate) -> str:
    """The difference and its interval."""
    return f"{signed(difference.value)}; {signed(difference.low)} to {signed(difference.high)}"


def signed(value: float) -> str:
    """Three digits with a sign."""
    sign = "\N{MINUS SIGN}" if value < 0 else "+" if value > 0 else ""
    return f"{sign}{number(abs(value))}"


def _metric(id: str, results: Repeats, noise: Result) -> dict[str, Any]:
    first = results["curated"][0]
    return {
        "id": id,
        "name": first.name,
        "key": str(first.identity),
        "better": "higher" if id in HIGHER_IS_BETTER else "lower",
        "noise_floor": first.noise_floor.value if first.noise_floor else None,
        "values": {arm: trainings(repeats).mean().to_dict() for arm, repeats in results.items()},
        "noise": asdict(noise.estimate),
        "differences": {f"{a} - {b}": contrast(results[a], results[b]).to_dict() for a, b in CONTRASTS},
        "repeats": {arm: [result.estimate.value for result in repeats] for arm, repeats in results.items()},
    }


def _strata(of_arm: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    # Recall of each stratum's held-out images, by arm; not of strata of which too few images are compared.
    rows = []
    for position, first in enumerate(of_arm["curated"][0]["strata"]):
        if first["recall"] is None:
            continue
        recalls = {arm: [repeat["strata"][position]["recall"] for repeat in many] for arm, many in of_arm.items()}
        of_arms = {
            arm: Trainings.of_replicates([Jackknife.from_dict(r["replicates"]) for r in many])
            for arm, many in recalls.items()
        }
        rows.append(
            {
                "name": first["name"],
                "n_real": first["n_real"],
                "recall": {arm: float(np.mean([r["value"] for r in many])) for arm, many in recalls.items()},
                "differences": {
                    f"{a} - {b}": of_arms[a].minus(of_arms[b], paired=True).to_dict() for a, b in CONTRASTS
                },
            }
        )
    return rows


def _arm(experiment: Experiment, arm: Arm) -> dict[str, Any]:
    finished = read_json(experiment.run(arm).path / FINISHED)
    seen = experiment.plan.request.kimg * 1000
    return {
        "name": arm.name,
        "arm": arm.arm,
        "repeat": arm.repeat,
        "images": arm.images,
        "manifest": arm.config.manifest,
        "seed": arm.config.seed,
        "epochs": seen / arm.images,
        "kimg": finished["kimg"],
        "seconds": finished["seconds"],
    }


def _notes(described: Mapping[str, Any], evaluations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    held, notes = described["held_out"], []
    if held["base_has_seen_them"]:
        notes.append(
            "The run that all arms start from has learned from the held-out images before, as far as its own manifest "
            "kept them; no arm has seen them since. All arms share that advantage. `holdout_data` DATASET evaluates by "
            "images that no one has seen."
        )
    if described["repeats"] == 1:
        notes.append(
            "Each arm was trained once, so the intervals hold the chance of the generated images and not that of "
            "training: another order of the images may end otherwise. `repeats` 3 with the same command adds two more "
            "trainings of each arm, and gives a verdict."
        )
    if held["curation_leaves_out"]:
        notes.append(
            f"{held['curation_leaves_out']} of {held['images']} held-out images are ones that the curation leaves out; "
            "to generate their like counts as good. `holdout_of` kept evaluates by what it keeps alone."
        )
    notes = [in_options(note) for note in notes]  # a report that a command makes names its options
    return notes + list(
        dict.fromkeys(warning for evaluation in evaluations.values() for warning in evaluation["warnings"])
    )
