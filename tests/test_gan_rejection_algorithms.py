"""Rejection sampling: every formula against brute force, and exact logits that bring the generator back to the data."""

import numpy as np
import pytest

from gan.errors import RequestError
from gan.rejection import algorithms

MODES = np.stack(np.meshgrid(np.arange(-2.0, 3), np.arange(-2.0, 3)), axis=-1).reshape(25, 2)
REAL_SIGMA, GEN_SIGMA = 0.05, 0.10


def samples(sigma, count, seed):
    """Points of the 25-mode grid, and their exact log p_data / p_generated."""
    rng = np.random.default_rng(seed)
    x = MODES[rng.integers(25, size=count)] + rng.normal(scale=sigma, size=[count, 2])
    square = np.square(x[:, None] - MODES).sum(-1)  # [N, 25]
    density = [np.logaddexp.reduce(-square / (2 * s**2), axis=1) - 2 * np.log(s) for s in (REAL_SIGMA, GEN_SIGMA)]
    return x, density[0] - density[1]


def spread(x):
    """Standard deviation around the nearest mode, one axis."""
    return np.sqrt(np.square(x - np.round(x)).mean())


def uniform(*shape, seed=9):
    return np.random.default_rng(seed).random(shape)


@pytest.fixture(scope="module")
def generated():
    return samples(GEN_SIGMA, 40_000, 0)


# Discriminator rejection sampling


def test_drs_on_exact_logits_accepts_a_quarter_and_restores_the_data(generated):
    x, logits = generated
    drs = algorithms.DiscriminatorRejection(samples(GEN_SIGMA, 10_000, 1)[1], gamma=0)
    probability = drs.probabilities(logits)
    kept = x[uniform(len(x)) < probability]
    error = np.sqrt(0.25 * 0.75 / len(x))
    assert probability.mean() == pytest.approx(0.25, abs=4 * error)  # 1 / M, M = (0.10 / 0.05)^2
    assert len(kept) / len(x) == pytest.approx(0.25, abs=4 * error)
    assert spread(x) == pytest.approx(0.10, rel=0.02)
    assert spread(kept) == pytest.approx(0.05, rel=0.02)
    counts = np.bincount((np.round(kept) + 2).astype(int) @ [5, 1], minlength=25)
    assert counts.min() > 0.7 * counts.mean()  # no mode is lost


def test_the_acceptance_of_drs_without_gamma_is_the_ratio_to_the_largest():
    logits = np.array([-5.0, -1.0, 0.3, 1.7, 2.0])
    odds = algorithms.log_odds(logits, 2.0)
    assert algorithms.sigmoid(odds[:-1]) == pytest.approx(np.exp(logits[:-1] - 2.0), rel=1e-6)
    assert odds[-1] == pytest.approx(-np.log(algorithms.EPSILON), rel=1e-6)  # finite, where the ratio is one
    plain = logits - 2.0 - np.log(1 - np.exp(logits - 2.0 - 0.01)) - 0.7
    assert algorithms.log_odds(logits, 2.0, 0.7, 0.01) == pytest.approx(plain, rel=1e-9)
    with pytest.raises(ValueError, match=r"at most the maximum 1\.5; got 2\.0"):
        algorithms.log_odds(logits, 1.5)


def test_log_odds_keep_their_digits_near_the_maximum():
    close = 3e-14  # 1 - exp(-close) in the plain form would have 1 or 2 digits
    expected = -close - np.log(close)
    assert algorithms.log_odds(np.array([-close]), 0.0, epsilon=0)[0] == pytest.approx(expected, rel=1e-12)


def test_sigmoid_does_not_overflow():
    assert algorithms.sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


def test_the_maximum_rises_on_the_way_and_the_cut_of_the_stream_does_not_matter():
    burn_in, stream = np.array([0.0, 1.0, -1.0]), np.random.default_rng(3).normal(scale=2, size=50)
    for choice in ({"gamma": 0.5}, {"percentile": 80}, {"budget": 4}):
        expected, seen = [], 1.0
        for logit in stream:  # one by one, with nothing kept but the largest
            seen = max(seen, logit)
            exact = algorithms.log_odds(burn_in, seen)
            gamma = choice.get("gamma", 0.0)
            if "percentile" in choice:
                gamma = np.percentile(exact, 80)
            if "budget" in choice:
                shifts = np.linspace(-40, 40, 800_001)
                means = sum(1 / (1 + np.exp(-value - shifts)) for value in exact) / 3
                gamma = -shifts[np.abs(means - 0.25).argmin()]
            expected.append(algorithms.sigmoid(algorithms.log_odds(np.array([logit]), seen, gamma))[0])
        for pieces in (1, 7, 50):
            drs = algorithms.DiscriminatorRejection(burn_in, **choice)
            got = np.concatenate([drs.probabilities(piece) for piece in np.array_split(stream, pieces)])
            assert got == pytest.approx(expected, rel=1e-3, abs=1e-9)
            assert drs.maximum == stream.max()
            assert drs.raised == len(set(np.maximum.accumulate(np.append(1.0, stream)))) - 1


def test_gamma_from_a_percentile_and_from_a_budget(generated):
    logits = generated[1][:5000]
    by_percentile = algorithms.DiscriminatorRejection(logits, percentile=80)
    assert np.mean(by_percentile.probabilities(logits) > 0.5) == pytest.approx(0.2, abs=0.001)
    for budget in (1.5, 2, 8):
        by_budget = algorithms.DiscriminatorRejection(logits, budget=budget)
        assert by_budget.probabilities(logits).mean() == pytest.approx(1 / budget, rel=1e-9)


def test_drs_refuses():
    with pytest.raises(ValueError, match="exactly one"):
        algorithms.DiscriminatorRejection(np.zeros(3))
    with pytest.raises(ValueError, match="exactly one"):
        algorithms.DiscriminatorRejection(np.zeros(3), gamma=0, budget=2)
    for logits in (np.array([]), np.array([0, np.nan]), np.array([np.inf])):
        with pytest.raises(ValueError, match="must be one or more, and finite"):
            algorithms.DiscriminatorRejection(logits, gamma=0)


# Metropolis-Hastings


def test_mh_on_exact_logits_restores_the_data(generated):
    x, logits = generated
    chains = len(x) // 20
    start = samples(REAL_SIGMA, chains, 2)[1]
    column, restarted = algorithms.metropolis_hastings(logits.reshape(chains, 20), start, uniform(chains, 20))
    kept = x.reshape(chains, 20, 2)[np.arange(chains), column]
    assert spread(kept) == pytest.approx(0.05, rel=0.05)
    assert restarted.mean() < 0.02


def test_mh_is_the_walk_that_the_paper_describes():
    rng = np.random.default_rng(4)
    logits, start, u = rng.normal(scale=3, size=[200, 6]), rng.normal(4, 2, size=200), rng.random([200, 6])
    expected, left = [], []
    for chain in range(200):
        column = None
        discriminator = 1 / (1 + np.exp(-start[chain]))
        for k in range(6):
            proposed = 1 / (1 + np.exp(-logits[chain, k]))
            if 1 - u[chain, k] <= (1 / discriminator - 1) / (1 / proposed - 1):
                column, discriminator = k, proposed
        left.append(column is not None)
        if column is None:
            column, discriminator = 0, 1 / (1 + np.exp(-logits[chain, 0]))
            for k in range(1, 6):
                proposed = 1 / (1 + np.exp(-logits[chain, k]))
                if 1 - u[chain, k] <= (1 / discriminator - 1) / (1 / proposed - 1):
                    column, discriminator = k, proposed
        expected.append(column)
    column, restarted = algorithms.metropolis_hastings(logits, start, u)
    assert column.tolist() == expected
    assert restarted.tolist() == [not moved for moved in left] and 0 < restarted.sum() < 200


def test_mh_with_one_proposal_keeps_it():
    column, restarted = algorithms.metropolis_hastings(np.zeros([3, 1]), np.array([-9.0, 0.0, 900.0]), uniform(3, 1))
    assert column.tolist() == [0, 0, 0] and restarted.tolist() == [False, False, True]


# Optimal budgeted rejection


def test_obrs_spends_its_budget_exactly(generated):
    x, logits = generated
    for budget in (1, 2, 3.7, 50):
        probability = algorithms.budgeted_probabilities(logits, budget)
        assert probability.mean() == pytest.approx(1 / budget, rel=1e-12)
    half = algorithms.budgeted_probabilities(logits, 2)
    accepted = algorithms.draw(half, 0.3)
    assert len(accepted) == len(x) // 2
    assert spread(x[accepted]) < 0.08
    independent = uniform(len(x)) < half
    assert independent.mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / len(x)))


def test_obrs_is_the_smallest_one_and_c_times_the_ratio():
    logits = np.array([-4.0, -1.0, 0.0, 0.5, 3.0])
    probability = algorithms.budgeted_probabilities(logits, 2.5)
    constants = np.linspace(0, 20, 2_000_001)
    means = sum(np.minimum(1, constants * np.exp(logit)) for logit in logits) / 5
    best = constants[np.abs(means - 0.4).argmin()]
    assert probability == pytest.approx(np.minimum(1, best * np.exp(logits)), rel=1e-4)
    assert algorithms.budgeted_probabilities(logits + 300, 2.5) == pytest.approx(probability, rel=1e-9)  # scale is free


def test_obrs_with_the_budget_of_drs_is_drs(generated):
    logits = generated[1]
    exact = algorithms.DiscriminatorRejection(logits, gamma=0).probabilities(logits)
    assert algorithms.budgeted_probabilities(logits, 1 / exact.mean()) == pytest.approx(exact, rel=1e-4)


def test_a_budget_below_one_is_refused():
    with pytest.raises(RequestError, match=r"`budget` must be at least 1; got 0\.5 instead"):
        algorithms.budgeted_probabilities(np.zeros(3), 0.5)


def test_draw_accepts_each_with_its_probability_and_never_twice():
    probability = np.array([0.9, 0.1, 0.0, 1.0, 0.25, 0.75, 1.0])
    grid = (np.arange(2000) + 0.5) / 2000
    drawn = [algorithms.draw(probability, u) for u in grid]
    assert {len(indices) for indices in drawn} == {4}
    assert all(len(set(indices)) == 4 and (np.diff(indices) > 0).all() for indices in drawn)
    frequency = np.bincount(np.concatenate(drawn), minlength=7) / len(grid)
    assert frequency == pytest.approx(probability, abs=1e-3)
    assert {len(algorithms.draw(np.array([0.5, 0.75]), u)) for u in grid} == {1, 2}  # no whole number
    assert [len(algorithms.draw(np.full(1000, 0.1), u)) for u in (0.0, 0.5, 1.0)] == [100, 100, 100]


def test_a_share_of_nothing_is_never_drawn():
    # [0, 0.25) belongs to the first, [0.25, 1) to the third; the second has no chance.
    cases = ((0.2, [0]), (0.25, [2]), (0.9, [2]))
    assert all(algorithms.draw(np.array([0.25, 0, 0.75]), u).tolist() == found for u, found in cases)


def test_a_budget_is_met_by_logits_of_any_size():
    assert algorithms.budgeted_probabilities(np.array([0.0, -1000.0]), 1) == pytest.approx([1, 1])
    assert algorithms.budgeted_probabilities(np.array([900.0, -900.0]), 2) == pytest.approx([1, 0])
    assert algorithms.budgeted_probabilities(np.array([0.0, 0.0]), 1e200) == pytest.approx([1e-200, 1e-200], rel=1e-9)


@pytest.mark.parametrize(
    "use",
    [
        lambda bad: algorithms.DiscriminatorRejection(bad, gamma=0.0),
        lambda bad: algorithms.DiscriminatorRejection(np.zeros(3), gamma=0.0).probabilities(bad),
        lambda bad: algorithms.metropolis_hastings(bad[None], np.zeros(1), np.zeros([1, 2])),
        lambda bad: algorithms.metropolis_hastings(np.zeros([2, 2]), bad, np.zeros([2, 2])),
        lambda bad: algorithms.budgeted_probabilities(bad, 2),
    ],
    ids=["burn-in", "drs", "mh", "start of mh", "obrs"],
)
def test_logits_that_are_not_finite_are_refused(use):
    with pytest.raises(ValueError, match="logits must be one or more, and finite; got 2, 1 of them finite"):
        use(np.array([1.0, np.nan]))


def test_uniform_numbers_belong_to_their_seeds():
    some = algorithms.uniforms(range(2000))
    assert some.min() >= 0 and some.max() < 1 and len(set(some)) == 2000
    assert some.mean() == pytest.approx(0.5, abs=0.03)
    assert algorithms.uniforms([1999, 3]).tolist() == [some[1999], some[3]]
