"""What an evaluation says in a terminal, from its figures (see eval.evaluate and eval.compare)."""

from collections.abc import Mapping
from typing import Any

from gan.runtime.console import table


def results(figures: Mapping[str, Any]) -> str:
    """Each metric with its interval."""
    rows = [
        [
            r["name"],
            _number(r["value"]),
            f"{_number(r['low'])} to {_number(r['high'])}",
            _number(r["noise_floor"]["value"]) if r["noise_floor"] else "",
            r["key"],
        ]
        for r in figures["results"]
    ]
    return table(rows, ["metric", "value", "95 % interval", "noise floor", "key"])


def rejection(figures: Mapping[str, Any]) -> list[str]:
    """The metrics with and without rejection; nothing where none was asked for."""
    chosen = figures["rejection"]
    if not chosen:
        return []
    rows = []
    for row in chosen["rows"]:
        without, accepted, apart = row["all_samples"], row["accepted"], row["difference"]
        interval = f"{_number(apart['low'])} to {_number(apart['high'])}" if apart else ""
        values = [_number(without["value"]), _number(accepted["value"]), _number(apart["value"]) if apart else ""]
        rows.append([row["name"], *values, interval])
    header = ["metric", "all samples", "with rejection", "difference", "95 % interval"]
    accepted = f"{chosen['accepted']:,} of {chosen['candidates']:,} candidates, {chosen['acceptance']:.1%}"
    off = chosen.get("calibration")
    z = f"; Z {off['z_before']:.3g} before calibration, {off['z_after']:.3g} after" if off else ""
    return ["", table(rows, header), f"Accepted by {chosen['name']}: {accepted}{z}", ""]


def strata(figures: Mapping[str, Any]) -> list[str]:
    """The first metric by stratum; nothing where none was asked for."""
    if not figures["strata"]:
        return []
    rows = [
        [
            row["name"],
            row["n_real"],
            row["n_gen"],
            _number(row["estimate"]["value"]),
            _number(row["shrunken"]["value"]),
            f"{_number(row['shrunken']['low'])} to {_number(row['shrunken']['high'])}",
        ]
        for row in figures["strata"]
    ]
    metric = figures["strata"][0]["metric"].upper()
    return ["", table(rows, ["stratum", "real", "generated", metric, "shrunken", "95 % interval"]), ""]


def comparison(figures: Mapping[str, Any]) -> str:
    """Each metric of all entries, and which is best."""
    parts = []
    for id, rows in figures["differences"].items():
        lines = []
        first = first_place(figures, id)
        for entry, row in zip(figures["entries"], rows, strict=True):
            own = entry["results"][id]
            apart = (
                first if row["best"] else f"{_number(row['value'])} ({_number(row['low'])} to {_number(row['high'])})"
            )
            how = "" if row["best"] else "paired" if row["paired"] else "not paired"
            lines.append(
                [entry["label"], _number(own["value"]), f"{_number(own['low'])} to {_number(own['high'])}", apart, how]
            )
        own = figures["entries"][0]["results"][id]
        parts += [own["key"], table(lines, [own["name"], "value", "95 % interval", "worse by", ""]), ""]
    return "\n".join([*parts, verdict(figures)])


def groups(figures: Mapping[str, Any]) -> str:
    """Each metric of all groups, their differences, and what they say."""
    parts = []
    for metric in figures["metrics"]:
        means = [
            [group["name"], len(group["values"]), *_with_chances(group), " ".join(_number(v) for v in group["values"])]
            for group in metric["groups"]
        ]
        apart = [[f"{row['a']} - {row['b']}", "", *_with_chances(row), ""] for row in metric["differences"]]
        header = [metric["name"], "trainings", "mean", "95 % interval", "of images", "of training", "each"]
        parts += [metric["key"], table(means + apart, header), ""]
    return "\n".join([*parts, *(f"{sentence}." for sentence in figures["sentences"])])


def _with_chances(row: Mapping[str, Any]) -> list[str]:
    # Value, interval, and half of the interval that each kind of chance alone would have.
    parts = row["images"], row["training"]
    halves = [f"± {_number((part['high'] - part['low']) / 2)}" if part else "unknown" for part in parts]
    return [_number(row["value"]), f"{_number(row['low'])} to {_number(row['high'])}", *halves]


def verdict(figures: Mapping[str, Any]) -> str:
    """Which entry of a comparison is best, or why none is named."""
    labels = [entry["label"] for entry in figures["entries"]]
    if figures["best"] is not None:
        return f"Best by {figures['decided_by']}: {labels[figures['best']]}"
    if not figures["rivals"]:
        return f"No best is named: {figures['decided_by']} is mostly bias at so few images"
    id = next(id for id, rows in figures["differences"].items() if _name(figures, id) == figures["decided_by"])
    leader, rivals = labels[figures["best_by_metric"][id]], ", ".join(labels[place] for place in figures["rivals"])
    return f"No best by {figures['decided_by']}: {leader} may differ from {rivals} by chance alone"


def sweep(figures: Mapping[str, Any]) -> str:
    """Each setting's metrics, and which of them to take. A star marks the Pareto front."""
    names = {id: figures["entries"][0]["results"][id]["name"] for id in figures["best_by_metric"]}
    rows = [
        [
            f"{entry['psi']:g}",
            str(entry["budget"]),
            *(_number(entry["results"][id]["value"]) for id in names),
            "*" if place in figures["front"] else "",
        ]
        for place, entry in enumerate(figures["entries"])
    ]
    return "\n".join([table(rows, ["psi", "budget", *names.values(), "front"]), "", recommendation(figures)])


def recommendation(figures: Mapping[str, Any]) -> str:
    """Which setting of a sweep to take, or why none is named."""
    labels = [entry["label"] for entry in figures["entries"]]
    by = figures["decided_by"]
    if figures["best"] is not None:
        return f"Recommended: {labels[figures['best']]}. Its {by} is the lowest, and by more than chance"
    if not figures["rivals"]:
        return f"No setting is recommended: {by} is mostly bias at so few images"
    best = next(id for id in figures["best_by_metric"] if figures["entries"][0]["results"][id]["name"] == by)
    several = [labels[place] for place in sorted({figures["best_by_metric"][best], *figures["rivals"]})]
    named = f"{', '.join(several[:-1])} and {several[-1]}"
    return f"No setting is recommended: by {by} {named} may differ by chance alone"


def first_place(figures: Mapping[str, Any], id: str) -> str:
    """What the entry with the best value of a metric is called: "best", where that is no chance and no bias."""
    if figures["rivals_by_metric"][id] or id in figures["mostly_bias"]:
        return f"the {'highest' if figures['entries'][0]['results'][id]['better'] == 'higher' else 'lowest'}"
    return "best"


def _name(figures: Mapping[str, Any], id: str) -> str:
    name: str = figures["entries"][0]["results"][id]["name"]
    return name


def _number(value: float) -> str:
    return f"{value:.4g}"
