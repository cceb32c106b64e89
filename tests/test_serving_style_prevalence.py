"""The corrected rate: the closed form, its interval's coverage by simulation, and what cannot be told."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import f1_score

from eval.metrics.confidence_intervals import bootstrap, wilson
from serving.style import metrics
from serving.style.metrics import calibration_error, classification_metrics, clustered, errors_about, reliability
from serving.style.prevalence import Errors, Proportion, corrected


def errors(sensitivity: float, specificity: float, n1: int = 240, n0: int = 1000, spread: float = 1.0) -> Errors:
    return Errors(
        sensitivity=Proportion(hits=round(sensitivity * n1), n=n1, spread=spread),
        specificity=Proportion(hits=round(specificity * n0), n=n0, spread=spread),
    )


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.8, 1.0])
def test_the_correction_undoes_known_errors(rate):
    raw = rate * 0.75 + (1 - rate) * (1 - 0.9)  # what such a classifier says of that rate
    found = corrected(round(raw * 10_000), 10_000, errors(0.75, 0.9))
    assert found.value == pytest.approx(rate, abs=1e-9)
    assert found.low <= rate <= found.high


def test_a_perfect_classifier_needs_no_correction():
    found = corrected(30, 100, errors(1, 1, 10**9, 10**9))
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.219, 0.396), abs=1e-3)  # Wilson's


def test_rates_beyond_what_is_possible_are_cut():
    none, every = corrected(8, 100, errors(0.7, 0.9)), corrected(72, 100, errors(0.7, 0.9))
    assert none.value == none.low == 0 and 0 < none.high < 0.2
    assert every.value == every.high == 1 and 0.8 < every.low < 1


def test_an_interval_beyond_what_is_possible_is_not_empty():
    none, every = corrected(1, 200, errors(0.7, 0.9)), corrected(199, 200, errors(0.7, 0.9))
    assert (none.value, none.low) == (0, 0) and none.high == wilson(1, 200).high
    assert (every.value, every.high) == (1, 1) and every.low == wilson(199, 200).low
    assert corrected(1, 200, errors(0.7, 0.9), 0.9).high == wilson(1, 200, level=0.9).high


@pytest.mark.parametrize("rate", [0.05, 0.6, 0.95])
@pytest.mark.parametrize(
    "sensitivity, specificity, n1, n0, n", [(0.76, 0.92, 240, 1182, 256), (0.6, 0.8, 60, 200, 100)]
)
def test_the_interval_covers_the_truth_as_often_as_it_says(rate, sensitivity, specificity, n1, n0, n):
    rng, tries, covered = np.random.default_rng(0), 2000, 0
    for _ in range(tries):
        known = Errors(
            sensitivity=Proportion(hits=int(rng.binomial(n1, sensitivity)), n=n1),
            specificity=Proportion(hits=int(rng.binomial(n0, specificity)), n=n0),
        )
        found = corrected(int(rng.binomial(n, rate * sensitivity + (1 - rate) * (1 - specificity))), n, known)
        covered += found is not None and found.low <= rate <= found.high
    assert 0.93 < covered / tries < 0.985


@pytest.mark.parametrize(
    "hits, n, se, n1, sp, n0, level", [(60, 100, 40, 50, 90, 120, 0.95), (30, 200, 45, 60, 170, 180, 0.9)]
)
def test_the_interval_is_that_of_lang_and_reiczigel(hits, n, se, n1, sp, n0, level):
    # As in the paper's section 2: each proportion adjusted by Agresti and Coull's way, then shifted.
    z = norm.ppf((1 + level) / 2)
    n_, n1_, n0_ = n + z * z, n1 + 2, n0 + 2
    p_, se_, sp_ = (hits + z * z / 2) / n_, (se + 1) / n1_, (sp + 1) / n0_
    prevalence = (p_ + sp_ - 1) / (se_ + sp_ - 1)
    by_se, by_sp = prevalence * se_ * (1 - se_) / n1_, (1 - prevalence) * sp_ * (1 - sp_) / n0_
    shift = 2 * z * z * (by_se - by_sp)
    error = (p_ * (1 - p_) / n_ + prevalence * by_se + (1 - prevalence) * by_sp) ** 0.5 / (se_ + sp_ - 1)
    known = Errors(sensitivity=Proportion(hits=se, n=n1), specificity=Proportion(hits=sp, n=n0))
    found = corrected(hits, n, known, level)
    assert found.value == pytest.approx((hits / n + sp / n0 - 1) / (se / n1 + sp / n0 - 1), rel=1e-12)
    assert (found.se, found.n) == (pytest.approx(error, rel=1e-12), n)
    assert found.low > 0 and found.high < 1
    assert (found.low, found.high) == pytest.approx((prevalence + shift - z * error, prevalence + shift + z * error))


def test_dependent_images_count_as_fewer():
    # 240 images of which 60 count, and 60 images that do not depend on each other, are worth the same.
    many = Errors(sensitivity=Proportion(hits=180, n=240, spread=4), specificity=Proportion(hits=360, n=400, spread=2))
    few = Errors(sensitivity=Proportion(hits=45, n=60), specificity=Proportion(hits=180, n=200))
    assert corrected(50, 100, many) == corrected(50, 100, few)
    assert Proportion(hits=180, n=240, spread=4).smoothed() == (46 / 62, 62)
    assert many.youden == pytest.approx(0.75 + 0.9 - 1) and Proportion(hits=1, n=4).value == 0.25


def test_the_value_lies_in_its_interval():
    for hits in range(101):
        found = corrected(hits, 100, errors(0.8, 0.95, 30, 30))
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_what_makes_the_interval_wide():
    def width(found):
        return found.high - found.low

    usual = width(corrected(128, 256, errors(0.76, 0.92)))
    assert (
        width(corrected(128, 256, errors(0.76, 0.92), 0.99)) > usual > width(corrected(512, 1024, errors(0.76, 0.92)))
    )
    assert width(corrected(128, 256, errors(0.76, 0.92, spread=4))) > 1.2 * usual
    assert width(corrected(128, 256, errors(0.76, 0.92, 24, 100))) > 1.2 * usual


@pytest.mark.parametrize(
    "sensitivity, specificity, n", [(0.5, 0.5, 1000), (0.3, 0.6, 1000), (0.55, 0.5, 10**6), (0.7, 0.5, 20)]
)
def test_a_classifier_near_to_guessing_cannot_tell(sensitivity, specificity, n):
    assert corrected(50, 100, errors(sensitivity, specificity, n, n)) is None
    assert corrected(50, 100, errors(0.56, 0.56, 10**6, 10**6)) is not None  # 0.12


@pytest.mark.parametrize(("n1", "n0", "told"), [(8, 10**6, False), (10**6, 8, False), (200, 200, True)])
def test_an_index_that_may_be_zero_is_no_ground(n1, n0, told):
    assert (corrected(50, 100, errors(0.75, 0.5, n1, n0)) is None) != told


def test_shares_are_checked_and_round_trip():
    for hits, n, spread in ((-1, 5, 1.0), (6, 5, 1.0), (0, 0, 1.0), (1, 5, 0.5)):
        with pytest.raises(ValueError, match="hits must be from 0 to n"):
            Proportion(hits=hits, n=n, spread=spread)
    assert (Proportion(hits=0, n=1).value, Proportion(hits=1, n=1).value) == (0, 1)
    own = errors(0.76, 0.92, spread=2.5)
    assert Errors.from_dict(own.to_dict()) == own


def test_images_of_one_painter_count_as_little_as_they_differ():
    hits = np.repeat([True, False] * 10, 5)
    alone, together = clustered(hits, np.arange(100)), clustered(hits, np.repeat(np.arange(20), 5))
    assert (alone.hits, alone.n) == (together.hits, together.n) == (50, 100)
    assert alone.spread == pytest.approx(100 / 99) and together.spread == pytest.approx(5 * 20 / 19)  # all alike within
    assert clustered(np.ones(10, bool), np.zeros(10, int)).spread == 1
    assert clustered(np.repeat([True, False], 5), np.zeros(10, int)).spread == 1  # of one painter: it cannot be told


def test_the_spread_is_cochrans_variance_of_a_ratio():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(30) * 7, rng.integers(1, 9, 30))
    hits = rng.random(len(groups)) < np.where(groups % 2, 0.9, 0.4)
    order = rng.permutation(len(groups))
    n, p, variance = len(groups), hits.mean(), 0.0
    for group in np.unique(groups):
        size, right = (groups == group).sum(), hits[groups == group].sum()
        variance += (right - p * size) ** 2
    variance *= 30 / 29 / n**2
    found = clustered(hits[order], groups[order])
    assert (found.hits, found.n) == (hits.sum(), n)
    assert found.spread == pytest.approx(variance / (p * (1 - p) / n), rel=1e-12) and found.spread > 1.5
    even = clustered(np.tile([True, False], 10), np.repeat(np.arange(5), 4))  # more alike across painters than within
    assert even.spread == 1


def test_errors_are_about_the_target_and_the_others():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]])
    labels, groups = np.array([0, 0, 0, 1, 1]), np.arange(5)
    first, second = (errors_about(probabilities, labels, groups, target) for target in (0, 1))
    assert (first.sensitivity.hits, first.sensitivity.n, first.specificity.hits, first.specificity.n) == (1, 3, 1, 2)
    assert (second.sensitivity.hits, second.sensitivity.n) == (1, 2)
    assert (second.specificity.hits, second.specificity.n) == (2, 3)
    labels, groups = np.repeat([0, 1], 8), np.arange(16) // 2
    told = errors_about(np.eye(2)[[0, 0, 0, 0, 1, 1, 1, 1] * 2], labels, groups, 0)  # painters are right or wrong
    assert told.sensitivity.spread == told.specificity.spread == pytest.approx(2 * 4 / 3)


def test_calibration_error_of_known_cases():
    sure = np.tile([0.95, 0.05], [100, 1])
    assert calibration_error(sure, np.arange(100) < 95) == pytest.approx(0)
    assert calibration_error(sure, np.arange(100) < 60) == pytest.approx(0.35)
    rng = np.random.default_rng(2)
    confidence, right = rng.uniform(0.5, 1, 500), rng.random(500) < 0.7
    expected = 0.0
    for low in np.arange(5, 10) / 10:
        here = (confidence >= low) & (confidence < low + 0.1)
        expected += here.mean() * abs(right[here].mean() - confidence[here].mean())
    assert calibration_error(np.stack([1 - confidence, confidence], axis=1), right) == pytest.approx(expected)


def test_reliability_has_ten_ranges_and_those_that_have_images():
    confidence = np.array([0.5, 0.59, 0.6, 0.95, 1.0])
    rows = reliability(np.stack([confidence, 1 - confidence], axis=1), np.array([1, 0, 0, 1, 1], bool))
    assert [row["images"] for row in rows] == [2, 1, 2]  # 1.0 belongs to the last
    assert [row["confidence"] for row in rows] == pytest.approx([0.545, 0.6, 0.975])
    assert [row["accuracy"] for row in rows] == [0.5, 0, 1]


def test_held_out_figures_of_a_known_case():
    labels = np.repeat([0, 1, 2], 40)
    found = labels.copy()
    found[:10] = 1  # a quarter of the first style is taken for the second
    probabilities = np.full([120, 3], 0.1)
    probabilities[np.arange(120), found] = 0.8
    figures = classification_metrics(probabilities, labels, np.arange(120), ["a", "b", "c"])
    assert figures["confusion"] == [[30, 10, 0], [0, 40, 0], [0, 0, 40]]
    assert figures["accuracy"]["value"] == pytest.approx(110 / 120)
    assert figures["macro_f1"]["value"] == pytest.approx((60 / 70 + 80 / 90 + 1) / 3)
    assert [row["recall"]["value"] for row in figures["per_class"]] == [0.75, 1, 1]
    assert [row["precision"] for row in figures["per_class"]] == [1, 0.8, 1]
    assert figures["ece"]["value"] == pytest.approx(110 / 120 - 0.8)
    assert figures["macro_f1"]["low"] < figures["macro_f1"]["value"] < figures["macro_f1"]["high"]
    assert figures["images"] == 120 and [row["images"] for row in figures["per_class"]] == [40, 40, 40]
    assert [(row["accuracy"], row["images"]) for row in figures["reliability"]] == [(110 / 120, 120)]
    first = wilson(30, 40, clustered(np.arange(40) >= 10, np.arange(40)).spread)
    assert (figures["per_class"][0]["recall"]["low"], figures["per_class"][0]["recall"]["n"]) == (first.low, 40)


@pytest.fixture
def few_resamples(monkeypatch):
    """40 resamples instead of 500, each of which is an F1 score."""
    monkeypatch.setattr(metrics, "bootstrap", partial(bootstrap, resamples=40))


def test_intervals_are_of_painters_and_not_of_their_images(few_resamples):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 200)
    groups = np.sort(rng.integers(0, 12, 200)) * 5  # of unequal sizes
    found = np.where(groups % 10 == 0, labels, 1 - labels)  # some painters are known, others mistaken
    probabilities = np.where(np.arange(2) == found[:, None], 0.9, 0.1)
    order = rng.permutation(200)  # images of a painter lie anywhere
    figures = classification_metrics(probabilities[order], labels[order], groups[order], ["a", "b"])
    present = np.unique(groups)
    draws, drawn_by = np.random.default_rng(0), []
    for _ in range(40):
        drawn = np.concatenate([np.flatnonzero(groups == g) for g in present[draws.integers(0, 12, 12)]])
        drawn_by.append(f1_score(labels[drawn], found[drawn], average="macro", labels=np.unique(labels[drawn])))
    low, high = np.quantile(drawn_by, [0.025, 0.975])
    f1 = figures["macro_f1"]
    assert (f1["low"], f1["high"], f1["se"]) == pytest.approx((low, high, np.std(drawn_by, ddof=1)))
    assert f1["n"] == 200 and f1["value"] == pytest.approx(f1_score(labels, found, average="macro"))
    assert f1["method"].endswith("of 12 groups")
    right = (found == labels).mean()
    assert figures["accuracy"]["value"] == pytest.approx(right)
    assert figures["accuracy"]["se"] > 1.5 * (right * (1 - right) / 200) ** 0.5
    assert figures["ece"]["value"] == pytest.approx(abs(right - 0.9)) and "of 12 groups" in figures["ece"]["method"]


def test_a_style_that_is_never_found_has_no_precision(few_resamples):
    labels = np.array([0, 0, 1, 1, 2])
    figures = classification_metrics(np.eye(3)[[0, 0, 0, 0, 0]], labels, np.arange(5), ["a", "b", "c"])
    assert [row["precision"] for row in figures["per_class"]] == [0.4, 0, 0]
    assert figures["macro_f1"]["value"] == pytest.approx(4 / 7 / 3)
