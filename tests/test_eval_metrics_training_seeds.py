"""Means of several trainings: against Welch's test, and that each kind of chance is in the interval, once."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import t, ttest_ind

from eval.metrics.confidence_intervals import Estimate, Jackknife, normal_interval, paired_difference
from eval.metrics.training_seeds import Trainings, TwoChances, in_quadrature


def jackknife(rng: np.random.Generator, value: float, spread: float = 0.01, blocks: int = 20) -> Jackknife:
    return Jackknife(value=value, left_out=value + rng.normal(0, spread, blocks), sizes=np.full(blocks, 5))


def of(rng: np.random.Generator, *values: float, spread: float = 0.01) -> Trainings:
    return Trainings.of_replicates([jackknife(rng, value, spread) for value in values])


@pytest.mark.parametrize(("a", "b"), [((1.0, 2.5, 1.7), (4.0, 4.2)), ((0.0, 9.0), (1.0, 1.1, 1.2, 1.4, 0.7))])
def test_the_chance_of_training_is_welchs(a, b):
    rng = np.random.default_rng(0)
    found = of(rng, *a).minus(of(rng, *b), paired=True).training
    expected = ttest_ind(a, b, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert_allclose([found.value, found.low, found.high], [np.mean(a) - np.mean(b), low, high])
    assert found.value / found.se == pytest.approx(expected.statistic)
    mean = of(rng, *a).mean().training
    assert_allclose([mean.low, mean.high], t.interval(0.95, len(a) - 1, np.mean(a), np.std(a, ddof=1) / len(a) ** 0.5))


def test_the_chance_of_images_is_the_paired_difference_of_the_means():
    rng = np.random.default_rng(1)
    a, b = jackknife(rng, 3.0), jackknife(rng, 2.0)
    one, other = Trainings.of_replicates([a]), Trainings.of_replicates([b])
    found = one.minus(other, paired=True)
    assert found.images == paired_difference(a, b) == found.both and found.training is None
    corrected = [Trainings.of([j.bias_corrected()], [j], corrected=True) for j in (a, b)]
    assert corrected[0].minus(corrected[1], paired=True).both == paired_difference(a, b, corrected=True)
    assert corrected[0].mean().both == a.bias_corrected()
    apart = one.minus(other, paired=False).images
    assert_allclose([apart.value, apart.se], [1, np.hypot(a.se, b.se)])
    many = [jackknife(rng, value) for value in (1.0, 2.0, 4.5)]
    mean = Jackknife(value=2.5, left_out=np.mean([j.left_out for j in many], axis=0), sizes=many[0].sizes)
    assert Trainings.of_replicates(many).mean().images == mean.raw()


def test_both_chances_add_as_squares_each_with_its_own_freedom():
    rng = np.random.default_rng(2)
    found = of(rng, 1.0, 2.0, 4.5, spread=0.5).minus(of(rng, 1.0, 1.2, spread=0.5), paired=True)
    half = [(e.high - e.low) / 2 for e in (found.images, found.training, found.both)]
    assert half[2] == pytest.approx(np.hypot(half[0], half[1])) and half[2] > max(half[:2])
    assert found.both.value == found.images.value == pytest.approx(2.5 - 1.1)
    written = found.to_dict()
    assert written["low"] == found.both.low and written["training"]["se"] == found.training.se
    same = of(rng, 3.0, 3.0).minus(of(rng, 1.0, 1.0), paired=True)
    assert same.training.se == 0 and same.both.low == pytest.approx(same.images.low)
    fixed = Estimate(value=9.0, se=1.0, low=6.0, high=12.0, n=5, method="given")
    assert in_quadrature(fixed, normal_interval(0, 0, 5, "none"), 1.0).low == -2.0


def test_one_training_of_either_does_not_know_the_chance_of_training():
    rng = np.random.default_rng(3)
    one, two = of(rng, 1.0), of(rng, 1.0, 2.0)
    for found in (one.mean(), one.minus(two, paired=True), two.minus(one, paired=False)):
        assert isinstance(found, TwoChances) and found.training is None and found.to_dict()["training"] is None
    assert two.mean().training is not None


def test_what_has_no_replicates_has_the_errors_of_its_values():
    rng = np.random.default_rng(4)
    estimates = [normal_interval(value, se, 50, "given") for value, se in ((1.0, 0.3), (2.0, 0.4))]
    bare = Trainings.of(estimates, [None, jackknife(rng, 2.0)])
    assert_allclose([bare.mean().images.value, bare.mean().images.se], [1.5, np.sqrt((0.09 + 0.16) / 2)])
    found = bare.minus(of(rng, 0.0, 1.0), paired=True)  # not paired, since it cannot be
    assert found.images.method == "two independent sets" and found.images.n == 50
    assert found.images.value == pytest.approx(1.0)


@pytest.mark.parametrize(("count", "spread", "images"), [(2, (1, 3), 0.7), (3, (1, 1), 0.7), (4, (1, 1), 2.0)])
def test_intervals_hold_the_truth_in_95_of_100(count, spread, images):
    rng, missed, repeats = np.random.default_rng(5), 0, 300
    sizes = np.full(20, 5)
    for _ in range(repeats):
        influence = rng.normal(0, images * 20**0.5, 20)  # of each block of images, on all trainings of a alike
        left_out = -(influence - influence.mean()) / 19
        a, b = (rng.normal(0, s, count) for s in spread)
        of_a = [Jackknife(value=v, left_out=v + left_out, sizes=sizes) for v in a + influence.mean()]
        of_b = [Jackknife(value=v, left_out=np.full(20, v), sizes=sizes) for v in b]
        found = Trainings.of_replicates(of_a).minus(Trainings.of_replicates(of_b), paired=True).both
        missed += not found.low <= 0 <= found.high
    assert 0 < missed / repeats <= 0.05 + 3 * (0.05 * 0.95 / repeats) ** 0.5
