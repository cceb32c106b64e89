"""Intervals hold what they should, about as often as they say."""

import numpy as np
import pytest
from scipy.stats import binomtest

from eval.metrics.confidence_intervals import (
    Jackknife,
    bootstrap,
    linear_jackknife,
    normal_interval,
    paired_difference,
    random_blocks,
    shrink,
    wilson,
)


def jackknife_of(values, statistic, blocks=20):
    groups = random_blocks(len(values), blocks)
    left_out = np.array([statistic(np.delete(values, group)) for group in groups])
    return Jackknife(value=statistic(values), left_out=left_out, sizes=np.array([len(group) for group in groups]))


@pytest.mark.parametrize("n", [200, 203, 7])
def test_the_jackknife_of_a_mean_is_the_spread_of_its_blocks(n):
    values = np.random.default_rng(0).normal(size=n)
    exact, linear = jackknife_of(values, np.mean), linear_jackknife(values.mean(), values)
    np.testing.assert_allclose(exact.left_out, linear.left_out, atol=1e-12)
    assert exact.corrected == pytest.approx(values.mean(), abs=1e-12)
    if n == 200:  # equal blocks
        means = np.array([values[group].mean() for group in random_blocks(n, 20)])
        assert exact.se == pytest.approx(means.std(ddof=1) / 20**0.5)


def test_the_jackknife_takes_a_bias_of_order_one_over_n_away():
    values = np.random.default_rng(1).normal(size=60)
    blocks = jackknife_of(values, lambda v: float(np.var(v)), blocks=60)
    assert blocks.corrected == pytest.approx(np.var(values, ddof=1), rel=1e-10)
    assert blocks.raw().value < blocks.bias_corrected().value


def test_jackknife_intervals_cover_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(2)
    intervals = [jackknife_of(rng.exponential(size=200), lambda v: float(np.log(v.mean()))).raw() for _ in range(400)]
    assert 0.91 <= np.mean([e.low <= 0 <= e.high for e in intervals]) <= 0.985


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (1, 1), (517, 1000)])
def test_wilsons_interval_is_that_of_scipy(successes, n):
    estimate, peer = wilson(successes, n), binomtest(successes, n).proportion_ci(method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((peer.low, peer.high), abs=1e-12)
    assert estimate.low <= estimate.value <= estimate.high
    wide = wilson(successes, n, spread=4)
    assert (
        wide.low <= estimate.low and estimate.high <= wide.high and wide.high - wide.low > estimate.high - estimate.low
    )


def test_the_bootstrap_of_a_mean_has_its_standard_error_and_repeats_itself():
    values = np.random.default_rng(3).normal(size=400)
    estimate = bootstrap(values, lambda v: float(v.mean()))
    assert estimate.se == pytest.approx(values.std() / 20, rel=0.15)
    assert estimate.low < estimate.value < estimate.high
    assert estimate == bootstrap(values, lambda v: float(v.mean()))


def test_a_paired_difference_is_tighter_and_needs_the_same_blocks():
    rng = np.random.default_rng(4)
    shared = rng.normal(size=1000)
    a = linear_jackknife(1.3, shared + rng.normal(scale=0.1, size=1000))
    b = linear_jackknife(1.0, shared + rng.normal(scale=0.1, size=1000))
    difference = paired_difference(a, b)
    assert difference.value == pytest.approx(0.3)
    assert difference.se < 0.3 * np.hypot(a.se, b.se)
    with pytest.raises(ValueError, match="must have the same blocks"):
        paired_difference(a, linear_jackknife(1.0, shared[:-1]))


def test_few_degrees_of_freedom_widen_an_interval():
    assert normal_interval(0, 1, 5, "m").high == pytest.approx(1.959964, abs=1e-6)
    assert normal_interval(0, 1, 5, "m", freedom=4).high == pytest.approx(2.776445, abs=1e-6)
    cut = normal_interval(0, 1, 5, "m").clipped(low=-0.5)
    assert (cut.low, cut.high) == (-0.5, pytest.approx(1.959964, abs=1e-6))


def test_shrinking_moves_the_unsure_most_and_is_nearer_the_truth():
    rng = np.random.default_rng(5)
    se = np.where(np.arange(40) % 2, 0.2, 2.0)
    truth = rng.normal(5, 1, size=40)
    alone = [normal_interval(float(t + rng.normal() * s), float(s), 10, "m") for t, s in zip(truth, se, strict=True)]
    together = shrink(alone)
    moved = np.abs([t.value - a.value for t, a in zip(together, alone, strict=True)])
    assert moved[se == 2.0].mean() > 5 * moved[se == 0.2].mean()
    errors = [[abs(e.value - t) for e, t in zip(estimates, truth, strict=True)] for estimates in (together, alone)]
    assert np.mean(errors[0]) < 0.8 * np.mean(errors[1])
    same = shrink([normal_interval(3.0, 0.5, 10, "m")] * 4)
    assert [e.value for e in same] == pytest.approx([3.0] * 4) and same[0].se == pytest.approx(0.25)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match="n and blocks must be at least 2; got 1 and 20"):
        random_blocks(1, 20)
    with pytest.raises(ValueError, match="successes must be from 0 to n"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="at least one number"):
        bootstrap(np.zeros(0), lambda v: float(v.mean()))
    with pytest.raises(ValueError, match="same 2 or more blocks"):
        Jackknife(value=0.0, left_out=np.zeros(3), sizes=np.ones(2, np.int64))
