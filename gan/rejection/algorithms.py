"""Rejection sampling of generated images, from the discriminator's logits alone.

A logit estimates log r(x), r = p_data / p_generated (Goodfellow et al. 2014, proposition 1). Three ways to use it:

drs   accept with probability r / M, M the largest r (Azadi et al. 2019, "Discriminator Rejection Sampling")
mh    the last state of a Metropolis-Hastings chain over K samples (Turner et al. 2019, "Metropolis-Hastings GAN")
obrs  the best acceptance for one image in K (Verine et al. 2024, "Optimal Budgeted Rejection Sampling")

Logits, probabilities and uniform numbers are float64 [N]; the uniform numbers, in [0, 1), are the caller's.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gan.errors import RequestError

Array = NDArray[np.float64]
EPSILON = 1e-8  # keeps the largest logit's acceptance below one, and the logarithm finite
_HALVINGS = 200  # more than a float64 needs


def uniforms(seeds: Sequence[int]) -> Array:
    """A number in [0, 1) for each seed, from that seed alone; independent of the seed's image."""
    return np.array([np.random.default_rng([seed, 0xACCE97]).random() for seed in seeds], np.float64)


def log_odds(logits: Array, maximum: float, gamma: float = 0.0, epsilon: float = EPSILON) -> Array:
    """F of DRS, whose sigmoid is the acceptance: D - D_max - log(1 - exp(D - D_max - epsilon)) - gamma.

    Azadi et al. 2019, section 3. No logit may be above `maximum`; ValueError otherwise.
    """
    excess = np.asarray(logits, np.float64) - maximum
    if excess.size and excess.max() > 0:
        raise ValueError(f"logits must be at most the maximum {maximum}; got {maximum + excess.max()} instead")
    # 1 - exp(x) loses all digits near x = 0, and expm1 none.
    odds: Array = excess - np.log(-np.expm1(excess - epsilon)) - gamma
    return odds


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


class DiscriminatorRejection:
    """DRS over a stream of logits. The largest logit is estimated on a burn-in, and raised whenever a larger one comes.

    `gamma` lowers the acceptance (above 0) or raises it (below 0); 0 is exact. With `percentile` it is that percentile
    of F on the burn-in, so that so many per cent are accepted with less than even odds; with `budget` it is what
    accepts one of so many on the burn-in. These two follow the largest logit. Exactly one of the three is given.
    """

    def __init__(
        self,
        burn_in: Array,
        *,
        gamma: float | None = None,
        percentile: float | None = None,
        budget: float | None = None,
    ) -> None:
        if sum(choice is not None for choice in (gamma, percentile, budget)) != 1:
            raise ValueError("exactly one of gamma, percentile and budget must be given")
        _check(burn_in)
        self._burn_in, self._percentile, self._budget = np.asarray(burn_in, np.float64), percentile, budget
        self.maximum = float(self._burn_in.max())
        self.gamma = 0.0 if gamma is None else gamma
        self.raised = 0  # times that a larger logit came
        self._settle()

    def probabilities(self, logits: Array) -> Array:
        """Acceptance of the next logits of the stream [N]; the same however the stream is cut into calls."""
        _check(logits)
        highest = np.maximum(self.maximum, np.maximum.accumulate(logits))
        before = np.concatenate([[self.maximum], highest[:-1]])
        accepted = np.empty(len(logits))
        starts = [0, *np.flatnonzero(highest > before).tolist(), len(logits)]
        for start, end in pairwise(starts):
            if start == end:
                continue
            if highest[start] > self.maximum:
                self.maximum, self.raised = float(highest[start]), self.raised + 1
                self._settle()
            accepted[start:end] = sigmoid(log_odds(logits[start:end], self.maximum, self.gamma))
        return accepted

    def _settle(self) -> None:
        exact = log_odds(self._burn_in, self.maximum)
        if self._percentile is not None:
            self.gamma = float(np.percentile(exact, self._percentile))
        elif self._budget is not None:
            self.gamma = -_solve(lambda shift: float(sigmoid(exact + shift).mean()), self._budget, exact)


def metropolis_hastings(logits: Array, start: Array, uniform: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """N chains over K proposals: logits [N, K], uniform numbers [N, K] -> the last states' columns, which restarted.

    `start` [N] are logits of real images, from which each chain sets out (Turner et al. 2019). A chain
    that never left its real image starts again from its first proposal. The logits must be calibrated: their scale
    decides.
    """
    _check(logits.ravel())
    _check(start)
    state, column = np.asarray(start, np.float64).copy(), np.full(len(logits), -1)
    _walk(logits, uniform, state, column, first=0)
    restarted = column < 0
    state[restarted], column[restarted] = logits[restarted, 0], 0
    again, where = column[restarted], state[restarted]
    _walk(logits[restarted], uniform[restarted], where, again, first=1)
    column[restarted] = again
    return column, restarted


def _walk(logits: Array, uniform: Array, state: Array, column: NDArray[np.int64], first: int) -> None:
    for k in range(first, logits.shape[1]):
        # alpha = min(1, (1/D(x) - 1) / (1/D(x') - 1)), which is the ratio of the odds (Turner et al. 2019).
        moves = np.log1p(-uniform[:, k]) <= logits[:, k] - state  # 1 - u is in (0, 1]: its logarithm is finite
        state[moves], column[moves] = logits[moves, k], k


def budgeted_probabilities(logits: Array, budget: float) -> Array:
    """Acceptance of OBRS, min(1, c r), with the c whose mean over `logits` is 1 / budget (Verine et al. 2024).

    Of all acceptances with this mean it brings p_generated closest to p_data in every f-divergence.
    """
    _check(logits)
    logits = np.asarray(logits, np.float64)

    def mean(log_c: float) -> float:
        return float(np.exp(np.minimum(logits + log_c, 0.0)).mean())

    log_c = _solve(mean, budget, logits)
    return np.exp(np.minimum(logits + log_c, 0.0))


def draw(probabilities: Array, uniform: float) -> NDArray[np.int64]:
    """Accept each with its probability, and in all as many as these add up to -> the indices, rising.

    Systematic sampling (Madow 1949): one uniform number for all. Independent draws would keep the budget only on the
    average. Where the sum is no whole number, one more is accepted with the probability of what is left.
    """
    reached = np.cumsum(np.asarray(probabilities, np.float64))
    first = min(max(uniform, EPSILON), 1 - EPSILON)  # a sum that is whole but for rounding counts as whole
    return np.searchsorted(reached, np.arange(first, reached[-1]), side="right")


def _solve(mean: Callable[[float], float], budget: float, logits: Array) -> float:
    # The x for which the rising function mean(x) is 1 / budget, by bisection.
    if not budget >= 1:
        raise RequestError(f"`budget` must be at least 1; got {budget} instead")
    span = float(np.abs(logits).max() + np.log(budget)) + 100.0  # mean is below 1 / budget at one end, 1 at the other
    low, high = -span, span
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if mean(middle) < 1 / budget:
            low = middle
        else:
            high = middle
    return high


def _check(logits: Array) -> None:
    if not len(logits) or not np.isfinite(logits).all():
        raise ValueError(
            f"logits must be one or more, and finite; got {len(logits)}, {np.isfinite(logits).sum()} of them finite"
        )
