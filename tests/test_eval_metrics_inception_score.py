"""The Inception score's bounds, its interval, and torch-fidelity's faults."""

import math

import numpy as np
import pytest
import torch

from eval.metrics.confidence_intervals import Estimate
from eval.metrics.inception_score import inception_score, inception_score_bias


def finite(estimate: Estimate):
    return all(math.isfinite(x) for x in (estimate.value, estimate.se, estimate.low, estimate.high))


def test_it_reaches_its_bounds():
    same = np.tile(np.random.default_rng(0).normal(size=(1, 7)), (40, 1))
    assert inception_score(same).value == pytest.approx(1, abs=1e-12)
    sure = np.eye(7)[np.arange(700) % 7] * 1e3
    estimate = inception_score(sure, splits=10, shuffle_seed=None)
    assert estimate.value == pytest.approx(7, rel=1e-12)
    assert estimate.high <= 7 and estimate.low == pytest.approx(7)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 19, 21])
def test_few_images_are_no_nan(n):
    estimate = inception_score(np.random.default_rng(0).normal(size=(n, 5)) * 3, splits=10)
    assert finite(estimate) and 1 <= estimate.low <= estimate.value <= estimate.high <= 5 and estimate.n == n
    if n > 1:  # parts of one image each would say 1 of anything
        assert estimate.value > 1.1
    with pytest.raises(ValueError, match="must be at least 1; got 0 and 10"):
        inception_score(np.zeros((0, 5)))
    with pytest.raises(ValueError, match="must be at least 1; got 3 and 0"):
        inception_score(np.zeros((3, 5)), 0)
    assert inception_score(np.zeros((3, 5)), 1).value == pytest.approx(1)


def test_it_and_its_standard_error_are_those_of_the_probabilities():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(60, 4)) * 2 + np.arange(4)
    order = np.random.default_rng(5).permutation(60)
    scores, variances = [], []
    for part in np.split(order, 3):
        p = np.exp(logits[part]) / np.exp(logits[part]).sum(axis=1, keepdims=True)
        divergences = np.sum(p * np.log(p / p.mean(axis=0)), axis=1)
        scores.append(np.exp(divergences.mean()))
        variances.append(scores[-1] ** 2 * divergences.var(ddof=1) / 20)
    found = inception_score(logits, 3, shuffle_seed=5)
    assert found.value == pytest.approx(np.mean(scores), rel=1e-12)
    assert found.se == pytest.approx(np.sqrt(np.sum(variances)) / 3, rel=1e-12)
    assert found.high == pytest.approx(found.value + 1.959964 * found.se, rel=1e-6)


def test_images_are_shuffled_and_shared_out():
    logits = np.eye(4)[np.repeat(np.arange(4), 25)] * 1e3  # sorted by class: a part in order would see one
    assert inception_score(logits, 4, shuffle_seed=None).value == pytest.approx(1)
    assert inception_score(logits, 4).value > 3.5
    assert inception_score(logits, 4) == inception_score(logits, 4, shuffle_seed=0)
    assert "10 splits" in inception_score(logits).method
    for n, parts in ((1, 1), (3, 1), (4, 2), (5, 2), (19, 9), (20, 10), (100, 10)):
        assert f"{parts} splits" in inception_score(np.zeros((n, 2))).method


def test_its_standard_error_is_its_spread():
    rng = np.random.default_rng(1)
    estimates = [inception_score(rng.normal(size=(400, 6)) * 2, splits=2) for _ in range(100)]
    assert np.mean([e.se for e in estimates]) == pytest.approx(np.std([e.value for e in estimates]), rel=0.25)


def test_torch_fidelity_agrees_but_for_fewer_images_than_splits():
    pytest.importorskip("eval.features.torchvision_compat").torch_fidelity()
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = np.random.default_rng(2).normal(size=(333, 9)) * 2
    peer = isc_features_to_metric(torch.from_numpy(logits), 10, shuffle=False)["inception_score_mean"]
    assert inception_score(logits, 10, shuffle_seed=None).value == pytest.approx(peer, rel=1e-9)
    few = logits[:5]
    assert math.isnan(isc_features_to_metric(torch.from_numpy(few), 10)["inception_score_mean"])
    assert finite(inception_score(few, 10))


@pytest.mark.parametrize(("n", "splits"), [(200, 10), (1000, 10)])
def test_the_bias_of_few_images_is_told(n, splits):
    rng = np.random.default_rng(8)
    truth = inception_score(3 * rng.normal(size=(50_000, 10)), 1).value
    draws = [3 * rng.normal(size=(n, 10)) for _ in range(20)]
    off = np.mean([inception_score(x, splits).value for x in draws]) - truth
    told = np.mean([inception_score_bias(x, splits) for x in draws])
    assert off < 0 and told == pytest.approx(off, rel=0.3, abs=0.04)
    assert inception_score_bias(np.zeros((20, 4))) == 0
