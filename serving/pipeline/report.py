"""One page of a pipeline: every stage with its images, its numbers, and the command that did it."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from eval.data.thumbnails import QUALITY, THUMBNAIL
from eval.report.html import number, write_page
from gan.data import manifest, synthetic_scenes
from gan.data.dataset import ImageDataset
from gan.data.images import encode, for_display
from gan.runtime.console import duration
from gan.training.run_dir import Run
from serving.pipeline.config import PipelineFile
from serving.pipeline.runner import Record
from serving.pipeline.stages import STAGES

_TEMPLATES = Path(__file__).parent / "templates"
_REPORTS = {"evaluate": "report.html", "retrain": "report.html", "style-check": "report.html"}
_WIDE = 900  # pixels of an image that stands alone

Figure = tuple[list[bytes], str]  # JPEGs, one that stands alone or a sheet of small ones, and their caption


def write(file: PipelineFile, records: Mapping[str, Record], path: Path) -> None:
    """Write the page of the stages that ran. Images come from what the stages wrote."""
    base = file.path.parent
    stages = []
    for name, record in records.items():
        report = base / record.output / _REPORTS.get(name, "")
        stages.append(
            {
                "name": name,
                "title": STAGES[name].title,
                "record": record,
                "headline": headline(record),
                "warnings": warnings(record),
                "pieces": record.pieces(),
                "figures": _figures(record, records, base),
                "served": STAGES[name].served,
                "report": os.path.relpath(report, path.parent) if name in _REPORTS and report.exists() else None,
            }
        )
    served = records["export"].output if "export" in records else None
    write_page("pipeline.html.j2", path, templates=[_TEMPLATES], file=file, stages=stages, served=served)


def headline(record: Record) -> str:
    """What a stage found, in a few words."""
    figures = record.figures
    if record.stage == "synthetic":
        return f"{figures['count']:,} images, {figures['outliers']} of them no paintings"
    if record.stage == "prepare":
        return f"{figures['images']:,} of {figures['found']:,} images, {figures['bytes_out'] / 1e6:.1f} MB"
    if record.stage == "train":
        return f"{figures['kimg']:,.1f} thousand images seen"
    if record.stage == "evaluate":
        shown = [row for row in figures["results"] if row["id"] in ("fid", "fd", "kid", "kd")]
        return "; ".join(f"{r['name']} {number(r['value'])} ({number(r['low'])} to {number(r['high'])})" for r in shown)
    if record.stage == "check":
        return f"{figures['flagged']:,} of {figures['images']:,} images have a flag"
    if record.stage == "score":
        return f"{figures['scored']:,} images by {' and '.join(figures['methods'])}"
    if record.stage == "prune":
        return f"{figures['kept']:,} of {figures['images']:,} kept"
    if record.stage == "retrain":
        return str(figures["sentence"])
    if record.stage == "style":
        return f"{figures['held_out']['accuracy']['value']:.0%} of held-out images told right"
    if record.stage == "export":
        return f"version {figures['version']}"
    if record.stage == "query":
        return f"{figures['images']:,} images"
    rate = figures["corrected"]
    sure = "the classifier cannot tell"
    if rate is not None:
        sure = f"{rate['value']:.0%} ({rate['low']:.0%} to {rate['high']:.0%}) corrected for its errors"
        sure += ", with a warning" if figures["warnings"] else ""
    return f"{figures['raw']['value']:.0%} of {figures['images']} images taken for {figures['target']}; {sure}"


def warnings(record: Record) -> list[str]:
    """What the report of a stage warns of."""
    return [*record.figures.get("warnings", []), *record.figures.get("notes", [])]


def summary(records: Mapping[str, Record]) -> list[list[str]]:
    """Rows for the table at the end: stage, outcome, time, headline."""
    return [[name, r.outcome, duration(r.seconds), headline(r)] for name, r in records.items()]


def _figures(record: Record, records: Mapping[str, Record], base: Path) -> list[Figure]:
    output = base / record.output
    if record.stage == "prepare":
        dataset = ImageDataset(output)
        step = max(len(dataset) // 24, 1)
        return [(_thumbnails(dataset, range(0, len(dataset), step)[:24]), "Some of them")]
    if record.stage == "train":
        grids = Run(base / record.figures["run"]).list_grids()
        return [(_alone(grids[0]), "At the start"), (_alone(grids[-1]), "At the end")] if grids else []
    if record.stage == "prune":
        dataset = ImageDataset(base / records["prepare"].output)
        rows = manifest.read(output, ["name", "source", "verdict"]).rows.to_pylist()
        kept = {row["name"] for row in rows if row["verdict"] == manifest.KEEP}
        dropped = [index for index, name in enumerate(dataset.names) if name not in kept]
        others = [index for index, name in enumerate(dataset.names) if name in kept]
        shown = (
            (
                dropped[:48],
                f"{min(len(dropped), 48)} of the {len(dropped)} that were dropped{_planted(rows, records, base)}",
            ),
            (others[:: max(len(others) // 24, 1)][:24], "Some that were kept"),
        )
        return [(_thumbnails(dataset, indices), caption) for indices, caption in shown if indices]
    if record.stage == "query" and output.is_file():
        return [(_alone(output), "As the server generates them")]
    return []


def _planted(rows: Sequence[Mapping[str, Any]], records: Mapping[str, Record], base: Path) -> str:
    # How many of the outliers that were planted are among those dropped.
    if "synthetic" not in records:
        return ""
    with open(base / records["synthetic"].output / synthetic_scenes.LIST, newline="", encoding="utf-8") as file:
        planted = [row["name"] for row in csv.DictReader(file) if row["outlier"]]
    kept = {"/".join(row["source"].split("/")[-2:]) for row in rows if row["verdict"] == manifest.KEEP}
    return f"; {len(set(planted) - kept)} of {len(planted)} planted outliers are among them"


def _thumbnails(dataset: ImageDataset, indices: Iterable[int]) -> list[bytes]:
    return [_jpeg(Image.fromarray(for_display(dataset.image(index))), THUMBNAIL) for index in indices]


def _alone(file: Path) -> list[bytes]:
    with Image.open(file) as image:
        return [_jpeg(image.convert("RGB"), _WIDE)]


def _jpeg(image: Image.Image, side: int) -> bytes:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return encode(image, "jpeg", QUALITY)
