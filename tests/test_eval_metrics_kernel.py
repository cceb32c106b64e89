"""The kernel distance against brute force, its expectation in closed form, and torch-fidelity."""

import numpy as np
import pytest
import torch

import eval.metrics.kernel as kernels
from eval.metrics.confidence_intervals import linear_jackknife, paired_difference
from eval.metrics.kernel import Kernel, kernel_distance, kid, within


def brute(a, b, kernel):
    aa, bb, ab = kernel(a, a), kernel(b, b), kernel(a, b)
    np.fill_diagonal(aa, 0)
    np.fill_diagonal(bb, 0)
    m, n = ab.shape
    return aa.sum() / (m * (m - 1)) + bb.sum() / (n * (n - 1)) - 2 * ab.mean()


@pytest.mark.parametrize("kernel", [Kernel(), Kernel(degree=2, gamma=0.3, coef0=0.5)])
def test_blocks_give_what_all_pairs_give(kernel, monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 17)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 6)), rng.normal(size=(71, 6)) + 0.3
    found = kernel_distance(a, b, kernel=kernel)
    assert found.estimate.value == pytest.approx(brute(a, b, kernel), rel=1e-12)
    known = kernel_distance(a, b, kernel=kernel, within_a=within(a, kernel), within_b=within(b, kernel))
    assert known.estimate == found.estimate
    assert kid(a, b, degree=kernel.degree, gamma=kernel.gamma, coef0=kernel.coef0) == found.estimate
    assert within(a).squares == within(a, Kernel()).squares and (within(a).sums == within(a, Kernel()).sums).all()
    values = kernel(a, a)
    assert within(a, kernel).squares == pytest.approx(np.sum(values**2) - np.sum(np.diag(values) ** 2), rel=1e-12)


def expected_kid(d, m):
    """E of the cubic kernel's distance between N(0, I) and N(mu, I) in d dimensions, m = |mu|^2."""
    return 3 * m / d + 3 * m**2 / d**2 + (m**3 + 6 * m**2 + 3 * m * (d + 2)) / d**3


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.4])
def test_shifted_normals_have_the_expectation_and_the_spread_that_is_said(shift):
    rng, d, draws = np.random.default_rng(1), 5, 300
    estimates = [kid(rng.normal(size=(60, d)), rng.normal(size=(90, d)) + shift) for _ in range(draws)]
    values = np.array([e.value for e in estimates])
    truth = expected_kid(d, d * shift**2)
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / draws**0.5)
    assert np.sqrt(np.mean([e.se**2 for e in estimates])) == pytest.approx(values.std(), rel=0.3)
    assert np.mean([e.low <= truth <= e.high for e in estimates]) >= 0.90


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_blocks_of_very_many_samples_have_the_expectation_and_the_spread_that_is_said(shift, monkeypatch):
    rng, d, draws = np.random.default_rng(2), 5, 300
    sets = [(rng.normal(size=(120, d)), rng.normal(size=(200, d)) + shift) for _ in range(draws)]
    every = np.array([kid(*each).value for each in sets])
    monkeypatch.setattr(kernels, "EXACT", 100)
    monkeypatch.setattr(kernels, "BLOCKED", 40)
    assert within(sets[0][0]).pairs == 3 * 40 * 39  # three blocks of 40
    estimates = [kid(*each) for each in sets]
    values = np.array([e.value for e in estimates])
    truth = expected_kid(d, d * shift**2)
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / draws**0.5)
    assert np.sqrt(np.mean([e.se**2 for e in estimates])) == pytest.approx(values.std(), rel=0.3)
    assert np.mean([e.low <= truth <= e.high for e in estimates]) >= 0.90
    assert values.std() > every.std()  # fewer pairs say less
    assert kid(*sets[0]) == estimates[0]


@pytest.mark.parametrize(
    ("sizes", "blocks"), [((130, 90), 3), ((90, 130), 3), ((30, 500), 1), ((500, 30), 1), ((100, 100), 1)]
)
def test_sums_over_blocks_are_those_over_all_pairs_where_all_values_are_equal(sizes, blocks, monkeypatch):
    monkeypatch.setattr(kernels, "EXACT", 100)
    monkeypatch.setattr(kernels, "BLOCKED", 40)
    m, n = sizes
    rows, columns, squares, pairs = kernels._between(
        kernels.as_features(np.zeros([m, 3])), kernels.as_features(np.zeros([n, 3])), Kernel(coef0=2.0)
    )
    assert rows == pytest.approx(np.full(m, 8 * n)) and columns == pytest.approx(np.full(n, 8 * m))
    assert squares == pytest.approx(64 * m * n) and pairs == m * n / blocks
    assert within(np.zeros([m, 3]), Kernel(coef0=2.0)).squares == pytest.approx(64 * m * (m - 1))


def deviation(values, ddof):
    return np.sum((values - values.mean()) ** 2) / (len(values) - ddof)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_the_variance_is_hoeffdings_written_out(shift, monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 16)
    rng, kernel = np.random.default_rng(4), Kernel()
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(41, 3)) + shift
    m, n = len(a), len(b)
    aa, bb, ab = kernel(a, a), kernel(b, b), kernel(a, b)
    pairs_a, pairs_b = aa[~np.eye(m, dtype=bool)].reshape(m, -1), bb[~np.eye(n, dtype=bool)].reshape(n, -1)
    # Projections of the kernel of the U-statistic on one sample of either set.
    first_a = 2 * (pairs_a.mean(axis=1) - ab.mean(axis=1))
    first_b = 2 * (pairs_b.mean(axis=1) - ab.mean(axis=0))

    def left(pairs, rows, columns):
        # What of the variance of kernel values neither sample of a pair explains.
        return pairs.var() - deviation(rows, 0) - deviation(columns, 0)

    second = (
        2 / (m * (m - 1)) * left(pairs_a, pairs_a.mean(axis=1), pairs_a.mean(axis=1))
        + 2 / (n * (n - 1)) * left(pairs_b, pairs_b.mean(axis=1), pairs_b.mean(axis=1))
        + 4 / (m * n) * left(ab, ab.mean(axis=1), ab.mean(axis=0))
    )
    variance = deviation(first_a, 1) / m + deviation(first_b, 1) / n - second
    assert (variance > second) == (shift > 0)  # where both are alike, the second order is all there is
    found = kernel_distance(a, b)
    assert found.estimate.se == pytest.approx(max(variance, second) ** 0.5, rel=1e-9)
    assert found.estimate.n == m
    assert found.estimate.high == pytest.approx(found.estimate.value + 1.959964 * found.estimate.se, rel=1e-6)
    np.testing.assert_allclose(found.influence_a, first_a - first_a.mean(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.influence_b, first_b - first_b.mean(), rtol=1e-9, atol=1e-12)
    assert found.jackknife(10).to_dict() == linear_jackknife(found.estimate.value, found.influence_a, 10).to_dict()
    assert len(found.jackknife().sizes) == 20


def test_the_kernel_is_kids():
    x, y = np.array([[1.0, 2.0, 0.5]]), np.array([[0.5, -1.0, 4.0], [3.0, 0.0, 1.0]])
    assert Kernel()(x, y).tolist() == [pytest.approx([(0.5 / 3 + 1) ** 3, (3.5 / 3 + 1) ** 3])]
    assert Kernel(degree=2, gamma=0.5, coef0=2.0)(x, y).tolist() == [pytest.approx([2.25**2, 3.75**2])]


def test_influences_are_what_leaving_samples_out_does():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(300, 4)) * 1.2, rng.normal(size=(200, 4))
    found = kernel_distance(a, b)
    left_out = np.array([kid(np.delete(a, i, axis=0), b).value for i in range(20)])
    np.testing.assert_allclose(left_out, found.estimate.value - found.influence_a[:20] / 299, rtol=0, atol=1e-3 * 0.1)
    assert np.corrcoef(left_out, found.influence_a[:20])[0, 1] < -0.999
    left_out = np.array([kid(a, np.delete(b, i, axis=0)).value for i in range(20)])
    np.testing.assert_allclose(left_out, found.estimate.value - found.influence_b[:20] / 199, rtol=0, atol=1e-3 * 0.3)
    assert np.corrcoef(left_out, found.influence_b[:20])[0, 1] < -0.999
    z = rng.normal(size=(300, 4))
    first, second = (kernel_distance(z * scale + 0.5, b).jackknife() for scale in (1.1, 1.0))
    assert paired_difference(first, second).se < 0.7 * np.hypot(first.se, second.se)


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at least 2 samples; got 1"):
        kid(np.zeros((1, 3)), np.zeros((4, 3)))
    assert np.isfinite(kid(np.eye(2), np.eye(2) + 1).value)
    with pytest.raises(ValueError, match="same dimension; got 3 and 4"):
        kid(np.zeros((5, 3)), np.zeros((4, 4)))


def test_torch_fidelity_agrees_on_one_subset_of_all_and_is_noisier_on_many():
    pytest.importorskip("eval.features.torchvision_compat").torch_fidelity()
    from torch_fidelity.metric_kid import kid_features_to_metric

    def peer(a, b, **settings):
        sets = [torch.from_numpy(x) for x in (a, b)]
        return kid_features_to_metric(*sets, verbose=False, **settings)["kernel_inception_distance_mean"]

    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(150, 16)), rng.normal(size=(150, 16)) + 0.1
    ours = kid(a, b)
    assert ours.value == pytest.approx(peer(a, b, kid_subsets=1, kid_subset_size=150), rel=1e-9)
    subsets = peer(a, b, kid_subsets=100, kid_subset_size=50)
    assert subsets != pytest.approx(ours.value, rel=1e-4)  # the noise of drawing subsets
    assert subsets == pytest.approx(ours.value, abs=4 * ours.se)
