"""Metrics of all pairs of features on a GPU: what the loops of `neighbours`, `kernel` and `precision_recall` compute.

In the precision of the CPU, float64 for metrics and float32 without TF32 for the searches of curation, so that values
differ in the last digits alone; in one order, so that they repeat. Features are uploaded once for all metrics where
they fit, and block by block where they do not. Memory is O(N), and BLOCK^2 for a block, or less where less is free.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from eval.metrics.feature_stats import Array, Features, Matrix
from gan.device.determinism import deterministic, tf32
from gan.device.memory import SHARE, fitting, free_memory

BLOCK = 4096  # samples on either side of a block
# |x-y|^2 below this share of |x|^2 + |y|^2 is computed anew, from differences
CANCELLED = {torch.float64: 1e-8, torch.float32: 1e-4}

Kernel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # [n, d], [m, d] -> [n, m]
Indices = NDArray[np.int64]


class Resident:
    """Features [N, d] on a device, whole as they are stored, or block by block where they do not fit."""

    def __init__(self, features: Features, device: torch.device) -> None:
        self.features, self.device = features, device
        # Six tables of distances and six blocks of features, in float64.
        self._block = fitting(BLOCK, lambda n: 8 * 6 * n * (n + features.dim), device)
        self._all = _uploaded(features, device)

    def __len__(self) -> int:
        return len(self.features)

    def blocks(self, dtype: torch.dtype = torch.float64) -> Iterator[tuple[int, torch.Tensor]]:
        """All rows, some at a time: (index of the first, [BLOCK or fewer, d])."""
        for first in range(0, len(self), self._block):
            end = min(first + self._block, len(self))
            if self._all is not None:
                yield first, self._all[first:end].to(dtype)
            else:
                yield first, torch.from_numpy(self.features.rows(first, end)).to(dtype).to(self.device)


# Without the Features themselves, so that the memory is given back with the last of these.
_kept: WeakKeyDictionary[Features, dict[torch.device, torch.Tensor | None]] = WeakKeyDictionary()


def _uploaded(features: Features, device: torch.device) -> torch.Tensor | None:
    # As they are stored, the same as long as these Features are in use; None where they do not fit.
    kept = _kept.setdefault(features, {})
    if device not in kept:
        size = len(features) * features.dim * features.shards[0].itemsize
        fits = size <= SHARE * free_memory(device)
        kept[device] = (
            torch.from_numpy(features.subset(np.arange(len(features))).shards[0]).to(device) if fits else None
        )
    return kept[device]


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """|x_i - y_j|^2 of x [n, d] and y [m, d] -> [n, m], to the precision of differences where they are close."""
    xx, yy = x.square().sum(1)[:, None], y.square().sum(1)
    squared = (x @ y.T).mul_(-2).add_(xx + yy)
    close = (squared < CANCELLED[x.dtype] * (xx + yy)).nonzero()
    for i, j in (part.unbind(1) for part in torch.split(close, len(x))):
        squared[i, j] = (x[i] - y[j]).square().sum(1)
    return squared


def nearest(
    queries: Features, references: Features | None, centre: Array, k: int, device: torch.device
) -> tuple[Array, Indices]:
    """The k nearest of references (None: the others of the queries) to each query: distances and indices, [N, k] each.

    Nearest first, and equally near ones in their order. Computed around `centre` [d] and in its dtype.
    """
    middle = torch.from_numpy(centre).to(device)
    here = Resident(queries, device)
    there = here if references is None else Resident(references, device)
    distances, indices = [], []
    with tf32(False), deterministic():
        for i, x in here.blocks(middle.dtype):
            best, where = x.new_full((len(x), k), np.inf), torch.zeros(len(x), k, dtype=torch.int64, device=device)
            for j, y in there.blocks(middle.dtype):
                squared = squared_distances(x - middle, y - middle)
                if references is None and i == j:
                    squared.fill_diagonal_(np.inf)
                values, places = squared.topk(min(k, len(y)), dim=1, largest=False)
                best, order = torch.cat([best, values], 1).topk(k, dim=1, largest=False)
                where = torch.cat([where, places + j], 1).gather(1, order)
            where, order = where.sort(dim=1)
            best, stable = best.gather(1, order).sort(dim=1, stable=True)
            distances.append(best.sqrt().cpu().numpy())
            indices.append(where.gather(1, stable).cpu().numpy())
    return np.concatenate(distances), np.concatenate(indices)


def alike(unit: Features, least: float, device: torch.device) -> Indices:
    """Pairs of unit vectors with a cosine of `least` or more, in float32: [P, 2], the first below the second."""
    samples, pairs = Resident(unit, device), [np.empty([0, 2], np.int64)]
    with tf32(False), deterministic():
        for i, x in samples.blocks(torch.float32):
            for j, y in samples.blocks(torch.float32):
                if j >= i:
                    found = (x @ y.T >= least).nonzero() + torch.tensor([i, j], device=device)
                    pairs.append(found[found[:, 0] < found[:, 1]].cpu().numpy())
    return np.concatenate(pairs)


def kernel_within(features: Features, kernel: Kernel, device: torch.device) -> tuple[Matrix, float]:
    """Sums [N] of each sample's kernel values with the others, and of the squares over all ordered pairs."""
    samples = Resident(features, device)
    sums = torch.zeros(len(samples), dtype=torch.float64, device=device)
    squares = sums.new_zeros([])
    for i, x in samples.blocks():
        for j, y in samples.blocks():
            values = kernel(x, y)
            if i == j:
                values.fill_diagonal_(0.0)
            sums[i : i + len(x)] += values.sum(1)
            squares += values.square().sum()
    return sums.cpu().numpy(), float(squares)


def kernel_between(a: Features, b: Features, kernel: Kernel, device: torch.device) -> tuple[Matrix, Matrix, float]:
    """Sums over b [m] and over a [n] of the kernel values of a and b, and the sum of their squares."""
    here, there = Resident(a, device), Resident(b, device)
    rows = torch.zeros(len(here), dtype=torch.float64, device=device)
    columns = rows.new_zeros(len(there))
    squares = rows.new_zeros([])
    for i, x in here.blocks():
        for j, y in there.blocks():
            values = kernel(x, y)
            rows[i : i + len(x)] += values.sum(1)
            columns[j : j + len(y)] += values.sum(0)
            squares += values.square().sum()
    return rows.cpu().numpy(), columns.cpu().numpy(), float(squares)


class Counts:
    """What precision_recall.Cover counts: balls around each sample, samples in each ball, one ball around each."""

    def __init__(self, samples: int, balls: int, device: torch.device) -> None:
        self.counts, self.visits, self.last = (
            torch.zeros(number, dtype=torch.int64, device=device) for number in (samples, balls, samples)
        )
        self._shells: list[tuple[Indices, Indices]] = []

    def add(self, samples: int, balls: int, inside: torch.Tensor, grown: torch.Tensor | None = None) -> None:
        """Count a block in: inside [n, m] of the samples and balls that start there, and once these have `grown`."""
        n, m = inside.shape
        counts, last = inside.sum(1), self.last[samples : samples + n]
        self.counts[samples : samples + n] += counts
        self.visits[balls : balls + m] += inside.sum(0)
        last.copy_(torch.where(counts > 0, balls + inside.byte().argmax(1), last))
        if grown is not None:
            late, by = (grown & ~inside).nonzero().cpu().numpy().T
            self._shells.append((samples + late, balls + by))

    def arrays(self) -> tuple[Indices, Indices, Indices, list[tuple[Indices, Indices]]]:
        """Counts, visits, last and shells."""
        counts, visits, last = (each.cpu().numpy() for each in (self.counts, self.visits, self.last))
        return counts, visits, last, self._shells


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What one pass over all pairs of M real and N generated samples counts; see precision_recall.Comparison."""

    precise: Counts
    recalled: Counts
    dense: Counts
    coverage: Counts
    grown: Indices  # [M], generated samples in the ball of one neighbour more
    realism: Matrix  # [N], squared
    nearest: Indices  # [N]
    closest: Matrix  # [N], squared


def compare_pairs(
    real: Features,
    gen: Features,
    *,
    reaches: tuple[Matrix, Matrix, Matrix, Matrix, Matrix, Matrix, Matrix],
    tie: float,
    device: torch.device,
) -> Pairs:
    """The pass. `reaches` are squared radii: of real balls [M], of generated ones [N], each followed by those of one
    neighbour more, of density [M], followed likewise, and of the balls that realism trusts [M]; `tie` is the relative
    difference of what counts as equal.
    """
    there, here = Resident(real, device), Resident(gen, device)
    on_it = [torch.from_numpy(each).to(device) for each in reaches]
    reach, reach_next, reach_gen, reach_gen_next, reach_density, reach_grown, trusted = on_it
    m, n = len(there), len(here)
    precise, recalled, dense = Counts(n, m, device), Counts(m, n, device), Counts(n, m, device)
    coverage, grown = Counts(m, n, device), torch.zeros(m, dtype=torch.int64, device=device)
    realism, closest = reach.new_zeros(n), reach.new_full((n,), np.inf)
    nearest = torch.zeros(n, dtype=torch.int64, device=device)
    centre = torch.from_numpy(real.mean()).to(device)
    for i, x in there.blocks():
        rows = slice(i, i + len(x))
        for j, y in here.blocks():
            columns = slice(j, j + len(y))
            squared = squared_distances(x - centre, y - centre)
            within = squared <= reach[rows, None] * (1 + tie)
            precise.add(j, i, within.T, (squared <= reach_next[rows, None] * (1 + tie)).T)
            within = squared <= reach_gen[columns] * (1 + tie)
            recalled.add(i, j, within, squared <= reach_gen_next[columns] * (1 + tie))
            inside, later = (squared < each[rows, None] * (1 - tie) for each in (reach_density, reach_grown))
            dense.add(j, i, inside.T, later.T)
            coverage.add(i, j, inside)
            grown[rows] += later.sum(1)
            ratio = (trusted[rows, None] / squared).nan_to_num_(nan=0.0, posinf=np.inf)  # 0/0: see compare
            realism[columns] = torch.maximum(realism[columns], ratio.amax(0))
            least, index = squared.min(0)
            nearest[columns] = torch.where(least < closest[columns], i + index, nearest[columns])
            closest[columns] = torch.minimum(closest[columns], least)
    return Pairs(
        precise=precise,
        recalled=recalled,
        dense=dense,
        coverage=coverage,
        grown=grown.cpu().numpy(),
        realism=realism.cpu().numpy(),
        nearest=nearest.cpu().numpy(),
        closest=closest.cpu().numpy(),
    )
