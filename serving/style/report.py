"""The reports of a style classifier's training and of a style check, in the look of the evaluations' reports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.report import charts
from eval.report.html import write_page
from serving.style.check import ClassifiedImages
from serving.style.train import Trained

RESULTS, PAGE = "results.json", "report.html"
MISTAKES = 24
_TEMPLATES = Path(__file__).parent / "templates"


def write_training(trained: Trained, path: Path) -> None:
    """The report of a training: figures as in its JSON, the confusion of styles, and the surest mistakes."""
    figures = trained.figures
    write_page(
        "style_training.html.j2",
        path,
        templates=[_TEMPLATES],
        figures=figures,
        reliability=charts.reliability(figures["held_out"]["reliability"]),
        mistakes=[(trained.thumbnails.jpeg(item["index"]), item) for item in _mistakes(trained)],
    )


def write_check(figures: Mapping[str, Any], classified: ClassifiedImages, path: Path) -> None:
    """The report of a check: `figures` as in results.json."""
    ends = {end: [(classified.thumbnails[item["index"]], item) for item in figures[end]] for end in ("most", "least")}
    write_page("style_check.html.j2", path, templates=[_TEMPLATES], figures=figures, **ends)


def _mistakes(trained: Trained) -> list[dict[str, Any]]:
    # Held-out paintings that were taken for another style, the surest first.
    labels, probabilities = trained.paintings.labels, trained.probabilities
    predicted, styles = probabilities.argmax(1), trained.paintings.styles
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:MISTAKES]
    return [
        {
            "index": int(trained.paintings.indices[i]),
            "style": styles[labels[i]],
            "found": styles[predicted[i]],
            "probability": float(probabilities[i, predicted[i]]),
        }
        for i in wrong
    ]
