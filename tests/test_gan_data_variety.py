"""What is said of datasets that have little to learn from."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_TRAINING, run_salon
from PIL import Image

from gan.cli.train import FEW_IMAGES
from gan.data import variety
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import encode

FEW, ALIKE = "images are few", "The images are all alike"


def dataset(path, count, spread):
    """Images of a plain colour of their own, `spread` levels around grey, with noise that is no difference."""
    rng, writer = np.random.default_rng(0), DatasetWriter(path, ".png")
    for _ in range(count):
        pixels = 128 + spread * rng.standard_normal(3) + 20 * rng.standard_normal([16, 16, 3])
        writer.add(encode(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "png"))
    writer.close()
    return ImageDataset(path)


@pytest.mark.parametrize(
    ("count", "used", "spread", "expected"),
    [(500, 500, 30, ""), (500, 499, 30, FEW), (500, 500, 0, ALIKE), (499, 499, 0, FEW + ALIKE), (500, 1, 30, FEW)],
)
def test_doubts(tmp_path, monkeypatch, count, used, spread, expected):
    monkeypatch.setattr(variety, "_SIDE", 2)  # a mean of 64 values: their noise is 2.5
    lines = variety.doubts(dataset(tmp_path / "d.zip", count, spread), np.arange(used))
    for fragment in (FEW, ALIKE):
        assert any(fragment in line for line in lines) == (fragment in expected)


def test_training_says_so_and_names_a_page_that_is_there(tiny_dataset, tmp_path):
    outcome = run_salon("train", "--data", tiny_dataset, "--out", tmp_path, *TINY_TRAINING, "--dry-run")
    assert f"Note: 12 images are few: the generator will show little else than these. {FEW_IMAGES}" in outcome.err
    assert ALIKE not in outcome.err and (Path(__file__).parents[1] / FEW_IMAGES).is_file()
