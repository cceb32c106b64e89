"""Calibration of a discriminator: logits -> logits whose sigmoid is the share of real images among those that have it.

Fitted on as many held-out real as generated images, so that the logit is log p_data / p_generated.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gan.errors import RequestError
from gan.rejection.algorithms import Array, sigmoid

METHODS = ("platt", "isotonic", "none")
LEAST = 8  # images of each kind


class Calibrator(Protocol):
    """Logits [N] -> calibrated logits [N], float64, both."""

    def __call__(self, logits: Array) -> Array: ...


class Identity:
    """Leaves logits as they are."""

    def __call__(self, logits: Array) -> Array:
        return np.asarray(logits, np.float64)


class Platt:
    """A line through the logits, fitted by maximum likelihood (Platt 1999). Keeps their order while `slope` > 0."""

    def __init__(self, real_logits: Array, gen_logits: Array) -> None:
        from sklearn.linear_model import LogisticRegression

        logits, real = _stack(real_logits, gen_logits)
        # Platt's targets, short of 0 and 1, keep the line finite where the two kinds do not overlap.
        positive, negative = (len(real_logits) + 1) / (len(real_logits) + 2), 1 / (len(gen_logits) + 2)
        target = np.where(real, positive, negative)
        centre, scale = logits.mean(), max(float(logits.std()), 1e-12)
        x = np.tile((logits - centre) / scale, 2)[:, None]
        y = np.repeat([1, 0], len(logits))
        weight = np.concatenate([target, 1 - target])
        line = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1000).fit(x, y, weight)
        self.slope = float(line.coef_[0, 0]) / scale
        self.intercept = float(line.intercept_[0]) - self.slope * float(centre)

    def __call__(self, logits: Array) -> Array:
        return self.slope * np.asarray(logits, np.float64) + self.intercept


class Isotonic:
    """The best rising step function (Zadrozny & Elkan 2002), kept short of 0 and 1 by what N images can tell."""

    def __init__(self, real_logits: Array, gen_logits: Array) -> None:
        from sklearn.isotonic import IsotonicRegression

        logits, real = _stack(real_logits, gen_logits)
        least = 1 / (len(logits) + 2)
        self._steps = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(logits, real)

    def __call__(self, logits: Array) -> Array:
        probability = np.asarray(self._steps.predict(np.asarray(logits, np.float64)), np.float64)
        odds: Array = np.log(probability) - np.log1p(-probability)
        return odds


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A calibrator fitted on all logits given, and the Z statistic on a half that another one was not fitted on."""

    calibrate: Calibrator
    z_before: float
    z_after: float
    images: int  # of each kind

    def figures(self) -> dict[str, Any]:
        """For reports."""
        slope = {"slope": self.calibrate.slope} if isinstance(self.calibrate, Platt) else {}
        return {"images": self.images, "z_before": self.z_before, "z_after": self.z_after, **slope}


def fit(method: str, real_logits: Array, gen_logits: Array) -> Calibrator:
    """The calibrator "platt", "isotonic" or "none" of as many real as generated logits."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r} instead")
    if method == "none":
        return Identity()
    return Platt(real_logits, gen_logits) if method == "platt" else Isotonic(real_logits, gen_logits)


def fit_and_test(method: str, real_logits: Array, gen_logits: Array) -> Calibration:
    """Fit on every other logit and take Z on the rest; then fit on all. The longer of the two is cut to the shorter.

    Raises RequestError when there are fewer than 8 of a kind.
    """
    count = min(len(real_logits), len(gen_logits))
    if count < LEAST:
        raise RequestError(
            f"calibration must have at least {LEAST} real and {LEAST} generated images; got {len(real_logits)} and "
            f"{len(gen_logits)} instead: give a larger `calibration_data` or `burn_in`, or `calibration` none"
        )
    real, gen = np.asarray(real_logits[:count], np.float64), np.asarray(gen_logits[:count], np.float64)
    half = fit(method, real[::2], gen[::2])
    return Calibration(
        calibrate=fit(method, real, gen),
        z_before=z_statistic(real[1::2], gen[1::2]),
        z_after=z_statistic(half(real[1::2]), half(gen[1::2])),
        images=count,
    )


def z_statistic(real_logits: Array, gen_logits: Array) -> float:
    """Z = sum(y - D) / sqrt(sum(D (1 - D))), D = sigmoid(logit): standard normal when D is calibrated.

    Turner et al. 2019, after Dawid 1997. Beyond +-2 it speaks against D: positive, D is too low.
    """
    logits, real = _stack(real_logits, gen_logits)
    probability = sigmoid(logits)
    # D (1 - D) as a product of two sigmoids, which stays above zero where 1 - D is rounded to it.
    return float((real - probability).sum() / np.sqrt((probability * sigmoid(-logits)).sum()))


def _stack(real_logits: Array, gen_logits: Array) -> tuple[Array, NDArray[np.bool_]]:
    logits = np.concatenate([real_logits, gen_logits]).astype(np.float64)
    return logits, np.arange(len(logits)) < len(real_logits)
