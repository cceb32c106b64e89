"""Bounds that results must keep, such as fid<20, so that a pipeline can end on them."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eval.metric_registry import Result
from gan.errors import RequestError

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """`metric` compared with `bound` by `sign`."""

    metric: str
    sign: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.bound:g}"

    def check(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        """Whether each result of that metric keeps it: one row for each."""
        return [
            {
                "requirement": str(self),
                "key": str(result.identity),
                "value": result.estimate.value,
                "met": _COMPARE[self.sign](result.estimate.value, self.bound),
            }
            for result in results
            if result.id == self.metric
        ]


def parse(text: str, possible: Sequence[str]) -> Requirement:
    """ "fid<20" -> a requirement. Raises RequestError for another form, or a metric that is not among `possible`."""
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*", text)
    try:
        bound = float(match[3]) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise RequestError(f"`require` must be METRIC<NUMBER, with <, <=, > or >=; got {text!r} instead")
    if match[1] not in possible:
        remedy = ": that needs Inception's weights" if match[1] in ("fid", "fid_corrected", "kid", "is") else ""
        raise RequestError(f"`require` must name one of {', '.join(possible)}; got {match[1]} instead{remedy}")
    return Requirement(metric=match[1], sign=match[2], bound=bound)
