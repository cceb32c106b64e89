"""What hyperplanes can and cannot tell apart."""

import math

import numpy as np
import pytest

from eval.metrics.separability import linear_separability


def test_a_planted_attribute_is_near_one_and_noise_is_at_its_bound():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(1000, 8))
    planted, noise = latents @ rng.normal(size=8) > 0, rng.random(1000) < 0.5
    score, entropies = linear_separability(latents, planted[:, None])
    assert 1 <= score.low <= score.value < 1.15
    score, entropies = linear_separability(latents, np.stack([planted, noise], axis=1), ["planted", "noise"])
    assert entropies["planted"].value < 0.12 and entropies["noise"].value == pytest.approx(math.log(2), abs=0.01)
    assert score.value == pytest.approx(math.exp(sum(e.value for e in entropies.values())))
    assert score.low <= score.value <= score.high and score.se > 0 and score.n == 1000
    rare, _ = linear_separability(latents, (rng.random(1000) < 0.1)[:, None])
    p = 0.1
    assert rare.value == pytest.approx(math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p)), rel=0.05)


def test_few_samples_do_not_look_separable():
    rng = np.random.default_rng(1)
    latents, noise = rng.normal(size=(60, 100)), rng.random(60) < 0.5
    score, _ = linear_separability(latents, noise[:, None])  # a plane through 60 points in 100 dimensions fits any
    assert score.value > 1.8


def test_of_probabilities_the_surest_half_is_kept():
    rng = np.random.default_rng(2)
    latents = rng.normal(size=(2000, 4))
    logits = 2 * latents[:, 0] + rng.normal(size=2000)
    probabilities = 1 / (1 + np.exp(-logits))
    sure, entropies = linear_separability(latents, probabilities[:, None])
    everyone, _ = linear_separability(latents, (probabilities > 0.5)[:, None])
    assert entropies["0"].n == 1000 and sure.value < everyone.value - 0.1


def test_an_attribute_of_all_adds_nothing():
    latents = np.random.default_rng(3).normal(size=(50, 3))
    score, entropies = linear_separability(latents, np.ones((50, 1), bool))
    assert score.value == score.low == score.high == 1 and entropies["0"].value == 0


def test_the_interval_covers():
    rng = np.random.default_rng(4)
    scores = []
    for _ in range(60):
        latents = rng.normal(size=(300, 2))
        labels = np.stack([latents[:, i] + rng.normal(size=300) > 0 for i in range(2)], axis=1)
        scores.append(linear_separability(latents, labels, folds=2)[0])
    mean = np.mean([s.value for s in scores])
    assert np.mean([s.low <= mean <= s.high for s in scores]) >= 0.88


def test_input_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"must be \[N, d\] and \[N, A\]; got \[5, 2\] and \[4, 1\]"):
        linear_separability(np.zeros((5, 2)), np.zeros((4, 1), bool))
    with pytest.raises(ValueError, match="names must be 1 different"):
        linear_separability(np.zeros((5, 2)), np.zeros((5, 1), bool), ["a", "b"])
    with pytest.raises(ValueError, match="booleans or probabilities"):
        linear_separability(np.zeros((5, 2)), np.full((5, 1), 1.5))
