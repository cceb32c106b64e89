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
EXACT = 100_000  # samples of a set that all pairs of are compared where there is no device
TIE = 1e-12  # squared distances this close, relatively, are equal: the k-th neighbour lies on its ball, not within


Indices = NDArray[np.int64]


class Cover:
    """Which of a set's `samples` lie in a ball of any of `balls` samples, and how much hangs on single balls.

    Balls reach to the k-th neighbour of their own set. Where one of these is left out its ball goes, and those grow to
    the next neighbour that it was a neighbour of.
    """

    def __init__(self, samples: int, balls: int) -> None:
        self.counts = np.zeros(samples, np.int64)  # balls around each
        self.visits = np.zeros(balls, np.int64)  # samples in each ball
        self._last = np.zeros(samples, np.int64)  # one ball around each
        self._shells: list[tuple[Indices, Indices]] = []  # samples and the balls that hold them once they have grown

    @classmethod
    def of(cls, counts: Indices, visits: Indices, last: Indices, shells: list[tuple[Indices, Indices]]) -> "Cover":
        """Of what was counted elsewhere: balls around each sample, samples in each, one ball around each, shells."""
        cover = cls(0, 0)
        cover.counts, cover.visits, cover._last, cover._shells = counts, visits, last, shells
        return cover

    def add(self, samples: int, balls: int, inside: NDArray[np.bool_], grown: NDArray[np.bool_] | None = None) -> None:
        """Count a block in: inside [n, m] of the samples and balls that start there, and once these have `grown`."""
        n, m = inside.shape
        counts = inside.sum(axis=1)
        self.counts[samples : samples + n] += counts
        self.visits[balls : balls + m] += inside.sum(axis=0)
        self._last[samples : samples + n][counts > 0] = balls + inside.argmax(axis=1)[counts > 0]
        if grown is not None:
            late, by = np.nonzero(grown & ~inside)
            self._shells.append((samples + late, balls + by))

    def estimate(self, near: Indices) -> Estimate:
        """The covered share; `near` [balls, k] are the neighbours that each ball reaches to.

        Wilson's interval, widened by the jackknife over the balls: what each covers alone, less what the others take
        over as they grow. Its own noise, that of counting few samples, is that of the share already, and comes off.
        """
        samples, balls = len(self.counts), len(self.visits)
        late, by = (np.concatenate(parts) for parts in zip((_NONE, _NONE), *self._shells, strict=True))
        heirs = near[by]  # [shells, k], of which each, where it is left out, lets that ball grow
        bare, kept = self.counts[late] == 0, (self.counts[late] == 1) & (heirs == self._last[late, None]).any(axis=1)
        pairs = np.unique(np.stack([np.repeat(late[bare], near.shape[1]), heirs[bare].ravel()], axis=1), axis=0)
        gained = np.bincount(pairs[:, 1], minlength=balls)
        alone = self.counts == 1
        alone[late[kept]] = False
        lost = np.bincount(self._last[alone], minlength=balls)
        widened = (balls - 1) * float((gained - lost).var()) - float((gained + lost).sum())
        covered = int((self.counts > 0).sum())
        return _widened(covered, samples, 1 + max(widened, 0.0) / samples**2 / _binomial(covered, samples))

    def lost(self) -> Indices:
        """How many samples each ball alone covers [balls], where no ball grows."""
        return np.bincount(self._last[self.counts == 1], minlength=len(self.visits))


_NONE = np.empty(0, np.int64)


def _binomial(covered: int, samples: int) -> float:
    # Variance of a share, from a guess that is neither 0 nor 1.
    guess = (covered + 1) / (samples + 2)
    return guess * (1 - guess) / samples


def _widened(covered: int, samples: int, spread: float) -> Estimate:
    return replace(wilson(covered, samples, spread), method="Wilson, widened by a jackknife over the balls")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What one pass over all pairs of M real and N generated samples shows. Distances are Euclidean."""

    k: int  # neighbours of precision and recall
    k_density: int  # neighbours of density and coverage
    real_near: Indices  # [M, at least k and k_density], neighbours of the real samples, nearest first
    gen_near: Indices  # [N, at least k], of the generated ones
    precise: Cover  # of generated samples by real ones' balls
    recalled: Cover  # of real samples by generated ones' balls
    dense: Cover  # of generated samples by real ones' balls, of k_density neighbours
    coverage: Cover  # the same seen from the real samples, each covered by what its ball holds
    late: NDArray[np.bool_]  # [M], real samples that are covered only once their balls have grown by a neighbour
    growth: NDArray[np.int64]  # [M], visits that the balls of others win when a real sample is left out
    realism: Vector  # [N], Kynkäänniemi et al. 2019, eq. 3: from 1 on the sample looks real; infinite for a copy
    nearest: NDArray[np.int64]  # [N], the nearest real sample
    nearest_distance: Vector  # [N]

    def precision_recall(self) -> dict[str, Estimate]:
        """ "precision" and "recall"."""
        return {
            "precision": self.precise.estimate(self.real_near[:, : self.k]),
            "recall": self.recalled.estimate(self.gen_near[:, : self.k]),
        }

    def density_coverage(self) -> dict[str, Estimate]:
        """ "density", its variance from the jackknife over the samples of either set, and "coverage".

        The noise of the jackknife over the real samples, that few generated ones are counted, is in the variance over
        these and comes off. Where few samples lie in any ball a normal interval is too narrow, and none at 0. The
        interval of density holds that of the share that does, too, times how many balls such a sample lies in. It is up
        to half wider than chance is: a jackknife over neighbours is too large (Efron and Stein 1981).
        """
        real, gen = len(self.growth), len(self.dense.counts)
        value = float(self.dense.counts.mean()) / self.k_density
        change = self.growth - self.dense.visits  # of k * density * N, when a real sample is left out
        of_real = (real - 1) * float(np.var(change)) - float(np.sum(self.growth + self.dense.visits))
        variance = float(np.var(self.dense.counts)) / gen + max(of_real, 0.0) / gen**2
        density = normal_interval(value, math.sqrt(variance) / self.k_density, gen, "jackknife over both sets")
        covered = self.dense.estimate(self.real_near[:, : self.k_density])
        balls = float(self.dense.counts.sum()) / max(int((self.dense.counts > 0).sum()), 1) or 1.0
        low, high = (bound * balls / self.k_density for bound in (covered.low, covered.high))
        density = replace(density, low=min(density.low, low), high=max(density.high, high))
        return {"density": density.clipped(low=0.0), "coverage": self._coverage()}

    def _coverage(self) -> Estimate:
        # Wilson's interval with the variance of the jackknife over both sets. Without a real sample the balls of those
        # grow whose neighbour it was, and may cover them; a generated one's lack grows nothing.
        real, k = len(self.late), self.k_density
        covered = self.coverage.counts > 0
        gained = np.bincount(self.real_near[self.late, :k].ravel(), minlength=real)
        of_real = real * float((gained - covered).var()) - k * int(self.late.sum())
        lost = self.coverage.lost()
        of_generated = (len(lost) - 1) * float(lost.var()) - float(lost.sum())
        variance = (max(of_real, 0.0) + max(of_generated, 0.0)) / real**2
        number = int(covered.sum())
        return _widened(number, real, variance / _binomial(number, real))


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
    real_neighbours = real_neighbours or neighbours(real, max(min(k + 1, len(real) - 1), k_density + 1), device=device)
    gen_neighbours = neighbours(gen, max(min(k + 1, len(gen) - 1), k), device=device)
    reach, reach_next, reach_density, reach_grown = (
        real_neighbours.distances[:, :n][:, -1] ** 2 for n in (k, k + 1, k_density, k_density + 1)
    )
    reach_gen, reach_gen_next = (gen_neighbours.distances[:, :n][:, -1] ** 2 for n in (k, k + 1))
    trusted = np.where(reach <= np.median(reach), reach, 0.0)  # for realism: not the half with the larger balls
    reaches = reach, reach_next, reach_gen, reach_gen_next, reach_density, reach_grown, trusted
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
        k=k,
        k_density=k_density,
        real_near=real_neighbours.indices,
        gen_near=gen_neighbours.indices,
        precise=precise,
        recalled=recalled,
        dense=dense,
        coverage=coverage,
        late=(coverage.counts == 0) & (grown > 0),
        growth=growth,
        realism=np.sqrt(realism),
        nearest=nearest,
        nearest_distance=np.sqrt(closest),
    )


def _compare_pairs(
    real: Features,
    gen: Features,
    reach: Vector,
    reach_next: Vector,
    reach_gen: Vector,
    reach_gen_next: Vector,
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
            within = squared <= reach[rows, None] * (1 + TIE)
            precise.add(j, i, within.T, (squared <= reach_next[rows, None] * (1 + TIE)).T)
            within = squared <= reach_gen[columns] * (1 + TIE)
            recalled.add(i, j, within, squared <= reach_gen_next[columns] * (1 + TIE))
            inside, later = (squared < each[rows, None] * (1 - TIE) for each in (reach_density, reach_grown))
            dense.add(j, i, inside.T, later.T)
            coverage.add(i, j, inside)
            grown[rows] += later.sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):  # 0/0: a copy of what has copies itself
                ratio = trusted[rows, None] / squared
            realism[columns] = np.fmax(realism[columns], np.fmax.reduce(ratio, axis=0))
            index = squared.argmin(axis=0)
            least = squared[index, np.arange(len(y))]
            nearest[columns] = np.where(least < closest[columns], i + index, nearest[columns])
            closest[columns] = np.minimum(closest[columns], least)
    return precise, recalled, dense, coverage, grown, realism, nearest, closest


def drawn(n: int) -> Indices:
    """Places of n samples in ascending order: all, or EXACT of more than these, at random but always the same.

    The values of this module depend on the number of samples: those of the drawn ones are not those of all.
    """
    return np.arange(n) if n <= EXACT else np.sort(np.random.default_rng(0).permutation(n)[:EXACT])


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
