"""Image grids that show how training goes: real images once, and samples from fixed seeds as the weights are now."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gan.data import images
from gan.data.dataset import ImageDataset
from gan.data.recipe import Recipe
from gan.sampling import generate
from gan.training.learner import Learner
from gan.training.run_dir import Run


class SampleGrids:
    """Grids of up to 8 by 4 real images and samples. The seeds are the same each time; a column shows one class."""

    COLUMNS, ROWS = 8, 4

    def __init__(self, run: Run, learner: Learner, dataset: ImageDataset, indices: NDArray[np.int64]) -> None:
        self.run, self.learner, self.dataset = run, learner, dataset
        count = self.COLUMNS * self.ROWS
        self.indices = np.random.default_rng(learner.config.seed).choice(
            indices, min(count, len(indices)), replace=False
        )
        self.seeds = list(range(count))
        self.classes: list[int] | None = None
        if learner.config.network.num_classes:
            learned = np.unique([dataset.label(int(index)) for index in indices]).tolist()  # others are never learned
            self.classes = [learned[seed % self.COLUMNS % len(learned)] for seed in self.seeds]

    def write_reals(self) -> None:
        """Write grids/reals.jpg once."""
        path = self.run.grids / "reals.jpg"
        if not path.exists():
            pixels = np.stack([self.dataset.image(int(i)) for i in self.indices])  # NHWC
            images.save(images.tile(images.for_display(pixels), self.COLUMNS), path)

    def write_samples(self) -> Path:
        """Write the grid of G_ema as it is now -> its path."""
        path = self.run.grid_path(self.learner.cur_nimg)
        if not path.exists():
            pixels = np.stack(list(generate.generate(self.learner.G_ema, self.seeds, self.classes)))
            recipe = Recipe(
                kind="grid",
                seeds=self.seeds,
                grid=f"{self.COLUMNS}x{self.ROWS}",
                dataset=self.learner.config.dataset,
                kimg=self.learner.cur_nimg / 1000,
            )
            images.save(images.tile(images.for_display(pixels), self.COLUMNS), path, recipe=recipe)
        return path
