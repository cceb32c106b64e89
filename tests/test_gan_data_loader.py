"""The stream of real images: every image once an epoch, and exact from any position."""

import itertools
import multiprocessing
import os
import signal
import threading

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gan.data import device_images, loader
from gan.data.dataset import ImageDataset
from gan.data.device_images import DeviceImages
from gan.data.loader import DrawSequence, TrainingImages, batches, workers_that_keep_up
from gan.device.memory import free_memory
from gan.errors import RequestError, SalonError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


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


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("members", [None, [2, 0]])
@pytest.mark.parametrize("cached", [False, True])
def test_pixels_on_the_device_are_drawn_as_the_loader_draws_them(tiny_dataset, mirror, members, cached):
    dataset = ImageDataset(tiny_dataset)
    images = TrainingImages(dataset, dataset.cache(dataset.fingerprint()) if cached else None)
    chosen = np.array([7, 1, 4, 2, 11])  # those that a manifest keeps, say
    sequence = DrawSequence(chosen, 4, seed=3, mirror=mirror, position=8, members=members)
    loaded = batches(images, sequence, workers=0, pin_memory=False)
    drawn = DeviceImages.upload(images, chosen, CPU).batches(sequence)
    seen = set()
    for expected, actual in itertools.islice(zip(loaded, drawn, strict=False), 20):
        for one, other in zip(expected, actual, strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other)
        seen |= {pixels.numpy().tobytes() for pixels in actual[0]}
    assert len(seen) == (2 if mirror else 1) * len(chosen)


def test_more_images_than_are_uploaded_at_once(tiny_dataset, monkeypatch):
    monkeypatch.setattr(device_images, "_AT_ONCE", 5)
    dataset = ImageDataset(tiny_dataset)
    held = DeviceImages.upload(TrainingImages(dataset), np.arange(len(dataset)), CPU)
    for index, pixels in enumerate(held.pixels.numpy()):
        assert np.array_equal(pixels, dataset.pixels(index))
    assert held.classes.tolist() == dataset.labels.tolist()


@pytest.mark.parametrize("mirror", [False, True])
def test_drawing_asks_a_gpu_nothing(mirror, monkeypatch):
    # Fake tensors raise where an operation depends on values that lie on the GPU. They cannot be pinned.
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    sequence = DrawSequence(np.arange(3, 13), 4, seed=0, mirror=mirror)
    with FakeTensorMode():
        pixels = torch.empty([10, 3, 8, 8], dtype=torch.uint8, device=GPU)
        images = DeviceImages(pixels, torch.empty([10], dtype=torch.int64, device=GPU), np.arange(3, 13))
        pixels, classes = next(images.batches(sequence))
    assert (pixels.shape, pixels.dtype, pixels.device.type) == ((4, 3, 8, 8), torch.uint8, "cuda")
    assert (classes.shape, classes.dtype, classes.device.type) == ((4,), torch.int64, "cuda")


def test_where_the_pixels_lie(monkeypatch):
    # A GPU of 12 GB and pixels of 3 kB an image: a million take a quarter of it.
    monkeypatch.setattr(device_images, "free_memory", lambda device: 12 * 1024 * 10**6)
    assert device_images.wanted("auto", 10**6, 3072, GPU) and not device_images.wanted("auto", 10**6 + 1, 3072, GPU)
    assert device_images.wanted("yes", 4 * 10**6, 3072, GPU) and not device_images.wanted("no", 1, 3072, GPU)
    assert device_images.wanted("yes", 1, 3072, CPU) and not device_images.wanted("auto", 1, 3072, CPU)
    with pytest.raises(RequestError, match=r"`data_on_device` yes needs 12.3 GB .* 4000001 images; 12.3 GB are free"):
        device_images.wanted("yes", 4 * 10**6 + 1, 3072, GPU)


def test_the_memory_of_this_machine_is_known():
    assert 10**7 < free_memory(CPU) < 10**14


class Stuck(TrainingImages):
    """Images whose reading never ends."""

    def __getitem__(self, draw):
        threading.Event().wait()


class Deadly(TrainingImages):
    """Images that kill who reads them."""

    def __getitem__(self, draw):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_wait_for_workers_ends_when_a_stop_is_wished(tiny_dataset):
    images, sequence = Stuck(ImageDataset(tiny_dataset)), DrawSequence(np.arange(12), 4, seed=0, mirror=False)
    stream = batches(images, sequence, workers=2, pin_memory=False, stopped=lambda: True)
    workers = multiprocessing.active_children()
    assert len(workers) == 2 and next(stream, "stopped") == "stopped"
    assert not any(worker.is_alive() for worker in workers)


def test_a_worker_that_dies_ends_the_wait(tiny_dataset):
    images, sequence = Deadly(ImageDataset(tiny_dataset)), DrawSequence(np.arange(12), 4, seed=0, mirror=False)
    stream = batches(images, sequence, workers=2, pin_memory=False)
    with pytest.raises(SalonError, match=r"a process that loads images died, .* `workers` 0 does without"):
        next(stream)


def test_batches_stay_as_they_are_when_their_places_are_used_again(tiny_dataset):
    images, sequence = TrainingImages(ImageDataset(tiny_dataset)), DrawSequence(np.arange(12), 4, seed=0, mirror=True)
    ours, theirs = (batches(images, sequence, workers=workers, pin_memory=False) for workers in (0, 1))
    for one, other in zip(list(itertools.islice(ours, 12)), list(itertools.islice(theirs, 12)), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_workers_that_keep_up(monkeypatch):
    monkeypatch.setattr(loader, "cores", lambda: 16)
    batch = 32 * 3 * 256**2
    assert workers_that_keep_up(CPU, batch) == 1
    assert workers_that_keep_up(GPU, batch) == 15  # one core is the training's
    assert workers_that_keep_up(GPU, batch, processes=4) == 3
    assert workers_that_keep_up(GPU, 16 * batch) == 5  # 2 GB hold no more of four batches of 1024 pixels each
    monkeypatch.setattr(loader, "cores", lambda: 128)
    assert workers_that_keep_up(GPU, batch) == 16
    monkeypatch.setattr(loader, "cores", lambda: 1)
    assert workers_that_keep_up(GPU, 10**12) == 1
