"""Compare evaluations: a curve over training, differences from the best one, and which that is.

Two snapshots that were evaluated by the same images of one bank of latents differ by something surer than their own
intervals say, as chance moves both alike: such differences are paired.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.data import feature_cache
from eval.data.thumbnails import Thumbnails
from eval.evaluate import FORMAT, RESULTS
from eval.features.extractor import EXTRACTORS
from eval.metric_registry import HIGHER_IS_BETTER, Result
from eval.metrics.confidence_intervals import Estimate, normal_interval, paired_difference
from eval.metrics.frechet import IMAGES_A_DIMENSION
from eval.metrics.result_key import require_comparable
from gan import snapshot
from gan.errors import RequestError
from gan.runtime.files import read_json, require_format

COMPARISON = "comparison.json"
CORRECTED, KERNEL, RAW = ("fid_corrected", "fd_corrected"), ("kid", "kd"), ("fid", "fd")
FRECHET = (*CORRECTED, *RAW, "fid_infinity", "fd_infinity", "fid_population", "fd_population")
DECIDING = (CORRECTED, KERNEL, RAW)  # the first that is there names the best, where images are enough


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One evaluation that takes part."""

    name: str  # of the evaluation's folder
    label: str
    kimg: float | None
    z_bank: str | None
    images: int
    results: Mapping[str, Result]  # by id; of several extractors the first one's
    pictures: Thumbnails | None
    warnings: Sequence[str] = ()  # of the evaluation
    snapshot: str | None = None  # its file, as the evaluation named it, and
    sha256: str | None = None  # its digest; None: images of something else


def read_entry(path: Path) -> Entry:
    """An entry from an evaluation's folder or its results.json. Raises RequestError when it is neither."""
    file = path / RESULTS if path.is_dir() else path
    figures = read_json(file)
    written = figures.get("format") if isinstance(figures, dict) else None
    require_format(file, "results of salon eval run", written, FORMAT)
    generator = figures["generator"]
    results: dict[str, Result] = {}
    for fields in figures["results"]:
        result = Result.from_dict(fields)
        results.setdefault(result.id, result)
    cur_nimg = generator.get("cur_nimg")
    pictures = file.parent / figures["pictures"]
    damaged = generator.get("damaged", [])  # positions of images that have no picture
    positions = np.delete(np.arange(int(generator["images"]) + len(damaged)), damaged)
    return Entry(
        name=file.resolve().parent.name,
        label=Path(generator["name"]).stem if cur_nimg is None else f"{cur_nimg / 1000:g} kimg",
        kimg=None if cur_nimg is None else cur_nimg / 1000,
        z_bank=generator.get("z_bank"),
        images=int(generator["images"]),
        results=results,
        warnings=figures.get("warnings", []),
        snapshot=None if cur_nimg is None else generator["name"],
        sha256=None if cur_nimg is None else generator.get("sha256"),
        pictures=Thumbnails(pictures, feature_cache.SHARD, positions) if pictures.is_dir() else None,
    )


def find(paths: Sequence[Path]) -> tuple[list[Entry], list[Path]]:
    """Entries of those that are results of evaluations, and the snapshots that are to be evaluated: those named, and
    all of a run, in the order of training.

    Raises RequestError for anything else.
    """
    entries: list[Entry] = []
    waiting: list[Path] = []
    for path in paths:
        if path.suffix == ".json" or (path / RESULTS).exists():
            entries.append(read_entry(path))
        elif path.suffix == ".safetensors":
            waiting.append(path)
        elif newest_first := snapshot.list_newest_first(path / "snapshots") or snapshot.list_newest_first(path):
            waiting += newest_first[::-1]
        elif runs := sorted(path.glob("*/snapshots")):
            raise RequestError(f"{path} is a folder of runs; name one of them, such as {runs[-1].parent}")
        else:
            state = "it is none of them" if path.exists() else "it does not exist"
            raise RequestError(f"{path} must be results of eval run, a run, or a snapshot; {state}")
    return entries, waiting


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """By the progress of training; what has none comes last, as it came."""
    return sorted(entries, key=lambda entry: math.inf if entry.kimg is None else entry.kimg)


def compare(entries: Sequence[Entry]) -> dict[str, Any]:
    """Compare two or more entries by every metric that all have -> the figures of comparison.json.

    "best" is named by the first of DECIDING; a Fréchet distance of too few images for its dimensions names none, and
    neither does a difference from another entry whose interval holds zero: those entries are the "rivals".
    Raises RequestError when no metric is common, or one has another identity in some entry.
    """
    if len(entries) < 2:
        raise RequestError(f"a comparison needs at least 2 evaluations; got {len(entries)}")
    labels = [entry.label for entry in entries]
    if len(set(labels)) < len(labels):
        labels = [f"{entry.label}, {entry.name}" for entry in entries]
    common = common_metrics(entries)
    best_by_metric = {id: _best(entries, id) for id in common}
    deciding, mostly_bias = deciding_metric(entries, common)
    differences = {
        id: [{**_difference(entry, entries[best], id), "best": entry is entries[best]} for entry in entries]
        for id, best in best_by_metric.items()
    }
    rivals = {
        id: [place for place, row in enumerate(rows) if not row["best"] and row["low"] <= 0]
        for id, rows in differences.items()
    }
    warnings = []
    if any(not row["paired"] for rows in differences.values() for row in rows if not row["best"]):
        warnings.append("some differences are not paired: their images come from different latents, or none are known")
    warnings += bias_warning(entries, mostly_bias, common)
    return {
        "format": "salon-comparison-1",
        "entries": [
            {
                "label": label,
                "kimg": entry.kimg,
                "images": entry.images,
                "results": {id: entry.results[id].to_dict() for id in common},
            }
            for label, entry in zip(labels, entries, strict=True)
        ],
        "decided_by": entries[0].results[deciding].name,
        "best": None if rivals[deciding] or deciding in mostly_bias else best_by_metric[deciding],
        "rivals": rivals[deciding],
        "best_by_metric": best_by_metric,
        "rivals_by_metric": rivals,
        "mostly_bias": mostly_bias,
        "differences": differences,
        "warnings": [*warnings, *carried_over(entries, labels)],
    }


def common_metrics(entries: Sequence[Entry]) -> list[str]:
    """Ids of the metrics that all have. Raises RequestError when there is none, or one has another identity in some."""
    common = [id for id in entries[0].results if all(id in entry.results for entry in entries)]
    if not common:
        raise RequestError("evaluations must have a metric in common to be compared; these have none")
    for id in common:
        for entry in entries[1:]:
            require_comparable(entries[0].results[id].identity, entry.results[id].identity)
    return common


def deciding_metric(entries: Sequence[Entry], common: Sequence[str]) -> tuple[str, list[str]]:
    """The first of DECIDING that has images enough, and the Fréchet distances that have not and are mostly bias."""
    mostly_bias = [id for id in common if id in FRECHET and not all(_enough(entry.results[id]) for entry in entries)]
    # Of several networks the first one's, as its results come first.
    candidates = [id for kind in DECIDING for id in common if id in kind] or list(common)
    return next((id for id in candidates if id not in mostly_bias), candidates[0]), mostly_bias


def bias_warning(entries: Sequence[Entry], mostly_bias: Sequence[str], common: Sequence[str]) -> list[str]:
    """What to say of Fréchet distances that are mostly bias; nothing where none is."""
    if not mostly_bias:
        return []
    name = entries[0].results[mostly_bias[0]].name
    remedy = "" if set(KERNEL) & set(common) else "; evaluate `metrics` kid as well"
    return [
        f"{name} has fewer than {IMAGES_A_DIMENSION} images a dimension and is mostly bias, corrected or not: it names "
        f"no best{remedy}"
    ]


def difference(a: Result, b: Result, *, paired: bool) -> Estimate:
    """a - b, of the same identity. `paired`: the i-th images of both belong together."""
    require_comparable(a.identity, b.identity)
    if paired and a.replicates is not None and b.replicates is not None:
        return paired_difference(a.replicates, b.replicates, corrected=a.id.endswith("_corrected"))
    se = math.hypot(a.estimate.se, b.estimate.se)
    return normal_interval(a.estimate.value - b.estimate.value, se, a.estimate.n, "two independent sets")


def _enough(result: Result) -> bool:
    # Whether images are enough for a Fréchet distance to be more than bias; older results do not say it.
    if result.enough_images is not None:
        return result.enough_images
    identity, known = result.identity, EXTRACTORS.get(result.identity.extractor)
    return known is None or min(identity.n, identity.reference_n) >= IMAGES_A_DIMENSION * known.dim


def carried_over(entries: Sequence[Entry], labels: Sequence[str]) -> list[str]:
    """The evaluations' own warnings, each once, with the labels of those that have it unless all do."""
    of: dict[str, list[str]] = {}
    for entry, label in zip(entries, labels, strict=True):
        for warning in entry.warnings:
            of.setdefault(warning, []).append(label)
    return [text if len(who) == len(entries) else f"{', '.join(who)}: {text}" for text, who in of.items()]


def _best(entries: Sequence[Entry], id: str) -> int:
    values = [entry.results[id].estimate.value for entry in entries]
    return values.index(max(values) if id in HIGHER_IS_BETTER else min(values))


def _difference(entry: Entry, best: Entry, id: str) -> dict[str, Any]:
    a, b = entry.results[id], best.results[id]
    if id in HIGHER_IS_BETTER:
        a, b = b, a  # so that more is always worse
    paired = entry.z_bank is not None and entry.z_bank == best.z_bank
    paired = paired and a.replicates is not None and b.replicates is not None
    return {**asdict(difference(a, b, paired=paired)), "paired": paired}
