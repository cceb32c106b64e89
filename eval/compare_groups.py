"""Compare groups of trainings, such as two recipes with three seeds each: means with both kinds of chance.

A group's value is the mean over its trainings, never the best of them: of more seeds the best is always better. What a
group's trainings differ by is the chance of training, which a single one does not show.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from eval.compare import Entry, bias_warning, carried_over, common_metrics, deciding_metric, find
from eval.metric_registry import HIGHER_IS_BETTER, Result
from eval.metrics.training_seeds import Trainings
from gan.errors import RequestError
from gan.runtime.files import sha256

FORMAT = "salon-group-comparison-1"
FEW = 3  # trainings of a group, below which its spread is hardly known


def find_groups(paths: Mapping[str, Sequence[Path]]) -> dict[str, list[Entry | Path]]:
    """Each group's members: entries of what is evaluated, paths of snapshots that are to be; of a run the newest.

    Raises RequestError for anything else, and when two are of one training.
    """
    groups = {name: [_find(path) for path in members] for name, members in paths.items()}
    _require_different([member for group in groups.values() for member in group])
    return groups


def _find(path: Path) -> Entry | Path:
    entries, snapshots = find([path])
    return entries[0] if entries else snapshots[-1]


def compare_groups(groups: Mapping[str, Sequence[Entry]]) -> dict[str, Any]:
    """Compare two or more groups by every metric that all evaluations have -> the figures of comparison.json.

    Raises RequestError as eval.compare.compare does.
    """
    entries = [entry for group in groups.values() for entry in group]
    common = common_metrics(entries)
    deciding, mostly_bias = deciding_metric(entries, common)
    paired = entries[0].z_bank is not None and all(entry.z_bank == entries[0].z_bank for entry in entries)
    figures = {
        "format": FORMAT,
        "groups": [
            {
                "name": name,
                "trainings": [
                    {
                        "label": entry.label,
                        "name": entry.snapshot or entry.name,
                        "kimg": entry.kimg,
                        "values": {id: entry.results[id].estimate.value for id in common},
                    }
                    for entry in group
                ],
            }
            for name, group in groups.items()
        ],
        "metrics": [_metric(id, groups, paired) for id in common],
        "paired": paired,
        "decided_by": deciding,
        "mostly_bias": mostly_bias,
        "warnings": [
            *_warnings(groups, paired),
            *bias_warning(entries, mostly_bias, common),
            *carried_over(entries, [f"{name} {entry.label}" for name, group in groups.items() for entry in group]),
        ],
    }
    return {**figures, "sentences": sentences(figures)}


def sentences(figures: Mapping[str, Any]) -> list[str]:
    """What the deciding metric says of each pair of groups."""
    metric = next(metric for metric in figures["metrics"] if metric["id"] == figures["decided_by"])
    if metric["id"] in figures["mostly_bias"]:
        return [f"No group is named better: {metric['name']} is mostly bias at so few images"]
    return [_sentence(metric, row) for row in metric["differences"]]


def _sentence(metric: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    a, b = row["a"], row["b"]
    if row["training"] is None:
        sizes = {group["name"]: len(group["values"]) for group in metric["groups"]}
        single = " and ".join(name for name in (a, b) if sizes[name] == 1)
        verb = "are one training each" if single == f"{a} and {b}" else "is one training"
        return (
            f"Whether {a} or {b} is better by {metric['name']} cannot be known: {single} {verb}, which says nothing of "
            "the chance of training"
        )
    if row["low"] <= 0 <= row["high"]:
        return f"By {metric['name']} {a} and {b} may differ by chance alone"
    first_is_better = (row["low"] > 0) == (metric["better"] == "higher")
    return f"By {metric['name']} {a if first_is_better else b} is better than {b if first_is_better else a}"


def _metric(id: str, groups: Mapping[str, Sequence[Entry]], paired: bool) -> dict[str, Any]:
    results = {name: [entry.results[id] for entry in group] for name, group in groups.items()}
    of = {name: trainings(many) for name, many in results.items()}
    first = next(iter(results.values()))[0]
    return {
        "id": id,
        "name": first.name,
        "key": str(first.identity),
        "better": "higher" if id in HIGHER_IS_BETTER else "lower",
        "groups": [
            {"name": name, **of[name].mean().to_dict(), "values": [result.estimate.value for result in many]}
            for name, many in results.items()
        ],
        "differences": [
            {"a": a, "b": b, **of[a].minus(of[b], paired=paired).to_dict()} for a, b in combinations(groups, 2)
        ],
    }


def trainings(results: Sequence[Result]) -> Trainings:
    """One metric's results of a group, one of each training."""
    replicates = [result.replicates for result in results]
    corrected = results[0].id.endswith("_corrected")
    return Trainings.of([result.estimate for result in results], replicates, corrected=corrected)


def _require_different(members: Sequence[Entry | Path]) -> None:
    # Two snapshots of one training say nothing of another seed.
    seen: dict[str, str] = {}
    for member in members:
        name = str(member) if isinstance(member, Path) else member.snapshot
        if name is None:
            continue
        folder = Path(name).parent
        run = str(folder.parent.resolve()) if folder.name == "snapshots" else None
        for key in filter(None, (sha256(member) if isinstance(member, Path) else member.sha256, run)):
            if key in seen:
                raise RequestError(f"`group` must be of different trainings; {seen[key]} and {name} are of one")
            seen[key] = name


def _warnings(groups: Mapping[str, Sequence[Entry]], paired: bool) -> list[str]:
    warnings = []
    for name, group in groups.items():
        if len(group) == 1:
            warnings.append(f"{name} is one training: what another seed would have given is not known")
        elif len({entry.kimg for entry in group}) > 1:
            lengths = ", ".join(entry.label for entry in group)
            warnings.append(f"{name} has trainings of different lengths ({lengths}), which its spread takes for chance")
    few = [name for name, group in groups.items() if 1 < len(group) < FEW]
    if few and len({len(group) for group in groups.values()}) > 1:
        warnings.append(
            f"{' and '.join(few)}: {FEW - 1} trainings, fewer than in another group; intervals then miss up to 10 "
            f"times in 100, not 5. {FEW} or more are better"
        )
    if not paired:
        warnings.append("nothing is paired: the images of some come from different latents, or none are known")
    return warnings
