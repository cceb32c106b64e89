"""The kernel distance against brute force, its expectation in closed form, and torch-fidelity."""

import numpy as np
import pytest
import torch

import eval.metrics.kernel as kernels
from eval.metrics.confidence_intervals import paired_difference
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


def test_influences_are_what_leaving_samples_out_does():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(300, 4)) * 1.2, rng.normal(size=(200, 4))
    found = kernel_distance(a, b)
    left_out = np.array([kid(np.delete(a, i, axis=0), b).value for i in range(20)])
    np.testing.assert_allclose(left_out, found.estimate.value - found.influence_a[:20] / 299, rtol=0, atol=1e-3 * 0.1)
    assert np.corrcoef(left_out, found.influence_a[:20])[0, 1] < -0.999
    z = rng.normal(size=(300, 4))
    first, second = (kernel_distance(z * scale + 0.5, b).jackknife() for scale in (1.1, 1.0))
    assert paired_difference(first, second).se < 0.7 * np.hypot(first.se, second.se)


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at least 2 samples; got 1"):
        kid(np.zeros((1, 3)), np.zeros((4, 3)))
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
