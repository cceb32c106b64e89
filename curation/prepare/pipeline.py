"""Image collections -> a dataset, its manifest and a report.

Every candidate becomes one row of the manifest, in one order, whatever the number of workers: kept, dropped (a
duplicate, or without a label) or quarantined with a reason. The archive's rename comes last: until then the old dataset
stands, and a run that was killed leaves nothing but hidden files, which the next run removes.
"""

import json
import os
import shutil
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from curation.prepare.plan import Plan, Request, Task, make_plan
from curation.prepare.resize import Prepared, crashed, prepare
from curation.prepare.statistics import Tally
from curation.prepare.worker_pool import surviving_map
from gan import __version__
from gan.data import manifest
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import FORMATS
from gan.errors import RequestError
from gan.runtime.console import progress
from gan.runtime.files import atomic, remove_stale_partials, write_json

REVIEWER = "salon prepare"
Row = dict[str, Any]


def collect(request: Request) -> dict[str, Any]:
    """Prepare a dataset, or without `request.out` only look -> the figures of the report.

    Raises RequestError when no image can be used; then nothing is written.
    """
    started = time.perf_counter()
    plan = make_plan(request)
    tally = Tally()
    origin = {"parameters": request.parameters(), "versions": _versions()}
    if request.out is None:
        for _ in _judge(request, plan, tally):
            pass
        _require_images(tally, plan)
        return {"archive": None, **tally.figures(plan, time.perf_counter() - started), **origin}

    out = request.out
    if out.parent.is_dir():
        remove_stale_partials(out.parent)
    with atomic(out) as archive, _spool(out) as rows:
        _write_archive(archive, rows, request, plan, tally)
        _require_images(tally, plan)
        tally.bytes_out = archive.stat().st_size
        fingerprint = ImageDataset(archive).fingerprint()
        digest = _replace_manifest(request.manifest, _read_rows(rows), dataset=fingerprint, parent=None, **origin)
        names = {"archive": str(out), "fingerprint": fingerprint, "manifest": digest}
        figures = {**names, **tally.figures(plan, time.perf_counter() - started), **origin}
        write_json(request.report, figures)
    return figures


def _judge(request: Request, plan: Plan, tally: Tally) -> Generator[tuple[Row, Prepared]]:
    """Prepare the plan's images -> for each, its manifest row without a name, and what was made of it."""
    unlabelled = Prepared(reason="no label")
    work = [task for task in plan.tasks if _has_label(plan, task)]
    function = partial(prepare, settings=request.settings)
    results = surviving_map(function, (task.candidate for task in work), crashed, request.workers)
    first: dict[str, str] = {}  # pixel hash -> where it was first met
    with closing(results):
        for task in progress(plan.tasks, "Preparing", len(plan.tasks)):
            prepared = next(results) if _has_label(plan, task) else unlabelled
            verdict, reason = manifest.KEEP, prepared.reason
            if prepared is unlabelled:
                verdict = manifest.DROP
            elif reason:
                verdict = manifest.QUARANTINE
            elif not request.keep_duplicates and prepared.pixel_sha256 in first:
                verdict, reason = manifest.DROP, f"duplicate: {first[prepared.pixel_sha256]}"
            elif prepared.pixel_sha256:
                first[prepared.pixel_sha256] = task.candidate.shown
            tally.add(task, prepared, verdict, reason)
            yield _row(task, prepared, verdict, reason), prepared


def _has_label(plan: Plan, task: Task) -> bool:
    return plan.labels is None or task.label is not None


def _row(task: Task, prepared: Prepared, verdict: str, reason: str | None) -> Row:
    painting = task.painting
    return {
        "name": None,
        "source": task.candidate.shown,
        "file_sha256": prepared.file_sha256,
        "pixel_sha256": prepared.pixel_sha256,
        "label": task.label,
        "style": painting.style if painting else None,
        "genre": painting.genre if painting else None,
        "artist": painting.artist if painting else None,
        "width": prepared.width,
        "height": prepared.height,
        "mode": prepared.mode,
        "verdict": verdict,
        "reason": reason,
        "reviewer": REVIEWER,
    }


def _write_archive(archive: Path, rows: Path, request: Request, plan: Plan, tally: Tally) -> None:
    """Write the kept images to `archive`, and to `rows` the manifest's, a line of JSON each: memory stays bounded."""
    writer = DatasetWriter(archive, FORMATS[request.settings.format])
    with open(rows, "w", encoding="utf-8") as file, closing(_judge(request, plan, tally)) as judged:
        for row, prepared in judged:
            if row["verdict"] == manifest.KEEP:
                assert prepared.content is not None
                row["name"] = writer.add(prepared.content, row["label"])
            file.write(json.dumps(row) + "\n")
    writer.close(plan.labels.classes if plan.labels else None)


@contextmanager
def _spool(out: Path) -> Iterator[Path]:
    rows = out.with_name(f".{out.name}.rows.{os.getpid()}.partial")
    try:
        yield rows
    finally:
        rows.unlink(missing_ok=True)


def _read_rows(rows: Path) -> Iterator[Row]:
    with open(rows, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _require_images(tally: Tally, plan: Plan) -> None:
    if tally.kept:
        return
    counts = {**tally.reasons, "without a label": tally.unlabelled, "ignored": plan.ignored, **(plan.wikiart or {})}
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "no files at all"
    raise RequestError(f"SOURCE must hold at least one image that can be used; got none: {told}")


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


def _versions() -> dict[str, str]:
    return {"salon": __version__, "pillow": PIL.__version__, "numpy": np.__version__}
