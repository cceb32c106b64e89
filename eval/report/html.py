"""Reports: one small HTML file each that opens from disk and needs nothing else, of results and small images."""

import base64
import functools
import io
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from eval.data.thumbnails import Thumbnails
from eval.report import charts
from eval.report import text as text_report
from gan.runtime import page
from gan.runtime.console import duration, in_options
from gan.runtime.files import atomic, escaped

SAMPLES = 48
SMALL = 64  # pixels: a report shows less wide images larger than they are
_TEMPLATES = Path(__file__).parent / "templates"
_PLANES = (("recall", "precision", 1.0), ("coverage", "density", None))


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
        "samples": [generated.jpeg(index) for index in range(min(SAMPLES, figures["generator"]["images"]))],
        "accepted": [accepted.jpeg(index) for index in range(min(SAMPLES, figures["generator"]["images"]))]
        if accepted
        else [],
        "best": [(generated.jpeg(item["index"]), item) for item in images["best"]],
        "worst": [(generated.jpeg(item["index"]), item) for item in images["worst"]],
        "closest": [
            (generated.jpeg(item["index"]), real.jpeg(item["real"]), item)
            for item in images["closest"]
            if real is not None
        ],
        "longest": max(figures["seconds"].values(), default=1.0) or 1.0,
    }
    write_page("evaluation.html.j2", path, figures=figures, **pages)


def write_comparison(
    figures: Mapping[str, Any],
    pictures: Sequence[Thumbnails | None],
    path: Path,
    over: tuple[str, Sequence[float | None]] | None = None,
) -> None:
    """The report of a comparison: `figures` as in comparison.json, `pictures` of each entry where they are at hand.

    `over` names what to draw its curves over, in place of training, and has its value for each entry; None: not drawn.
    """
    entries = figures["entries"]
    axis, values = over or (charts.KIMG, [entry["kimg"] for entry in entries])
    points = {place: value for place, value in enumerate(values) if value is not None}
    drawn, x = list(points), list(points.values())
    complete = (over is not None or len(drawn) == len(entries)) and len(set(x)) == len(x) > 1
    shown = [entries[place] for place in drawn] if over else entries
    pages: dict[str, Any] = {
        "over": f"the {axis}" if over else "training",
        "curves": [
            charts.curve(
                x,
                [entries[place]["results"][id] for place in drawn],
                drawn.index(best) if best in drawn else None,
                axis,
            )
            for id, best in figures["best_by_metric"].items()
            if complete
        ],
        "planes": [
            charts.plane([{**entry["results"], "label": entry["label"]} for entry in shown], x, y, top=top)
            for x, y, top in _PLANES
            if x in entries[0]["results"] and y in entries[0]["results"]
        ],
        "strips": [
            [thumbnails.jpeg(index) for index in range(min(8, entry["images"]))] if thumbnails else []
            for entry, thumbnails in zip(entries, pictures, strict=True)
        ],
    }
    of_places = list(zip(*figures["differences"].values(), strict=True))  # an entry's rows, of all metrics
    pages["same_seeds"] = all(
        any(row["paired"] and not row["best"] for row in rows) or all(row["best"] for row in rows) for rows in of_places
    )
    write_page("comparison.html.j2", path, figures=figures, **pages)


def write_sweep(figures: Mapping[str, Any], pictures: Sequence[Thumbnails | None], path: Path) -> None:
    """The page of a sweep: `figures` as in sweep.json, `pictures` of each setting where they are at hand."""
    entries = figures["entries"]
    budgets = list(dict.fromkeys(entry["budget"] for entry in entries))
    psi = list(dict.fromkeys(entry["psi"] for entry in entries))
    points = [
        {**entry["results"], "label": f"{entry['psi']:g}", "front": place in figures["front"]}
        for place, entry in enumerate(entries)
    ]

    def series(values: Sequence[Any]) -> dict[str, list[Any]]:
        named = {"no rejection" if budget == 1 else f"budget {budget}": budget for budget in budgets}
        return {
            name: [value for value, entry in zip(values, entries, strict=True) if entry["budget"] == budget]
            for name, budget in named.items()
        }

    pages: dict[str, Any] = {
        "planes": [
            charts.swept_plane(series(points), x, y) for x, y, _ in _PLANES[:1] if {x, y} <= set(entries[0]["results"])
        ],
        "curves": [
            charts.swept_curve(psi, series([entry["results"][id] for entry in entries]))
            for id in figures["best_by_metric"]
        ]
        if len(psi) > 1
        else [],
        "strips": [
            [thumbnails.jpeg(index) for index in range(min(8, entry["images"]))] if thumbnails else []
            for entry, thumbnails in zip(entries, pictures, strict=True)
        ],
    }
    write_page("sweep.html.j2", path, figures=figures, **pages)


def write_group_comparison(figures: Mapping[str, Any], path: Path) -> None:
    """The report of a comparison of groups: `figures` as in comparison.json."""
    write_page("groups.html.j2", path, figures=figures, plots=[charts.groups(metric) for metric in figures["metrics"]])


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, never in powers of ten: 287, 4.10, 0.0123. None, which JSON has for infinity: ∞."""
    if value is None:
        return "∞"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


@functools.cache
def _environment(templates: tuple[Path, ...]) -> jinja2.Environment:
    # Kept, with the templates that it has compiled.
    loader = jinja2.FileSystemLoader([_TEMPLATES, *templates])
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "verdict": text_report.verdict,
        "recommendation": text_report.recommendation,
        "first_place": text_report.first_place,
    }
    environment.filters |= {"number": number, "duration": duration, "picture": picture, "key_parts": key_parts}
    environment.filters["with_options"] = with_options
    return environment


def write_page(template: str, path: Path, *, templates: Sequence[Path] = (), **values: Any) -> None:
    """Write a page of this look: `template` extends page.html.j2, and is looked for in `templates` too."""
    values |= {"stylesheet": page.read(page.PACKAGE, "page.css"), "heat": charts.heat}
    text = _environment(tuple(templates)).get_template(template).render(made=time.strftime("%Y-%m-%d %H:%M"), **values)
    with atomic(path) as temporary:
        temporary.write_text(escaped(text), encoding="utf-8")


def picture(content: bytes, alt: str) -> Markup:
    """A JPEG file as an <img>, of its own proportions. The pixels of a SMALL one stay sharp where it is enlarged."""
    width, height = Image.open(io.BytesIO(content)).size
    return Markup('<img src="data:image/jpeg;base64,{}" alt="{}" width="{}" height="{}"{}>').format(
        base64.b64encode(content).decode(), alt, width, height, Markup(' class="small"') if width < SMALL else ""
    )


def with_options(text: str) -> Markup:
    """A warning as HTML: it names the running command's options where it names parameters, and no line ends in one."""
    return Markup(re.sub(r"(?<!\w)--[a-z][a-z-]*", r'<span class="whole">\g<0></span>', str(escape(in_options(text)))))


def key_parts(key: str) -> list[str]:
    """The parts of a result's key that a line may end after: of a@b/c they are a@, b/ and c."""
    return re.findall(r"[^@/]*[@/]|[^@/]+", key)
