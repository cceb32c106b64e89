"""Averages of weights under power functions, and any other width of them afterwards.

Karras et al. 2023, "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), section 3. The average
at time t weighs the weights of time tau in [0, t] by (gamma + 1) tau^gamma / t^(gamma + 1), its profile. Its `width`,
sigma_rel, is the profile's standard deviation as a share of t. Times are in any one unit. Formulas alone, in float64.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gan.errors import RequestError

Vector = NDArray[np.float64]

WIDEST = 0.28  # of gamma > 0; a profile that does not rise has 1 / 12^1/2


def width_of(gamma: float) -> float:
    """sigma_rel of a gamma (EDM2, eq. 3)."""
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


def gamma_of(width: float) -> float:
    """The gamma of a sigma_rel in (0, WIDEST]: the largest root of eq. 3 squared, sigma^-2 (g + 1) = (g + 2)^2 (g + 3).

    Raises RequestError for another `width`.
    """
    if not 0 < width <= WIDEST:
        raise RequestError(f"`width` must be above 0 and at most {WIDEST}; got {width} instead")
    s = width**-2
    return float(np.roots([1, 7, 16 - s, 12 - s]).real.max())


def decay(gamma: float, step: float, time: float) -> float:
    """How much of the average stays at a step that ends at `time` (EDM2, eq. 2): 0 at the first, when time == step.

    Exact for weights that stay as they are within a step.
    """
    return math.pow(1 - step / time, gamma + 1)


def inner_product(t_a: ArrayLike, gamma_a: ArrayLike, t_b: ArrayLike, gamma_b: ArrayLike) -> Vector:
    """Integral of the product of two profiles (EDM2, appendix C); arrays are broadcast."""
    t_a, gamma_a, t_b, gamma_b = (np.asarray(x, np.float64) for x in (t_a, gamma_a, t_b, gamma_b))
    both = gamma_a + gamma_b + 1
    power = both * np.log(np.minimum(t_a, t_b)) - (gamma_a + 1) * np.log(t_a) - (gamma_b + 1) * np.log(t_b)
    product: Vector = (gamma_a + 1) * (gamma_b + 1) / both * np.exp(power)
    return product


@dataclass(frozen=True, kw_only=True)
class Combination:
    """How stored averages add up to another."""

    weights: Vector  # [K], of the stored averages
    error: float  # of the profile that they make: root of its squared distance, as a share of the wanted one's norm


def combine(times: ArrayLike, gammas: ArrayLike, time: float, gamma: float, *, sum_to_one: bool = True) -> Combination:
    """The combination of averages of `times` [K] and `gammas` [K], no two alike, that is nearest to the one at `time`.

    Least squares between the profiles (EDM2, section 3.2 and appendix C). There the sum of the weights is as it comes,
    1 to within the error; with `sum_to_one` it is 1, so that what training does not move stays where it is.
    """
    t, g = (np.asarray(x, np.float64) for x in (times, gammas))
    among = inner_product(t[:, None], g[:, None], t, g)
    wanted = inner_product(t, g, time, gamma)
    weights: Vector = np.linalg.solve(among, wanted).astype(np.float64)
    if sum_to_one:
        towards = np.linalg.solve(among, np.ones(len(t)))  # Lagrange's multiplier is of the sum
        weights += towards * (1 - weights.sum()) / towards.sum()
    norm = float(inner_product(time, gamma, time, gamma))
    missed = norm - 2 * float(wanted @ weights) + float(weights @ among @ weights)
    return Combination(weights=weights, error=math.sqrt(max(missed / norm, 0.0)))
