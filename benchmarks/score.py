"""The rate of `salon curate score`, beside that of its extractor alone on pixels that are decoded already.

    python benchmarks/score.py DATASET.zip

The score is all of it: reading, decoding, features, density and neighbours, and the manifest, with nothing kept from
before. Both are measured in turn; where the machine has other work too, the ratio of the best of each counts.
"""

import os
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch

from curation.annotations import Collection, open_collection
from curation.judging import score
from eval.features import Extractor, load_extractor
from gan.console import table

CPU = torch.device("cpu")


def extract(extractor: Extractor, collection: Collection, count: int) -> float:
    """Images a second of the extractor alone, on `count` images in memory."""
    chosen = collection.indices[np.linspace(0, len(collection.indices) - 1, count).astype(int)]
    pixels = np.stack([collection.dataset.pixels(int(index)).transpose(1, 2, 0) for index in chosen])  # CHW -> NHWC
    start = time.perf_counter()
    extractor(pixels)
    return count / (time.perf_counter() - start)


def whole(extractor: Extractor, collection: Collection) -> float:
    """Images a second of a score from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SALON_CACHE"] = folder
        start = time.perf_counter()
        score(collection, extractor, Path(folder) / "scored.manifest", device=CPU)
        return len(collection.indices) / (time.perf_counter() - start)


@click.command(help=__doc__)
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--extractor", "name", default="efficientnet-lite0", show_default=True)
@click.option("--images", default=512, show_default=True, help="For the extractor alone.")
@click.option("--rounds", default=3, show_default=True)
def main(dataset: Path, name: str, images: int, rounds: int) -> None:
    collection = open_collection(dataset, None)
    extractor = load_extractor(name, device=CPU)
    rows = []
    for _ in range(rounds):
        rows.append(
            (extract(extractor, collection, min(images, len(collection.indices))), whole(extractor, collection))
        )
    alone, scored = np.max(rows, axis=0)
    lines = [[str(i + 1), *(f"{rate:.1f}" for rate in row), f"{row[1] / row[0]:.0%}"] for i, row in enumerate(rows)]
    lines.append(["best", f"{alone:.1f}", f"{scored:.1f}", f"{scored / alone:.0%}"])
    print(table(lines, ["round", "extractor, images/s", "score, images/s", "ratio"]))


if __name__ == "__main__":
    main()
