"""Power-function averages: against their integrals, a brute-force average of all iterates, and ema-pytorch's values."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad

from gan.errors import RequestError
from gan.training.power_function import WIDEST, combine, decay, gamma_of, inner_product, width_of


def profile(tau: float, t: float, gamma: float) -> float:
    """The weight of time tau in the average at t, by its definition."""
    return tau**gamma / quad(lambda x: x**gamma, 0, t)[0] if tau <= t else 0.0


def weights_of_iterates(steps: int, gamma: float) -> np.ndarray:
    """How much each of `steps` iterates counts in the average after the last: the profile over its own step."""
    return np.diff((np.arange(steps + 1) / steps) ** (gamma + 1))


# By ema-pytorch 0.8.3, sigma_rel_to_gamma.
@pytest.mark.parametrize(
    ("width", "gamma"),
    [
        (0.02, 46.989582157566616),
        (0.05, 16.972198602303447),
        (0.1, 6.937203937601809),
        (0.2, 1.8262137798958404),
        (0.25, 0.71982395800071),
    ],
)
def test_a_width_is_the_deviation_of_its_profile(width, gamma):
    assert gamma_of(width) == pytest.approx(gamma, rel=1e-12)
    assert width_of(gamma) == pytest.approx(width, rel=1e-12)
    mean, square = (quad(lambda x, k=k: x**k * profile(x, 1, gamma), 0, 1)[0] for k in (1, 2))
    assert np.sqrt(square - mean**2) == pytest.approx(width, rel=1e-6)


@pytest.mark.parametrize("width", [0, -0.1, WIDEST + 0.001, float("nan")])
def test_other_widths_are_refused(width):
    with pytest.raises(RequestError, match=r"`width` must be above 0 and at most 0\.28"):
        gamma_of(width)


@pytest.mark.parametrize("gamma", [0.7, 6.9, 17.0])
def test_step_by_step_it_is_the_average_of_all_iterates(gamma):
    iterates = np.random.default_rng(0).normal(size=50)
    average = 1e9  # what was there before the first is gone
    for count, value in enumerate(iterates, 1):
        kept = decay(gamma, 32, 32 * count)
        average = kept * average + (1 - kept) * value
    weights = weights_of_iterates(50, gamma)
    assert weights.sum() == pytest.approx(1) and average == pytest.approx(weights @ iterates)


@pytest.mark.parametrize("times", [(1, 1), (1, 3), (3, 1)])
def test_inner_products_are_the_integrals(times):
    (t_a, t_b), (a, b) = times, (16.97, 1.8)
    expected = quad(lambda x: profile(x, t_a, a) * profile(x, t_b, b), 0, min(times))[0]
    assert inner_product(t_a, a, t_b, b) == pytest.approx(expected, rel=1e-6)
    scaled = inner_product(1e6 * t_a, a, 1e6 * t_b, b)
    assert scaled == pytest.approx(expected / 1e6, rel=1e-6)  # of images instead of millions


# By ema-pytorch 0.8.3, solve_weights, in float64.
TIMES, GAMMAS = [1000, 2000, 3000, 4000] * 2, [gamma_of(0.05)] * 4 + [gamma_of(0.1)] * 4
SOLVED = {
    0.07: [1.9e-08, 8.4464e-05, 0.01080819, 0.439546945, -4.65e-07, -0.000574557, -0.044424539, 0.606019173],
    0.15: [-0.000541388, -0.012664854, -0.075094424, -0.254361156, 0.00187265, 0.036623231, 0.193046251, 1.074382805],
}


@pytest.mark.parametrize("width", SOLVED)
def test_the_combination_is_that_of_the_paper(width):
    found = combine(TIMES, GAMMAS, 4000, gamma_of(width), sum_to_one=False)
    assert_allclose(found.weights, SOLVED[width], atol=6e-10)
    constrained = combine(TIMES, GAMMAS, 4000, gamma_of(width))
    assert constrained.weights.sum() == pytest.approx(1, abs=1e-12) != found.weights.sum()
    assert found.error < constrained.error < 1.1 * found.error


@pytest.mark.parametrize("width", [0.04, 0.08, 0.15])
def test_the_error_is_that_of_the_profile_and_shrinks_with_more_averages(width):
    def found(count: int):
        times = np.tile(np.arange(1, count + 1) / count, 2)
        gammas = np.repeat([gamma_of(0.05), gamma_of(0.1)], count)
        return times, gammas, combine(times, gammas, 1, gamma_of(width))

    times, gammas, few = found(4)
    x = (np.arange(20_000) + 0.5) / 20_000
    wanted = (gamma_of(width) + 1) * x ** gamma_of(width)
    parts = [np.where(x <= t, (g + 1) * x**g / t ** (g + 1), 0) for t, g in zip(times, gammas, strict=True)]
    made = few.weights @ np.array(parts)
    assert few.error == pytest.approx(np.sqrt(np.mean((made - wanted) ** 2) / np.mean(wanted**2)), rel=0.02)
    for move in (0.01, -0.01):  # no other weights with a sum of 1 are nearer
        other = (few.weights + move * np.linspace(-1, 1, 8)) @ np.array(parts)
        assert np.mean((other - wanted) ** 2) > np.mean((made - wanted) ** 2)
    assert found(8)[2].error < few.error / 1.5 and found(16)[2].error < 0.011


def test_a_width_that_is_stored_is_itself():
    found = combine(TIMES, GAMMAS, 4000, GAMMAS[-1])
    assert_allclose(found.weights, [0, 0, 0, 0, 0, 0, 0, 1], atol=1e-9)
    assert found.error < 1e-6


@pytest.mark.parametrize("width", [0.04, 0.07, 0.13])
def test_a_reconstruction_is_the_average_of_all_iterates(width):
    rng = np.random.default_rng(1)
    steps, iterates = 320, np.cumsum(rng.normal(size=320)) * 0.05 + 3  # weights that wander
    times = [t for _ in range(2) for t in range(20, 321, 20)]
    gammas = [gamma_of(w) for w in (0.05, 0.10) for _ in range(16)]
    stored = [weights_of_iterates(t, g) @ iterates[:t] for t, g in zip(times, gammas, strict=True)]
    made = combine(times, gammas, steps, gamma_of(width)).weights @ np.array(stored)
    brute_force = weights_of_iterates(steps, gamma_of(width)) @ iterates
    assert abs(made - brute_force) < 0.01 * iterates.std()
