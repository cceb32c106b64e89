"""How often judges are wrong: shares with Wilson's interval, and exact two-sided binomial tests against chance."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from scipy.stats import binomtest

from eval.blind.answers import Row
from eval.blind.pictures import GENERATED, REAL
from eval.metrics.confidence_intervals import LEVEL, wilson

CHANCE = 0.5
NOT_INDEPENDENT = (
    "The intervals and tests take all answers as independent. They are not: answers of one judge about many pictures "
    "go together, and so do those of many judges about one picture. Read the rows by judge, and take the interval over "
    "all judges as too narrow where they differ. It is about these pictures and judges, not about people at large."
)


def results(record: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Error rates of all answers, of real and generated pictures, by judge and by stratum; what they allow to say."""
    groups: list[dict[str, Any]] = []
    if not record["pairs"]:
        for truth in (REAL, GENERATED):
            groups += _rate(f"{truth} pictures", "truth", [row for row in rows if row["truth"] == truth])
    groups += _by(rows, "judge", lambda row: {row["judge"]})
    groups += _by(rows, "stratum", lambda row: {name for name in row["strata"] if name is not None})
    total = next(iter(_rate("all answers", "all", rows)), None)
    return {
        "record": record,
        "answers": len(rows),
        "judges": len({row["judge"] for row in rows}),
        "error": total,
        "groups": groups,
        "finding": _finding(total, record["pairs"]),
        "note": NOT_INDEPENDENT,
    }


def own_share(rows: Sequence[Row], judge: str) -> tuple[int, int]:
    """How many answers of a judge are right, and how many there are."""
    own = [row for row in rows if row["judge"] == judge]
    return sum(row["answer"] == row["truth"] for row in own), len(own)


def _by(rows: Sequence[Row], kind: str, names: Callable[[Row], set[str]]) -> list[dict[str, Any]]:
    every = sorted(set().union(*(names(row) for row in rows))) if rows else []
    return [made for name in every for made in _rate(name, kind, [row for row in rows if name in names(row)])]


def _rate(name: str, kind: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    # -> the error rate of these rows; nothing of none
    if not rows:
        return []
    wrong = sum(row["answer"] != row["truth"] for row in rows)
    seconds = sorted(row["seconds"] for row in rows)
    p = float(binomtest(wrong, len(rows), CHANCE).pvalue)
    return [
        {"name": name, "kind": kind, "wrong": wrong, **asdict(wilson(wrong, len(rows))), "p": p}
        | {"median_seconds": seconds[len(seconds) // 2]}
    ]


def _finding(total: dict[str, Any] | None, pairs: bool) -> str:
    if total is None:
        return "No answers yet."
    told = "which of two pictures is real" if pairs else "real from generated pictures"
    share = f"{total['value']:.1%} of {total['n']:,} answers are wrong ({total['low']:.1%} to {total['high']:.1%})"
    how = "better" if total["value"] < CHANCE else "worse"
    if total["p"] >= 1 - LEVEL:
        how = "no better and no worse"
    return f"Judges tell {told} {how} than chance: {share}, p = {total['p']:.2g}."
