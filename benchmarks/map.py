"""How long `salon curate map` lays images out, and how large its page is: python benchmarks/map.py DATASET.

Features are made up: 25 groups of 1,280 numbers. Thumbnails are those of DATASET, again and again.
"""

import sys
import time
from pathlib import Path

import numpy as np

from curation.map import sheets
from curation.map.layout import layout
from gan.data.dataset import ImageDataset
from gan.runtime.console import table

COUNTS, DIM, GROUPS = (1_000, 5_000, 20_000), 1280, 25


def main(path: Path) -> None:
    """Print a table: images, seconds of the layout, neighbours kept, side of the thumbnails, megabytes of them."""
    dataset, rows = ImageDataset(path), []
    for count in COUNTS:
        rng = np.random.default_rng(0)
        centres = rng.normal(size=[GROUPS, DIM])[rng.integers(0, GROUPS, count)]
        features = (centres + 1.5 * rng.normal(size=[count, DIM])).astype(np.float32)
        started = time.perf_counter()
        found = layout(features, seed=0)
        seconds = time.perf_counter() - started
        side = sheets.side_for(count, dataset.shape.width)
        pictures = [sheets.shrunk(dataset.image(index), side) for index in range(min(len(dataset), count))]
        uris = sheets.sheets((pictures[n % len(pictures)] for n in range(count)), side)
        size = sum(map(len, uris)) / 1e6
        rows.append((f"{count:,}", f"{seconds:.1f}", f"{found.kept:.0%}", side, f"{size:.1f}"))
    print(table(rows, ["images", "seconds", "neighbours kept", "thumbnail px", "MB of thumbnails"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
