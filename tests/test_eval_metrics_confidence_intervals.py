"""Intervals hold what they should, about as often as they say."""

import numpy as np
import pytest
import scipy
from scipy.stats import binomtest, norm, t

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


def test_the_jackknife_of_blocks_of_different_sizes_is_that_of_busing():
    value, left_out, sizes = 2.0, np.array([1.7, 2.1, 2.6, 1.9]), np.array([3, 5, 7, 10])
    n, blocks = 25, 4
    corrected = blocks * value - sum((1 - size / n) * left for size, left in zip(sizes, left_out, strict=True))
    variance = 0.0
    for size, left in zip(sizes, left_out, strict=True):
        h = n / size
        variance += (h * value - (h - 1) * left - corrected) ** 2 / (h - 1) / blocks
    found = Jackknife(value=value, left_out=left_out, sizes=sizes)
    assert found.n == n
    assert found.corrected == pytest.approx(corrected, rel=1e-12)
    assert found.se == pytest.approx(variance**0.5, rel=1e-12)
    half = t.ppf(0.975, 3) * found.se  # of 4 blocks
    for estimate, centre in ((found.raw(), value), (found.bias_corrected(), found.corrected)):
        assert (estimate.value, estimate.se, estimate.n) == (centre, found.se, n)
        assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half), rel=1e-12)
    again = Jackknife.from_dict(found.to_dict())
    assert again.raw() == found.raw() and again.sizes.dtype == np.int64


def test_two_blocks_are_the_fewest():
    values = np.array([1.0, 2.0, 4.0, 7.0, 3.0, 1.0])
    found = jackknife_of(values, np.mean, blocks=2)
    left, right = found.left_out
    assert found.se == pytest.approx(abs(left - right) / 2)  # of two independent means, half of their difference


def test_blocks_share_all_samples_out_at_random():
    blocks = random_blocks(203, 20)
    assert sorted(np.concatenate(blocks)) == list(range(203)) and {len(block) for block in blocks} == {10, 11}
    assert all((np.diff(block) > 0).all() for block in blocks)
    assert min(np.ptp(block) for block in blocks) > 50  # files come sorted
    assert [len(block) for block in random_blocks(3, 20)] == [1, 1, 1] and len(random_blocks(9, 2)) == 2
    assert all((a == b).all() for a, b in zip(blocks, random_blocks(203, 20), strict=True))


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


def test_a_spread_counts_as_so_many_fewer_samples():
    estimate, peer = wilson(8, 40, spread=4), binomtest(2, 10).proportion_ci(method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((peer.low, peer.high), abs=1e-12)
    assert (estimate.value, estimate.n) == (0.2, 40) and estimate.se == pytest.approx((0.2 * 0.8 / 10) ** 0.5)
    assert wilson(8, 40, spread=0.25) == wilson(8, 40)  # a design never adds samples
    sure, peer = wilson(8, 40, level=0.99), binomtest(8, 40).proportion_ci(0.99, method="wilson")
    assert (sure.low, sure.high) == pytest.approx((peer.low, peer.high), abs=1e-12)


def test_the_bootstrap_is_quantiles_of_resamples():
    values, rng = np.random.default_rng(6).exponential(size=50), np.random.default_rng(7)
    draws = np.array([np.median(values[rng.integers(0, 50, 50)]) for _ in range(300)])
    found = bootstrap(values, lambda v: float(np.median(v)), resamples=300, seed=7)
    assert (found.value, found.n) == (np.median(values), 50)
    assert found.se == pytest.approx(np.sqrt(np.sum((draws - draws.mean()) ** 2) / 299), rel=1e-12)
    assert (found.low, found.high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), rel=1e-12)
    assert bootstrap(values, lambda v: float(v.mean())).high != found.high


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
    shifted = normal_interval(3.0, 2.0, 5, "m")
    assert (shifted.value, shifted.se, shifted.n, shifted.method) == (3.0, 2.0, 5, "m")
    assert (shifted.low, shifted.high) == pytest.approx(norm.interval(0.95, 3.0, 2.0), rel=1e-9)


def test_an_interval_is_cut_to_what_is_possible():
    wide = normal_interval(0, 1, 5, "m")
    cut = wide.clipped(low=-0.5)
    assert (cut.low, cut.high) == (-0.5, wide.high)
    cut = wide.clipped(high=0.5)
    assert (cut.low, cut.high) == (wide.low, 0.5) and (cut.value, cut.se) == (0, 1)
    for low, high, end in ((3.0, 4.0, 3.0), (-4.0, -3.0, -3.0)):  # all of it lies outside
        cut = wide.clipped(low, high)
        assert (cut.low, cut.high) == (end, end)


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
    assert [e.value for e in same] == pytest.approx([3.0] * 4)
    assert 0.25 < same[0].se < 0.5  # between a spread that is surely none and values by themselves


@pytest.mark.parametrize(("count", "tau"), [(4, 1.0), (8, 0.3), (8, 1.0), (16, 3.0), (27, 1.0)])
def test_shrunken_intervals_cover_though_the_spread_is_not_known(count, tau):
    rng, covered = np.random.default_rng(6), []
    for _ in range(150):
        se = rng.uniform(0.3, 3, count)
        truth = rng.normal(0, tau, count)
        values = truth + rng.normal(size=count) * se
        together = shrink([normal_interval(float(v), float(s), 10, "m") for v, s in zip(values, se, strict=True)])
        covered += [e.low <= t <= e.high for e, t in zip(together, truth, strict=True)]
    assert 0.92 < np.mean(covered) < 0.998


def error_by_quadrature(x, se, i, value):
    """Root mean square of theta_i - value over tau from 0 to where `shrink` ends, by its normal densities."""
    x, v = np.array(x), np.array(se) ** 2

    def likelihood(tau):
        total = v + tau**2
        mu = np.average(x, weights=1 / total)
        density = np.prod(scipy.stats.norm.pdf(x, mu, np.sqrt(total)))
        return density / np.sqrt(np.sum(1 / total)), mu, total

    def square(tau):
        weight, mu, total = likelihood(tau)
        keep = tau**2 / total[i]
        variance = keep * v[i] + (1 - keep) ** 2 / np.sum(1 / total)
        return weight * (variance + (keep * x[i] + (1 - keep) * mu - value) ** 2)

    end = 4 * np.sqrt(x.var(ddof=1) + v.mean())
    return np.sqrt(
        scipy.integrate.quad(square, 0, end)[0] / scipy.integrate.quad(lambda tau: likelihood(tau)[0], 0, end)[0]
    )


def test_shrinking_is_dersimonian_and_lairds_random_effects():
    x, se = [1.0, 2.5, 0.5, 4.0], [0.5, 0.3, 0.8, 1.0]
    found = shrink([normal_interval(v, s, 10 + i, "m") for i, (v, s) in enumerate(zip(x, se, strict=True))])
    weights = [1 / s**2 for s in se]
    fixed = sum(w * v for w, v in zip(weights, x, strict=True)) / sum(weights)
    q = sum(w * (v - fixed) ** 2 for w, v in zip(weights, x, strict=True))
    tau2 = (q - 3) / (sum(weights) - sum(w**2 for w in weights) / sum(weights))
    assert tau2 > 0
    total = [1 / (s**2 + tau2) for s in se]
    mean = sum(w * v for w, v in zip(total, x, strict=True)) / sum(total)
    for i, (v, s, e) in enumerate(zip(x, se, found, strict=True)):
        b = s**2 / (s**2 + tau2)  # how far it is drawn
        assert e.value == pytest.approx(v + b * (mean - v), rel=1e-12)
        assert e.se == pytest.approx(error_by_quadrature(x, se, i, e.value), rel=2e-3)
        assert (e.n, e.method) == (10 + i, "m; shrunken")
        assert e.high == pytest.approx(e.value + 1.959964 * e.se, rel=1e-6)
    two = [normal_interval(v, 1.0, 5, "m") for v in (0.0, 9.0)]
    assert shrink(two) == two
    three = shrink([*two, normal_interval(2.0, 1.0, 5, "m")])
    assert three[0].value > 0 and three[1].value < 9
    sure = shrink([normal_interval(v, s, 5, "m") for v, s in ((1.0, 0.0), (2.0, 1.0), (3.0, 1.0))])
    # The limit for weights w, 1 and 1, w to infinity: tau^2 = (1 + 4 - 2) / 4.
    tau2 = 0.75
    mean = (1 / tau2 + 2 / 1.75 + 3 / 1.75) / (1 / tau2 + 2 / 1.75)
    expected = [1.0, *((tau2 * v + mean) / 1.75 for v in (2.0, 3.0))]
    assert [e.value for e in sure] == pytest.approx(expected, abs=1e-6)
    exact = [normal_interval(v, 0.0, 5, "m") for v in (1.0, 2.0, 3.0)]
    assert shrink(exact) == exact


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match="n and blocks must be at least 2; got 1 and 20"):
        random_blocks(1, 20)
    with pytest.raises(ValueError, match="n and blocks must be at least 2; got 5 and 1"):
        random_blocks(5, 1)
    for successes, n in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="successes must be from 0 to n"):
            wilson(successes, n)
    with pytest.raises(ValueError, match="at least one number"):
        bootstrap(np.zeros(0), lambda v: float(v.mean()))
    for left, sizes in ((3, 2), (1, 1)):
        with pytest.raises(ValueError, match="same 2 or more blocks"):
            Jackknife(value=0.0, left_out=np.zeros(left), sizes=np.ones(sizes, np.int64))
