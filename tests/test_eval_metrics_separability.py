"""What hyperplanes can and cannot tell apart."""

import math

import numpy as np
import pytest

from eval.metrics.separability import hyperplane, linear_separability


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


def conditional_entropy(said, true):
    """H(Y|X) in nats, and the standard error of its estimate by the delta method."""
    surprise = np.empty(len(true))
    for x in (False, True):
        for y in (False, True):
            cell = (said == x) & (true == y)
            if cell.any():
                surprise[cell] = -math.log(cell.sum() / (said == x).sum())
    return surprise.mean(), np.sqrt(np.mean((surprise - surprise.mean()) ** 2) / len(true)), surprise


def test_the_score_is_the_formula_on_predictions_of_scikit_learn():
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(5)
    latents = rng.normal(size=(200, 3)) * [1, 10, 0.1] + 5
    scaled = (latents - 5) / [1, 10, 0.1]
    labels = np.stack([scaled[:, 0] + rng.normal(size=200) > 0.5, scaled[:, 2] + 2 * rng.normal(size=200) > 0], axis=1)
    expected, surprises = [], 0
    for column in labels.T:
        said = np.empty(200, bool)
        for train, test in StratifiedKFold(4, shuffle=True, random_state=3).split(latents, column):
            scaler = StandardScaler().fit(latents[train])
            svm = LinearSVC(dual=False, random_state=3).fit(scaler.transform(latents[train]), column[train])
            said[test] = svm.predict(scaler.transform(latents[test]))
        entropy, se, surprise = conditional_entropy(said, column)
        expected.append((entropy, se))
        surprises = surprises + surprise
    score, entropies = linear_separability(latents, labels, ["one", "other"], folds=4, seed=3)
    for (entropy, se), found in zip(expected, entropies.values(), strict=True):
        assert (found.value, found.se, found.n) == pytest.approx((entropy, se, 200), rel=1e-9)
        assert found.low == pytest.approx(entropy - 1.959964 * se, rel=1e-6)
        assert found.high == pytest.approx(min(entropy + 1.959964 * se, math.log(2)), rel=1e-6)
    total = sum(entropy for entropy, _ in expected)
    se = surprises.std() / 200**0.5
    assert list(entropies) == ["one", "other"] and score.n == 200
    assert (score.value, score.se) == pytest.approx((math.exp(total), math.exp(total) * se), rel=1e-9)
    assert score.low == pytest.approx(math.exp(max(total - 1.959964 * se, 0)), rel=1e-6)
    assert score.high == pytest.approx(math.exp(total + 1.959964 * se), rel=1e-6)


def test_an_interval_ends_at_what_is_possible():
    latents = np.random.default_rng(6).normal(size=(40, 2))
    _, entropies = linear_separability(latents, (np.random.default_rng(7).random(40) < 0.5)[:, None])
    assert entropies["0"].high == math.log(2)
    score, entropies = linear_separability(latents, (latents[:, 0] > 0)[:, None])
    assert entropies["0"].low == 0 and score.low == 1


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
    kept = np.sort(np.argsort(np.abs(probabilities - 0.5))[1000:])
    alone, of_kept = linear_separability(latents[kept], (probabilities[kept] > 0.5)[:, None])
    assert of_kept["0"] == entropies["0"] and sure.value == pytest.approx(alone.value)
    assert (sure.se, sure.low) == pytest.approx((alone.se, alone.low)) and sure.n == 2000
    unsure = np.where(rng.random(2000) < 0.5, 0.51, 0.49)[:, None]  # that latents do not tell
    assert linear_separability(latents, unsure)[0].value == pytest.approx(2, abs=0.02)
    certain = np.array([[0.0], [1.0], [0.5], [0.5], [0.2]])
    assert linear_separability(np.zeros((5, 2)), certain)[1]["0"].n == 2  # a half of 5, rounded
    assert linear_separability(np.zeros((1, 2)), np.array([[0.7]]))[1]["0"].n == 1


def test_an_attribute_of_all_adds_nothing():
    latents = np.random.default_rng(3).normal(size=(50, 3))
    score, entropies = linear_separability(latents, np.ones((50, 1), bool))
    assert score.value == score.low == score.high == 1 and entropies["0"].value == 0


@pytest.mark.parametrize("has", [True, False])
def test_from_as_many_as_folds_on_it_is_learned(has):
    latents = np.concatenate([np.random.default_rng(8).normal(size=(40, 2)), np.full((5, 2), 50.0)])
    rare = np.arange(45) >= 40
    known, _ = linear_separability(latents, (rare == has)[:, None])
    assert known.value == pytest.approx(1)
    few, _ = linear_separability(latents[:-1], (rare == has)[:-1, None])  # 4 of 44 are too few for 5 folds
    p = 4 / 44
    assert few.value == pytest.approx(math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p)))


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
    for latents, attributes in ((np.zeros(5), np.zeros((5, 1), bool)), (np.zeros((5, 2)), np.zeros(5, bool))):
        with pytest.raises(ValueError, match=r"must be \[N, d\] and \[N, A\]"):
            linear_separability(latents, attributes)
    with pytest.raises(ValueError, match=r"got \[5, 2\] and \[5, 0\]"):
        linear_separability(np.zeros((5, 2)), np.zeros((5, 0), bool))
    with pytest.raises(ValueError, match="names must be 2 different"):
        linear_separability(np.zeros((5, 2)), np.zeros((5, 2), bool), ["a", "a"])
    with pytest.raises(ValueError, match="names must be 1 different"):
        linear_separability(np.zeros((5, 2)), np.zeros((5, 1), bool), ["a", "b"])
    for value in (1.5, -0.5, 1, np.nan):
        with pytest.raises(ValueError, match="booleans or probabilities"):
            linear_separability(np.zeros((5, 2)), np.full((5, 1), value))


def test_a_hyperplanes_normal_is_the_planted_one_where_axes_differ_in_scale():
    rng = np.random.default_rng(7)
    scales = np.geomspace(10, 0.1, 12)
    latents = rng.normal(size=(800, 12)) * scales + 3
    planted = np.zeros(12)
    planted[:3] = 0.6, -0.64, 0.48  # of length 1, where latents vary
    along = (latents - 3) @ planted
    noisy = along + 0.3 * along.std() * rng.normal(size=800)
    found = hyperplane(latents, 1 / (1 + np.exp(-noisy)), seed=1)
    assert found.kept == 400 and found.accuracy > 0.97 and np.linalg.norm(found.normal) == pytest.approx(1)
    assert found.normal @ planted > 0.95
    # To move by a standard deviation along the normal moves the attribute by most of one.
    cov = np.cov(latents.T)
    assert (found.normal @ planted) * math.sqrt(found.normal @ cov @ found.normal) > 0.85 * along.std()
    opposite = hyperplane(latents, noisy < 0, seed=1)
    assert opposite.kept == 800 and opposite.normal @ planted < -0.9
    assert hyperplane(latents, np.arange(800) < 4) is None and hyperplane(latents, np.ones(800)) is None
    rare = hyperplane(latents, 1 / (1 + np.exp(1.5 * along.std() - noisy)))  # of which the surest half has none
    assert rare.kept == 400 and rare.normal @ planted > 0.9
    nothing = hyperplane(latents, rng.random(800) < 0.5)
    assert abs(nothing.accuracy - 0.5) < 0.1
    with pytest.raises(ValueError, match="booleans or probabilities"):
        hyperplane(latents, along)
