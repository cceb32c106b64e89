"""The map: positions, samples and thumbnails, the page in a real browser, and lists that prune reads."""

import base64
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_salon, stripes_or_blots, until
from PIL import Image
from test_cli import refused
from test_curation_decide_verdicts import dropped, prune, scored

from curation.map import page_columns, sheets
from curation.map.layout import layout
from curation.map.sample import stratified
from gan.data import manifest
from gan.data.collection import Collection
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import encode

COUNT = 40
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
READY = "document.body.dataset.ready"


def images(path: Path) -> Path:
    """A dataset of stripes and blots in turn, of two classes."""
    writer, rng = DatasetWriter(path, ".png"), np.random.default_rng(0)
    for number in range(COUNT):
        picture = stripes_or_blots(rng, ("Blots", "Stripes")[number % 2], 16, 16)
        writer.add(encode(picture, "png"), number % 2)
    writer.close(["Blots", "Stripes"])
    return path


def shown(page: Path) -> dict:
    """What a page has, as JSON."""
    return json.loads(re.search(r'id="content">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def write(folder: Path) -> None:
    """The dataset, and a manifest with verdicts, scores and a hostile name."""
    data = images(folder / "d.zip")
    columns = {
        "label": [number % 2 for number in range(COUNT)],
        "genre": ["landscape"] * 30 + ["portrait"] * 10,
        "artist": [f"artist {number % 20}" for number in range(COUNT)],
        "source": [*(f"p/{i}.png" for i in range(COUNT - 1)), HOSTILE],
        "verdict": ["drop"] * 3 + ["keep"] * (COUNT - 3),
        "reason": ["low rank: 0.01 by density"] * 2 + ["listed"] + [None] * (COUNT - 3),
        "score_density": [None, *np.arange(1.0, COUNT)],
        "score_density_se": np.full(COUNT, 0.5),
    }
    scored(folder / "m", COUNT, ImageDataset(data).fingerprint(), **columns)


@pytest.fixture(scope="module")
def dataset(made_once, tmp_path_factory):
    """The dataset and its manifest, in a folder of each worker's own."""
    folder = shutil.copytree(made_once("map-dataset", write), tmp_path_factory.mktemp("map") / "own")
    return folder / "d.zip", folder / "m"


@pytest.fixture(scope="module")
def drawn(dataset, made_once, conditional_snapshot):
    """The page of a map with generated images, and the figures."""
    data, path = dataset
    options = ("--manifest", path, "--snapshot", conditional_snapshot, "--num-images", 7, "--json")

    def make(folder: Path) -> None:
        outcome = run_salon("curate", "map", data, "--out", folder / "map.html", *options)
        assert outcome.code == 0, outcome.err
        (folder / "figures.json").write_text(outcome.out)

    folder = made_once("map-page", make)
    return folder / "map.html", json.loads((folder / "figures.json").read_text())


# Positions


def planted(count: int = 60, dim: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Features of three groups, and the group of each."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 3 * count)
    return (rng.normal(size=[3, dim])[group] * 3 + rng.normal(size=[3 * count, dim])).astype(np.float32), group


def test_groups_stay_together_and_repeat_in_any_order():
    features, group = planted()
    found = layout(features, seed=0)
    distance = np.square(found.positions[:, None] - found.positions[None]).sum(axis=2)
    nearest = np.argsort(distance, axis=1)[:, 1:11]
    assert (group[nearest] == group[:, None]).mean() > 0.99
    assert 0.3 < found.kept < 1 and found.perplexity == 30 and found.components == 40
    order = np.random.default_rng(1).permutation(len(features))
    again = layout(features[order], seed=0)
    np.testing.assert_allclose(again.positions, found.positions[order], atol=1e-9 * np.ptp(found.positions))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 11])
def test_few_images_have_places_too(count):
    found = layout(planted()[0][:count], seed=0)
    assert found.positions.shape == (count, 2) and np.isfinite(found.positions).all()
    assert found.perplexity == (None if count < 4 else (count - 1) / 3) and (found.kept is None) == (count < 11)
    assert len(np.unique(found.positions.round(9), axis=0)) == count


def test_images_that_are_the_same_lie_together():
    found = layout(np.ones([20, 8], np.float32), seed=0)
    assert np.isfinite(found.positions).all() and np.ptp(found.positions) < 1e-3


# Samples


def test_a_sample_keeps_the_share_of_each_stratum():
    strata = np.repeat([5, 7, 9], [700, 290, 10])
    places = stratified(strata, 100, seed=0)
    assert len(np.unique(places)) == 100 and (np.diff(places) > 0).all()
    assert np.unique(strata[places], return_counts=True)[1].tolist() == [70, 29, 1]
    assert (stratified(strata, 100, seed=0) == places).all() and (stratified(strata, 100, seed=1) != places).any()


def test_a_small_stratum_stays_and_a_small_set_is_taken_whole():
    strata = np.repeat([0, 1, 2], [998, 1, 1])
    assert np.unique(strata[stratified(strata, 10, seed=0)], return_counts=True)[1].tolist() == [8, 1, 1]
    assert len(stratified(strata, 2, seed=0)) == 2  # no room for each
    assert stratified(strata, 1000, seed=0).tolist() == list(range(1000))


# Thumbnails


def test_thumbnails_stand_where_the_page_looks_for_them():
    side = 128
    across, full = sheets.per_sheet(side)
    grey = [np.full([side, side, 3], value % 200, np.uint8) for value in range(full + across + 1)]
    uris = list(sheets.sheets(iter(grey), side))
    pages = [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))) for uri in uris]
    assert [page.shape[:2] for page in pages] == [(across * side, across * side), (2 * side, across * side)]
    for number in (0, across + 2, full - 1, full, full + across):
        row, column = divmod(number % full, across)
        square = pages[number // full][row * side : (row + 1) * side, column * side : (column + 1) * side]
        assert np.abs(square.astype(int) - number % 200).max() <= 2  # its neighbours do not colour it


def test_more_images_have_smaller_thumbnails_and_none_larger_than_they_are():
    assert [sheets.side_for(count, 256) for count in (1, 1_000, 1_001, 6_001, 20_000)] == [128, 128, 96, 56, 56]
    assert sheets.side_for(10, 64) == 64 and sheets.side_for(10, 20) == 16
    assert sheets.shrunk(np.zeros([32, 32, 3], np.uint8), 16).shape == (16, 16, 3)


# Lists


def test_a_line_is_one_that_a_list_can_hold(tmp_path):
    names = ["a.png", "#b.png", " c.png", "d\ne.png", "#f.png"]
    for name in names:
        Image.new("RGB", (16, 16), "red").save(tmp_path / name, "PNG")
    folder = tmp_path / "d"
    folder.mkdir()
    for name in names:
        (tmp_path / name).rename(folder / name)
    columns = {"name": names, "source": ["a", "b.png", None, None, "#f"], "file_sha256": ["0", "1", "2" * 64, None, ""]}
    scored(tmp_path / "m", 5, ImageDataset(folder).fingerprint(), genre=None, **columns)
    collection = Collection.open(folder, tmp_path / "m")
    told = dict(zip(collection.column("name"), page_columns.lines(collection, list(range(5))), strict=True))
    assert told == {"a.png": "a.png", "#b.png": "b.png", " c.png": "2" * 64, "d\ne.png": None, "#f.png": None}


# The command


def test_the_page_needs_nothing_else_and_says_what_it_shows(drawn, dataset):
    page, figures = drawn
    text = page.read_text()
    assert figures["bytes"] == len(text.encode()) < 100_000
    assert (figures["images"], figures["shown"], figures["generated"]) == (COUNT, COUNT, 7)
    assert figures["hash"] == manifest.read_header(dataset[1])["hash"] and figures["thumbnail"] == 16
    assert not re.search(r"""(src|href)=["']?(?!\$)(https?:|//)|url\(|@import""", text)
    assert text.count("<script") == 2 and HOSTILE not in text
    content = shown(page)
    assert content["sources"][-1] == HOSTILE and len(content["x"]) == COUNT + 7
    assert min(content["x"]) >= 0 and max(content["x"] + content["y"]) == 65_535
    columns = {column["name"]: column for column in content["columns"]}
    assert list(columns) == ["origin", "label", "genre", "artist", "verdict", "reason", "score_density"]
    assert columns["score_density"]["numbers"][:3] == [None, 1, 2] and columns["score_density"]["numbers"][-1] is None
    assert columns["reason"]["values"] == ["low rank", "listed"]
    label = columns["label"]
    names = [label["values"][code] for code in label["codes"]]
    assert names[:2] == ["Blots", "Stripes"] and names[-7:] == ["day", "night", "day", "night", "day", "night", "day"]


def test_alike_images_lie_together_and_the_same_command_writes_the_same_page(dataset, tmp_path):
    data, path = dataset
    command = ("curate", "map", data, "--manifest", path, "--features", "style", "--color", "score_density")
    for name in ("a.html", "b.html"):
        assert run_salon(*command, "--out", tmp_path / name).code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    content = shown(tmp_path / "a.html")
    assert content["color"] == "score_density"
    places = np.array([content["x"], content["y"]]).T
    nearest = np.argsort(np.square(places[:, None] - places[None]).sum(axis=2), axis=1)[:, 1:6]
    assert (nearest % 2 == np.arange(COUNT)[:, None] % 2).mean() > 0.95


def test_of_too_many_images_a_sample_is_shown_and_said_to_be_one(dataset, tmp_path):
    data, path = dataset
    out = tmp_path / "map.html"
    outcome = run_salon("curate", "map", data, "--manifest", path, "--out", out, "--count", 12, "--json")
    figures = outcome.json
    assert (figures["shown"], figures["images"], figures["sampled_by"]) == (12, COUNT, "label")
    content = shown(out)
    assert content["summary"].startswith(f"A sample of 12 of {COUNT} images, drawn by label, each with its share")
    assert sum(int(name[-5]) % 2 for name in content["names"]) == 6


def test_requests_that_are_refused(dataset, tmp_path, monkeypatch):
    data, path = dataset
    command = ("curate", "map", data, "--manifest", path, "--out")
    refused(run_salon(*command, tmp_path / "map.pdf"), "--out must end in .html")
    there = tmp_path / "there.html"
    there.write_text("mine")
    refused(run_salon(*command, there), "--out would replace", "or add --overwrite")
    refused(run_salon(*command, tmp_path / "x.html", "--num-images", 5), "--num-images needs --snapshot")
    few = ("--snapshot", tmp_path, "--num-images", 5, "--count", 5)
    refused(
        run_salon(*command, tmp_path / "x.html", *few), "--num-images must be from 1 up and below --count, 5; got 5"
    )
    refused(run_salon(*command, tmp_path / "x.html", "--features", "style", "--extractor", "vgg16"), "style are those")
    refused(run_salon(*command, tmp_path / "x.html", "--color", "mood"), "--color must be one of label, genre", "mood")
    bare = tmp_path / "bare.zip"
    bare.write_bytes(data.read_bytes())
    refused(run_salon("curate", "map", bare, "--out", tmp_path / "x.html"), "there is none beside it")
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    refused(run_salon(*command, tmp_path / "x.html"), "a map needs pip install 'salon[map]'")
    assert there.read_text() == "mine" and not (tmp_path / "x.html").exists()


# In a browser

WHOLE = "[0, 0], [view.width, 0], [view.width, view.height], [0, view.height]"
SELECTED = "selectedImages()"


def mouse(browser, kind: str, x: float, y: float, **options: object) -> None:
    browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1, **options)


def place(browser, image: int) -> list[float]:
    """Where an image lies in the window."""
    script = f"(() => {{ const box = canvas.getBoundingClientRect(); const [x, y] = placeOnCanvas({image});"
    return browser.run(f"{script} return [x + box.left + canvas.clientLeft, y + box.top + canvas.clientTop]; }})()")


def test_a_region_becomes_a_list_that_prune_reads(drawn, dataset, tmp_path, browser):
    _, path = dataset
    browser.send("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
    browser.open(drawn[0].as_uri(), READY)
    assert browser.run("document.title") == "Map: m"  # not what a hostile name says
    browser.run("document.querySelector('[name=drag][value=lasso]').click()")
    left, top, width, height = browser.run(
        "(() => { const { left, top } = canvas.getBoundingClientRect();"
        " return [left + canvas.clientLeft, top + canvas.clientTop, view.width, view.height] })()"
    )
    corners = [(1, 1), (1, height - 2), (width - 2, 1)]  # the half above the diagonal
    mouse(browser, "mousePressed", left + 1, top + 1)
    for x, y in corners[1:]:
        mouse(browser, "mouseMoved", left + x, top + y)
    mouse(browser, "mouseReleased", left + corners[-1][0], top + corners[-1][1])
    chosen = browser.run(SELECTED)
    within = "placeOnCanvas(i)[0] / view.width + placeOnCanvas(i)[1] / view.height < 1"
    assert chosen == browser.run(f"[...X.keys()].filter(i => {within})") and 0 < len(chosen) < COUNT + 7
    named = [i for i in chosen if i < COUNT]
    told = browser.run("document.getElementById('status').textContent")
    generated = len(chosen) - len(named)
    rest = f", {generated} of them generated, which no list names" if generated else ""
    assert told == f"{len(chosen)} images selected{rest}."
    browser.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.run("document.getElementById('download').click()")
    file = tmp_path / "selected.txt"
    until(lambda: file.exists() and file.read_text().endswith(f"{named[-1]:08d}.png\n"))
    outcome, rows = prune(path, "--drop", file, "--keep", 1, "--method", "density", out="out-drop")
    assert outcome.code == 0, outcome.err
    assert set(dropped({k: v for k, v in rows.items() if k != HOSTILE})) == {*(set(named) - {COUNT - 1}), 0, 1, 2}
    assert {row["reason"] for row in rows.values() if row["reviewer"] == "salon curate prune"} == {"listed"}
    outcome, rows = prune(path, "--protect", file, "--keep", 0.5, "--method", "density", out="out-protect")
    assert all(row["verdict"] == "keep" for i, row in enumerate(rows.values()) if i in named)
    assert [row["verdict"] for row in rows.values()].count("drop") > 5
    assert browser.errors == []


def test_colours_follow_the_column_and_values_can_be_hidden_and_selected(drawn, browser):
    browser.open(drawn[0].as_uri(), READY)
    legend = "[...document.querySelectorAll('.kind')].map(row => row.textContent)"
    assert browser.run("document.getElementById('column').value") == "label"
    counts = ["Blots20select", "Stripes20select", "day4select", "night3select"]
    assert browser.run(legend) == counts
    dot = (
        "(image => { drawDots(3); const ratio = canvas.width / view.width;"
        " const [x, y] = placeOnCanvas(image).map(v => Math.round(v * ratio)); const at = 4 * (y * layer.width + x);"
        " return [...layer.data.slice(at, at + 3)]; })"
    )
    label = [browser.run(f"{dot}({image})") for image in (COUNT - 2, COUNT - 1)]
    assert label == [browser.run(f"[...colourBytes[{code}]]") for code in (0, 1)] and label[0] != label[1]
    choose = "$('column').value = '{}'; $('column').dispatchEvent(new Event('change'))"
    browser.run(choose.format("score_density"))
    assert browser.run("document.querySelector('.ends').textContent") == "139"
    low, high = (browser.run(f"state.codes[{image}]") for image in (1, COUNT - 1))
    assert (low, high) == (0, 31) and browser.run("state.codes[0]") == 32  # of no score
    browser.run(choose.format("verdict"))
    assert browser.run(legend) == ["keep37select", "drop3select", "none7select"]
    browser.run("document.querySelectorAll('.kind button')[1].click()")
    assert browser.run(SELECTED) == [0, 1, 2]
    browser.run("document.querySelectorAll('.kind input')[1].click()")  # hidden: a region does not take it
    browser.run(f"selectRegion([{WHOLE}], false)")
    assert browser.run(SELECTED) == list(range(3, COUNT + 7))
    assert browser.errors == []


def test_the_keyboard_is_enough(drawn, browser):
    browser.open(drawn[0].as_uri(), READY)
    browser.run("pictures = 'none'; replace(); canvas.focus()")
    before = browser.run("[view.scale, view.x]")
    browser.press("+")
    browser.press("ArrowRight")
    after = browser.run("[view.scale, view.x]")
    assert after[0] == pytest.approx(1.5 * before[0]) and after[1] < before[1]
    browser.press("Enter")
    far = "((i) => Math.hypot(placeOnCanvas(i)[0] - view.width / 2, placeOnCanvas(i)[1] - view.height / 2))"
    assert browser.run(f"state.shown === [...X.keys()].sort((a, b) => {far}(a) - {far}(b))[0]")
    assert "label" in browser.run("document.getElementById('about').textContent")
    browser.press("x")
    assert browser.run(SELECTED) == [browser.run("state.shown")]
    browser.press("v")
    assert browser.run("document.getElementById('chosen').children.length") == len(browser.run(SELECTED)) > 0
    browser.press("Escape")
    assert browser.run(SELECTED) == [] and browser.run("document.getElementById('download').disabled")
    browser.press("0")
    assert browser.run("[view.scale, view.x]") == pytest.approx(before)
    assert browser.errors == []


def test_a_tap_tells_and_two_fingers_zoom(drawn, browser):
    browser.send("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    browser.send("Emulation.setTouchEmulationEnabled", enabled=True)
    browser.open(drawn[0].as_uri(), READY)
    browser.run(f"pictures = 'none'; replace(); select(i => i === {COUNT - 1}, false)")
    x, y = place(browser, COUNT - 1)
    browser.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.until("state.shown >= 0")
    shown_at = place(browser, browser.run("state.shown"))
    assert np.hypot(shown_at[0] - x, shown_at[1] - y) <= 24
    scale = browser.run("view.scale")
    fingers = [{"x": 150, "y": 400, "id": 0}, {"x": 250, "y": 400, "id": 1}]
    browser.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=fingers)
    fingers = [{"x": 100, "y": 400, "id": 0}, {"x": 300, "y": 400, "id": 1}]
    browser.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=fingers)
    browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.until(f"view.scale > {1.9 * scale}")
    assert browser.run("view.scale") == pytest.approx(2 * scale)
    assert browser.run(SELECTED) == [COUNT - 1]
    assert browser.errors == []


def test_the_page_fits_any_width_in_both_schemes(drawn, dataset, browser):
    colours = set()
    for width, scheme in ((360, "light"), (1280, "dark")):
        browser.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.open(drawn[0].as_uri(), READY)
        browser.run(f"selectRegion([{WHOLE}], false); tell({COUNT - 1})")
        assert HOSTILE in browser.run("document.getElementById('about').textContent")
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("canvas.clientWidth") > 300 and browser.run("canvas.clientHeight") > 300
        colours.add(tuple(browser.run("[...colourBytes[0]]")))
        centres = browser.run(
            "(() => { const { data } = $('large').getContext('2d').getImageData(0, 0, 512, 512); return [...data]"
            ".filter((_, n) => n % 4 === 0 && (n / 4) % 32 === 16 && Math.floor(n / 4 / 512) % 32 === 16); })()"
        )
        red = ImageDataset(dataset[0]).image(COUNT - 1)[:, :, 0].astype(int)
        assert np.abs(np.reshape(centres, [16, 16]) - red).mean() < 12  # its own picture, in JPEG
    assert len(colours) == 2 and browser.errors == []
