"""The rate of `salon curate score`, beside that of its extractor alone on pixels that are decoded already.

    python benchmarks/score.py DATASET.zip

The score is all of it: reading, decoding, features, density and neighbours, and the manifest, with nothing kept from
before. Both are measured in turn, and the best of each counts. Where the machine has other work too, compare the rates
by seconds of computing, with OMP_NUM_THREADS=1: threads that wait for each other compute in vain.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch

from curation.score.request import ScoreRequest
from curation.score.score import score_collection
from eval.features.extractor import load_extractor
from gan.data.collection import Collection
from gan.runtime.console import table

CPU = torch.device("cpu")


Rate = tuple[float, float]  # images a second, and images for a second of computing of all cores


@contextmanager
def timed(rates: list[Rate], count: int) -> Iterator[None]:
    """Add the rate at which the block sees `count` images."""
    start, computed = time.perf_counter(), time.process_time()
    yield
    rates.append((count / (time.perf_counter() - start), count / (time.process_time() - computed)))


@click.command(help=__doc__)
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--extractor", "name", default="efficientnet-lite0", show_default=True)
@click.option("--images", default=512, show_default=True, help="For the extractor alone, at most.")
@click.option("--rounds", default=3, show_default=True)
def main(dataset: Path, name: str, images: int, rounds: int) -> None:
    collection = Collection.open(dataset)
    collection.require_manifest()
    extractor = load_extractor(name, device=CPU)
    total = len(collection.indices)
    chosen = collection.indices[np.linspace(0, total - 1, min(images, total)).astype(int)]
    pixels = np.stack([collection.dataset.image(int(index)) for index in chosen])  # NHWC
    alone: list[Rate] = []
    whole: list[Rate] = []
    for _ in range(rounds):
        with timed(alone, len(pixels)):
            extractor(pixels)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["SALON_CACHE"] = folder
            with timed(whole, total):
                request = ScoreRequest(dataset=dataset, out=Path(folder) / "scored.manifest")
                score_collection(collection, {"content": extractor}, request)
    rows = [("extractor", *np.max(alone, axis=0)), ("score", *np.max(whole, axis=0))]
    lines = [[what, f"{rate:.1f}", f"{computed:.1f}"] for what, rate, computed in rows]
    lines.append(["ratio", *(f"{ratio:.0%}" for ratio in np.max(whole, axis=0) / np.max(alone, axis=0))])
    print(table(lines, [f"best of {rounds}, {torch.get_num_threads()} threads", "images/s", "images/s of computing"]))


if __name__ == "__main__":
    main()
