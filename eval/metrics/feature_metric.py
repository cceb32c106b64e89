"""A metric of features that another package adds: one number, from the features of generated and of real images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.metrics.confidence_intervals import Jackknife, random_blocks
from eval.metrics.feature_stats import Features

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FeatureMetric:
    """What an entry point of the group salon.metrics names. Its name in requests and results is the entry point's."""

    name: str  # as people write it
    # Features of generated images [N, dim] and of real ones [M, dim], float32 -> the value, finite.
    measure: Callable[[Floats, Floats], float]
    higher_is_better: bool = False
    least_generated: int = 2  # images; measure() also sees 19 of 20 of them
    least_real: int = 2  # images


def jackknife(metric: FeatureMetric, gen: Features, real: Features, blocks: int) -> Jackknife:
    """The value, and what it is without each of `blocks` random parts of the generated images; O(N dim) memory.

    Raises ValueError where a value is no finite number.
    """
    all_gen, all_real = (each.take(np.arange(len(each)), np.float32) for each in (gen, real))
    all_real.flags.writeable = all_gen.flags.writeable = False  # one call must not change what the next one sees
    parts = random_blocks(len(all_gen), blocks)
    value = _value(metric, all_gen, all_real)
    left_out = [_value(metric, np.delete(all_gen, part, axis=0), all_real) for part in parts]
    return Jackknife(value=value, left_out=np.array(left_out), sizes=np.array([len(part) for part in parts]))


def _value(metric: FeatureMetric, gen: Floats, real: Floats) -> float:
    value = metric.measure(gen, real)
    if not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise ValueError(f"a value must be a finite number; got {str(value)[:80]} for {len(gen)} images instead")
    return float(value)
