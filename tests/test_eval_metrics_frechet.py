"""The Fréchet distance against closed forms, scipy's matrix root and torch-fidelity."""

import numpy as np
import pytest
import scipy.linalg
import torch

import eval.metrics.frechet as frechet
from eval.metrics.confidence_intervals import paired_difference
from eval.metrics.feature_stats import Features, Moments
from eval.metrics.frechet import (
    fd_infinity,
    frechet_distance,
    frechet_estimate,
    frechet_jackknife,
    frechet_of_populations,
    noise_floor,
    sqrt_factor,
)


def moments(mean, cov) -> Moments:
    """Moments of a known Gaussian."""
    mean, cov = np.asarray(mean, np.float64), np.asarray(cov, np.float64)
    return Moments.from_arrays({"count": np.array(10**6 + 1), "mean": mean, "scatter": cov * 10**6})


def wishart(rng, d, rank):
    x = rng.normal(size=(rank, d))
    return x.T @ x / rank


def test_gaussians_have_the_closed_form():
    rng = np.random.default_rng(0)
    m1, m2, s1, s2 = *rng.normal(size=(2, 8)), wishart(rng, 8, 30), wishart(rng, 8, 30)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    expected = np.sum((m1 - m2) ** 2) + np.trace(s1 + s2 - 2 * root)
    assert frechet_distance(moments(m1, s1), moments(m2, s2)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(moments(m2, s2), moments(m1, s1)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(moments(m1, s1), moments(m1, s1)) == pytest.approx(0, abs=1e-9)
    a, b = rng.uniform(0.1, 3, size=(2, 8))  # that commute
    assert frechet_distance(moments(m1, np.diag(a**2)), moments(m1, np.diag(b**2))) == pytest.approx(
        np.sum((a - b) ** 2), rel=1e-9
    )


def test_rank_deficient_sets_are_right():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    a, b = np.zeros(40), np.zeros(40)
    a[:10], b[5:20] = rng.uniform(1, 2, 10), rng.uniform(1, 2, 15)  # 5 directions are shared
    sets = [moments(np.zeros(40), basis @ np.diag(s**2) @ basis.T) for s in (a, b)]
    assert sqrt_factor(sets[1]).shape == (40, 15)
    assert frechet_distance(*sets) == pytest.approx(np.sum((a - b) ** 2), rel=1e-9)
    images = rng.normal(size=(7, 40))  # fewer than dimensions
    few = Features([images]).moments()
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)
    assert frechet_jackknife(images, few, blocks=3).value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("d", [4, 16])
def test_the_bias_of_equal_normals_is_the_known_one(d):
    rng, n = np.random.default_rng(2), 400
    draws = [frechet_distance(*(Features([rng.normal(size=(n, d))]).moments() for _ in range(2))) for _ in range(150)]
    expected = (2 * d + d * (d + 1) / 2) / n
    assert np.mean(draws) == pytest.approx(expected, abs=0.03 * expected + 4 * np.std(draws) / 150**0.5)
    assert np.mean(draws) > 0.8 * expected


@pytest.mark.parametrize(("n", "d"), [(30, 50), (45, 40), (300, 40), (210, 100)])
def test_what_is_left_out_is_left_out(n, d, monkeypatch):
    rng = np.random.default_rng(3)
    features = (rng.normal(size=(n, d)) * np.linspace(0.3, 2, d) + 0.1).astype(np.float32)
    reference = Features([rng.normal(size=(400, d))]).moments()
    jackknife = frechet_jackknife(features, reference, blocks=8)
    groups = frechet.random_blocks(n, 8)
    expected = [
        frechet_distance(Features([np.delete(features, group, axis=0)]).moments(), reference) for group in groups
    ]
    np.testing.assert_allclose(jackknife.left_out, expected, rtol=1e-9)
    assert jackknife.value == pytest.approx(frechet_distance(Features([features]).moments(), reference), rel=1e-9)
    if n > frechet.EXPANDED_FROM * d:  # the expansion says the same, within the standard error
        monkeypatch.setattr(frechet, "EXACT_RANK", 0)
        expanded = frechet_jackknife(features, reference, blocks=8)
        assert np.abs(expanded.left_out - expected).max() > 0
        assert expanded.se == pytest.approx(jackknife.se, rel=0.2)
        assert expanded.corrected == pytest.approx(jackknife.corrected, abs=0.7 * jackknife.se)


@pytest.mark.parametrize("exact_rank", [256, 0])
def test_groups_are_read_in_blocks(exact_rank, monkeypatch):
    rng = np.random.default_rng(10)
    features, reference = rng.normal(size=(210, 6)) + 0.3, Features([rng.normal(size=(400, 6))]).moments()
    monkeypatch.setattr(frechet, "EXACT_RANK", exact_rank)
    whole = frechet_jackknife(features, reference, blocks=8)
    monkeypatch.setattr(frechet, "BLOCK", 7)  # of 26 or 27 in a group
    np.testing.assert_allclose(frechet_jackknife(features, reference, blocks=8).left_out, whole.left_out, rtol=1e-9)


def test_the_expansion_is_of_second_order(monkeypatch):
    rng, n, d = np.random.default_rng(3), 900, 30
    features = rng.normal(size=(n, d)) * np.linspace(0.3, 2, d) + 0.1
    reference = Features([rng.normal(size=(400, d))]).moments()
    exact = frechet_jackknife(features, reference).left_out
    monkeypatch.setattr(frechet, "EXACT_RANK", 0)
    missed = frechet_jackknife(features, reference).left_out - exact
    assert 0 < missed.std() < 0.004 * exact.std()  # what is left is of third order
    monkeypatch.setattr(frechet, "CALIBRATED_ON", 20)  # on average nothing is missed then
    assert abs(frechet_jackknife(features, reference).left_out.mean() - exact.mean()) < 1e-9


@pytest.mark.parametrize(("n", "d", "form"), [
    (39, 40, "gram"), (40, 40, "exact"), (520, 256, "exact"), (513, 257, "exact"), (514, 257, "expanded")
])  # fmt: skip
def test_each_size_has_its_form(n, d, form, monkeypatch):
    class Chosen(Exception):
        pass

    def chosen(*_):
        raise Chosen

    monkeypatch.setattr(frechet, f"_roots_{'of_gram' if form == 'gram' else form}", chosen)
    reference = moments(np.zeros(d), np.eye(d))
    with pytest.raises(Chosen):
        frechet_jackknife(np.ones((n, d)), reference, factor=np.eye(d), blocks=2)


def test_intervals_cover_and_the_correction_corrects(monkeypatch):
    rng, d, n, scale = np.random.default_rng(4), 12, 150, np.linspace(0.5, 1.5, 12)
    reference = moments(np.zeros(d), np.eye(d))
    factor, truth = sqrt_factor(reference), d * 0.04 + np.sum((scale - 1) ** 2)
    for exact_rank in (256, 0):
        monkeypatch.setattr(frechet, "EXACT_RANK", exact_rank)
        estimates = [
            frechet_estimate(rng.normal(size=(n, d)) * scale + 0.2, reference, factor=factor) for _ in range(150)
        ]
        raw, corrected = ([e[name] for e in estimates] for name in ("raw", "bias_corrected"))
        error = 4 * np.std([e.value for e in raw]) / 150**0.5
        assert np.mean([e.value for e in corrected]) == pytest.approx(truth, abs=error)
        assert np.mean([e.value for e in raw]) > truth + 2 * error
        assert 0.89 <= np.mean([e.low <= truth <= e.high for e in corrected]) <= 0.99
        assert np.mean([e.low <= truth <= e.high for e in raw]) < 0.85  # its interval is for this n


def test_the_line_over_one_over_n_leads_to_the_truth_too():
    rng, d = np.random.default_rng(5), 8
    reference = moments(np.zeros(d), np.eye(d))
    features = rng.normal(size=(3000, d)) + 0.3
    estimates = frechet_estimate(features, reference, infinity=True)
    assert fd_infinity(features, reference) == estimates["fd_infinity"].value
    for name in ("fd_infinity", "bias_corrected"):
        assert estimates[name].value == pytest.approx(d * 0.09, abs=4 * estimates[name].se)
    assert estimates["fd_infinity"].value < estimates["raw"].value
    draws = np.random.default_rng(1)
    orders = np.array([draws.permutation(3000) for _ in range(frechet.DRAWS)])
    y = [
        np.mean([frechet_distance(Features([features[part]]).moments(), reference) for part in parts])
        for parts in (orders[:1], orders.reshape(-1, 1500), orders.reshape(-1, 1000))
    ]
    assert fd_infinity(features, reference) == pytest.approx(4 / 3 * y[0] + 1 / 3 * y[1] - 2 / 3 * y[2])  # at x = 0
    limit, corrected = estimates["fd_infinity"], estimates["bias_corrected"]
    assert (limit.se, limit.n) == (corrected.se, 3000)
    assert limit.high - limit.value == pytest.approx(corrected.high - corrected.value)  # with as many degrees
    few = frechet_estimate(features, reference, infinity=True, blocks=5)["fd_infinity"]
    assert (few.high - few.value) / few.se == pytest.approx(2.776445, abs=1e-5)
    assert set(frechet_estimate(features, reference)) == {"raw", "bias_corrected"}


def test_the_noise_floor_is_what_equal_sets_measure():
    rng, d = np.random.default_rng(6), 8
    real = rng.normal(size=(2000, d))
    for n in (500, 2000):
        floor = noise_floor(real, n)
        expected = (d + d * (d + 1) / 4) * (1 / n + 1 / 2000)
        assert floor.value == pytest.approx(expected, rel=0.3)
        assert floor.n == n and floor.low <= floor.value <= floor.high
    for images, n, splits in ((3, 2, 4), (4, 1, 4), (4, 2, 1)):
        with pytest.raises(ValueError, match="at least 4"):
            noise_floor(real[:images], n, splits=splits)
    assert noise_floor(real[:4], 2, splits=2).n == 2


def distance_by_scipy(a, b):
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s1 + s2 - 2 * root)


@pytest.mark.parametrize(("n", "some", "others"), [(61, 30, 31), (500, 30, 31)])
def test_the_noise_floor_of_many_images_falls_as_one_over_n(n, some, others):
    real = np.random.default_rng(11).normal(size=(61, 3)) ** 2
    rng, orders = np.random.default_rng(0), []
    for _ in range(3):
        orders.append(rng.permutation(61))
    distances = [distance_by_scipy(real[order[:some]], real[order[some:]]) for order in orders]
    scale = (1 / n + 1 / 61) / (4 / 61)
    floor = noise_floor(real, n, splits=3)
    assert floor.value == pytest.approx(np.mean(distances) * scale, rel=1e-9)
    assert floor.se == pytest.approx(np.std(distances, ddof=1) / 3**0.5 * scale, rel=1e-9)
    assert floor.high == pytest.approx(floor.value + 4.302653 * floor.se, rel=1e-6)  # Student's, of 2 degrees
    assert floor.low == pytest.approx(max(floor.value - 4.302653 * floor.se, 0), abs=1e-6)
    assert f"3 splits of {some} and {others}, carried over by {scale:.3g}" in floor.method


@pytest.mark.parametrize(("n", "count"), [(60, 60), (240, 60), (30, 90), (200, 200), (2000, 40)])
def test_the_noise_floor_of_few_images_is_what_equal_sets_measure(n, count):
    rng, dim = np.random.default_rng(13), 60
    scale = np.arange(1, dim + 1) ** -0.5  # as the features of paintings are spread

    def draw(size):
        return rng.normal(size=(size, dim)) * scale

    truth = np.mean([distance_by_scipy(draw(n), draw(count)) for _ in range(6)])
    floors = [noise_floor(draw(count), n) for _ in range(6)]
    assert 0.85 < np.mean([floor.value for floor in floors]) / truth < 1.3
    assert np.mean([floor.low < 1.25 * truth and floor.high > 0.9 * truth for floor in floors]) > 0.8


def test_the_noise_floor_in_components_counts_that_they_were_fitted():
    rng, dim, dims = np.random.default_rng(15), 300, 8
    scale = np.arange(1, dim + 1) ** -0.3

    def measured():
        gen, real = rng.normal(size=(2, 60, dim)) * scale
        basis = np.linalg.svd(real - real.mean(0), full_matrices=False)[2][:dims].T
        floors = noise_floor(real, 60, dims=dims).value, noise_floor(real @ basis, 60).value
        return distance_by_scipy(gen @ basis, real @ basis), *floors

    truth, floor, as_if_known = np.mean([measured() for _ in range(6)], axis=0)
    assert 0.85 < floor / truth < 1.35 and as_if_known < 0.75 * truth
    assert noise_floor(np.ones((40, 4)), 40, dims=2).value < 1e-99


def test_the_noise_floor_of_a_handful_is_their_own():
    real = np.random.default_rng(14).normal(size=(15, 4))
    rng = np.random.default_rng(0)
    orders = [rng.permutation(15) for _ in range(4)]
    halves = [distance_by_scipy(real[order[:8]], real[order[8:]]) for order in orders]
    assert noise_floor(real, 15).value == noise_floor(real, 10**6).value == pytest.approx(np.mean(halves), rel=1e-9)
    assert noise_floor(np.ones((40, 4)), 40).value < 1e-99  # all images are one


@pytest.mark.parametrize("count", [2, 9, 12])
def test_the_factor_of_few_features_is_one_of_their_covariance(count):
    features = Features([np.random.default_rng(16).normal(size=(count, 12)) + 3])
    factor = sqrt_factor(features.moments(), features)
    assert factor.shape == sqrt_factor(features.moments()).shape == (12, count - 1)
    np.testing.assert_allclose(factor @ factor.T, features.moments().cov, atol=1e-12)


def test_the_noise_floor_of_fewer_images_than_dimensions_is_their_own():
    real = np.random.default_rng(15).normal(size=(15, 40)) + 3
    rng = np.random.default_rng(0)
    orders = [rng.permutation(15) for _ in range(4)]
    halves = [frechet_distance(*(Features([real[part]]).moments() for part in (o[:8], o[8:]))) for o in orders]
    assert noise_floor(real, 15).value == pytest.approx(np.mean(halves), rel=1e-6)


def test_a_noise_floor_is_not_below_zero():
    real = np.random.default_rng(12).normal(size=(12, 2))
    floor = noise_floor(real, 6, splits=2)
    assert floor.low == 0 < floor.value < floor.high


def test_two_snapshots_from_the_same_z_are_told_apart_sooner():
    rng, d = np.random.default_rng(7), 6
    reference = moments(np.zeros(d), np.eye(d))
    z = rng.normal(size=(400, d))
    a, b = (frechet_jackknife(z * scale + 0.5, reference) for scale in (1.10, 1.05))
    difference = paired_difference(a, b, corrected=True)
    assert difference.low > 0 and difference.se < 0.5 * np.hypot(a.se, b.se)


def test_shards_and_order_do_not_matter(tmp_path):
    x = np.random.default_rng(8).normal(size=(90, 5)).astype(np.float32)
    reference = Features([x[:40] * 1.3]).moments()
    np.save(tmp_path / "0.npy", x[:33])
    np.save(tmp_path / "1.npy", x[33:])
    shards = Features.open([tmp_path / "0.npy", tmp_path / "1.npy"])
    assert frechet_estimate(shards, reference) == frechet_estimate(x, reference)
    assert frechet_distance(Features([x[::-1]]).moments(), reference) == pytest.approx(
        frechet_estimate(x, reference)["raw"].value, rel=1e-12
    )


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="same dimension; got 3 and 4"):
        frechet_distance(moments(np.zeros(3), np.eye(3)), moments(np.zeros(4), np.eye(4)))
    with pytest.raises(ValueError, match="at least 3 for a jackknife"):
        frechet_estimate(np.zeros((2, 3)), moments(np.zeros(3), np.eye(3)))
    assert frechet_estimate(np.eye(3), moments(np.zeros(3), np.eye(3)))["raw"].n == 3
    with pytest.raises(ValueError, match="at least 3 for a jackknife"):
        frechet_estimate(np.eye(3), moments(np.zeros(3), np.eye(3)), blocks=2)  # of which one leaves a single sample


def test_torch_fidelity_agrees_and_is_off_where_sets_are_small():
    pytest.importorskip("eval.features.torchvision_compat").torch_fidelity()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    def peer(a, b):
        statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
        return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]

    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(200, 16)), rng.normal(size=(300, 16)) * 1.2
    ours = frechet_distance(*(Features([x]).moments() for x in (a, b)))
    assert ours == pytest.approx(peer(a, b), rel=1e-9)
    assert frechet_distance(Features([a[:8]]).moments(), Features([b]).moments()) == pytest.approx(
        peer(a[:8], b), rel=1e-4
    )
    # A large common offset: float32 sums lose what float64 around the mean keeps.
    shifted = [(x + 1e4).astype(np.float32) for x in (a, b)]
    exact = frechet_distance(*(Features([x.astype(np.float64) - 1e4]).moments() for x in shifted))
    assert frechet_distance(*(Features([x]).moments() for x in shifted)) == pytest.approx(exact, rel=1e-6)
    assert peer(*shifted) != pytest.approx(exact, rel=1e-4)


def test_the_interval_of_the_populations_counts_the_datasets_chance_and_bias_in():
    rng, d, draws = np.random.default_rng(21), 3, 150
    truth = d * 0.5**2  # of two normal populations that are apart by a shift alone
    held = {"fixed": 0, "populations": 0}
    values = []
    for _ in range(draws):
        real, gen = rng.normal(size=(60, d)), rng.normal(size=(60, d)) + 0.5
        fixed = frechet_estimate(gen, Features([real]).moments())["bias_corrected"]
        both = frechet_of_populations(gen, real)
        values.append(both.value)
        for name, estimate in (("fixed", fixed), ("populations", both)):
            held[name] += estimate.low <= truth <= estimate.high
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / draws**0.5)
    assert held["fixed"] / draws < 0.88 and held["populations"] / draws > 0.91
    known = frechet_of_populations(gen, real, frechet_jackknife(gen, Features([real]).moments()))
    assert known == both
    over_gen = frechet_jackknife(gen, Features([real]).moments())
    over_real = frechet_jackknife(real, Features([gen]).moments())
    biases = [jackknife.value - jackknife.corrected for jackknife in (over_gen, over_real)]
    raw = frechet_distance(Features([gen]).moments(), Features([real]).moments())
    assert min(biases) > 0 and both.value == pytest.approx(raw - sum(biases))
