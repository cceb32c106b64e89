"""Precision, recall, density and coverage against brute force, closed forms, prdc and torch-fidelity."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

import eval.metrics.neighbours as search
import eval.metrics.precision_recall as module
from eval.metrics.confidence_intervals import wilson
from eval.metrics.precision_recall import compare, density_coverage, nearest, neighbours, precision_recall, realism


def values(estimates):
    return {name: estimate.value for name, estimate in estimates.items()}


def brute(real, gen, k, k_density):
    """The four numbers from all distances at once, in float64 differences."""
    across, rr, gg = cdist(real, gen), np.sort(cdist(real, real)), np.sort(cdist(gen, gen))
    inside = across < rr[:, k_density, None]
    return {
        "precision": (across <= rr[:, k, None]).any(axis=0).mean(),
        "recall": (across <= gg[:, k]).any(axis=1).mean(),
        "density": inside.sum(axis=0).mean() / k_density,
        "coverage": inside.any(axis=1).mean(),
    }


@pytest.fixture
def small_blocks(monkeypatch):
    for blocked in (module, search):
        monkeypatch.setattr(blocked, "BLOCK", 16)


def test_blocks_give_what_all_pairs_give(small_blocks):
    rng = np.random.default_rng(0)
    real, gen = rng.normal(size=(70, 5)), rng.normal(size=(45, 5)) * 0.8 + 0.2
    found = compare(real, gen)
    assert values(found.precision_recall() | found.density_coverage()) == pytest.approx(brute(real, gen, 3, 5))
    across = cdist(real, gen)
    np.testing.assert_array_equal(found.nearest, across.argmin(axis=0))
    np.testing.assert_allclose(found.nearest_distance, across.min(axis=0))
    reach = np.sort(cdist(real, real))[:, 3]
    kept = reach <= np.median(reach)
    np.testing.assert_allclose(found.realism, (reach[kept, None] / across[kept]).max(axis=0))
    near = neighbours(real, 6)
    np.testing.assert_allclose(near.distances, np.sort(cdist(real, real))[:, 1:7])
    np.testing.assert_array_equal(near.indices, np.argsort(cdist(real, real))[:, 1:7])
    again = compare(real, gen, real_neighbours=near)
    assert again.density_coverage() == found.density_coverage()
    assert precision_recall(real, gen) == found.precision_recall()
    assert density_coverage(real, gen) == found.density_coverage()
    np.testing.assert_array_equal(realism(real, gen), found.realism)
    np.testing.assert_array_equal(nearest(real, gen)[0], found.nearest)


def test_precision_and_recall_swap_when_the_inputs_swap():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(150, 4)), rng.normal(size=(100, 4)) * 0.5
    one, other = precision_recall(a, b), precision_recall(b, a)
    assert (one["precision"], one["recall"]) == (other["recall"], other["precision"])
    assert one["precision"].value > one["recall"].value + 0.2  # the narrow set looks real and lacks variety


def test_equal_distributions_have_density_one_and_the_known_coverage():
    rng, m, n, k, draws = np.random.default_rng(2), 40, 60, 5, 200
    found = [values(density_coverage(rng.normal(size=(n, 3)), rng.normal(size=(m, 3)), k)) for _ in range(draws)]
    i = np.arange(1, k + 1)
    for name, expected in (("density", 1.0), ("coverage", 1 - np.prod((n - i) / (m + n - i)))):
        drawn = [f[name] for f in found]
        assert np.mean(drawn) == pytest.approx(expected, abs=4 * np.std(drawn) / draws**0.5)


def test_half_of_the_modes_dropped_halves_coverage_and_not_density():
    rng, n, k, draws = np.random.default_rng(3), 100, 2, 100
    found = []
    for _ in range(draws):
        real = rng.normal(size=(n, 2)) + np.repeat([[0, 0], [1e3, 0]], n // 2, axis=0)
        found.append(values(density_coverage(real, rng.normal(size=(n, 2)), k)))
    assert np.mean([f["density"] for f in found]) == pytest.approx(1, abs=0.05)
    assert np.mean([f["coverage"] for f in found]) == pytest.approx((1 - 3.0**-k) / 2, abs=0.015)


def test_copies_are_all_there_at_their_neighbours_rim():
    real = np.random.default_rng(4).normal(size=(60, 7)).astype(np.float32) * 3 + 50
    found = compare(real, real[::-1])
    assert set(values(found.precision_recall() | found.density_coverage()).values()) == {1}
    np.testing.assert_array_equal(found.nearest, np.arange(60)[::-1])
    assert (found.nearest_distance == 0).all() and np.isinf(found.realism).any()
    twice = np.concatenate([real, real])  # every radius is 0 up to k = 1
    assert np.isfinite(neighbours(twice, 1).distances).all() and not neighbours(twice, 1).distances.any()


def jackknife_variance(values):
    values = np.asarray(values)
    return (len(values) - 1) * np.mean((values - values.mean()) ** 2)


def covered_without(samples, balls, k, strict=False):
    """Which samples lie in a ball [samples], and without each ball [balls, samples], the others growing."""

    def covered(some):
        reach = np.sort(cdist(some, some))[:, k, None]
        across = cdist(some, samples)
        return (across < reach if strict else across <= reach).any(axis=0)

    return covered(balls), np.array([covered(np.delete(balls, ball, axis=0)) for ball in range(len(balls))])


@pytest.mark.parametrize("narrow", [1.0, 0.3])
def test_errors_of_precision_and_recall_are_a_binomials_and_a_jackknifes_over_the_balls(small_blocks, narrow):
    rng = np.random.default_rng(10)
    real, gen = rng.normal(size=(41, 4)), rng.normal(size=(120, 4)) * narrow + 0.2
    spreads = []
    found = compare(real, gen).precision_recall()
    for name, samples, balls in (("precision", gen, real), ("recall", real, gen)):
        every, without = covered_without(samples, balls, 3)
        changes = without.astype(int) - every
        noise = np.abs(changes).sum() / len(samples) ** 2  # each change is of one sample, which may not have been there
        p = (every.sum() + 1) / (len(samples) + 2)
        binomial = p * (1 - p) / len(samples)
        spread = 1 + max(jackknife_variance(changes.mean(axis=1)) - noise, 0) / binomial
        peer = wilson(int(every.sum()), len(samples), spread)
        estimate = found[name]
        spreads.append(spread)
        assert (estimate.value, estimate.n) == (peer.value, len(samples))
        assert (estimate.se, estimate.low, estimate.high) == pytest.approx((peer.se, peer.low, peer.high), rel=1e-9)
    assert (max(spreads) > 1.5) == (narrow == 1)


@pytest.mark.parametrize("shift", [0.2, 2.0])
def test_the_error_of_coverage_is_that_of_leaving_samples_of_either_set_out(small_blocks, shift):
    rng = np.random.default_rng(10)
    real, gen = rng.normal(size=(41, 4)), rng.normal(size=(37, 4)) + shift

    def covered(some, others):
        return (cdist(some, others) < np.sort(cdist(some, some))[:, 5, None]).any(axis=1)

    every = covered(real, gen)
    lost = np.array([every.sum() - covered(real, np.delete(gen, index, axis=0)).sum() for index in range(37)])
    of_generated = jackknife_variance(lost / 41) - lost.sum() / 41**2
    left = [covered(np.delete(real, index, axis=0), gen) for index in range(41)]
    gained = np.array([rest.sum() - np.delete(every, index).sum() for index, rest in enumerate(left)])
    late = np.zeros(41, bool)  # that any one's lack lets be covered
    for index, rest in enumerate(left):
        late[np.delete(np.arange(41), index)[rest & ~np.delete(every, index)]] = True
    of_real = np.var(gained - every) / 41 - 5 * late.sum() / 41**2
    p = (every.sum() + 1) / 43
    spread = (max(of_real, 0) + max(of_generated, 0)) / (p * (1 - p) / 41)
    peer = wilson(int(every.sum()), 41, spread)
    estimate = compare(real, gen).density_coverage()["coverage"]
    assert gained.any() and (estimate.value, estimate.n) == (peer.value, 41)
    assert (estimate.se, estimate.low, estimate.high) == pytest.approx((peer.se, peer.low, peer.high), rel=1e-9)


@pytest.mark.parametrize("narrow", [1.0, 0.3, "grid"])
def test_the_error_of_density_is_that_of_leaving_samples_of_either_set_out(small_blocks, narrow):
    rng = np.random.default_rng(11)
    if narrow == "grid":  # where many lie on a rim
        real, gen = (rng.integers(0, 9, size=(n, 2)).astype(float) for n in (41, 37))
    else:
        real, gen = rng.normal(size=(41, 4)), rng.normal(size=(37, 4)) * narrow + 0.2

    def density(some):
        return (cdist(some, gen) < np.sort(cdist(some, some))[:, 5, None]).sum() / 37 / 5

    inside = cdist(real, gen) < np.sort(cdist(real, real))[:, 5, None]
    shells = (cdist(real, gen) < np.sort(cdist(real, real))[:, 6, None]) & ~inside
    noise = (inside.sum() + 5 * shells.sum()) / 37**2 / 25  # each ball is a neighbour's of five
    counts = inside.sum(axis=0) / 5
    without = [density(np.delete(real, index, axis=0)) for index in range(41)]  # the balls of others grow
    estimate = compare(real, gen).density_coverage()["density"]
    assert estimate.value == pytest.approx(density(real)) and estimate.n == 37
    of_real = max(jackknife_variance(without) - noise, 0)
    assert estimate.se**2 == pytest.approx(counts.var() / 37 + of_real, rel=1e-9)
    assert estimate.high == pytest.approx(estimate.value + 1.959964 * estimate.se, rel=1e-6)


def test_density_is_not_below_zero():
    rng = np.random.default_rng(12)
    estimate = density_coverage(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)) + 2)["density"]
    assert estimate.low == 0 < estimate.high


def test_density_far_from_the_data_is_not_surely_nothing():
    rng, d = np.random.default_rng(9), 8
    draws = [(rng.normal(size=(100, d)), rng.normal(size=(100, d)) + np.r_[5, np.zeros(d - 1)]) for _ in range(200)]
    estimates = [density_coverage(real, gen)["density"] for real, gen in draws]
    truth = np.mean([estimate.value for estimate in estimates])
    zero = [estimate for estimate in estimates if estimate.value == 0]
    assert zero and all(estimate.low == 0 and 0 < estimate.high < 0.05 for estimate in zero)
    assert np.mean([estimate.low <= truth <= estimate.high for estimate in estimates]) > 0.85


def test_of_an_odd_number_the_middle_ball_is_trusted(small_blocks):
    rng = np.random.default_rng(13)
    real, gen = rng.normal(size=(41, 3)) * np.linspace(0.2, 3, 41)[:, None], rng.normal(size=(50, 3))
    reach, across = np.sort(cdist(real, real))[:, 3], cdist(real, gen)
    kept = np.argsort(reach)[:21]
    np.testing.assert_allclose(realism(real, gen), (reach[kept, None] / across[kept]).max(axis=0))


def test_what_lies_on_a_rim_is_precise_and_not_dense():
    # Each real sample's first neighbour is at 1, its second at 2 or more; each generated one lies at 1 of both sides.
    real, gen = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([[2.0], [12.0], [-1.0]])
    found = compare(real, gen, k=1, k_density=1)
    assert values(found.precision_recall())["precision"] == 1
    assert values(precision_recall(gen, real, 1))["recall"] == 1
    assert set(values(found.density_coverage()).values()) == {0}
    inside = compare(real, gen - 1e-6, k=1, k_density=1)
    assert values(inside.density_coverage()) == {"density": pytest.approx(2 / 3), "coverage": 0.5}


def test_settings_and_neighbours_reach_the_formulas():
    rng = np.random.default_rng(14)
    real, gen = rng.normal(size=(30, 3)), rng.normal(size=(25, 3)) * 0.7
    for k, k_density in ((1, 4), (6, 2)):
        found = compare(real, gen, k=k, k_density=k_density)
        assert values(found.precision_recall() | found.density_coverage()) == pytest.approx(
            brute(real, gen, k, k_density)
        )
    for few in (7, 6):  # the largest k, that density needs one more than
        assert len(compare(real[:7], gen, k=min(few - 1, 6), k_density=5).realism) == 25
    with pytest.raises(ValueError, match="got 6 of 6"):
        compare(real[:6], gen, k=3, k_density=5)
    with pytest.raises(ValueError, match="got 0 of 30"):
        neighbours(real, 0)


def test_intervals_cover_what_is_measured_on_average():
    rng, draws = np.random.default_rng(5), 80
    found = [compare(rng.normal(size=(150, 6)), rng.normal(size=(100, 6)) * 0.9) for _ in range(draws)]
    for name in ("precision", "recall", "density", "coverage"):
        estimates = [(f.precision_recall() | f.density_coverage())[name] for f in found]
        mean = np.mean([e.value for e in estimates])
        assert np.mean([e.low <= mean <= e.high for e in estimates]) >= 0.92
        assert np.mean([e.se for e in estimates]) < 1.35 * np.std([e.value for e in estimates])


def test_memory_grows_with_the_samples_and_not_with_their_pairs(monkeypatch):
    for blocked in (module, search):
        monkeypatch.setattr(blocked, "BLOCK", 128)
    rng = np.random.default_rng(6)
    real, gen = rng.normal(size=(2, 2500, 4))
    tracemalloc.start()
    compare(real, gen)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2500 * 2500 * 8 / 10


def tight_clusters(rng, n, offset=100.0):
    """Features that share a large part and differ by little, as those of like images do."""
    return (offset + rng.normal(size=(n, 16)) * 2e-3).astype(np.float32)


def test_tight_clusters_are_told_apart(small_blocks):
    rng = np.random.default_rng(7)
    near, far = tight_clusters(rng, 60), tight_clusters(rng, 60, -100.0)
    real, gen = np.concatenate([near, far]), np.concatenate([tight_clusters(rng, 50), tight_clusters(rng, 50, -100.0)])
    found = compare(real, gen)  # centring alone does not help here: the clusters lie apart
    expected = brute(real.astype(float), gen.astype(float), 3, 5)
    assert values(found.precision_recall() | found.density_coverage()) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(found.nearest_distance, cdist(real.astype(float), gen.astype(float)).min(axis=0))


def test_prdc_agrees(capsys):
    from prdc import compute_prdc

    rng = np.random.default_rng(8)
    real, gen = rng.normal(size=(200, 12)), rng.normal(size=(150, 12)) * 1.1
    peer = compute_prdc(real, gen, nearest_k=5)
    assert values(precision_recall(real, gen, 5) | density_coverage(real, gen, 5)) == pytest.approx(peer, abs=1e-12)


def test_torch_fidelity_agrees_but_for_tight_clusters():
    pytest.importorskip("eval.features.torchvision_compat").torch_fidelity()
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    rng = np.random.default_rng(9)
    real, gen = (rng.normal(size=(n, 12)).astype(np.float32) * s for n, s in ((200, 1.0), (150, 1.1)))
    ours = values(precision_recall(real, gen))
    peer = calculate_precision_recall_full(torch.from_numpy(gen), torch.from_numpy(real))
    assert (ours["precision"], ours["recall"]) == pytest.approx(peer, abs=1e-4)
    real, gen = tight_clusters(rng, 200), tight_clusters(rng, 150)
    ours, exact = values(precision_recall(real, gen)), brute(real.astype(float), gen.astype(float), 3, 5)
    assert (ours["precision"], ours["recall"]) == (exact["precision"], exact["recall"])
    peer = calculate_precision_recall_full(torch.from_numpy(gen), torch.from_numpy(real))
    assert max(abs(peer[0] - exact["precision"]), abs(peer[1] - exact["recall"])) > 0.02


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="same dimension; got 3 and 4"):
        compare(np.zeros((9, 3)), np.zeros((9, 4)))
    with pytest.raises(ValueError, match="from 1 to the samples but one; got 3 of 3"):
        precision_recall(np.eye(9), np.eye(9)[:3])
