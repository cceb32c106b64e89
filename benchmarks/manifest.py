"""Seconds and memory to write, verify, score, prune and diff a manifest of a million rows, with synthetic scores.

python benchmarks/manifest.py --rows 1000000
"""

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pyarrow as pa

from curation.decide.lineage import diff
from curation.decide.prune import prune, with_columns
from curation.decide.request import PruneRequest
from gan.data import manifest
from gan.runtime.console import table

GENRES = np.array(["landscape", "portrait", "still_life", "genre_painting", "nude"])
METHODS = ("density", "knn", "d_low", "d_core", "d_cross")


def prepared(rows: int) -> Iterator[pa.Table]:
    """Rows as `salon prepare` leaves them, in tables of 50,000; 2 % are of the genre "nude"."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, 50_000):
        numbers = range(start, min(start + 50_000, rows))
        n = len(numbers)
        columns = {
            "name": [f"{i // 1000:05d}/img{i:08d}.jpg" for i in numbers],
            "source": [f"wikiart/Impressionism/some-painter_picture-{i}.jpg" for i in numbers],
            "file_sha256": [rng.bytes(32).hex() for _ in numbers],
            "pixel_sha256": [rng.bytes(32).hex() for _ in numbers],
            "label": rng.integers(0, 27, n),
            "style": ["Impressionism"] * n,
            "genre": GENRES[rng.choice(5, n, p=[0.4, 0.3, 0.2, 0.08, 0.02])],
            "artist": [f"painter-{i}" for i in rng.integers(0, 1000, n)],
            "width": rng.integers(200, 2000, n),
            "height": rng.integers(200, 2000, n),
            "mode": ["RGB"] * n,
            "verdict": [manifest.KEEP] * n,
            "reason": pa.nulls(n, pa.string()),
            "reviewer": ["salon prepare"] * n,
        }
        yield pa.table(columns)


def scored(path: Path) -> Iterator[pa.Table]:
    """The rows of a manifest with synthetic scores of every method, and their standard errors."""
    rng = np.random.default_rng(1)
    for part in manifest.parts(path):
        scores = {f"score_{method}": pa.array(rng.standard_normal(len(part))) for method in METHODS}
        errors = {f"{name}_se": pa.array(rng.random(len(part))) for name in scores}
        yield with_columns(part, scores | errors)


@click.command(help=__doc__)
@click.option("--rows", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(rows: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = {
            "write": lambda: manifest.write_tables(folder / "a", prepared(rows), dataset="x", parent=None),
            "score": lambda: manifest.write_tables(folder / "b", scored(folder / "a"), dataset="x", parent=None),
            "prune": lambda: prune(PruneRequest(manifest=folder / "b", out=folder / "c", strata="genre", floor=0.9)),
            "diff": lambda: diff(folder / "b", folder / "c", "genre"),
            "kept": lambda: manifest.read(folder / "c", ["name", "verdict"]).kept(),
        }
        figures = {}
        for step, run in steps.items():
            started, computed = time.perf_counter(), time.process_time()
            found = run()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            figures[step] = {
                "seconds": time.perf_counter() - started,
                "core_seconds": time.process_time() - computed,
                "peak_bytes": peak,
            }
            if step == "diff":
                assert found["changes"] == {"keep -> drop": rows - found["b"]["kept"]} and found["removed"] == 0
    if as_json:
        print(json.dumps({"rows": rows, **figures}))
        return
    lines = [
        (step, f"{f['seconds']:.1f}", f"{f['core_seconds']:.1f}", f"{f['peak_bytes'] / 1e6:,.0f}")
        for step, f in figures.items()
    ]
    print(table(lines, ["step", "seconds", "of computing", "peak MB so far"]))


if __name__ == "__main__":
    main()
