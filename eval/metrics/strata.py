"""A distance for each style, genre or artist, in one table, drawn together where a group has too few images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.metrics.confidence_intervals import Estimate, shrink
from eval.metrics.feature_stats import Array, Features, as_features
from eval.metrics.frechet import IMAGES_A_DIMENSION, frechet_estimate, sqrt_factor
from eval.metrics.kernel import Kernel, kernel_distance, within


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """One row of the table."""

    name: str
    n_real: int
    n_gen: int
    metric: str  # "fd" (bias-corrected) or "kd", the same in all rows
    estimate: Estimate  # of this stratum alone
    shrunken: Estimate  # drawn to the mean of all, the more the less sure it is


def strata_table(
    real: Features | Array,
    real_strata: Sequence[str],
    gen: Features | Array,
    gen_strata: Sequence[str] | None = None,
    *,
    kernel: Kernel | None = None,
) -> list[Stratum]:
    """How far generated features [N, d] are from each stratum of the real ones [M, d], by name.

    Generated images are compared with the stratum of their own name, or all of them with each where `gen_strata` is
    None. Strata with fewer than 2 images on either side are left out. Raises ValueError when none is left.
    """
    real, gen = as_features(real), as_features(gen)
    for name, features, strata in (("real_strata", real, real_strata), ("gen_strata", gen, gen_strata)):
        if strata is not None and len(strata) != len(features):
            raise ValueError(
                f"{name} must name a stratum for each of {len(features)} images; got {len(strata)} instead"
            )
    kernel = kernel or Kernel()
    everything = np.arange(len(gen))
    members = {
        name: (
            np.flatnonzero(np.asarray(real_strata) == name),
            everything if gen_strata is None else np.flatnonzero(np.asarray(gen_strata) == name),
        )
        for name in sorted(set(real_strata))
    }
    members = {name: (r, g) for name, (r, g) in members.items() if min(len(r), len(g)) >= 2}
    if not members:
        raise ValueError("real and gen must share a stratum of 2 or more images; got none")
    metric = "fd" if all(min(len(r), len(g)) >= IMAGES_A_DIMENSION * real.dim for r, g in members.values()) else "kd"
    shared = within(gen, kernel) if gen_strata is None and metric == "kd" else None
    estimates = []
    for r, g in members.values():
        chosen = gen if gen_strata is None else gen.subset(g)
        if metric == "fd":
            reference = real.moments(r)
            estimate = frechet_estimate(chosen, reference, factor=sqrt_factor(reference))["bias_corrected"]
        else:
            estimate = kernel_distance(chosen, real.subset(r), kernel=kernel, within_a=shared).estimate
        estimates.append(estimate)
    return [
        Stratum(name=name, n_real=len(r), n_gen=len(g), metric=metric, estimate=alone, shrunken=together)
        for (name, (r, g)), alone, together in zip(members.items(), estimates, shrink(estimates), strict=True)
    ]
