"""Reports: one small HTML file each that opens from disk and needs nothing else, of results and small images."""

import base64
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

import jinja2
from jinja2.bccache import Bucket

from eval.data.thumbnails import Thumbnails
from eval.report import charts
from eval.report import text as text_report
from gan.runtime.console import duration
from gan.runtime.files import atomic, escaped

SAMPLES = 48
_TEMPLATES = Path(__file__).parent / "templates"
_PLANES = (("recall", "precision", 1.0), ("coverage", "density", None))


class _InMemory(jinja2.BytecodeCache):
    """Compiled templates, kept for all pages of this process."""

    def __init__(self) -> None:
        self.compiled: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self.compiled.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.compiled[bucket.key, bucket.checksum] = bucket.code


_COMPILED = _InMemory()


def write_report(
    figures: Mapping[str, Any],
    generated: Thumbnails,
    real: Thumbnails | None,
    path: Path,
    *,
    accepted: Thumbnails | None = None,
) -> None:
    """The report of one evaluation: `figures` as in results.json, and what rejection `accepted` where it was asked."""
    by_id = {result["id"]: result for result in reversed(figures["results"])}  # the first extractor's, where several
    images = figures["images"]
    pages: dict[str, Any] = {
        "planes": [charts.plane([by_id], x, y, top=top) for x, y, top in _PLANES if x in by_id and y in by_id],
        "samples": [picture_uri(generated, index) for index in range(min(SAMPLES, figures["generator"]["images"]))],
        "accepted": [picture_uri(accepted, index) for index in range(min(SAMPLES, figures["generator"]["images"]))]
        if accepted
        else [],
        "best": [(picture_uri(generated, item["index"]), item) for item in images["best"]],
        "worst": [(picture_uri(generated, item["index"]), item) for item in images["worst"]],
        "closest": [
            (picture_uri(generated, item["index"]), picture_uri(real, item["real"]), item)
            for item in images["closest"]
            if real is not None
        ],
        "longest": max(figures["seconds"].values(), default=1.0) or 1.0,
    }
    write_page("evaluation.html.j2", path, figures=figures, **pages)


def write_comparison(figures: Mapping[str, Any], pictures: Sequence[Thumbnails | None], path: Path) -> None:
    """The report of a comparison: `figures` as in comparison.json, `pictures` of each entry where they are at hand."""
    entries = figures["entries"]
    kimg = [entry["kimg"] for entry in entries]
    over_training = None not in kimg and len(set(kimg)) == len(kimg) > 1
    pages: dict[str, Any] = {
        "curves": [
            charts.curve(kimg, [entry["results"][id] for entry in entries], figures["best_by_metric"][id])
            for id in figures["best_by_metric"]
            if over_training
        ],
        "planes": [
            charts.plane([{**entry["results"], "label": entry["label"]} for entry in entries], x, y, top=top)
            for x, y, top in _PLANES
            if x in entries[0]["results"] and y in entries[0]["results"]
        ],
        "strips": [
            [picture_uri(thumbnails, index) for index in range(min(8, entry["images"]))] if thumbnails else []
            for entry, thumbnails in zip(entries, pictures, strict=True)
        ],
    }
    write_page("comparison.html.j2", path, figures=figures, **pages)


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, never in powers of ten: 287, 4.10, 0.0123. None, which JSON has for infinity: ∞."""
    if value is None:
        return "∞"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def write_page(template: str, path: Path, *, templates: Sequence[Path] = (), **values: Any) -> None:
    """Write a page of this look: `template` extends page.html.j2, and is looked for in `templates` too."""
    loader = jinja2.FileSystemLoader([_TEMPLATES, *templates])
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_COMPILED,
    )
    environment.filters |= {"verdict": text_report.verdict, "first_place": text_report.first_place}
    environment.filters |= {"number": number, "duration": duration, "short": lambda text: str(text)[:12]}
    text = environment.get_template(template).render(made=time.strftime("%Y-%m-%d %H:%M"), heat=charts.heat, **values)
    with atomic(path) as temporary:
        temporary.write_text(escaped(text), encoding="utf-8")


def picture_uri(thumbnails: Thumbnails, index: int) -> str:
    """Small image `index` as a data URI."""
    return jpeg_uri(thumbnails.jpeg(index))


def jpeg_uri(content: bytes) -> str:
    """A JPEG file as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
