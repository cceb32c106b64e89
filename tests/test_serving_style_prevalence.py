"""The corrected rate: the closed form, its interval's coverage by simulation, and what cannot be told."""

import numpy as np
import pytest

from eval.metrics.confidence_intervals import wilson
from serving.style.metrics import calibration_error, classification_metrics, clustered
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


def test_shares_are_checked_and_round_trip():
    for hits, n, spread in ((-1, 5, 1.0), (6, 5, 1.0), (0, 0, 1.0), (1, 5, 0.5)):
        with pytest.raises(ValueError, match="hits must be from 0 to n"):
            Proportion(hits=hits, n=n, spread=spread)
    own = errors(0.76, 0.92, spread=2.5)
    assert Errors.from_dict(own.to_dict()) == own


def test_images_of_one_painter_count_as_little_as_they_differ():
    hits = np.repeat([True, False] * 10, 5)
    alone, together = clustered(hits, np.arange(100)), clustered(hits, np.repeat(np.arange(20), 5))
    assert (alone.hits, alone.n) == (together.hits, together.n) == (50, 100)
    assert alone.spread == pytest.approx(100 / 99) and together.spread == pytest.approx(5 * 20 / 19)  # all alike within
    assert clustered(np.ones(10, bool), np.zeros(10, int)).spread == 1


def test_calibration_error_of_known_cases():
    sure = np.tile([0.95, 0.05], [100, 1])
    assert calibration_error(sure, np.arange(100) < 95) == pytest.approx(0)
    assert calibration_error(sure, np.arange(100) < 60) == pytest.approx(0.35)


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
