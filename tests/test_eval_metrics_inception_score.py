"""The Inception score's bounds, its interval, and torch-fidelity's faults."""

import math

import numpy as np
import pytest
import torch

from eval.metrics.confidence_intervals import Estimate
from eval.metrics.inception_score import inception_score


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
