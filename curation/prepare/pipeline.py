"""Image collections -> a dataset, its manifest and a report.

Every image file becomes one row of the manifest, in one order, whatever the number of workers: kept, dropped (a
duplicate, or without a label) or quarantined with a reason. The archive's rename comes last: until then the old dataset
stands, and a run that was killed leaves nothing but hidden files, which the next run removes.
"""

import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.prepare.engines import prepared, remove_kept, versions
from curation.prepare.plan import Output, PreparationPlan, Task, make_plans, parameters
from curation.prepare.request import PrepareRequest
from curation.prepare.resize import EncodedImage
from curation.prepare.shapes import BUCKETS
from curation.prepare.statistics import SCENE, Statistics
from curation.prepare.video import SAME_SCENE, difference
from gan.data import manifest
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import FORMATS
from gan.errors import RequestError
from gan.runtime.console import progress, say
from gan.runtime.files import atomic, remove_stale_partials, write_json

REVIEWER = "salon prepare"
SQUARE_CROP = ("crop_left", "crop_top", "crop_side")  # columns, in pixels of the original
CROP = ("crop_left", "crop_top", "crop_width", "crop_height")
EMPTY = np.zeros([3, 0], np.float32)  # histograms of no frame
UNLABELLED = EncodedImage(reason="no label")
Row = dict[str, Any]


class _NoImages(RequestError):
    """No image of a collection can be used."""


def collect(request: PrepareRequest) -> dict[str, Any]:
    """Prepare a dataset, or in a dry run only read -> the figures of the report.

    With `buckets` they are those of each dataset, under "buckets"; None where a bucket has no image that can be used.
    Raises RequestError when no image can be used; then nothing is written.
    """
    started = time.perf_counter()
    with _scratch(request.archive) as scratch:
        plans = make_plans(request, scratch)
        if not request.buckets:
            return _collect(request, plans[0], started)
        return _collect_buckets(request, plans)


def _collect_buckets(request: PrepareRequest, plans: list[PreparationPlan]) -> dict[str, Any]:
    figures: dict[str, dict[str, Any] | None] = dict.fromkeys(BUCKETS)
    problem = _NoImages("`sources` must hold at least one image that can be used; got none: no files at all")
    for plan in plans:
        try:
            figures[plan.bucket] = _collect(request, plan, time.perf_counter())
        except _NoImages as error:
            problem = error
            say(f"No dataset of {plan.bucket} images is made: {error}")
    if not any(figures.values()):
        raise problem
    return {"buckets": figures}


def _collect(request: PrepareRequest, plan: PreparationPlan, started: float) -> dict[str, Any]:
    statistics = Statistics(settings=plan.settings)
    origin = {"parameters": parameters(request, plan.settings), "versions": versions()}
    if look := plan.look:
        images = f"The {plan.bucket} images" if plan.bucket else "The images"
        say(f"{images} become {plan.settings.shape}, by the headers of {look['looked_at']:,} of {look['of']:,} files")
    with closing(_encoded(plan, request)) as encoded:
        rows = _decided(_scenes(encoded), statistics, keep_duplicates=request.keep_duplicates)
        if plan.output is None:
            deque(rows, maxlen=0)  # only count
            _require_images(statistics, plan)
            remove_kept(plan.settings, plan.files)
            return {"archive": None, **statistics.figures(plan, time.perf_counter() - started), **origin}
        return _write(plan, plan.output, rows, statistics, origin, started)


def _encoded(plan: PreparationPlan, request: PrepareRequest) -> Generator[tuple[Task, EncodedImage]]:
    """Each task with each of its encoded images, in order; those without a label are not read."""
    with closing(prepared(plan.files, plan.settings, request)) as images:
        for task in progress(plan.tasks, "Preparing", len(plan.tasks)):
            for image in next(images) if plan.has_label(task) else [UNLABELLED]:
                yield task, image


def _scenes(images: Iterable[tuple[Task, EncodedImage]]) -> Iterator[tuple[Task, EncodedImage, str | None]]:
    """Each image with the frame of its video that was last taken, where it is another one of the same scene."""
    taken, colours = "", EMPTY
    for task, image in images:
        same = None
        if image.histograms is not None:
            video, frame = f"{task.file.shown}/", f"{task.file.shown}/{image.frame}"
            known = taken.startswith(video) and taken != frame  # else a crop of that frame
            if known and difference(image.histograms, colours) <= SAME_SCENE:
                same = taken
            else:
                taken, colours = frame, image.histograms
        yield task, image, same


def _decided(
    images: Iterable[tuple[Task, EncodedImage, str | None]], statistics: Statistics, *, keep_duplicates: bool
) -> Iterator[tuple[Row, EncodedImage]]:
    """The manifest's row of each image, without a name, and the image; `statistics` counts them."""
    first: dict[str, str] = {}  # pixel hash -> where it was first met
    for task, image, same_scene in images:
        verdict, reason = manifest.KEEP, image.reason
        if image is UNLABELLED:
            verdict = manifest.DROP
        elif same_scene:
            verdict, reason = manifest.DROP, f"{SCENE}: {same_scene}"
        elif reason:
            verdict = manifest.QUARANTINE
        elif not keep_duplicates and image.pixel_sha256 in first:
            verdict, reason = manifest.DROP, f"duplicate: {first[image.pixel_sha256]}"
        elif image.pixel_sha256:
            first[image.pixel_sha256] = image.shown(task.file)
        statistics.add(task, image, verdict, reason)
        yield _row(task, image, verdict, reason), image


def _row(task: Task, image: EncodedImage, verdict: str, reason: str | None) -> Row:
    painting = task.painting
    left, top, width, height = image.crop or (None, None, None, None)
    return {
        "name": None,
        "source": image.shown(task.file),
        "file_sha256": image.file_sha256,
        "pixel_sha256": image.pixel_sha256,
        "label": task.label,
        "style": painting.style if painting else None,
        "genre": painting.genre if painting else None,
        "artist": painting.artist if painting else None,
        "width": image.width,
        "height": image.height,
        "mode": image.mode,
        **{"crop_left": left, "crop_top": top, "crop_width": width, "crop_height": height, "crop_side": width},
        "verdict": verdict,
        "reason": reason,
        "reviewer": REVIEWER,
    }


def _columns(plan: PreparationPlan) -> pa.Schema:
    """The manifest's columns for crops; of squares the side is enough."""
    if plan.settings.crops == 1:
        return pa.schema([])
    shape = plan.settings.shape
    return pa.schema([(name, pa.int64()) for name in (SQUARE_CROP if shape.width == shape.height else CROP)])


def _write(
    plan: PreparationPlan,
    output: Output,
    rows: Iterable[tuple[Row, EncodedImage]],
    statistics: Statistics,
    origin: dict[str, Any],
    started: float,
) -> dict[str, Any]:
    """Write archive, manifest and report -> the figures of the report."""
    out = output.archive
    if out.parent.is_dir():
        remove_stale_partials(out.parent)
    with atomic(out) as archive, _spool(out) as spool:
        _write_archive(archive, spool, rows, plan)
        _require_images(statistics, plan)
        statistics.bytes_out = archive.stat().st_size
        fingerprint = ImageDataset(archive).fingerprint()
        details = {"columns": _columns(plan), "dataset": fingerprint, "parent": None, **origin}
        digest = _replace_manifest(output.manifest, _read_rows(spool), **details)
        names = {"archive": str(out), "fingerprint": fingerprint, "manifest": digest}
        figures = {**names, **statistics.figures(plan, time.perf_counter() - started), **origin}
        write_json(output.report, figures)
    remove_kept(plan.settings, plan.files)
    return figures


def _write_archive(archive: Path, spool: Path, rows: Iterable[tuple[Row, EncodedImage]], plan: PreparationPlan) -> None:
    """Write the kept images to `archive`, and all rows to `spool`, a line of JSON each: memory stays bounded."""
    writer = DatasetWriter(archive, FORMATS[plan.settings.format], plan.settings.shape.channels)
    with open(spool, "w", encoding="utf-8") as file:
        for row, image in rows:
            if row["verdict"] == manifest.KEEP:
                assert image.content is not None
                row["name"] = writer.add(image.content, row["label"])
            file.write(json.dumps(row) + "\n")
    writer.close(plan.labels.classes if plan.labels else None)


@contextmanager
def _scratch(out: Path | None) -> Iterator[Path]:
    """A folder that may be made, beside the dataset, for archives that have to be unpacked."""
    folder = out.parent if out else Path(tempfile.gettempdir())
    scratch = folder / f".{out.name if out else 'salon'}.unpacked.{os.getpid()}.partial"
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _spool(out: Path) -> Iterator[Path]:
    rows = out.with_name(f".{out.name}.rows.{os.getpid()}.partial")
    try:
        yield rows
    finally:
        rows.unlink(missing_ok=True)


def _read_rows(spool: Path) -> Iterator[Row]:
    with open(spool, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _require_images(statistics: Statistics, plan: PreparationPlan) -> None:
    if statistics.kept:
        return
    counts = {**statistics.reasons, "without a label": statistics.unlabelled, "ignored": plan.ignored}
    counts |= {"videos": plan.videos_ignored}
    counts |= plan.wikiart or {}
    text = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "no files at all"
    raise _NoImages(f"`sources` must hold at least one image that can be used; got none: {text}")


def _replace_manifest(path: Path, rows: Iterable[Row], **header: Any) -> str:
    """Write a manifest where an old one may stand -> its hash. A folder cannot replace another in one step."""
    fresh, old = (path.with_name(f".{path.name}.{part}.{os.getpid()}.partial") for part in ("new", "old"))
    try:
        digest = manifest.write(fresh, rows, **header)
        if path.exists():
            path.replace(old)
        fresh.replace(path)
    finally:
        if old.exists() and not path.exists():
            old.replace(path)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(fresh, ignore_errors=True)
    return digest
