"""Images a second that training can be fed with, from a dataset's files to batches of pixels.

    python benchmarks/loader.py paintings256.zip --workers 0,1,4,15

The decoder alone is the limit: Pillow's libjpeg-turbo on bytes in memory. The rows of one core count the processor's
seconds, so that others at work do not matter; those of workers count seconds that pass.
"""

import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from gan.data.dataset import ImageDataset
from gan.data.device_images import DeviceImages
from gan.data.loader import DrawSequence, TrainingImages, batches
from gan.device.selection import cores, select

IMAGES = 1024  # to time


def rate(work: Callable[[], object], clock: Callable[[], float], count: int) -> float:
    """Images a second, of the best of three."""
    seconds = []
    for _ in range(3):
        began = clock()
        work()
        seconds.append(clock() - began)
    return count / min(seconds)


@click.command(help=__doc__)
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.option("--batch", default=32, show_default=True)
@click.option("--workers", default="0,1", show_default=True, help="Numbers of processes to measure.")
@click.option("--device", default="auto", show_default=True, help="Device of the last row, where the pixels lie.")
def main(dataset: Path, batch: int, workers: str, device: str) -> None:
    images = TrainingImages(ImageDataset(dataset))
    target, count = select(device), max(IMAGES // batch, 1) * batch
    draws = DrawSequence(np.arange(len(images.dataset)), batch, seed=0, mirror=True)
    names = list(itertools.islice(itertools.cycle(images.dataset.names), count))
    contents = {name: images.dataset.read_bytes(name) for name in names}
    side = images.dataset.shape.width
    print(f"{side} pixels, {sum(map(len, contents.values())) / len(contents) / 1e3:.0f} kB a file, {cores()} cores")

    def read() -> None:
        for name in names:
            images.dataset.read_bytes(name)

    def decode() -> None:
        for name in names:
            Image.open(io.BytesIO(contents[name])).load()

    def take(number: int) -> None:
        stream = batches(images, draws, workers=number, pin_memory=False)
        for _ in range(count // batch):
            next(stream)

    clock, limit = time.process_time, rate(decode, time.process_time, count)
    print(f"one core, reading            {rate(read, clock, count):8.0f} images/s")
    print(f"one core, the decoder alone  {limit:8.0f} images/s")
    found = rate(lambda: take(0), clock, count)
    print(f"one core, all of the loader  {found:8.0f} images/s  {found / limit:.0%} of the decoder alone")
    for number in map(int, workers.split(",")):
        stream = batches(images, draws, workers=number, pin_memory=target.type == "cuda")
        for _ in range(4 * max(number, 1)):  # what the workers make ahead, and their start
            next(stream)
        found = rate(lambda s=stream: [next(s) for _ in range(count // batch)], time.perf_counter, count)
        print(f"{number:3d} workers                  {found:8.0f} images/s")

    began = time.perf_counter()
    stream = DeviceImages.upload(images, np.arange(len(images.dataset)), target).batches(draws)
    print(f"onto {target}: {len(images.dataset)} images in {time.perf_counter() - began:.1f} s")

    def draw() -> None:
        for _ in range(count // batch):
            next(stream)
        if target.type == "cuda":
            torch.cuda.synchronize()

    print(f"drawn from {target!s:<17} {rate(draw, time.perf_counter, count):8.0f} images/s")


if __name__ == "__main__":
    main()
