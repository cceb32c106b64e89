"""What grows with the number of images: seconds and memory of each step from 10^3 to 10^6 rows, and at 10^8.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --limit 20

Rows, hashes and features (1,280 numbers an image, as efficientnet-lite0 gives) are made up; those features that are
searched for neighbours lie in shards on the disk, as the cache has them, with a spectrum as of paintings, 30 a series.
Each step runs alone in a process, and no larger than it can be in --limit seconds of computing. Memory is
what the step adds to what it is given, without pages of files, which are given back where memory lacks.
density + knn: fit stops growing at 16,384 references a stratum.
At 10^8 is where the sizes of the last decade lead: time by a power law, memory by a line.
"""

import ctypes
import gc
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from manifest import prepared, scored

from gan.runtime.console import table

if TYPE_CHECKING:
    from eval.metrics.feature_stats import Features

DIM = 1280
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
TOLD = (1_000, 10_000, 100_000, 1_000_000)
GOAL = 100_000_000
REFERENCES = 4096  # of the state that scores; the most are 16,384, which cost four times as much an image
Step = Callable[[int, Path], Callable[[], object]]  # rows, folder -> what is measured; making its input is not


def features(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal([rows, DIM], np.float32)


def manifests(rows: int, folder: Path, *, scores: bool = True, pruned: bool = False) -> None:
    from curation.decide.prune import prune
    from curation.decide.request import PruneRequest
    from gan.data import manifest

    manifest.write_tables(folder / "a", prepared(rows), dataset="x", parent=None)
    if scores:
        manifest.write_tables(folder / "b", scored(folder / "a"), dataset="x", parent=None)
    if pruned:
        prune(PruneRequest(manifest=folder / "b", out=folder / "c", strata="genre", floor=0.9))


def manifest_write(rows: int, folder: Path) -> Callable[[], object]:
    from gan.data import manifest

    return lambda: manifest.write_tables(folder / "a", prepared(rows), dataset="x", parent=None)


def manifest_read(rows: int, folder: Path) -> Callable[[], object]:
    from gan.data import manifest

    manifests(rows, folder, scores=False)
    return lambda: manifest.read(folder / "a")


def manifest_kept(rows: int, folder: Path) -> Callable[[], object]:
    from gan.data import manifest
    from gan.data.collection import Collection
    from gan.data.dataset import ImageDataset

    manifests(rows, folder, scores=False)
    archive(rows, folder / "set.zip")
    images = ImageDataset(folder / "set.zip")

    def run() -> object:
        read = manifest.read(folder / "a", ["name", "verdict"])
        return Collection(dataset=images, fingerprint="x", manifest=read, selected=True).kept

    return run


def fuse_and_prune(rows: int, folder: Path) -> Callable[[], object]:
    from curation.decide.prune import prune
    from curation.decide.request import PruneRequest

    manifests(rows, folder)
    return lambda: prune(PruneRequest(manifest=folder / "b", out=folder / "c", strata="genre", floor=0.9))


def manifest_diff(rows: int, folder: Path) -> Callable[[], object]:
    from curation.decide.lineage import diff

    manifests(rows, folder, pruned=True)
    return lambda: diff(folder / "b", folder / "c", "genre")


def archive(rows: int, path: Path) -> None:
    from PIL import Image

    from gan.data.dataset import DatasetWriter
    from gan.data.images import encode

    writer = DatasetWriter(path, ".jpg")
    content = encode(Image.new("RGB", (16, 16)), "jpeg")
    for number in range(rows):
        writer.add(content, number % 27)
    writer.close([str(number) for number in range(27)])


def dataset_open(rows: int, folder: Path) -> Callable[[], object]:
    from gan.data.dataset import ImageDataset

    archive(rows, folder / "set.zip")
    return lambda: ImageDataset(folder / "set.zip").fingerprint()


def list_open(rows: int, folder: Path) -> Callable[[], object]:
    from gan.data.dataset import ImageDataset

    archive(rows // 10, folder / "0.zip")
    for number in range(1, 10):
        (folder / f"{number}.zip").hardlink_to(folder / "0.zip")
    (folder / "set.zips").write_text("".join(f"{number}.zip\n" for number in range(10)))
    return lambda: ImageDataset(folder / "set.zips").fingerprint()


def density_fit(rows: int, folder: Path) -> Callable[[], object]:
    from curation.score import density

    given, strata = features(rows), np.zeros(rows, np.int64)
    return lambda: density.fit(given, strata, seed=0, extractor="x")


def density_score(rows: int, folder: Path) -> Callable[[], object]:
    from curation.score import density

    state = density.fit(features(REFERENCES), np.zeros(REFERENCES, np.int64), seed=0, extractor="x")
    given, strata = features(rows, 1), np.zeros(rows, np.int64)
    return lambda: density.score(state, given, strata, fitted=False)


def near_hashes(rows: int, folder: Path) -> Callable[[], object]:
    from curation.score import duplicates, sampled_bits

    search = duplicates if rows <= sampled_bits.EXACT else sampled_bits
    hashes, transposed = np.random.default_rng(0).integers(0, 1 << 64, [2, rows], np.uint64)
    return lambda: search.near_hashes(hashes, transposed=transposed)


def series(rows: int, folder: Path) -> Callable[[], object]:
    from curation.score.alike import cosines, found_neighbours, similar
    from curation.score.copies import MIN_COSINE

    given = stored(rows, folder)

    def run() -> object:
        near = found_neighbours(given)
        if near:
            print(f"recall of {rows:,}: {near.recall.value:.4f}", file=sys.stderr)
        return cosines(given, similar(given, MIN_COSINE, near=near))

    return run


def doubtful_labels(rows: int, folder: Path) -> Callable[[], object]:
    from curation.score.alike import NEIGHBOURS
    from curation.score.label_noise import mislabelled
    from eval.metrics import approximate
    from eval.metrics.confidence_intervals import wilson
    from eval.metrics.neighbours import Neighbours

    labels = np.arange(rows) % 27
    if rows <= approximate.EXACT:
        given = features(rows)
        return lambda: mislabelled(given, labels)
    indices = np.random.default_rng(0).integers(0, rows, [rows, NEIGHBOURS])
    found = Neighbours(distances=np.ones(indices.shape, np.float32), indices=indices)
    near = approximate.Approximate(neighbours=found, recall=wilson(1, 1))
    return lambda: mislabelled(np.empty([rows, 0]), labels, near=near)


def stored(rows: int, folder: Path) -> "Features":
    """Features of about 30 images a series, whose covariance has a spectrum as of paintings."""
    from eval.data.feature_cache import SHARD, shard_count
    from eval.metrics.feature_stats import Features

    rng, place = np.random.default_rng(0), np.arange(1, DIM + 1)
    deviation = np.sqrt(place**-0.85 / (1 + (place / 300) ** 1.2)).astype(np.float32)
    series = rng.integers(0, 1 << 62, max(rows // 30, 1))
    paths = [folder / f"features-{shard:05d}.npy" for shard in range(shard_count(rows))]
    for number, path in enumerate(paths):
        chosen = rng.choice(series, min(SHARD, rows - number * SHARD))
        centres = np.stack([np.random.default_rng(seed).standard_normal(DIM, np.float32) for seed in chosen])
        own = rng.standard_normal([len(chosen), DIM], np.float32)
        np.save(path, (np.sqrt(0.6) * centres + np.sqrt(0.4) * own) * deviation)
    return Features.open(paths)


def moments(rows: int, folder: Path) -> Callable[[], object]:
    given = stored(rows, folder)
    return lambda: given.moments()


def fd(rows: int, folder: Path) -> Callable[[], object]:
    from eval.metrics.feature_stats import as_features
    from eval.metrics.frechet import frechet_estimate, sqrt_factor

    reference = as_features(features(max(rows, 2 * DIM))).moments()
    given, factor = features(rows, 1), sqrt_factor(reference)
    return lambda: frechet_estimate(given, reference, factor=factor)


def kd(rows: int, folder: Path) -> Callable[[], object]:
    from eval.metrics.kernel import kernel_distance

    a, b = features(rows), features(rows, 1)
    return lambda: kernel_distance(a, b)


def prdc(rows: int, folder: Path) -> Callable[[], object]:
    from eval.metrics.precision_recall import compare

    a, b = features(rows), features(rows, 1)
    return lambda: compare(a, b)


STEPS: dict[str, tuple[str, Step]] = {
    "manifest-write": ("manifest: write", manifest_write),
    "manifest-read": ("manifest: read and verify, all columns", manifest_read),
    "manifest-kept": ("manifest: what it keeps", manifest_kept),
    "prune": ("prune: five scores fused, quotas, written", fuse_and_prune),
    "diff": ("diff of two manifests", manifest_diff),
    "dataset": ("dataset: open, fingerprint", dataset_open),
    "list": ("dataset of ten ZIPs: open, fingerprint", list_open),
    "fit": ("density + knn: fit", density_fit),
    "score": (f"density + knn: score, {REFERENCES:,} references", density_score),
    "hashes": ("check: near duplicates, hashes", near_hashes),
    "series": ("check: series, with the neighbours", series),
    "labels": ("check: doubtful labels; of many, by the neighbours of series", doubtful_labels),
    "moments": ("eval: moments of feature shards", moments),
    "fd": ("eval: FD, n", fd),
    "kd": ("eval: KD, n real and n generated", kd),
    "prdc": ("eval: precision to coverage, n and n", prdc),
}


def measure(step: str, rows: int) -> dict[str, float]:
    """Seconds, seconds of computing, and bytes of memory and disk that a step takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = STEPS[step][1](rows, folder)
        stored = _disk(folder)
        _give_back()
        before, started, computed = _memory("RssAnon"), time.perf_counter(), time.process_time()
        with watched_memory() as peak:
            run()
        return {
            "rows": rows,
            "seconds": time.perf_counter() - started,
            "core_seconds": time.process_time() - computed,
            "peak_bytes": max(peak() - before, 0),
            "written_bytes": _disk(folder) - stored,
        }


def _give_back() -> None:
    # What making the input has left free would be used again, and not be counted.
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def watched_memory() -> Iterator[Callable[[], int]]:
    """The most memory of the process that is no page of a file, looked at a hundred times a second."""
    ended, most = threading.Event(), _memory("RssAnon")

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.01):
            most = max(most, _memory("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    yield lambda: most
    ended.set()
    thread.join()


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) * 1024


def _disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def exponent(found: list[dict[str, float]]) -> float:
    """Of the power law of time through the last sizes."""
    rows, seconds = _last(found, "core_seconds")
    return float(np.polyfit(np.log(rows), np.log(seconds), 1)[0]) if len(rows) > 1 else 0.0


def seconds_at(rows: int, found: list[dict[str, float]]) -> float:
    """Of computing, where the power law leads."""
    return found[-1]["core_seconds"] * (rows / found[-1]["rows"]) ** max(exponent(found), 0)


def bytes_at(rows: int, found: list[dict[str, float]]) -> float:
    """Of memory, where a line through the last sizes leads."""
    sizes, most = _last(found, "peak_bytes")
    slope = float(np.polyfit(sizes, most, 1)[0]) if len(sizes) > 1 else 0.0
    return found[-1]["peak_bytes"] + max(slope, 0) * (rows - found[-1]["rows"])


def _last(found: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    # the sizes of the last decade, and what was measured there
    last = [one for one in found if one["rows"] >= found[-1]["rows"] / 10]
    return [one["rows"] for one in last], [one[name] for one in last]


def _duration(seconds: float) -> str:
    for unit, size in (("years", 365 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.2g} s"


def _size(count: float) -> str:
    power = min(max(int(math.log(max(count, 1), 1000)), 0), 5)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


@click.command(help=__doc__)
@click.option("--step", type=click.Choice(list(STEPS)), help="One alone; with --rows in this process.")
@click.option("--rows", type=click.IntRange(1))
@click.option("--limit", default=20.0, show_default=True, help="Most seconds of computing that a size may promise.")
@click.option("--json", "as_json", is_flag=True)
def main(step: str | None, rows: int | None, limit: float, as_json: bool) -> None:
    if step and rows:
        print(json.dumps(measure(step, rows)))
        return
    figures: dict[str, list[dict[str, float]]] = {}
    for name in [step] if step else STEPS:
        found: list[dict[str, float]] = []
        for size in SIZES:
            if len(found) > 1 and seconds_at(size, found) > limit:
                break
            command = [sys.executable, __file__, "--step", name, "--rows", str(size)]
            ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append(json.loads(ended.stdout))
            print(name, found[-1], file=sys.stderr, flush=True)
        figures[name] = found
    if as_json:
        print(json.dumps(figures))
        return
    header = ["seconds", *(f"{size:,}" for size in TOLD), "grows as", "at 10^8", "memory, most", "at 10^8"]
    lines = [
        [
            STEPS[name][0],
            *(_told(found, size) for size in TOLD),
            f"n^{max(exponent(found), 0):.2f}",
            _duration(seconds_at(GOAL, found)),
            _size(found[-1]["peak_bytes"]),
            _size(bytes_at(GOAL, found)),
        ]
        for name, found in figures.items()
    ]
    print(table(lines, header))


def _told(found: list[dict[str, float]], size: int) -> str:
    """The seconds of computing at a size, in brackets where they are extrapolated."""
    for one in found:
        if one["rows"] == size:
            return f"{one['core_seconds']:.{2 if one['core_seconds'] < 100 else 3}g}"
    return f"({_duration(seconds_at(size, found))})"


if __name__ == "__main__":
    main()
