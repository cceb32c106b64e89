"""Fréchet distance between Gaussians fitted to two sets of features; FID when these are Inception's.

Heusel et al. 2017, eq. 6: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2). From 0 up, in the square of the features' unit.
The raw value is too high at any finite n; `frechet_estimate` gives the corrected one beside it.
"""

import math

import numpy as np

from eval.metrics.confidence_intervals import Estimate, Jackknife, normal_interval, random_blocks
from eval.metrics.feature_stats import BLOCK, Array, Features, Matrix, Moments, as_features

IMAGES_A_DIMENSION = 10  # on either side; with fewer the distance is mostly bias, and so is its correction
EXACT_RANK = 256  # up to this rank an eigensolve a block costs nothing
DRAWS = 8  # of halves and thirds, up to that rank
EXPANDED_FROM = 2  # samples a rank from which the expansion of second order is as good as the eigensolve
CALIBRATED_ON = 2  # blocks that have their own eigensolve even so


def sqrt_factor(reference: Moments, features: Features | None = None) -> Matrix:
    """F [d, rank] with F F^T the covariance. The costly part of the reference's side, to be kept.

    `features` are those of the moments, where they are known: with at most d of them it costs next to nothing.
    """
    if features is not None and len(features) <= reference.dim:
        centred = (features.take(np.arange(len(features))) - reference.mean) / math.sqrt(len(features) - 1)
        _, roots, basis = np.linalg.svd(centred, full_matrices=False)
        kept = roots**2 > _rounding(roots**2)
        few: Matrix = basis[kept].T * roots[kept]
        return few
    values, vectors = np.linalg.eigh(reference.cov)
    kept = values > _rounding(values)
    factor: Matrix = vectors[:, kept] * np.sqrt(values[kept])
    return factor


def frechet_distance(a: Moments, b: Moments, factor: Matrix | None = None) -> float:
    """Between two moments, of any rank. `factor`: sqrt_factor(b), where it is known.

    S1 S2 has the eigenvalues of F^T S1 F for any F F^T = S2, and that is symmetric: no root of a matrix, and no
    imaginary part. Raises ValueError for moments of different dimensions.
    """
    if a.dim != b.dim:
        raise ValueError(f"both moments must have the same dimension; got {a.dim} and {b.dim} instead")
    factor = sqrt_factor(b) if factor is None else factor
    return _distance(a.mean - b.mean, a.trace, b.trace, _trace_of_root(factor.T @ a.cov @ factor))


def frechet_estimate(
    features: Features | Array,
    reference: Moments,
    *,
    factor: Matrix | None = None,
    blocks: int = 20,
    infinity: bool = False,
) -> dict[str, Estimate]:
    """Fréchet distance of features [N, d] to a fixed reference: "raw", "bias_corrected", on request "fd_infinity".

    Corrected values may be slightly negative, as unbiased estimates of 0 are. The correction presumes a bias that falls
    as 1/N, which takes more samples than dimensions: below that it corrects too little. It removes the bias of these
    features alone, and the intervals take the reference as fixed: that it is a sample too is in neither.
    """
    features = as_features(features)
    factor = sqrt_factor(reference) if factor is None else factor
    jackknife = frechet_jackknife(features, reference, factor=factor, blocks=blocks)
    estimates = {"raw": jackknife.raw(), "bias_corrected": jackknife.bias_corrected()}
    if infinity:
        limit = fd_infinity(features, reference, factor=factor)
        method = "line over 1/n through 1, 2 and 3 parts; se of the jackknife"
        estimates["fd_infinity"] = normal_interval(limit, jackknife.se, len(features), method, freedom=blocks - 1)
    return estimates


def frechet_jackknife(
    features: Features | Array, reference: Moments, *, factor: Matrix | None = None, blocks: int = 20
) -> Jackknife:
    """The distance of features [N, d] to the reference, and without each block of them.

    With few samples or a low rank each block has its own eigensolve, of the smaller of N and rank. Else the eigenvalues
    of what is left are expanded around those of all, to second order, at the cost of two matrix products altogether.
    What that misses is nearly the same for every block, and is measured on two of them.
    """
    features = as_features(features)
    factor = sqrt_factor(reference) if factor is None else factor
    n, rank = len(features), factor.shape[1]
    groups = random_blocks(n, blocks)
    if n - max(len(group) for group in groups) < 2:
        raise ValueError(f"features must be at least 3 for a jackknife; got {n} instead")
    every = features.moments()
    shift = every.mean - reference.mean
    if n < rank:
        root, roots = _roots_of_gram((features.take(np.arange(n)) - every.mean) @ factor, groups)
    elif rank <= EXACT_RANK or n < EXPANDED_FROM * rank:
        root, roots = _roots_exact(features, every, factor, groups)
    else:
        root, roots = _roots_expanded(features, every, factor, groups)
    left_out = []
    for group, root_left in zip(groups, roots, strict=True):
        stays = n - len(group)
        total, squares = np.zeros(every.dim), 0.0
        for first in range(0, len(group), BLOCK):
            x = features.take(group[first : first + BLOCK]) - every.mean
            total += x.sum(axis=0)
            squares += float(np.sum(x * x))
        trace = ((n - 1) * every.trace - squares - float(total @ total) / stays) / (stays - 1)
        left_out.append(_distance(shift - total / stays, trace, reference.trace, root_left))
    value = _distance(shift, every.trace, reference.trace, root)
    return Jackknife(value=value, left_out=np.array(left_out), sizes=np.array([len(group) for group in groups]))


def fd_infinity(features: Features | Array, reference: Moments, *, factor: Matrix | None = None) -> float:
    """The distance at n -> infinity, from a line over 1/n (Chong & Forsyth 2020) through all, halves and thirds.

    Halves and thirds are drawn several times, which leaves less to chance; once where an eigensolve takes seconds.
    """
    features = as_features(features)
    factor = sqrt_factor(reference) if factor is None else factor
    rng = np.random.default_rng(1)
    orders = [rng.permutation(len(features)) for _ in range(DRAWS if factor.shape[1] <= EXACT_RANK else 1)]

    def mean(parts: int) -> float:
        splits = [part for order in orders[: 1 if parts == 1 else None] for part in np.array_split(order, parts)]
        return float(np.mean([frechet_distance(features.moments(split), reference, factor) for split in splits]))

    return float(np.polyfit([1, 2, 3], [mean(parts) for parts in (1, 2, 3)], 1)[1])  # [slope, intercept]


def frechet_of_populations(
    features: Features | Array, real: Features | Array, jackknife: Jackknife | None = None, blocks: int = 20
) -> Estimate:
    """Fréchet distance of what two sets [N, d] and [M, d] are samples of, as the real images are, too.

    The jackknife takes the bias and the variance of either set. `jackknife` is that over `features`, where it is known.
    """
    features, real = as_features(features), as_features(real)
    over_gen = jackknife or frechet_jackknife(features, real.moments(), blocks=blocks)
    over_real = frechet_jackknife(real, features.moments(), blocks=blocks)
    value = over_gen.corrected + over_real.corrected - over_real.value
    se = math.hypot(over_gen.se, over_real.se)
    method = f"jackknife over both sets, bias-corrected, {blocks} blocks"
    return normal_interval(value, se, len(features), method, freedom=blocks - 1)


def noise_floor(real: Features | Array, n: int, *, splits: int = 4, dims: int | None = None) -> Estimate:
    """What a perfect generator would get from n images: real images against others of the same set of M.

    Two parts of the set, as n is to M (M to M at most), are compared, and the result is carried over to n against M. It
    falls as 1/n where both parts have IMAGES_A_DIMENSION, and as a lower power the fewer they have: there the fall is
    measured, on parts of half and of a quarter of the images, and goes on growing as it does between those. With fewer
    than 16 images it is the parts' own value. With `dims` the distance is that in so many principal components of the
    side that stands for the set. Raises ValueError for fewer than 4 images.
    """
    real = as_features(real)
    count, rng = len(real), np.random.default_rng(0)
    if count < 4 or n < 2 or splits < 2:
        raise ValueError(f"real must be at least 4, n and splits at least 2; got {count}, {n} and {splits} instead")
    share = min(n, count) / (min(n, count) + count)
    octaves = math.log2(1 + min(n, count) / count)  # from the parts to n and M
    some, others = _parts(count, share)
    value, error = _between_parts(real, some, others, splits, rng, dims)
    change, weights, errors = 0.0, [1.0], [error]  # of the logarithm
    if min(some, others) >= IMAGES_A_DIMENSION * (dims or real.dim):
        change = -octaves * math.log(2)
    elif count >= 16:
        smaller = [
            _between_parts(real, *_parts(count >> halvings, share), splits << halvings, rng, dims)
            for halvings in (1, 2)
        ]
        # Newton's interpolation through 0, -1 and -2 octaves; the fall is 1/n at most and does not slow down.
        logs = [math.log(distance) for distance in (value, smaller[0][0], smaller[1][0])]
        first, second = logs[0] - logs[1], logs[0] - 2 * logs[1] + logs[2]
        bend = octaves * (octaves + 1) / 2 if second < 0 else 0.0
        change = min(max(octaves * first + bend * second, -octaves * math.log(2)), 0.0)
        weights, errors = [1 + octaves + bend, -octaves - 2 * bend, bend], [error, *(e for _, e in smaller)]
    if n > count:  # the judged side alone: from M on as from half of M to M
        change -= change / math.log(2) * math.log((1 / n + 1 / count) / (2 / count))
    value *= math.exp(change)
    return normal_interval(
        value,
        value * math.hypot(*(weight * error for weight, error in zip(weights, errors, strict=True))),
        n,
        f"real against real, {splits} splits of {some} and {others}, carried over by {math.exp(change):.3g}",
        freedom=splits - 1,
    ).clipped(low=0.0)


def _parts(total: int, share: float) -> tuple[int, int]:
    # Sizes of two parts of so many images, the first about this share of them.
    some = min(max(2, round(total * share)), total - 2)
    return some, total - some


def _between_parts(
    real: Features, some: int, others: int, splits: int, rng: np.random.Generator, dims: int | None
) -> tuple[float, float]:
    # Mean distance of `some` images to `others` of the same set, and its standard error as a share of it.
    distances = []
    for _ in range(splits):
        order = rng.permutation(len(real))
        if dims is not None:
            distances.append(_in_components(real.take(order[:some]), real.take(order[some : some + others]), dims))
            continue
        small, large = sorted((order[:some], order[some : some + others]), key=len)
        if len(large) <= real.dim:
            distances.append(_of_few(real.take(small), real.take(large)))
            continue
        moments, factor = real.moments(small), None
        if len(small) <= real.dim:  # centred samples are a factor themselves, and the smaller one
            factor = (real.take(small) - moments.mean).T / math.sqrt(len(small) - 1)
        distances.append(frechet_distance(real.moments(large), moments, factor))
    mean = max(float(np.mean(distances)), float(np.finfo(float).tiny))  # 0 where all images are one
    return mean, float(np.std(distances, ddof=1)) / math.sqrt(splits) / mean


def _of_few(a: Matrix, b: Matrix) -> float:
    # With centred rows over (n - 1)^1/2 the root of S1 S2 = A^T A B^T B has the nuclear norm of A B^T for its trace.
    shift = a.mean(axis=0) - b.mean(axis=0)
    a, b = ((x - x.mean(axis=0)) / math.sqrt(len(x) - 1) for x in (a, b))
    root = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    return _distance(shift, float(np.sum(a * a)), float(np.sum(b * b)), root)


def _in_components(some: Matrix, others: Matrix, dims: int) -> float:
    # Distance in the first principal components of `others`, by the smaller of two products of theirs.
    centred = others - others.mean(axis=0)
    if len(centred) < centred.shape[1]:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        kept = np.arange(len(values))[-dims:]
        kept = kept[values[kept] > _rounding(values)]
        basis = centred.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    else:
        basis = np.linalg.eigh(centred.T @ centred)[1][:, -dims:]
    if not basis.size:  # all images are one
        return 0.0
    a, b = (Features([x @ basis]).moments() for x in (some, others))
    return frechet_distance(a, b)


def _distance(shift: Matrix, trace_a: float, trace_b: float, root: float) -> float:
    return float(shift @ shift) + trace_a + trace_b - 2 * root


def _rounding(eigenvalues: Array) -> float:
    # Below this an eigenvalue may as well be zero; the root of rounding noise would not be small.
    return float(np.max(np.abs(eigenvalues), initial=0.0)) * len(eigenvalues) * float(np.finfo(float).eps)


def _trace_of_root(matrix: Matrix) -> float:
    # tr(M^1/2) of a symmetric matrix without negative eigenvalues but for rounding.
    if not matrix.size:
        return 0.0
    values = np.linalg.eigvalsh(matrix)
    return float(np.sum(np.sqrt(values[values > _rounding(values)])))


def _roots_of_gram(projected: Matrix, groups: list[Array]) -> tuple[float, list[float]]:
    # N < rank. X F [N, rank] -> roots from the N x N products, which have the eigenvalues of the rank x rank ones.
    gram = projected @ projected.T  # [N, N]
    roots = []
    for group in groups:
        stays = np.delete(np.arange(len(gram)), group)
        rest = gram[np.ix_(stays, stays)]
        rest = rest - rest.mean(axis=0) - rest.mean(axis=1)[:, None] + rest.mean()  # around the mean of what stays
        roots.append(_trace_of_root(rest / (len(stays) - 1)))
    return _trace_of_root(gram / (len(gram) - 1)), roots


def _roots_exact(features: Features, every: Moments, factor: Matrix, groups: list[Array]) -> tuple[float, list[float]]:
    cov = factor.T @ every.cov @ factor
    return _trace_of_root(cov), [_trace_of_root(_left(features, every, factor, cov, group)) for group in groups]


def _roots_expanded(
    features: Features, every: Moments, factor: Matrix, groups: list[Array]
) -> tuple[float, list[float]]:
    # In the eigenbasis of M = F^T S F, with eigenvalues l and scaled to D = diag(l^1/2), a change to D + E changes
    # tr(M^1/2) by tr(E)/2 - sum E_ij^2 / (4 (l_i^1/2 + l_j^1/2)) + O(E^3): divided differences of the square root.
    values, vectors = np.linalg.eigh(factor.T @ every.cov @ factor)
    kept = values > _rounding(values)
    root = np.sqrt(values[kept])
    basis = factor @ (vectors[:, kept] / np.sqrt(root))
    cov = np.diag(root)
    curvature = 1 / (4 * (root[:, None] + root[None, :]))
    roots: list[float] = []
    missed: list[float] = []
    for group in groups:
        change = _left(features, every, basis, cov, group) - cov
        roots.append(float(root.sum() + np.trace(change) / 2 - np.sum(change * change * curvature)))
        if len(missed) < CALIBRATED_ON:
            unscaled = np.sqrt(root)[:, None] * (cov + change) * np.sqrt(root)
            missed.append(_trace_of_root(unscaled) - roots[-1])
    return float(root.sum()), [r + float(np.mean(missed)) for r in roots]


def _left(features: Features, every: Moments, basis: Matrix, cov: Matrix, group: Array) -> Matrix:
    # Covariance, in `basis`, of all features but a group's. `cov`: of all, in that basis.
    stays = every.count - len(group)
    scatter, total = (every.count - 1) * cov, np.zeros(len(cov))
    for first in range(0, len(group), BLOCK):
        y = (features.take(group[first : first + BLOCK]) - every.mean) @ basis
        scatter -= y.T @ y
        total += y.sum(axis=0)
    return (scatter - np.outer(total, total) / stays) / (stays - 1)
