"""Calibration: skewed logits become honest ones, and the Z statistic says so."""

import numpy as np
import pytest

from gan.errors import RequestError
from gan.rejection import calibration
from gan.rejection.algorithms import sigmoid


def logits(count, seed, *, slope=1.0, shift=0.0):
    """Real and generated logits that are calibrated: y is drawn from their own sigmoid; then skewed by a line."""
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=1.5, size=8 * count)
    real = rng.random(len(x)) < sigmoid(x)
    return x[real][:count] * slope + shift, x[~real][:count] * slope + shift


def test_z_is_the_formula():
    real, gen = np.array([0.4, -1.0, 2.0]), np.array([-0.3, 0.9])
    discriminator = 1 / (1 + np.exp(-np.concatenate([real, gen])))
    y = np.array([1, 1, 1, 0, 0])
    expected = (y - discriminator).sum() / np.sqrt((discriminator * (1 - discriminator)).sum())
    assert calibration.z_statistic(real, gen) == pytest.approx(expected, rel=1e-12)


def test_z_is_standard_normal_for_calibrated_logits_and_large_for_skewed():
    rng = np.random.default_rng(0)
    values = []
    for _ in range(300):
        x = rng.normal(scale=1.5, size=500)
        real = rng.random(500) < sigmoid(x)
        values.append(calibration.z_statistic(x[real], x[~real]))
    assert abs(np.mean(values)) < 4 / np.sqrt(300)
    assert np.std(values) == pytest.approx(1, abs=0.15)
    assert calibration.z_statistic(*logits(2000, 1, shift=-1)) > 10  # D is too low
    assert calibration.z_statistic(*logits(2000, 1, shift=1)) < -10


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibration_takes_back_a_skew(method):
    skewed = logits(4000, 2, slope=3.0, shift=2.0)
    found = calibration.fit_and_test(method, *skewed)
    assert abs(found.z_before) > 20 and abs(found.z_after) < 3
    assert found.images == 4000
    truth = np.linspace(-2, 2, 9)
    assert sigmoid(found.calibrate(truth * 3 + 2)) == pytest.approx(sigmoid(truth), abs=0.06)


def test_platt_finds_the_line():
    platt = calibration.Platt(*logits(20_000, 3, slope=4.0, shift=-6.0))
    assert platt.slope == pytest.approx(1 / 4, rel=0.05)
    assert platt.intercept == pytest.approx(6 / 4, rel=0.05)
    assert calibration.fit_and_test("platt", *logits(100, 3)).figures()["slope"] > 0


def test_platt_is_the_most_likely_line():
    real, gen = logits(50, 4)
    platt = calibration.Platt(real, gen)
    x = np.concatenate([real, gen])
    target = np.where(np.arange(100) < 50, 51 / 52, 1 / 52)

    def cost(slope, intercept):
        line = slope * x + intercept
        return (target * np.logaddexp(0, -line) + (1 - target) * np.logaddexp(0, line)).sum()

    best = cost(platt.slope, platt.intercept)
    for step in (1e-3, -1e-3):
        assert cost(platt.slope + step, platt.intercept) > best < cost(platt.slope, platt.intercept + step)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_kinds_that_do_not_overlap_stay_finite_and_in_order(method):
    found = calibration.fit(method, np.linspace(5, 9, 30), np.linspace(-9, -5, 30))
    line = found(np.linspace(-1000, 1000, 101))
    assert np.isfinite(line).all() and (np.diff(line) >= 0).all() and line[0] < -2 and line[-1] > 2


def test_isotonic_follows_what_no_line_can():
    rng = np.random.default_rng(5)
    real, gen = logits(8000, 5)
    bent = calibration.fit_and_test("isotonic", np.sinh(real) + rng.normal(size=8000) * 1e-6, np.sinh(gen))
    x = np.linspace(-2, 2, 9)
    assert sigmoid(bent.calibrate(np.sinh(x))) == pytest.approx(sigmoid(x), abs=0.06)
    assert "slope" not in bent.figures()


def test_isotonic_is_as_sure_as_its_images_allow():
    fitted = calibration.fit("isotonic", np.arange(5.0) + 9, np.arange(3.0))
    assert fitted(np.array([1.0, 10.0])) == pytest.approx([-np.log(9), np.log(9)])  # 1 / 10 and 9 / 10 for 8 images


def test_eight_of_a_kind_are_enough():
    assert calibration.fit_and_test("platt", *logits(8, 3)).images == 8


def test_none_leaves_logits_alone():
    found = calibration.fit_and_test("none", *logits(100, 6, shift=1))
    assert found.calibrate(np.array([-3.5, 2.0])).tolist() == [-3.5, 2.0]
    assert found.z_before == found.z_after


def test_the_longer_kind_is_cut():
    real, gen = logits(60, 7)
    cut, short = (calibration.fit_and_test("platt", r, gen[:20]) for r in (real, real[:20]))
    assert cut.figures() == short.figures() and cut.images == 20


def test_calibration_refuses():
    real, gen = logits(20, 8)
    with pytest.raises(RequestError, match="at least 8 real and 8 generated images; got 20 and 5 instead"):
        calibration.fit_and_test("platt", real, gen[:5])
    with pytest.raises(ValueError, match="must be one of platt, isotonic, none; got 'beta'"):
        calibration.fit("beta", real, gen)
