"""The stream of real images: every image once an epoch, and exact from any position."""

import itertools

import numpy as np
import pytest
import torch

from gan.data.dataset import ImageDataset
from gan.data.loader import DrawSequence, TrainingImages, batches


def draws(count, *, size=10, batch_size=3, **options):
    sequence = DrawSequence(np.arange(100, 100 + size), batch_size, **{"seed": 1, "mirror": False, **options})
    return list(itertools.chain.from_iterable(itertools.islice(iter(sequence), count)))


def test_each_epoch_is_a_permutation():
    indices = [index for index, _ in draws(10)]
    for epoch in range(3):
        assert sorted(indices[epoch * 10 : (epoch + 1) * 10]) == list(range(100, 110))
    assert indices[:10] != indices[10:20]


@pytest.mark.parametrize("position", [0, 3, 9, 12, 30, 300])
def test_any_position_continues_the_same_sequence(position):
    assert draws(4, mirror=True, position=position) == draws(4 + position // 3, mirror=True)[position:]


def test_seed_and_mirror():
    assert draws(4) != draws(4, seed=2)
    flips = [flip for _, flip in draws(300, mirror=True)]
    assert 0.4 < np.mean(flips) < 0.6 and not any(flip for _, flip in draws(10))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_batches_hold_the_drawn_images(tiny_dataset, workers, cached):
    dataset = ImageDataset(tiny_dataset)
    cache = dataset.cache(dataset.fingerprint()) if cached else None
    sequence = DrawSequence(np.arange(len(dataset)), 4, seed=0, mirror=True)
    stream = batches(TrainingImages(dataset, cache), sequence, workers=workers, pin_memory=False)
    state = torch.get_rng_state()
    for expected, (pixels, classes) in zip(itertools.islice(sequence, 5), stream, strict=False):
        assert pixels.dtype == torch.uint8 and classes.dtype == torch.int64
        for (index, flip), actual in zip(expected, pixels.numpy(), strict=True):
            original = dataset.pixels(index)
            assert np.array_equal(actual, original[:, :, ::-1] if flip else original)
    assert torch.equal(state, torch.get_rng_state())  # it never draws from the training's generator
