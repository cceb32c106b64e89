"""Metrics during training within a budget of its time: a hook for the training loop around any metric."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gan.errors import RequestError
from gan.runtime.console import say

Metric = Callable[[Path, int], dict[str, float]]  # (snapshot, number of images) -> figures


class BudgetedMetrics:
    """Measures each snapshot that the time saved up so far allows, with as many images as it allows.

    `percent` is the share of all time since the hook was made; the first measurement, of `smallest` images, shows what
    one costs, and later ones wait for it. Fewer than `smallest` images are never used, nor more than `largest`.
    `clock` tells the seconds.
    """

    def __init__(
        self,
        metric: Metric,
        percent: float = 5,
        *,
        smallest: int = 1000,
        largest: int = 50_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < percent < 100:
            raise RequestError(f"`percent` must be between 0 and 100 percent; got {percent} instead")
        self.metric, self.share, self.smallest, self.largest = metric, percent / 100, smallest, largest
        self.costs: list[tuple[int, float]] = []  # images, seconds
        self._clock, self._start = clock, clock()

    def on_tick(self, row: dict[str, Any]) -> None:
        """Nothing is measured between snapshots."""

    def on_snapshot(self, path: Path) -> dict[str, float]:
        """Measure, if the budget allows -> the metric's figures with images, seconds and share of time, or nothing."""
        elapsed = self._clock() - self._start
        count = self.images_within(elapsed)
        if not count:
            return {}
        start = self._clock()
        figures = self.metric(path, count)
        seconds = self._clock() - start
        self.costs.append((count, seconds))
        used = 100 * self.spent / (elapsed + seconds)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        say(f"{shown} ({count} images at most, {seconds:.1f} s, metrics took {used:.1f} % of the time so far)")
        return {**figures, "images": count, "seconds": seconds, "percent_of_time": used}

    @property
    def spent(self) -> float:
        """Seconds in metrics so far."""
        return sum(seconds for _, seconds in self.costs)

    def images_within(self, elapsed: float) -> int:
        """Images to measure after so many seconds; 0: not yet."""
        if not self.costs:
            return self.smallest
        # spent + cost <= share * (elapsed + cost)
        affordable = (self.share * elapsed - self.spent) / (1 - self.share)
        fixed, per_image = self.fit()
        count = self.largest if per_image == 0 else int(min((affordable - fixed) / per_image, self.largest))
        return count if affordable >= fixed and count >= self.smallest else 0

    def fit(self) -> tuple[float, float]:
        """Seconds a measurement and seconds an image, by least squares; neither is below zero."""
        counts, seconds = np.array(self.costs, float).T
        spread = counts - counts.mean()
        if not spread.any():
            return 0.0, float(seconds.mean() / counts[0])  # too much for larger counts, which is on the safe side
        slope = max(float(spread @ seconds / (spread @ spread)), 0.0)
        fixed = float(seconds.mean() - slope * counts.mean())
        return (fixed, slope) if fixed >= 0 else (0.0, float(counts @ seconds / (counts @ counts)))
