"""Bounds on results: how they are written, what keeps them."""

import pytest

from eval.metric_registry import Result
from eval.metrics.confidence_intervals import normal_interval
from eval.metrics.result_key import Identity
from eval.thresholds import parse
from gan.errors import RequestError


def result(metric: str, value: float) -> Result:
    identity = Identity(
        metric=metric,
        extractor="x",
        preprocess="y",
        precision="fp32",
        backend="torch",
        weights="",
        reference="",
        reference_n=9,
        n=9,
    )
    return Result(identity=identity, estimate=normal_interval(value, 1.0, 9, "none"))


@pytest.mark.parametrize(
    "text, value, met",
    [
        ("fid<20", 19.9, True),
        ("fid<20", 20.0, False),
        ("fid <= 20", 20.0, True),
        ("fid>20", 20.0, False),
        ("fid>=20", 20.0, True),
        ("fid>-1e3", 0.0, True),
        ("fid<=20", 20.1, False),
        ("fid>=20", 19.9, False),
        ("fid>20", 20.1, True),
    ],
)
def test_bounds(text, value, met):
    rows = parse(text, ["fid"]).check([result("fid", value), result("kid", 1.0)])
    assert [(row["met"], row["value"], row["key"]) for row in rows] == [(met, value, "fid@x/y/fp32/n=9")]


def test_each_result_of_the_metric_has_a_row():
    results = [result("kd_2", 1.5), result("fid", 0.0), result("kd_2", 2.0)]
    rows = parse(" kd_2 <= 1.50 ", ["fid", "kd_2"]).check(results)
    assert [(row["requirement"], row["met"]) for row in rows] == [("kd_2<=1.5", True), ("kd_2<=1.5", False)]
    assert parse("fid<20", ["fid"]).check([]) == []


@pytest.mark.parametrize("text", ["fid", "fid=20", "fid<", "fid<many", "fid<nan", "fid<inf", "<20", "fid<2<3"])
def test_what_is_no_bound_is_refused(text):
    with pytest.raises(RequestError, match="`require` must be METRIC<NUMBER"):
        parse(text, ["fid"])


def test_a_metric_that_is_not_measured_is_refused():
    with pytest.raises(RequestError, match="`require` must name one of fd, kd; got fid instead: that needs Inception"):
        parse("fid<20", ["fd", "kd"])
    with pytest.raises(RequestError, match=r"got ppl instead$"):
        parse("ppl<20", ["fd", "kd"])
