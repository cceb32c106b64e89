"""Novelty: whether generated images lie nearer to the training images than real images that no training saw.

Authenticity (Alaa et al. 2022; AuthPct of Stein et al. 2023 and dgm-eval), the share of images that are nearer to a
training image than nearly all held-out ones, and the test C_T (Meehan, Chaudhuri, Dasgupta 2020). All start from each
image's distance to the nearest training image, in whichever of its `views` (flipped, cropped) is nearest; the training
images' own distances from each other are sought in the same views. The intervals take the training images as they are,
which the question is about, and count in the chance of the generated and of the held-out images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc
from scipy.stats import betabinom, rankdata

from eval.metrics.confidence_intervals import Estimate, Vector, normal_interval, random_blocks, wilson
from eval.metrics.feature_stats import Array, Features
from eval.metrics.neighbours import Precision, neighbours_among

if TYPE_CHECKING:
    import torch  # only named here: it is loaded where there is a device

LEVEL = 0.05  # share of held-out images that count as near; a copy is nearer than all others
LEAST_IN_CELL = 20  # generated images in a cell that C_T counts; as Meehan et al. have it
IN_CELL = 50  # images that a cell is to have of each set, on average
MOST_CELLS = 20
FITTED = 20_000  # training images that k-means is fitted to at most

Views = Sequence[Features | Array]


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The nearest training image of each of N images."""

    distances: Vector  # [N], Euclidean
    indices: NDArray[np.int64]  # [N], of the training image
    views: NDArray[np.int64]  # [N], in which of its views it is nearest

    def ratios(self, spacing: Vector) -> Vector:
        """`ratios` of these, by the training images' own `spacing` [M]."""
        return ratios(self.distances, spacing[self.indices])


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """A number beside its control: the same of held-out images, or what images that are their equals would give.

    `difference` is of two shares, the value's less the control's.
    """

    value: Estimate
    control: Estimate | None = None  # None: too few held-out images, or none
    difference: Estimate | None = None


def ratios(distances: Vector, usual: Vector) -> Vector:
    """Distances [N] to training images as shares of what is `usual` [N] for these: up to 1 an image is not authentic.

    Of a training image that is there twice they are infinite, or 0 where the distance is, too.
    """
    shares = np.where(distances > 0, np.inf, 0.0)
    return np.divide(distances, usual, out=shares, where=usual > 0)


def nearest_training(
    images: Features | Array, views: Views, *, dtype: Precision = np.float64, device: "torch.device | None" = None
) -> Nearest:
    """The nearest of M training images to each of `images` [N, d]. `views` are features [M, d] of each view of them."""
    found = [neighbours_among(images, view, 1, dtype=dtype, device=device) for view in views]
    distances = np.stack([each.distances[:, 0] for each in found])  # [views, N]
    best, every = distances.argmin(axis=0), np.arange(len(images))
    indices = np.stack([each.indices[:, 0] for each in found])[best, every]
    return Nearest(distances=distances[best, every].astype(np.float64), indices=indices, views=best)


def training_spacing(
    views: Views,
    indices: NDArray[np.int64] | None = None,
    *,
    dtype: Precision = np.float64,
    device: "torch.device | None" = None,
) -> Vector:
    """Distance [M] of each training image, in its first view, to the nearest other one, in any of its `views` [M, d].

    With `indices` only of those; the others are NaN. Raises ValueError for fewer than 2 images.
    """
    count = len(views[0])
    if count < 2:
        raise ValueError(f"views must be of at least 2 training images; got {count}")
    asked = np.arange(count) if indices is None else np.unique(indices)
    images = views[0].view(asked) if isinstance(views[0], Features) else views[0][asked]
    nearest = np.full(len(asked), np.inf)
    for view in views:
        two = neighbours_among(images, view, 2, dtype=dtype, device=device)
        itself = two.indices == asked[:, None]
        nearest = np.minimum(nearest, np.where(itself, np.inf, two.distances).min(axis=1))
    spacing = np.full(count, np.nan)
    spacing[asked] = nearest
    return spacing


def authenticity(ratios: Vector) -> Estimate:
    """Share of images that are farther from their nearest training image than that is from its own nearest other one.

    `ratios` [N] are those of Nearest. Alaa et al. 2022; from 0 to 1, and lower for copies.
    """
    return wilson(int((ratios > 1).sum()), len(ratios))


def p_values(ratios: Vector, held_out: Vector) -> Vector:
    """How seldom a held-out image is as near to a training image: (1 + those as near) / (1 + all), for each of N.

    Of ratios [N] and of those of the held-out images [m]. Uniform, up to its steps, for images that are held-out ones'
    equals (Vovk et al. 2005; Bates et al. 2023).
    """
    nearer = np.searchsorted(np.sort(held_out), ratios, side="right")
    return (1 + nearer) / (1 + len(held_out))


def copied(ratios: Vector, held_out: Vector, level: float = LEVEL) -> Estimate:
    """Share of images that are nearer to a training image than all but `level` of the held-out ones: p <= level.

    Of ratios [N] and [m]. It is about `level` where nothing is copied, and 1 where all is. Wilson's interval, widened
    by the chance of the held-out images, of which the threshold is an order statistic (Maritz & Jarrett 1978).
    Raises ValueError where there are too few held-out images for this level.
    """
    n, m = len(ratios), len(held_out)
    k = _order(m, level)
    below = np.searchsorted(np.sort(ratios), np.sort(held_out), side="left")  # [m], images nearer than each held-out
    weights = np.diff(betainc(k, m - k + 1, np.arange(m + 1) / m))  # [m], chance to be the threshold, resampled
    shares = below / n
    variance = float(weights @ shares**2 - (weights @ shares) ** 2)
    guess = (below[k - 1] + 1) / (n + 2)  # neither 0 nor 1
    estimate = wilson(int(below[k - 1]), n, 1 + max(variance, 0.0) * n / (guess * (1 - guess)))
    return replace(estimate, method="Wilson, widened by the chance of the threshold")


def _order(m: int, level: float) -> int:
    # Which of m held-out images, from the nearest on, is the first that `level` does not count as near.
    k = int(level * (m + 1) + 1e-9)
    if k < 1:
        raise ValueError(f"held_out must be at least {round(1 / level) - 1} images for a level of {level}; got {m}")
    return k


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b of two shares of different images: Newcombe 1998, method 10, of their own intervals."""
    value = a.value - b.value
    low = value - float(np.hypot(a.value - a.low, b.high - b.value))
    high = value + float(np.hypot(a.high - a.value, b.value - b.low))
    return Estimate(value=value, se=float(np.hypot(a.se, b.se)), low=low, high=high, n=a.n, method="Newcombe")


def mann_whitney_z(gen: Vector, held_out: Vector) -> float:
    """Z of the Mann-Whitney U of distances [n] and [m] (Meehan et al. 2020): below 0, `gen` are the nearer.

    Equal distances count half. Mean 0 and deviation 1 where both sets are of one kind.
    """
    n, m = len(gen), len(held_out)
    u = rankdata(np.concatenate([gen, held_out]))[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def copying_test(
    gen: Vector, held_out: Vector, gen_cells: NDArray[np.int64], held_out_cells: NDArray[np.int64]
) -> Estimate | None:
    """C_T of Meehan et al. 2020: the mean of mann_whitney_z over cells, by their shares of the held-out images.

    Of distances [N] and [m] and the cell of each. Below 0 by chance no more: copying; above: `gen` is farther from the
    training images. The interval is of what C_T is up to chance where nothing is copied, around the value, so that it
    holds 0 in 95 of 100 such cases. Cells with fewer than LEAST_IN_CELL of `gen` are left out; None: all are.
    """
    cells = np.unique(held_out_cells)
    counts = np.array([(gen_cells == cell).sum() for cell in cells])
    cells = cells[counts >= LEAST_IN_CELL]
    if not len(cells):
        return None
    weights = np.array([(held_out_cells == cell).mean() for cell in cells])
    z = np.array([mann_whitney_z(gen[gen_cells == cell], held_out[held_out_cells == cell]) for cell in cells])
    value = float(weights @ z / weights.sum())
    se = float(np.sqrt((weights**2).sum()) / weights.sum())
    return normal_interval(value, se, len(gen), f"Mann-Whitney in {len(cells)} cells, as without copies")


def partition(training: Features | Array, cells: int) -> Array:
    """Centres [cells, d] of a partition by k-means of the training images' features [M, d], always the same."""
    # Imported here, as it takes a second and few commands need it.
    from sklearn.cluster import KMeans

    count = min(len(training), FITTED)
    chosen = np.sort(np.random.default_rng(0).permutation(len(training))[:count])
    rows = training.take(chosen) if isinstance(training, Features) else np.asarray(training, np.float64)[chosen]
    if cells == 1:
        mean: Array = rows.mean(axis=0, keepdims=True)
        return mean
    centres: Array = KMeans(cells, n_init=4, random_state=0).fit(rows).cluster_centers_
    return centres


def cell_count(n: int, m: int, training: int) -> int:
    """Cells for n generated and m held-out images: about IN_CELL of each in one."""
    return max(1, min(n // IN_CELL, m // IN_CELL, MOST_CELLS, training))


def cells_of(images: Features | Array, centres: Array) -> NDArray[np.int64]:
    """The cell [N] that each of images [N, d] lies in."""
    cells: NDArray[np.int64] = neighbours_among(images, centres, 1).indices[:, 0]
    return cells


def controlled_authenticity(gen: Vector, held_out: Vector | None) -> Controlled:
    """authenticity of ratios [N] beside that of the held-out images' [m]."""
    value = authenticity(gen)
    if held_out is None:
        return Controlled(value=value)
    control = authenticity(held_out)
    return Controlled(value=value, control=control, difference=difference(value, control))


def controlled_copies(gen: Vector, held_out: Vector, level: float = LEVEL) -> Controlled:
    """`copied` of ratios [N] and [m], beside what N images that are held-out ones' equals would give: beta-binomial.

    Raises ValueError where there are too few held-out images for this level.
    """
    value, n, m = copied(gen, held_out, level), len(gen), len(held_out)
    k = _order(m, level)
    equals = betabinom(n, k, m + 1 - k)
    low, high = equals.ppf([0.025, 0.975]) / n
    control = Estimate(
        value=k / (m + 1), se=float(equals.std()) / n, low=float(low), high=float(high), n=n, method="beta-binomial"
    )
    ends = {name: getattr(value, name) - control.value for name in ("value", "low", "high")}
    return Controlled(value=value, control=control, difference=replace(value, **ends))


def controlled_test(
    gen: Vector, held_out: Vector, gen_cells: NDArray[np.int64], held_out_cells: NDArray[np.int64]
) -> Controlled | None:
    """`copying_test`, beside that of one half of the held-out images against the other; None where no cell counts."""
    value = copying_test(gen, held_out, gen_cells, held_out_cells)
    if value is None:
        return None
    a, b = random_blocks(len(held_out), 2)
    control = copying_test(held_out[a], held_out[b], held_out_cells[a], held_out_cells[b])
    return Controlled(value=value, control=control)
