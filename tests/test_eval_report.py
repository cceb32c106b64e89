"""The reports: whole in one file, right in their numbers, and seen in a real browser where there is one."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import HANG

from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetSource
from eval.evaluate import REPORT, evaluate
from eval.evaluator import Evaluator
from eval.report import charts
from eval.report.html import number
from eval.request import EvaluationRequest
from gan.data.collection import Collection
from gan.device.selection import select

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RESULT = {"id": "recall", "name": "Recall", "value": 0.5, "low": 0.4, "high": 0.7}
OTHER = {"id": "precision", "name": "Precision", "value": 0.8, "low": 0.75, "high": 0.9}


@pytest.fixture(scope="module")
def judged(tiny_run, tiny_dataset, tmp_path_factory):
    """An evaluation with everything that a report shows, and its folder."""
    out = tmp_path_factory.mktemp("report")
    request = EvaluationRequest(
        metrics=("fid", "kid", "pr", "dc", "is"),
        extractors=("efficientnet-lite0",),
        num_images=20,
        strata="label",
        require=("fd<1",),
    )
    evaluator = Evaluator(Collection.open(tiny_dataset), request, select("cpu"))
    return evaluator(tiny_run, out), out / REPORT


def test_a_report_holds_every_number_and_key(judged):
    found, path = judged
    page = path.read_text()
    for row in found.figures["results"]:
        assert row["key"] in page and row["name"] in page
        assert f"{number(row['value'])} <small>{number(row['low'])} to {number(row['high'])}" in page
    for text in (
        *found.figures["warnings"],
        *found.figures["seconds"],
        found.figures["reference"]["sha256"],
        "not met",
    ):
        assert html.escape(text) in page
    assert page.count("<svg") == 2 and 'aria-label="Precision against Recall"' in page
    assert page.count("<td>day</td>") == page.count("<td>night</td>") == 1


def test_a_report_needs_nothing_else_and_is_small(judged):
    page = judged[1].read_text()
    assert not re.findall(r"<(?:script|link|iframe|object)", page)
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert len(sources) > 40 and all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    assert len(page) < 250_000


def test_names_in_a_report_are_text(tiny_dataset, lite, tmp_path):
    folder = tmp_path / "<b>bold"
    folder.mkdir()
    shutil.copy(tiny_dataset, folder / "<script>.zip")
    real = DatasetSource(Collection.open(tiny_dataset))
    source = FilesSource(folder / "<script>.zip")
    evaluate(source, real, metrics=["kid"], extractors=[lite], out=tmp_path / "out")
    page = (tmp_path / "out" / REPORT).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "<b>" not in page


def test_a_chart_has_its_text_and_the_pages_colours():
    svg = charts.plane([{"recall": RESULT, "precision": OTHER}], "recall", "precision")
    assert ">Recall</text>" in svg and ">Precision</text>" in svg
    assert "currentColor" in svg and "var(--accent)" in svg and charts.INK not in svg and charts.ACCENT not in svg
    assert svg == charts.plane([{"recall": RESULT, "precision": OTHER}], "recall", "precision")
    assert len(svg) < 30_000
    points = [{"recall": RESULT, "precision": {**OTHER, "value": v}, "label": f"at {v}"} for v in (0.76, 0.8, 0.85)]
    joined = charts.plane(points, "recall", "precision")
    assert "at 0.76" in joined and "at 0.85" in joined
    curve = charts.curve([1, 2, 4], [{**RESULT, "value": v} for v in (0.5, 0.6, 0.45)], 1)
    assert ">Recall</text>" in curve and "thousands of images" in curve


@pytest.mark.parametrize(
    "value, text",
    [
        *((287.66, "288"), (12345.6, "12,346"), (4.1, "4.10"), (0.0123, "0.0123"), (0, "0"), (None, "∞")),
        *((-0.5, "-0.500"), (1e-5, "0.0000100"), (99.96, "100.0")),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_heat():
    assert [charts.heat(v, [1.0, 2.0, 3.0]) for v in (1.0, 2.0, 3.0)] == [0, 0.5, 1]
    assert charts.heat(1.0, [1.0]) == 0.5


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_a_report_without_sideways_scrolling(width, judged, tmp_path):
    # Chromium's window is at least 500 pixels wide: a frame is as narrow as a phone.
    page = html.escape(judged[1].read_text())
    probe = tmp_path / "probe.html"
    probe.write_text(
        f'<iframe width="{width}" height="900" srcdoc="{page}"></iframe><script>'
        'onload = () => { const page = document.querySelector("iframe").contentDocument;'
        "const images = [...page.images];"
        "document.title = [page.documentElement.scrollWidth, images.length, images.filter(i => i.naturalWidth).length,"
        'page.querySelectorAll("svg").length, page.querySelector("svg").getBoundingClientRect().width].join(" "); }'
        "</script>",
        encoding="utf-8",
    )
    dom = browse(tmp_path, probe)
    title = re.search(r"<title>([\d. ]+)</title>", dom)
    assert title, dom[-500:]
    scroll, images, loaded, charts_shown, chart_width = map(float, title[1].split())
    assert scroll <= width and images == loaded > 40 and charts_shown == 2 and chart_width > 200


def browse(profile: Path, page: Path) -> str:
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    switches += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}/profile"]
    words = [str(CHROMIUM), *switches, "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=HANG).stdout
