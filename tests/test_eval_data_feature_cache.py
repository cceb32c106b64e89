"""Features of a dataset: batches by several threads give what the extractor gives, in order."""

import numpy as np
import pytest
import torch

from eval.data.embedding import embed
from gan.data.dataset import ImageDataset
from gan.errors import ImageError


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2  # also for whatever comes after the features
    torch.set_num_threads(before)


def test_threads_that_share_the_images_find_what_the_extractor_finds(
    lite, tiny_dataset, tmp_path, two_threads, monkeypatch
):
    monkeypatch.setattr(lite, "batch_size", 4)
    dataset = ImageDataset(tiny_dataset)
    indices = np.array([11, 0, 3, 5, 4, 2, 7, 1, 10, 9])  # two batches and a half
    pixels = np.stack([dataset.image(int(index)) for index in indices])
    found = embed(dataset, indices, lite, tmp_path)
    assert np.abs(found - lite(pixels)["features"]).max() < 1e-5
    assert np.abs(found[0] - found[1]).max() > 1e-3
    monkeypatch.setattr(type(lite), "__call__", None)
    assert (embed(dataset, indices, lite, tmp_path) == found).all()  # nothing is computed again


def test_a_bad_image_is_named(lite, tiny_dataset, tmp_path, two_threads, monkeypatch):
    dataset = ImageDataset(tiny_dataset)
    monkeypatch.setattr(dataset, "resolution", 17)
    with pytest.raises(ImageError, match="16x16"):
        embed(dataset, np.arange(3), lite, tmp_path)
    assert not list(tmp_path.iterdir())
