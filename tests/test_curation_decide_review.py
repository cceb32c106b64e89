"""The review: what is shown, a page in a real browser, and verdicts that a person overrules on it."""

import contextlib
import http.client
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from conftest import HANG, run_salon, web_server, write_dataset
from PIL import Image
from test_curation_decide_verdicts import contents, prune, scored

from curation.decide import review_page
from curation.decide.review_server import ReviewSession, application
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.errors import RequestError

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def pruned(tmp_path) -> tuple[Path, Path]:
    """A dataset of 40 images, and a manifest that drops ten of them and finds two under-covered."""
    data = write_dataset(tmp_path / "d.zip", [(16, 16)] * 40)
    genres = ["landscape", "portrait"] * 20
    sources = [f"p/{i}.png" for i in range(39)] + [HOSTILE]
    columns = {"score_density": np.arange(40.0), "score_density_se": np.full(40, 0.5), "score_d_low": np.arange(40.0)}
    scored(tmp_path / "m", 40, ImageDataset(data).fingerprint(), genre=genres, source=sources, **columns)
    outcome, _ = prune(tmp_path / "m", "--keep", 0.75, "--tail", 0.05, out="pruned")
    assert outcome.code == 0, outcome.err
    return data, tmp_path / "pruned"


def test_each_section_shows_its_kind(pruned):
    rows = manifest.read(pruned[1]).rows
    sections, totals = review_page.choose(rows, 6, seed=0)
    assert {title: some.tolist() for title, some in sections.items() if title != "Random kept"} == {
        "Removed": [0, 1, 2, 3, 4, 5],
        "Borderline": [7, 8, 9, 10, 11, 12],
        "Under-covered": [38, 39],
        "Copies": [],
        "Mislabelled": [],
    }
    assert len(set(sections["Random kept"].tolist())) == 6 and min(sections["Random kept"]) >= 10
    assert totals == {
        "Removed": 10,
        "Borderline": 6,
        "Under-covered": 2,
        "Copies": 0,
        "Mislabelled": 0,
        "Random kept": 30,
    }
    assert review_page.choose(rows, 6, seed=1)[0]["Random kept"].tolist() != sections["Random kept"].tolist()


def test_a_manifest_without_ranks_has_no_border(tmp_path, pruned):
    sections, _ = review_page.choose(manifest.read(tmp_path / "m").rows, 6, seed=0)
    assert [len(some) for some in sections.values()] == [0, 0, 0, 0, 0, 6]


def test_copies_stand_beside_the_best_and_a_probable_label_beside_the_flag(tmp_path):
    data = write_dataset(tmp_path / "d.zip", [(16, 16)] * 6)
    names = ImageDataset(data).names
    columns = {
        "embedding_group": [0, 1, 1, 0, None, 0],
        "copy_of": [names[3], None, names[1], None, None, names[3]],
        "known_copy": [None] * 4 + ["old.png", None],
        "flags": ["duplicate-near", None, "mislabelled,duplicate-near", None, "mislabelled", "duplicate-near"],
        "probable_label": [None, None, "Rococo", None, None, None],
        **{"width": [40, 50, 20, 80, 90, 60], "height": [40, 50, 20, 80, 90, 60], "genre": None},
    }
    path = scored(tmp_path / "m", 6, ImageDataset(data).fingerprint(), **columns)
    sections, totals = review_page.choose(manifest.read(path).rows, 4, seed=0)
    assert sections["Copies"].tolist() == [3, 0, 5, 1] and totals["Copies"] == 5
    assert sections["Mislabelled"].tolist() == [2, 4] and totals["Mislabelled"] == 2
    shown = review_page.content(manifest.read(path), ImageDataset(data), count=6, size=16, seed=0)
    notes = {image["source"]: (image["flags"], image["copy"]) for image in shown["images"]}
    assert notes == {
        "p/0.png": ("duplicate-near", "copy of p/3.png, 40 by 40 px"),
        "p/1.png": (None, "best of its copies, 50 by 50 px"),
        "p/2.png": ("mislabelled, probably Rococo, duplicate-near", "copy of p/1.png, 20 by 20 px"),
        "p/3.png": (None, "best of its copies, 80 by 80 px"),
        "p/4.png": ("mislabelled", "copy of the known old.png"),
        "p/5.png": ("duplicate-near", "copy of p/3.png, 60 by 60 px"),
    }


def test_the_page_needs_nothing_else(tmp_path, pruned):
    data, path = pruned
    out = tmp_path / "review.html"
    before = contents(tmp_path)
    outcome = run_salon("curate", "review", path, "--data", data, "--out", out, "--count", 6, "--json")
    assert outcome.code == 0, outcome.err
    text = out.read_text()
    assert outcome.json["bytes"] == len(text.encode()) < 100_000 and outcome.json["images"] >= 14
    assert not re.search(r"""(src|href)=["']?(?!\$)(https?:|//)|url\(|@import""", text)
    assert text.count("<script") == 2 and HOSTILE not in text
    shown = json.loads(re.search(r'id="content">(.*?)</script>', text, re.DOTALL)[1])
    first = next(image for image in shown["images"] if image["source"] == "p/0.png")
    assert first["reason"].startswith("low rank: ") and ["density", "0 ± 0.5"] in first["scores"]
    assert {name: each for name, each in contents(tmp_path).items() if name != "review.html"} == before
    assert "--out would replace" in run_salon("curate", "review", path, "--data", data, "--out", out).err


def test_requests_that_are_refused(tmp_path, pruned):
    data, path = pruned
    review = ("curate", "review", path, "--data", data)
    assert "--out must name" in run_salon(*review).err
    assert "--reviewer needs --overrule" in run_salon(*review, "--out", tmp_path / "x.html", "--reviewer", "Ada").err
    assert "needs --reviewer" in run_salon(*review, "--overrule", tmp_path / "r").err
    assert "--overrule would replace" in run_salon(*review, "--overrule", path, "--reviewer", "Ada").err
    assert "a person's name" in run_salon(*review, "--overrule", tmp_path / "r", "--reviewer", "salon x").err
    other = write_dataset(tmp_path / "other.zip", [(16, 16)])
    assert "of another" in run_salon("curate", "review", path, "--data", other, "--out", tmp_path / "x.html").err


# Overruling


def name(number: int) -> str:
    return f"00000/img{number:08d}.png"


def test_overrulings_become_rows(tmp_path, pruned):
    found = manifest.read(pruned[1])
    person = ReviewSession(found=found, reviewer="Ada", out=tmp_path / "r")
    assert person.overrule(name(0), "keep") == {
        "verdict": "keep",
        "overruled": True,
        "confirmed": False,
        "before": "drop",
    }
    person.overrule(name(20), "drop")
    person.overrule(name(30), "drop")
    assert person.overrule(name(30), "undo") == {
        "verdict": "keep",
        "overruled": False,
        "confirmed": False,
        "before": "keep",
    }
    assert person.overrule(name(31), "keep")["confirmed"] and not person.shown(name(31))["overruled"]
    person.overrule(name(1), "drop")  # as it was
    assert person.counts() == {"overruled": 2, "confirmed": 2}
    digest = person.finish()
    own = manifest.read(tmp_path / "r")
    assert own.hash == digest and own.header["parent"] == found.hash and not person.journal.exists()
    rows, before = own.rows.to_pylist(), found.rows.to_pylist()
    assert [i for i in range(40) if rows[i] != before[i]] == [0, 1, 20, 31]
    assert [(rows[i]["verdict"], rows[i]["reviewer"]) for i in (1, 31)] == [("drop", "Ada"), ("keep", "Ada")]
    assert rows[31]["reason"] == "confirmed" and rows[1]["reason"].startswith("confirmed: low rank")
    assert (rows[0]["verdict"], rows[20]["verdict"]) == ("keep", "drop")
    assert rows[0]["reviewer"] == rows[20]["reviewer"] == "Ada"
    assert rows[0]["reason"].startswith("overruled: was drop, low rank")
    figures = run_salon("curate", "diff", pruned[1], tmp_path / "r", "--json").json
    assert figures["changes"] == {"drop -> keep": 1, "keep -> drop": 1}
    assert 0 not in [
        i for i, row in enumerate(prune(tmp_path / "r", "--keep", 0.9)[1].values()) if row["verdict"] == "drop"
    ]


def test_a_killed_review_goes_on(tmp_path, pruned):
    found = manifest.read(pruned[1])
    first = ReviewSession(found=found, reviewer="Ada", out=tmp_path / "r")
    first.overrule(name(0), "keep")
    with open(first.journal, "a") as file:
        file.write('{"name": "cut o')
    again = ReviewSession(found=found, reviewer="Ada", out=tmp_path / "r")
    assert again.verdicts == {name(0): "keep"}
    again.overrule(name(20), "drop")
    third = ReviewSession(found=found, reviewer="Ada", out=tmp_path / "r")
    assert third.verdicts == {name(0): "keep", name(20): "drop"}
    with pytest.raises(RequestError, match="another manifest or by another person"):
        ReviewSession(found=found, reviewer="Bob", out=tmp_path / "r")


def answered(address: str, method: str, path: str, body=None, headers=()) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=HANG)
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


@contextlib.contextmanager
def serving(pruned: tuple[Path, Path], out: Path) -> Iterator[tuple[str, ReviewSession]]:
    found = manifest.read(pruned[1])
    person = ReviewSession(found=found, reviewer="Ada", out=out)
    dataset = ImageDataset(pruned[0])
    shown = review_page.content(found, dataset, count=6, size=8, seed=0)
    with web_server(application(shown, person, dataset, "a-token")) as address:
        yield f"{address}/a-token/", person


def test_only_the_page_itself_may_overrule(tmp_path, pruned):
    with serving(pruned, tmp_path / "r") as (address, person):
        url = urlsplit(address)
        good = json.dumps({"name": name(0), "verdict": "keep"})

        def ask(method="POST", path=url.path + "verdict", body=good, kind="application/json", **headers) -> int:
            return answered(address, method, path, body, {"Content-Type": kind, **headers})[0]

        assert ask("GET", "/", None) == ask("GET", "/guess/", None) == ask(path="/guess/verdict") == 404
        assert ask(Host="evil.example") == 404 and ask(Origin="http://evil.example") == 403
        assert ask(kind="text/plain") == ask(body="[]") == ask(body="{}") == ask(body="x" * 20_000) == 400
        assert ask(body=json.dumps({"name": "no", "verdict": "keep"})) == 400
        assert ask(body=json.dumps({"name": name(0), "verdict": "quarantine"})) == 400
        assert person.verdicts == {}
        connection = http.client.HTTPConnection(url.netloc, timeout=10)
        connection.request("GET", url.path)
        answer = connection.getresponse()
        connection.close()
        wanted = {"cache-control": "no-store", "x-frame-options": "DENY", "referrer-policy": "same-origin"}
        assert answer.status == 200 and wanted.items() <= {k.lower(): v for k, v in answer.headers.items()}.items()
        assert ask() == 200
        assert person.verdicts == {name(0): "keep"} and url.hostname == "127.0.0.1"


@pytest.mark.parametrize(
    "host, origin",
    [
        ("localhost:{port}", "http://localhost:{port}"),
        ("localhost:9000", "http://localhost:9000"),  # a port that is forwarded to this one
        ("[::1]:9000", "http://[::1]:9000"),
        ("192.0.2.7:443", "https://192.0.2.7:443"),  # a proxy that adds the encryption
    ],
)
def test_the_page_answers_by_any_name_of_this_machine_and_through_forwarded_ports(tmp_path, pruned, host, origin):
    with serving(pruned, tmp_path / "r") as (address, person):
        url = urlsplit(address)
        host, origin = host.format(port=url.port), origin.format(port=url.port)
        status, page = answered(address, "GET", url.path, headers={"Host": host})
        assert status == 200 and b"<title>Review: pruned</title>" in page
        headers = {"Host": host, "Origin": origin, "Content-Type": "application/json"}
        body = json.dumps({"name": name(0), "verdict": "keep"})
        assert answered(address, "POST", url.path + "verdict", body, headers)[0] == 200
        assert person.verdicts == {name(0): "keep"}
        status, text = answered(address, "GET", "/", headers={"Host": host})
        assert status == 404 and b"open the whole one that the terminal shows" in text


def test_images_are_served_in_their_own_size_to_who_knows_the_address(tmp_path, pruned):
    with serving(pruned, tmp_path / "r") as (address, _):
        path = f"{urlsplit(address).path}image?name={quote(name(3))}"
        status, content = answered(address, "GET", path)
        assert status == 200 and Image.open(io.BytesIO(content)).size == (16, 16)
        for wrong in (path.replace("a-token", "guess"), path.replace("img", "other"), path.partition("?")[0]):
            assert answered(address, "GET", wrong)[0] == 404


def test_ctrl_c_saves(tmp_path, pruned):
    data, path = pruned
    command = ("curate", "review", path, "--data", data, "--overrule", tmp_path / "r", "--reviewer", "Ada", "--json")
    program = [sys.executable, "-m", "gan", *map(str, command)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(program, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        line = next(line for line in running.stderr if "Review at" in line)
        url = urlsplit(re.search(r"http\S+", line)[0])
        connection = http.client.HTTPConnection(url.netloc, timeout=HANG)
        body = json.dumps({"name": name(0), "verdict": "keep"})
        connection.request("POST", url.path + "verdict", body, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()
        running.send_signal(signal.SIGINT)
        try:
            out, err = running.communicate(timeout=HANG)
        finally:
            running.kill()  # else a review that does not stop would be waited for
    assert running.returncode == 0, err
    assert json.loads(out)["overruled"] == 1
    assert manifest.read(tmp_path / "r").rows.to_pylist()[0]["reviewer"] == "Ada"


# In a browser


def test_a_person_overrules_with_the_keyboard(tmp_path, pruned, browser):
    with serving(pruned, tmp_path / "r") as (address, person):
        browser.open(address)
        assert browser.run("document.title") == "Review: pruned"
        assert browser.run("document.querySelectorAll('figure img').length") == 20
        browser.until("[...document.querySelectorAll('figure img')].slice(0, 4).every(i => i.naturalWidth === 8)")
        browser.press("ArrowRight")
        assert browser.run("document.activeElement.dataset.id") == name(0)
        browser.press("ArrowRight")
        browser.press("k")
        browser.until("document.activeElement.dataset.verdict === 'keep'")
        assert person.verdicts == {name(1): "keep"}
        assert "1 overruled" in browser.run("document.getElementById('status').textContent")
        assert "overruled by Ada" in browser.run("document.activeElement.textContent")
        browser.press("u")
        browser.until("document.activeElement.dataset.verdict === 'drop'")
        assert person.verdicts == {}
        browser.run("document.querySelector('section:last-child figure button:last-child').click()")
        browser.until("document.querySelector('section:last-child figure').dataset.verdict === 'drop'")
        assert list(person.verdicts.values()) == ["drop"]
    assert browser.errors == []


def pressed(browser, figure: str = "figure") -> str:
    """The verdict that the only pressed button of a figure gives."""
    found = browser.run(f"[...document.querySelectorAll({figure + ' [aria-pressed=true]'!r})].map(b => b.value)")
    assert len(found) == 1, found
    return found[0]


def test_a_page_that_is_loaded_again_shows_the_verdicts_in_force(tmp_path, pruned, browser):
    first = f"figure[data-id='{name(0)}']"
    with serving(pruned, tmp_path / "r") as (address, person):
        browser.open(address)
        assert pressed(browser, first) == "drop"
        browser.run(f"document.querySelector({first + ' [value=keep]'!r}).click()")
        browser.until(f"document.querySelector({first!r}).dataset.verdict === 'keep'")
        assert pressed(browser, first) == "keep" and person.verdicts == {name(0): "keep"}
        browser.open("about:blank", "true")
        browser.open(address)
        assert pressed(browser, first) == "keep"
        text = browser.run(f"document.querySelector({first!r}).textContent")
        assert "overruled by Ada, was drop" in text
        assert browser.run("document.getElementById('status').textContent") == "1 overruled."
    assert browser.errors == []


def test_a_larger_view_is_walked_through_and_decided_in(tmp_path, pruned, browser):
    about = "document.getElementById('large-about')"
    with serving(pruned, tmp_path / "r") as (address, person):
        browser.open(address)
        browser.press("ArrowRight")
        browser.press("Enter")
        browser.until("document.getElementById('large').open")
        assert browser.run("document.getElementById('large-image').naturalWidth") == 16
        browser.until(f"{about}.textContent.includes('density')")
        browser.press("ArrowRight")
        browser.until(f"{about}.textContent.includes('p/1.png')")
        browser.press("k")
        browser.until(f"{about}.dataset.verdict === 'keep'")
        assert person.verdicts == {name(1): "keep"} and pressed(browser, "#large-about") == "keep"
        browser.run("document.getElementById('close').click()")
        browser.until(f"document.activeElement.dataset.id === '{name(1)}'")
    assert browser.errors == []


def test_all_buttons_are_of_one_height_and_stand_right_below_the_images(tmp_path, pruned, browser):
    with serving(pruned, tmp_path / "r") as (address, _):
        for width in (390, 1280):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
            browser.send("Emulation.setDeviceMetricsOverride", **size)
            browser.open(address)
            assert browser.run("document.documentElement.scrollWidth") <= width
            places = browser.run(
                "[...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('button')].map(b => "
                "[b.offsetHeight, Math.round(b.getBoundingClientRect().top - f.getBoundingClientRect().top)])).flat()"
            )
            assert len(places) == 40 and len({tuple(place) for place in places}) == 1


def test_the_gallery_filters_from_disk_at_any_width(tmp_path, pruned, browser):
    data, path = pruned
    out = tmp_path / "review.html"
    assert run_salon("curate", "review", path, "--data", data, "--out", out, "--count", 12).code == 0
    browser.open(out.as_uri())
    shown = "[...document.querySelectorAll('figure')].filter(f => f.offsetParent).length"
    everything = browser.run(shown)
    browser.run(
        "const s = document.getElementById('filter-genre'); s.value = 'portrait'; s.dispatchEvent(new Event('change'))"
    )
    assert 0 < browser.run(shown) < everything
    assert browser.run("document.querySelectorAll('figure button').length") == 0  # nothing to overrule in a file
    browser.run("document.querySelector('figure img').click()")
    browser.until("document.getElementById('large-about').textContent.includes('density')")
    browser.run("document.getElementById('close').click()")
    assert browser.run("document.title") == "Review: pruned"  # not what a hostile file name says
    colours = set()
    for width, scheme in ((360, "light"), (1280, "dark")):
        browser.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        assert browser.run("document.documentElement.scrollWidth") <= width
        colours.add(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
    assert browser.errors == []
