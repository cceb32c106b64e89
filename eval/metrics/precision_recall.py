"""Precision and recall, density and coverage: by balls around samples that reach to the k-th neighbour of their set.

Precision (generated images that look real) and recall (real images that could be generated): Kynkäänniemi et al. 2019,
eq. 1 and 2. Density (from 0 up) and coverage (0 to 1), which outliers spoil less: Naeem et al. 2020, eq. 4 and 5.
Distances are exact to float64 even within tight clusters, in blocks: memory is O(N), time O(N^2 d).
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eval.metrics.confidence_intervals import Estimate, Vector, normal_interval, wilson
from eval.metrics.feature_stats import Array, Features, as_features
from eval.metrics.neighbours import Neighbours, neighbours, squared_distances

if TYPE_CHECKING:
    import torch  # only named here: it is loaded where there is a device

BLOCK = 1024  # samples on either side of a block of distances
TIE = 1e-12  # squared distances this close, relatively, are equal: the k-th neighbour lies on its ball, not within


class Cover:
    """Which of a set's `samples` lie in a ball of any of `balls` samples, and how much hangs on single balls."""

    def __init__(self, samples: int, balls: int) -> None:
        self.counts = np.zeros(samples, np.int64)  # balls around each
        self.visits = np.zeros(balls, np.int64)  # samples in each ball
        self._last = np.zeros(samples, np.int64)  # one ball around each

    @classmethod
    def of(cls, counts: NDArray[np.int64], visits: NDArray[np.int64], last: NDArray[np.int64]) -> "Cover":
        """Of what was counted elsewhere: balls around each sample, samples in each ball, one ball around each."""
        cover = cls(0, 0)
        cover.counts, cover.visits, cover._last = counts, visits, last
        return cover

    def add(self, samples: int, balls: int, inside: NDArray[np.bool_]) -> None:
        """Count a block in: inside [n, m] of the samples and balls that start at these indices."""
        n, m = inside.shape
        counts = inside.sum(axis=1)
        self.counts[samples : samples + n] += counts
        self.visits[balls : balls + m] += inside.sum(axis=0)
        self._last[samples : samples + n][counts > 0] = balls + inside.argmax(axis=1)[counts > 0]

    def estimate(self) -> Estimate:
        """The covered share. Wilson's interval, widened by the jackknife over balls: what each alone covers.

        It ignores that other balls would grow, and so errs to the wide side (up to twice as wide for small k).
        """
        samples, balls = len(self.counts), len(self.visits)
        covered = int((self.counts > 0).sum())
        alone = np.bincount(self._last[self.counts == 1], minlength=balls) / samples
        guess = (covered + 1) / (samples + 2)  # neither 0 nor 1
        spread = 1 + (balls - 1) * float(alone.var()) / (guess * (1 - guess) / samples)
        estimate = wilson(covered, samples, spread)
        return replace(estimate, method="Wilson, widened by a jackknife over the balls")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What one pass over all pairs of M real and N generated samples shows. Distances are Euclidean."""

    k_density: int  # neighbours of density and coverage
    precise: Cover  # of generated samples by real ones' balls
    recalled: Cover  # of real samples by generated ones' balls
    dense: Cover  # of generated samples by real ones' balls, of k_density neighbours
    coverage: Cover  # the same seen from the real samples, each covered by what its ball holds
    growth: NDArray[np.int64]  # [M], visits that the balls of others win when a real sample is left out
    realism: Vector  # [N], Kynkäänniemi et al. 2019, eq. 3: from 1 on the sample looks real; infinite for a copy
    nearest: NDArray[np.int64]  # [N], the nearest real sample
    nearest_distance: Vector  # [N]

    def precision_recall(self) -> dict[str, Estimate]:
        """ "precision" and "recall"."""
        return {"precision": self.precise.estimate(), "recall": self.recalled.estimate()}

    def density_coverage(self) -> dict[str, Estimate]:
        """ "density", its variance from the jackknife over the samples of either set, and "coverage".

        Where few samples lie in any ball a normal interval is too narrow, and none at 0. The interval of density holds
        that of the share that does, too, times how many balls such a sample lies in.
        """
        real, gen = len(self.growth), len(self.dense.counts)
        value = float(self.dense.counts.mean()) / self.k_density
        change = (self.growth - self.dense.visits) / gen  # of k * density, when a real sample is left out
        variance = float(np.var(self.dense.counts)) / gen + (real - 1) * float(np.var(change))
        density = normal_interval(value, math.sqrt(variance) / self.k_density, gen, "jackknife over both sets")
        covered = self.dense.estimate()
        balls = float(self.dense.counts.sum()) / max(int((self.dense.counts > 0).sum()), 1) or 1.0
        low, high = (bound * balls / self.k_density for bound in (covered.low, covered.high))
        density = replace(density, low=min(density.low, low), high=max(density.high, high))
        return {"density": density.clipped(low=0.0), "coverage": self.coverage.estimate()}


def compare(
    real: Features | Array,
    gen: Features | Array,
    *,
    k: int = 3,
    k_density: int = 5,
    real_neighbours: Neighbours | None = None,
    device: "torch.device | None" = None,
) -> Comparison:
    """All of this module in one pass. `real_neighbours`: neighbours(real, max(k, k_density + 1)), where known.

    All pairs are computed on a `device` where one is given, in float64 too (see eval.metrics.on_device).
    Raises ValueError unless both sets are of one dimension and have more samples than neighbours.
    """
    real, gen = as_features(real), as_features(gen)
    if real.dim != gen.dim:
        raise ValueError(f"real and gen must have the same dimension; got {real.dim} and {gen.dim} instead")
    real_neighbours = real_neighbours or neighbours(real, max(k, k_density + 1), device=device)
    reach, reach_density, reach_grown = (
        real_neighbours.distances[:, n - 1] ** 2 for n in (k, k_density, k_density + 1)
    )
    reach_gen = neighbours(gen, k, device=device).distances[:, k - 1] ** 2
    trusted = np.where(reach <= np.median(reach), reach, 0.0)  # for realism: not the half with the larger balls
    reaches = reach, reach_gen, reach_density, reach_grown, trusted
    if device is not None:
        from eval.metrics import on_device

        pairs = on_device.compare_pairs(real, gen, reaches=reaches, tie=TIE, device=device)
        precise, recalled = Cover.of(*pairs.precise.arrays()), Cover.of(*pairs.recalled.arrays())
        dense, coverage = Cover.of(*pairs.dense.arrays()), Cover.of(*pairs.coverage.arrays())
        grown, realism, nearest, closest = pairs.grown, pairs.realism, pairs.nearest, pairs.closest
    else:
        precise, recalled, dense, coverage, grown, realism, nearest, closest = _compare_pairs(real, gen, *reaches)
    growth = np.zeros(len(real), np.int64)
    np.add.at(growth, real_neighbours.indices[:, :k_density], (grown - dense.visits)[:, None])
    return Comparison(
        k_density=k_density,
        precise=precise,
        recalled=recalled,
        dense=dense,
        coverage=coverage,
        growth=growth,
        realism=np.sqrt(realism),
        nearest=nearest,
        nearest_distance=np.sqrt(closest),
    )


def _compare_pairs(
    real: Features,
    gen: Features,
    reach: Vector,
    reach_gen: Vector,
    reach_density: Vector,
    reach_grown: Vector,
    trusted: Vector,
) -> tuple[Cover, Cover, Cover, Cover, NDArray[np.int64], Vector, NDArray[np.int64], Vector]:
    # The pass over all pairs; what it gives is in on_device.Pairs.
    precise, recalled = Cover(len(gen), len(real)), Cover(len(real), len(gen))
    dense, coverage = Cover(len(gen), len(real)), Cover(len(real), len(gen))
    grown = np.zeros(len(real), np.int64)
    realism, nearest = np.zeros(len(gen)), np.zeros(len(gen), np.int64)
    closest = np.full(len(gen), np.inf)
    centre = real.mean()
    for i, x in real.blocks(BLOCK):
        rows = slice(i, i + len(x))
        for j, y in gen.blocks(BLOCK):
            columns = slice(j, j + len(y))
            squared = squared_distances(x - centre, y - centre)
            precise.add(j, i, (squared <= reach[rows, None] * (1 + TIE)).T)
            recalled.add(i, j, squared <= reach_gen[columns] * (1 + TIE))
            inside = squared < reach_density[rows, None] * (1 - TIE)
            dense.add(j, i, inside.T)
            coverage.add(i, j, inside)
            grown[rows] += (squared < reach_grown[rows, None] * (1 - TIE)).sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):  # 0/0: a copy of what has copies itself
                ratio = trusted[rows, None] / squared
            realism[columns] = np.fmax(realism[columns], np.fmax.reduce(ratio, axis=0))
            index = squared.argmin(axis=0)
            least = squared[index, np.arange(len(y))]
            nearest[columns] = np.where(least < closest[columns], i + index, nearest[columns])
            closest[columns] = np.minimum(closest[columns], least)
    return precise, recalled, dense, coverage, grown, realism, nearest, closest


def precision_recall(real: Features | Array, gen: Features | Array, k: int = 3) -> dict[str, Estimate]:
    """ "precision" and "recall" alone; see Comparison."""
    return compare(real, gen, k=k, k_density=k).precision_recall()


def density_coverage(real: Features | Array, gen: Features | Array, k: int = 5) -> dict[str, Estimate]:
    """ "density" and "coverage" alone; see Comparison."""
    return compare(real, gen, k=k, k_density=k).density_coverage()


def realism(real: Features | Array, gen: Features | Array, k: int = 3) -> Vector:
    """How real each generated sample looks [N]; see Comparison."""
    return compare(real, gen, k=k, k_density=k).realism


def nearest(real: Features | Array, gen: Features | Array) -> tuple[NDArray[np.int64], Vector]:
    """Index of the real sample next to each generated one, and how far it is: [N], [N]."""
    comparison = compare(real, gen, k=1, k_density=1)
    return comparison.nearest, comparison.nearest_distance
