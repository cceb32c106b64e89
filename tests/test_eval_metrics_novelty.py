"""Novelty: distances by brute force, shares and tests by closed forms, intervals by simulation."""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from eval.metrics import novelty
from eval.metrics.feature_stats import Features


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def views(rng):
    """Features of 30 training images in 3 views."""
    first = rng.normal(size=(30, 6))
    return [first, first + rng.normal(scale=0.3, size=first.shape), rng.normal(size=(30, 6))]


def table(a, b):
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(2))


def test_nearest_training_image_in_any_view(rng, views):
    images = rng.normal(size=(20, 6))
    distances = np.stack([table(images, view) for view in views])  # [views, N, M]
    nearest = novelty.nearest_training(Features([images]), [Features([view]) for view in views])
    assert np.allclose(nearest.distances, distances.min((0, 2)))
    assert (nearest.indices == distances.min(0).argmin(1)).all()
    assert (nearest.views == distances.min(2).argmin(0)).all() and set(nearest.views) == {0, 1, 2}


def test_a_training_images_own_views_are_not_its_neighbours(views):
    distances = np.stack([table(views[0], view) for view in views])
    distances[:, np.arange(30), np.arange(30)] = np.inf
    assert np.allclose(novelty.training_spacing(views), distances.min((0, 2)))
    some = novelty.training_spacing([Features([view]) for view in views], np.array([7, 3, 7]))
    assert np.flatnonzero(~np.isnan(some)).tolist() == [3, 7]
    assert np.allclose(some[[3, 7]], distances.min((0, 2))[[3, 7]])
    twins = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
    assert novelty.training_spacing([twins, twins]).tolist() == [0, 0, 3]
    with pytest.raises(ValueError, match="at least 2 training images; got 1"):
        novelty.training_spacing([twins[:1]])


def test_authenticity_is_that_of_its_definition(rng, views):
    images = np.concatenate([rng.normal(size=(50, 6)), views[0][:10] + 0.01])
    nearest, spacing = novelty.nearest_training(images, views[:1]), novelty.training_spacing(views[:1])
    authentic = 0
    for image in images:
        distances = np.linalg.norm(views[0] - image, axis=1)
        of_real = np.linalg.norm(views[0] - views[0][distances.argmin()], axis=1)
        authentic += distances.min() > np.sort(of_real)[1]
    estimate = novelty.authenticity(nearest.ratios(spacing))
    assert estimate.value == authentic / 60 and 0 < authentic <= 50
    assert (novelty.authenticity(np.array([1.0])).value, novelty.authenticity(np.array([1.001])).value) == (0, 1)


def test_of_a_training_image_that_is_there_twice_only_it_itself_is_no_authentic_image():
    twins = np.zeros((2, 2))
    nearest = novelty.nearest_training(np.array([[0.0, 0.0], [0.1, 0.0]]), [twins])
    assert nearest.ratios(novelty.training_spacing([twins])).tolist() == [0, np.inf]


def test_copies_are_nearer_than_all_but_a_share_of_held_out_images():
    held_out = np.arange(1.0, 40.0)  # 39: the second least is the threshold at 5 %
    ratios = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 30.0])
    assert novelty.p_values(ratios, held_out).tolist() == [1 / 40, 2 / 40, 2 / 40, 3 / 40, 3 / 40, 31 / 40]
    estimate = novelty.copied(ratios, held_out)
    assert estimate.value == 0.5 == (novelty.p_values(ratios, held_out) <= 0.05).mean()
    assert novelty.copied(ratios, held_out, 1 / 40).value == 1 / 6
    with pytest.raises(ValueError, match=r"at least 19 images for a level of 0\.05; got 18"):
        novelty.copied(ratios, held_out[:18])


def test_the_threshold_is_as_uncertain_as_under_resampling(rng):
    ratios, held_out = rng.gamma(3, size=600), rng.gamma(3, size=99)
    drawn = [novelty.copied(ratios, rng.choice(held_out, 99)).value for _ in range(1500)]
    estimate = novelty.copied(ratios, held_out)
    guess, p = (estimate.value * 600 + 1) / 602, estimate.value
    variance = (estimate.se**2 * 600 / (p * (1 - p)) - 1) * guess * (1 - guess) / 600
    assert variance == pytest.approx(np.var(drawn), rel=0.1)


def test_the_control_is_what_equal_images_give_by_all_their_orders():
    n, m, k = 12, 39, 2  # of all orders of n and m images, x of the n before the k-th of the m
    chances = [math.comb(x + k - 1, x) * math.comb(n - x + m - k, n - x) / math.comb(n + m, n) for x in range(n + 1)]
    control = novelty.controlled_copies(np.ones(n), np.arange(m)).control
    assert control.value == k / (m + 1) == pytest.approx(np.arange(n + 1) @ chances / n)
    assert control.se == pytest.approx(math.sqrt((np.arange(n + 1) / n - control.value) ** 2 @ chances))
    ends = [int((np.cumsum(chances) >= share).argmax()) / n for share in (0.025, 0.975)]
    assert [control.low, control.high] == ends


def test_intervals_hold_the_truth_where_nothing_is_copied():
    # Relative distances of one kind: 5 % of generated images are nearer, and C_T is 0.
    rng, trials, held = np.random.default_rng(1), 300, {"copied": 0, "test": 0, "control": 0}
    control = novelty.controlled_copies(rng.gamma(3, size=300), rng.gamma(3, size=199)).control
    assert control.value == 0.05
    for _ in range(trials):
        ratios, held_out = rng.gamma(3, size=300), rng.gamma(3, size=199)
        value = novelty.copied(ratios, held_out)
        held["copied"] += value.low <= 0.05 <= value.high
        held["control"] += control.low <= value.value <= control.high
        test = novelty.copying_test(ratios, held_out, rng.integers(0, 4, 300), rng.integers(0, 4, 199))
        held["test"] += test.low <= 0 <= test.high
    assert all(0.92 <= number / trials <= 0.99 for number in held.values()), held


def test_mann_whitney_z_is_that_of_scipy_and_of_its_definition(rng):
    gen, held_out = rng.normal(size=40), rng.normal(0.3, size=30)
    assert 0 > novelty.mann_whitney_z(gen, held_out) == -novelty.mann_whitney_z(held_out, gen)
    theirs = mannwhitneyu(gen, held_out, use_continuity=False, method="asymptotic")
    pairs = (gen[:, None] > held_out).sum()
    assert theirs.statistic == pairs
    expected = (pairs - 600) / math.sqrt(40 * 30 * 71 / 12)
    assert novelty.mann_whitney_z(gen, held_out) == pytest.approx(expected)
    assert novelty.mann_whitney_z(np.ones(5), np.ones(7)) == 0


def test_c_t_is_the_mean_over_cells_by_the_held_out_images_in_them(rng):
    gen, held_out = rng.normal(size=100), rng.normal(size=60)
    gen_cells = np.repeat([0, 1, 2, 3], [50, 25, 6, 19])  # the last two have too few
    held_out_cells = np.repeat([0, 1, 2], [10, 30, 20])
    test = novelty.copying_test(gen, held_out, gen_cells, held_out_cells)
    z = [novelty.mann_whitney_z(gen[gen_cells == c], held_out[held_out_cells == c]) for c in (0, 1)]
    assert test.value == pytest.approx((10 * z[0] + 30 * z[1]) / 40)
    assert test.se == pytest.approx(math.hypot(10, 30) / 40)
    assert novelty.copying_test(gen[:6], held_out, gen_cells[:6], held_out_cells) is None


def test_a_difference_of_shares_is_newcombes():
    # Newcombe 1998, table II, method 10: 56/70 against 48/80 is 0.2, 0.0524 to 0.3339.
    a, b = (novelty.wilson(*counts) for counts in ((56, 70), (48, 80)))
    apart = novelty.difference(a, b)
    assert (round(apart.value, 4), round(apart.low, 4), round(apart.high, 4)) == (0.2, 0.0524, 0.3339)


def test_copies_are_told_and_others_are_not(rng):
    training, held_out, others = rng.normal(size=(3, 300, 8))
    copies = training[:200] + rng.normal(scale=0.02, size=(200, 8))
    spacing = novelty.training_spacing([training])
    centres = novelty.partition(training, novelty.cell_count(200, 300, 300))
    assert len(centres) == 4
    by_hand = table(held_out, centres).argmin(1)
    real = novelty.nearest_training(held_out, [training])
    real_ratios, cells = real.ratios(spacing), novelty.cells_of(held_out, centres)
    assert (cells == by_hand).all()
    for images, copied in ((copies, True), (others, False)):
        nearest = novelty.nearest_training(images, [training])
        ratios = nearest.ratios(spacing)
        authentic = novelty.controlled_authenticity(ratios, real_ratios)
        near = novelty.controlled_copies(ratios, real_ratios)
        test = novelty.controlled_test(nearest.distances, real.distances, novelty.cells_of(images, centres), cells)
        assert test.control.low < 0 < test.control.high
        if copied:
            assert near.value.value >= 0.9 and near.difference.low > 0.7 and test.value.high < -5
            assert authentic.value.value == 0 and authentic.difference.high < 0
        else:
            assert near.value.low <= near.control.value <= near.value.high
            assert near.difference.low <= 0 <= near.difference.high
            assert authentic.value.low <= authentic.control.value <= authentic.value.high
            assert test.value.low <= 0 <= test.value.high
    assert novelty.controlled_authenticity(real_ratios, None).control is None


def test_poor_images_are_farther_away(rng):
    training, held_out = rng.normal(size=(2, 200, 4))
    far = rng.normal(scale=3, size=(200, 4))
    nearest, real = (novelty.nearest_training(images, [training]) for images in (far, held_out))
    one = np.zeros(200, int)
    assert novelty.copying_test(nearest.distances, real.distances, one, one).low > 0
    assert len(novelty.partition(training, 1)) == 1
