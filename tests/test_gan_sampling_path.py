"""Paths through keys: when frames are, which keys they lie between, and how they go from one to the other."""

from fractions import Fraction

import numpy as np
import pytest

from gan.sampling import latents, path
from gan.sampling.path import Timeline

KEYS = np.random.default_rng(0).standard_normal([4, 3, 5]).astype(np.float32)


def timeline(*seconds, loop=True):
    return Timeline(seconds=tuple(Fraction(str(value)) for value in seconds), loop=loop)


@pytest.mark.parametrize("fps, seconds, count", [(30, (0.1, 0.2, 1.5), 54), (24, (1, 1 / 8), 27), (25, (1.5,), 38)])
def test_frames_are_frames_a_second_times_seconds(fps, seconds, count):
    times = timeline(*seconds).times(Fraction(fps))
    assert len(times) == count and times[0] == 0 and np.allclose(np.diff(times), 1 / fps)
    still = timeline(*seconds, loop=False).times(Fraction(fps))
    assert len(still) == count and still[-1] == pytest.approx(sum(seconds))  # to the end itself
    assert len(timeline(*seconds).times(Fraction(fps), Fraction(7))) == 7 * fps


def test_frames_lie_between_their_keys():
    before, after, t = timeline(0.1, 0.2, 0.3).places(np.array([0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8]))
    assert before.tolist() == [0, 0, 1, 1, 2, 2, 0, 1] and after.tolist() == [1, 1, 2, 2, 0, 0, 1, 2]
    assert t == pytest.approx([0, 0.5, 0, 0.5, 0, 0.5, 0, 0.5], abs=1e-9)
    before, after, t = timeline(1, 1, 0.5, loop=False).places(np.array([0, 1.5, 2, 2.4, 9]))
    assert before.tolist() == [0, 1, 2, 2, 2] and after.tolist() == [1, 2, 2, 2, 2]
    assert t == pytest.approx([0, 0.5, 0, 0, 0])  # and there it stays


def test_every_frame_at_a_key_is_the_key():
    # 1/30 and 0.1 are no binary fractions: a key must not be missed by rounding.
    line = timeline(*["0.1"] * 4)
    times = line.times(Fraction(30))
    before, _, t = line.places(times)
    assert (t[::3] == 0).all() and before[::3].tolist() == [0, 1, 2, 3]
    assert np.array_equal(path.smooth(KEYS, line, line.places(times))[::3], KEYS)


def test_a_smooth_loop_of_equal_times_is_that_of_latents():
    line = timeline(0.5, 0.5, 0.5, 0.5)
    made = path.smooth(KEYS, line, line.places(line.times(Fraction(20))))
    assert np.allclose(made, latents.loop(KEYS, 10), atol=1e-6)


@pytest.mark.parametrize("loop", [True, False])
def test_a_smooth_path_has_one_velocity_at_unequal_times(loop):
    line = timeline(0.2, 1.0, 0.4, 0.7, loop=loop)
    step = 1e-4
    for start in (0.2, 1.2, 1.6) if loop else (0.2, 1.2):
        near = path.smooth(KEYS.astype(np.float64), line, line.places(start + np.array([-step, 0, step])))
        left, right = np.diff(near.astype(np.float64), axis=0) / step
        assert np.allclose(left, right, atol=0.05)
        key = [0.2, 1.2, 1.6].index(start) + 1  # it goes as from the key before to the one after
        span = float(line.seconds[key - 1] + line.seconds[key])
        assert np.allclose(left, (KEYS[(key + 1) % 4] - KEYS[key - 1]) / span, atol=0.05)
    if not loop:
        ends = path.smooth(KEYS, line, line.places(np.array([0, step, 1.6 - step, 1.6])))
        assert np.allclose(ends[:2], KEYS[0], atol=1e-5) and np.allclose(ends[2:], KEYS[3], atol=1e-5)


def test_linear_is_straight_and_spherical_keeps_the_length():
    a, b = KEYS[:1].repeat(5, 0), KEYS[1:2].repeat(5, 0)
    t = np.array([0, 0.25, 0.5, 0.75, 1])
    assert np.allclose(path.linear(a, b, t), [(1 - s) * KEYS[0] + s * KEYS[1] for s in t], atol=1e-6)
    unit = [v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b)]
    arc = path.spherical(*(v.astype(np.float32) for v in unit), t)
    assert np.allclose(np.linalg.norm(arc, axis=-1), 1, atol=1e-6)
    angles = np.arccos(np.clip((arc[:-1] * arc[1:]).sum(-1), -1, 1))  # [4, layers]: equal steps in each layer
    assert np.allclose(angles, angles[0], atol=2e-3) and angles.min() > 0.05
    assert np.array_equal(path.spherical(a, b, t)[0], a[0]) and np.allclose(
        path.spherical(a, b, t)[-1], b[0], atol=1e-6
    )
    for other in (a, -a, np.zeros_like(a)):  # no arc, or no shortest one
        assert np.isfinite(path.spherical(a, other, t)).all()


def test_speeds_move_frames_along_and_pass_through_as_much():
    times = np.arange(10) / 10
    assert path.warped(times, np.full(10, 3.0)) == pytest.approx(times)
    moved = path.warped(times, [1, 1, 1, 1, 1, 9, 1, 1, 1, 1])
    steps = np.diff([*moved, 1.0])
    assert moved[0] == 0 and steps[5] == pytest.approx(9 * steps[0]) and steps.sum() == pytest.approx(1)
    assert path.warped(times, np.zeros(10)) == pytest.approx(times)
