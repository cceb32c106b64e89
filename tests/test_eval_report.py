"""The reports: whole in one file, right in their numbers, and seen in a real browser where there is one."""

import html
import re
import shutil

import pytest
from PIL import Image

from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetSource
from eval.evaluate import REPORT, evaluate
from eval.evaluator import Evaluator
from eval.report import charts
from eval.report.html import SMALL, key_parts, number, picture, with_options
from eval.request import EvaluationRequest
from gan.data.collection import Collection
from gan.data.images import encode
from gan.device.selection import select
from gan.runtime.console import speaking_of

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
        assert f"<code>{''.join(f'<span>{part}</span>' for part in key_parts(row['key']))}</code>" in page
        interval = f"{number(row['low'])} to {number(row['high'])}"
        assert f'<p class="value">{number(row["value"])}</p>\n<p class="interval">{interval}</p>' in page
        assert f"<h3>{row['name']}</h3>" in page
    for text in (
        *found.figures["seconds"],
        found.figures["reference"]["sha256"],
        "not met",
    ):
        assert html.escape(text) in page
    assert all(with_options(warning) in page for warning in found.figures["warnings"])
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
    evaluate(source, real, networks=[(lite, ["kid"])], out=tmp_path / "out")
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


def test_a_key_is_whole_and_ends_its_lines_only_where_its_parts_end():
    assert key_parts("fd@efficientnet-lite0/imagenet/fp32/n=96") == [
        *("fd@", "efficientnet-lite0/", "imagenet/", "fp32/", "n=96")
    ]
    for odd in ("", "a", "@/", "//a@"):
        assert "".join(key_parts(odd)) == odd


def test_small_images_are_enlarged_pixel_by_pixel():
    def jpeg(side):
        return encode(Image.new("RGB", (side, side)), "jpeg")

    assert 'class="small"' in picture(jpeg(SMALL - 1), "x") and "class" not in picture(jpeg(SMALL), "x")
    assert 'alt="&#34;&gt;&lt;b&gt;"' in picture(jpeg(16), '"><b>')


def test_a_warning_names_options_that_no_line_breaks():
    with speaking_of({"repeats": "--repeats", "holdout_of": "--holdout-of"}):
        html = with_options("`repeats` 3 measures <it>; so does `holdout_of` -- here. A--b")
    repeats, holdout = (f'<span class="whole">--{name}</span>' for name in ("repeats", "holdout-of"))
    assert html == f"{repeats} 3 measures &lt;it&gt;; so does {holdout} -- here. A--b"


@pytest.mark.parametrize("values, labels", [((0.76, 0.85), ["at 0.76", "at 0.85"]), ((0.1, 0.9), ["at 0.1", "at 0.9"])])
def test_labels_of_a_plane_are_not_written_over_each_other(values, labels):
    points = [{"recall": RESULT, "precision": {**OTHER, "value": v}, "label": f"at {v}"} for v in values]
    svg = charts.plane(points, "recall", "precision")
    assert re.findall(r">(at [^<]*)</text>", svg) == labels
    assert_readable(svg)


def assert_readable(svg):
    # Each text takes the page's colour, in the dark, too.
    assert svg.count("<text") == len(re.findall(r"<text[^>]*fill: currentColor", svg)) > 0


def test_a_sweep_names_its_series_and_few_of_the_points_that_lie_together():
    results = {"recall": RESULT, "precision": OTHER}
    points = [{**results, "label": f"{number / 10}", "front": True} for number in range(10)]
    plane = charts.swept_plane({"no rejection": points, "budget 2": points}, "recall", "precision")
    curve = charts.swept_curve([0.5, 1], {"no rejection": [RESULT, RESULT], "budget 2": [OTHER, OTHER]})
    assert ">0.0 … 0.9</text>" in plane and ">0.5</text>" not in plane
    for svg in (plane, curve):
        assert ">no rejection</text>" in svg and ">budget 2</text>" in svg
        assert_readable(svg)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_a_report_without_sideways_scrolling(width, judged, browser):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    browser.open(judged[1].as_uri())
    assert browser.run("document.documentElement.scrollWidth") <= width
    images, loaded = browser.run("[document.images.length, [...document.images].filter(i => i.naturalWidth).length]")
    assert images == loaded > 40
    charts_shown = browser.run("[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width)")
    assert len(charts_shown) == 2 and min(charts_shown) > 200
    tops = browser.run(
        "[...document.querySelectorAll('.card')].map(card => [card.getBoundingClientRect().top, "
        "...['.value', '.interval'].map(each => card.querySelector(each).getBoundingClientRect().top)].map(Math.round))"
    )
    rows = {top: {tuple(each[1:]) for each in tops if each[0] == top} for top in {each[0] for each in tops}}
    assert len(rows) > 1 and all(len(places) == 1 for places in rows.values())  # aligned, in each row of cards
    key = browser.run("getSelection().selectAllChildren(document.querySelector('.card code')), String(getSelection())")
    assert key == judged[0].figures["results"][0]["key"]
    assert browser.errors == []


def test_a_table_that_is_wider_than_the_page_shows_that_it_goes_on(judged, browser):
    browser.send("Emulation.setDeviceMetricsOverride", width=320, height=900, deviceScaleFactor=1, mobile=False)
    browser.open(judged[1].as_uri())
    wide = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth)"
    assert browser.run(f"{wide}.length") >= 1
    assert browser.run("[...document.querySelectorAll('table')].every(t => t.scrollWidth <= t.parentNode.scrollWidth)")
    assert browser.run(f"{wide}.every(each => getComputedStyle(each).backgroundImage.includes('gradient'))")
    browser.run(f"{wide}[0].focus()")
    assert browser.run("document.activeElement.className") == "scroll"  # the keyboard scrolls it


def contrast(one: str, other: str) -> float:
    """Of two colours as rgb(...), by WCAG 2.1, equation of relative luminance."""

    def luminance(colour: str) -> float:
        shares = [float(text) / 255 for text in re.findall(r"[\d.]+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_charts_can_be_read_in_both_colour_schemes(scheme, judged, browser):
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(judged[1].as_uri())
    colour = "getComputedStyle(document.querySelector({!r})).{}"
    card = browser.run(colour.format(".plots figure", "backgroundColor"))
    for each in (".card .value", ".card .quiet", ".card code", "td.bad"):
        assert contrast(browser.run(colour.format(each, "color")), card) >= 4.5
    for each, attribute in (("svg text", "fill"), ("svg .patch_3 path, svg [id^=patch] path[style*=stroke]", "stroke")):
        assert contrast(browser.run(colour.format(each, attribute)), card) >= 4.5
