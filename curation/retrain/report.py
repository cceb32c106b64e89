"""The report of a retraining experiment: one small HTML file in the look of the evaluations' reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.retrain.results import signed
from eval.data.thumbnails import Thumbnails
from eval.report.html import write_page

REPORT = "report.html"
SAMPLES = 8
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(figures: Mapping[str, Any], thumbnails: Sequence[Thumbnails | None], path: Path) -> None:
    """Write the report: `figures` as in results.json, `thumbnails` of each arm in the order of figures["arms"]."""
    count = min(SAMPLES, figures["plan"]["num_images"])
    strips = [[images.jpeg(index) for index in range(count)] if images else [] for images in thumbnails]
    spans = [_span(list(metric["differences"].values())) for metric in figures["metrics"]]
    write_page(
        "retraining.html.j2",
        path,
        templates=[_TEMPLATES],
        figures=figures,
        strips=strips,
        spans=spans,
        recall_span=_span([row["differences"]["curated - full"] for row in figures["strata"]]),
        place=_place,
        signed=signed,
    )


def _span(differences: Sequence[Mapping[str, float]]) -> float:
    # The largest distance from zero that any interval reaches.
    return (
        max((abs(end) for interval in differences for end in (interval["low"], interval["high"])), default=0.0) or 1.0
    )


def _place(value: float, span: float) -> float:
    # Percent of the width, with zero in the middle.
    return round(50 + 48 * value / span, 2)
