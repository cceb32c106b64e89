"""Paths through keys: when each key is reached, and what lies between two of them. Without torch.

ws of keys are float32 [K, num_ws, w_dim]; times are float64 [N], in seconds from the beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from gan.sampling.latents import Floats

Times = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """When a path reaches its keys. In a loop the last key's seconds lead to the first; else it stays for them."""

    seconds: tuple[Fraction, ...]  # of each key, to the next
    loop: bool

    @property
    def total(self) -> Fraction:
        """Seconds of the path."""
        return sum(self.seconds, Fraction(0))

    def times(self, fps: Fraction, length: Fraction | None = None) -> Times:
        """When each frame is, frames a second times seconds of them. `length`: of another length than the path has.

        In a loop the first frame follows on the last. Without one the frames go from the first key to the end itself.
        """
        count = max(round(fps * (self.total if length is None else length)), 1)
        if length is None and not self.loop and count > 1:
            return np.array([float(self.total * i / (count - 1)) for i in range(count)])
        return np.array([float(i / fps) for i in range(count)])

    def places(self, times: Times) -> tuple[NDArray[np.int64], NDArray[np.int64], Times]:
        """Times -> the key before each, the key after it, and how far it is from one to the other, in [0, 1)."""
        count = len(self.seconds)
        starts = np.array([float(value) for value in accumulate(self.seconds[:-1], initial=Fraction(0))])
        lengths = np.array([float(value) for value in self.seconds])
        within = np.mod(times, float(self.total)) if self.loop else times
        before = np.searchsorted(starts, within, side="right") - 1
        after = (before + 1) % count if self.loop else np.minimum(before + 1, count - 1)
        share = np.clip((within - starts[before]) / np.maximum(lengths[before], 1e-12), 0, 1)
        return before, after, np.where(before == after, 0, share)


def linear(a: Floats, b: Floats, t: Times) -> Floats:
    """From a [N, ...] to b in a straight line."""
    moved: Floats = (a + _column(t, a) * (b - a)).astype(np.float32)
    return moved


def spherical(a: Floats, b: Floats, t: Times) -> Floats:
    """Spherical interpolation of the vectors along the last axis (Shoemake 1985); a at t = 0 exactly."""
    one, two = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(one, axis=-1, keepdims=True) * np.linalg.norm(two, axis=-1, keepdims=True)
    cosine = np.clip((one * two).sum(-1, keepdims=True) / np.maximum(norms, 1e-30), -1, 1)
    angle, share = np.arccos(cosine), _column(t, a).astype(np.float64)
    sine = np.sin(angle)
    straight = sine < 1e-6  # nearly the same direction, or the opposite one, for which no arc is shorter
    safe = np.where(straight, 1, sine)
    first = np.where(straight, 1 - share, np.sin((1 - share) * angle) / safe)
    second = np.where(straight, share, np.sin(share * angle) / safe)
    turned: Floats = (first * one + second * two).astype(np.float32)
    return turned


def smooth(keys: Floats, timeline: Timeline, places: tuple[NDArray[np.int64], NDArray[np.int64], Times]) -> Floats:
    """A Catmull-Rom spline through keys at unequal times: its velocity is continuous. Without a loop it ends at rest.

    With equal times and a loop it is latents.loop, but for rounding.
    """
    before, after, t = places
    lengths = np.array([float(value) for value in timeline.seconds])
    spans = np.maximum(np.roll(lengths, 1) + lengths, 1e-12)  # from the key before a key to the one after it
    velocities = (np.roll(keys, -1, 0) - np.roll(keys, 1, 0)) / _column(spans, keys)
    if not timeline.loop:
        velocities[0] = velocities[-1] = 0
    own = _column(lengths[before], keys)
    m0, m1, step = velocities[before] * own, velocities[after] * own, keys[after] - keys[before]
    s = _column(t, keys)
    bends = (3 * step - 2 * m0 - m1) + s * (m0 + m1 - 2 * step)
    spline: Floats = (keys[before] + s * (m0 + s * bends)).astype(np.float32)
    return spline


def warped(times: Times, speeds: Sequence[float] | Times) -> Times:
    """Where frames are that follow on each other with these speeds, scaled so that as much is passed through in all."""
    passed = np.concatenate([[0.0], np.cumsum(np.asarray(speeds, np.float64))])
    if not passed[-1] or len(times) < 2:
        return times
    end = times[-1] + (times[-1] - times[-2])
    places: Times = times[0] + passed[:-1] / passed[-1] * (end - times[0])
    return places


def _column(values: Times, like: Floats) -> Floats:
    # [N] -> float32 [N, 1, ...], to go with [N, ...]
    return values.astype(np.float32).reshape(-1, *[1] * (like.ndim - 1))
