"""On equal features the numbers are those that dgm-eval defines (Stein et al. 2023): FD, KD, and five neighbours."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from eval.metrics.feature_stats import Features
from eval.metrics.frechet import fd_infinity, frechet_distance
from eval.metrics.kernel import kid
from eval.metrics.precision_recall import compare


@pytest.fixture(scope="module")
def sets():
    """Real and generated features, float32 as networks give them."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(12, 12))
    real, gen = rng.normal(size=(400, 12)) @ mix, rng.normal(size=(300, 12)) @ mix * 0.9 + 0.2
    return real.astype(np.float32), gen.astype(np.float32)


def frechet(a, b):
    """By the root of the product of both covariances."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    root = sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real
    spread = np.trace(np.cov(x, rowvar=False) + np.cov(y, rowvar=False) - 2 * root)
    return float(np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + spread)


def test_fd(sets):
    real, gen = (Features([each]).moments() for each in sets)
    assert frechet_distance(gen, real) == pytest.approx(frechet(*sets), rel=1e-6)


def test_kd(sets):
    real, gen = (each[:300].astype(np.float64) for each in sets)
    rr, gg, rg = ((a @ b.T / 12 + 1) ** 3 for a, b in ((real, real), (gen, gen), (real, gen)))
    within = rr.sum() - np.trace(rr) + gg.sum() - np.trace(gg)
    assert kid(gen, real).value == pytest.approx(within / (300 * 299) - 2 * rg.mean(), rel=1e-6)


def test_precision_recall_density_coverage(sets):
    real, gen = sets
    comparison = compare(real, gen, k=5, k_density=5)
    found = {**comparison.precision_recall(), **comparison.density_coverage()}
    across = cdist(real, gen)
    reach, reach_gen = (np.sort(cdist(each, each))[:, 5] for each in sets)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(
        {
            "precision": (across < reach[:, None]).any(axis=0).mean(),
            "recall": (across < reach_gen).any(axis=1).mean(),
            "density": (across < reach[:, None]).sum(axis=0).mean() / 5,
            "coverage": (across.min(axis=1) < reach).mean(),
        },
        rel=1e-6,
    )


def test_fd_infinity_is_the_line_over_one_over_n(sets):
    real, gen = sets
    sizes = np.linspace(100, 300, 15).astype(int)  # as many sizes as there, each drawn once there, 100 times here
    rng = np.random.default_rng(0)
    values = [np.mean([frechet(real, gen[rng.choice(300, n, replace=False)]) for _ in range(100)]) for n in sizes]
    limit = np.polyfit(1 / sizes, values, 1)[1]
    assert abs(fd_infinity(gen, Features([real]).moments()) - limit) < 0.15 * (frechet(real, gen) - limit)
