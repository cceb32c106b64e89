"""salon eval blind: nothing but pictures tells them apart, answers are kept, figures are right; in a real browser."""

import http.client
import io
import json
import math
import os
import re
import signal
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import HANG, SalonProcess, run_salon, until, web_server, write_dataset
from PIL import Image
from scipy.stats import binomtest

from eval.blind.answers import ANSWERS, RECORD, Answers, Session, judge_name, questions, read_answers
from eval.blind.pictures import GENERATED, REAL, choose, open_pictures, prepared
from eval.blind.results import results
from eval.blind.server import BlindTest, application
from eval.request import BlindRequest
from gan.data.images import encode
from gan.errors import RequestError


def refused(outcome, *fragments):
    assert outcome.code == 2, outcome.err
    lines = [line for line in outcome.err.splitlines() if line]
    assert lines[-1].startswith("Error: ") and outcome.out == ""
    for fragment in fragments:
        assert str(fragment) in lines[-1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Generated PNGs, blue, and real JPEGs of other sizes, red, with EXIF; in folders by style."""
    folder, rng = tmp_path_factory.mktemp("blind"), np.random.default_rng(0)
    for style, number in (("calm", 6), ("wild", 4)):
        for kind in ("generated", "real"):
            (folder / kind / style).mkdir(parents=True)
            for index in range(number):
                height, width = (32, 32) if kind == "generated" else (40 + index, 64)
                pixels = rng.integers(0, 60 + 20 * index, [height, width, 3], np.uint8)
                pixels[:, :, 2 if kind == "generated" else 0] = 255
                image = Image.fromarray(pixels)
                exif = Image.Exif()
                exif[270] = "secret"
                if kind == "generated":
                    image.save(folder / kind / style / f"{index}.png")
                else:
                    image.save(folder / kind / style / f"{index}.jpg", quality=80, exif=exif)
    return folder


@pytest.fixture(scope="module")
def sources(folders):
    return open_pictures(folders / "generated", "images"), open_pictures(folders / "real", "data")


def test_all_pictures_are_sent_in_one_way(sources):
    pairs = choose(*sources, 8, 0)
    files, side = prepared(*sources, [each for pair in pairs for each in pair], None)
    assert len(files) == 16 and side == 32  # of the smallest
    assert len({len(body) for body in files.values()}) == 1
    heads = set()
    for key, body in files.items():
        image = Image.open(io.BytesIO(body))
        image.load()
        assert (image.format, image.size, image.mode) == ("JPEG", (32, 32), "RGB") and b"secret" not in body
        heads.add((tuple(sorted(image.info)), json.dumps({k: list(v) for k, v in image.quantization.items()})))
        blue = np.asarray(image).mean((0, 1)).argmax() == 2
        assert blue == key.startswith(GENERATED)
    assert len(heads) == 1
    with pytest.raises(RequestError, match="`size` must be at most 32, the side of the smallest picture; got 64"):
        prepared(*sources, pairs[0], 64)
    assert prepared(*sources, pairs[0], 24)[1] == 24


def test_a_picture_is_cut_in_the_middle_and_shrunk(tmp_path):
    pixels = np.zeros([40, 80, 3], np.uint8)
    pixels[:, 20:60] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "black.png")
    source = open_pictures(tmp_path, "data")
    pairs = choose(source, source, 2, 0)
    files, side = prepared(source, source, [each for pair in pairs for each in pair], None)
    bright = np.asarray(Image.open(io.BytesIO(files[f"{REAL}:{source.names.index('wide.png')}"])))
    assert side == 20 and bright.min() > 190


def test_pictures_of_one_shape_are_sent_whole(tmp_path):
    for number, size in enumerate([(48, 32), (96, 64)]):
        Image.new("RGB", size, (200, 0, 0)).save(tmp_path / f"{number}.png")
    source = open_pictures(tmp_path, "data")
    pairs = choose(source, source, 2, 0)
    files, side = prepared(source, source, [each for pair in pairs for each in pair], None)
    assert side == 32 and {Image.open(io.BytesIO(body)).size for body in files.values()} == {(48, 32)}


def test_pairs_are_of_one_style_and_drawn_by_the_seed(sources):
    pairs = choose(*sources, 10, 3)
    assert all(a.stratum == b.stratum and (a.truth, b.truth) == (GENERATED, REAL) for a, b in pairs)
    assert [{each.index for each in side} for side in zip(*pairs, strict=True)] == [set(range(10))] * 2
    assert choose(*sources, 10, 3) == pairs != choose(*sources, 10, 4)
    with pytest.raises(RequestError, match="at most the 10 pairs of images of strata that both have; got 11"):
        choose(*sources, 11, 0)


def test_classes_of_a_dataset_are_strata_and_one_kind_without_any_is_drawn_from_all(tmp_path, sources):
    dataset = write_dataset(tmp_path / "d.zip", [(16, 16)] * 4, [0, 1, 1, 1], ["calm", "odd"])
    real = open_pictures(dataset, "data")
    assert [real.label(index) for index in range(4)] == ["calm", "odd", "odd", "odd"]
    ((gen, shown),) = choose(sources[0], real, 1, 0)
    assert (gen.stratum, shown.stratum, shown.index) == ("calm", "calm", 0)
    flat = open_pictures(write_dataset(tmp_path / "flat.zip", [(16, 16)] * 3), "data")
    assert [pair[1].stratum for pair in choose(sources[0], flat, 3, 0)] == [None] * 3


def test_every_judge_has_a_balanced_order_of_their_own(sources):
    pairs = choose(*sources, 9, 0)
    ada, bob = (questions(pairs, name, in_pairs=False, seed=0) for name in ("Ada", "Bob"))
    assert ada == questions(pairs, "Ada", in_pairs=False, seed=0) != questions(pairs, "Ada", in_pairs=False, seed=1)
    assert [q.key for q in ada] != [q.key for q in bob] and {q.key for q in ada} == {q.key for q in bob}
    assert [q.truth for q in ada].count(REAL) == 9 and len(ada) == 18
    paired = questions(pairs, "Ada", in_pairs=True, seed=0)
    assert sorted([q.truth for q in paired].count(side) for side in ("left", "right")) == [4, 5]
    for question in paired:
        assert question.pictures[question.truth == "right"].truth == REAL
    assert len({tuple(q.truth for q in questions(pairs, str(n), in_pairs=True, seed=0)) for n in range(9)}) > 5


RECORDED = {"images": {"sha256": "a"}, "data": {"sha256": "b"}, "pairs": False, "count": 9, "size": 32, "seed": 0}


def test_answers_are_kept_and_a_judge_goes_on(sources, tmp_path):
    every = questions(choose(*sources, 9, 0), "Ada", in_pairs=False, seed=0)
    answers = Answers(out=tmp_path / "out", record=RECORDED)
    session = Session("Ada", every, answers)
    first = session.shown()["question"]
    session.answer(first["id"], "real", 1.23456)
    session.answer(first["id"], "generated", 1)  # a second press of the same key
    session.answer("x", "real", 1)
    assert [row["answer"] for row in answers.rows] == ["real"]
    assert answers.rows == read_answers(tmp_path / "out") and answers.rows[0]["seconds"] == 1.235
    assert answers.rows[0]["truth"] == every[0].truth and answers.rows[0]["strata"] == [every[0].pictures[0].stratum]
    with open(tmp_path / "out" / ANSWERS, "a") as file:
        file.write('{"judge": "cut o')
    again = Answers(out=tmp_path / "out", record=RECORDED)
    session = Session("Ada", every, again)
    shown = session.shown()
    assert (shown["answered"], shown["total"]) == (1, 18) and shown["question"]["id"] != first["id"]
    assert Session("Bob", every, again).shown()["answered"] == 0
    session.answer(shown["question"]["id"], "generated", 0)
    assert [row["answer"] for row in read_answers(tmp_path / "out")] == ["real", "generated"]
    with pytest.raises(RequestError, match="answered already"):
        again.add("Ada", every[0], "real", 1)
    for answer, seconds in (("left", 1), ("real", math.inf), ("real", -1)):
        with pytest.raises(RequestError):
            again.add("Bob", every[0], answer, seconds)
    assert len(read_answers(tmp_path / "out")) == 2
    with pytest.raises(RequestError, match="answers to another test, with another count and data; choose another"):
        Answers(out=tmp_path / "out", record={**RECORDED, "count": 8, "data": {"sha256": "c"}})


def test_names_are_names():
    assert judge_name("  Ada   L ") == "Ada L"
    for wrong in ("", "  ", "x" * 81, "a\x00b"):
        with pytest.raises(RequestError, match="a name must have 1 to 80 characters"):
            judge_name(wrong)


def row(judge, truth, answer, stratum=None):
    return {"judge": judge, "truth": truth, "answer": answer, "strata": [stratum], "seconds": 2.0, "question": ""}


def test_figures_are_shares_with_wilsons_interval_and_an_exact_test():
    rows = [row("Ada", REAL, REAL, "calm")] * 9 + [row("Ada", GENERATED, REAL, "wild")]
    rows += [row("Bob", GENERATED, GENERATED, "calm")] * 6 + [row("Bob", REAL, GENERATED)] * 4
    figures = results(RECORDED, rows)
    assert (figures["answers"], figures["judges"], figures["error"]["wrong"]) == (20, 2, 5)
    assert figures["error"]["p"] == binomtest(5, 20, 0.5).pvalue == pytest.approx(0.0413895)
    # Wilson for 5 of 20.
    assert (figures["error"]["low"], figures["error"]["high"]) == pytest.approx((0.1119, 0.4687), abs=1e-4)
    found = {(group["kind"], group["name"]): (group["wrong"], group["n"]) for group in figures["groups"]}
    assert found == {
        ("truth", "real pictures"): (4, 13),
        ("truth", "generated pictures"): (1, 7),
        ("judge", "Ada"): (1, 10),
        ("judge", "Bob"): (4, 10),
        ("stratum", "calm"): (0, 15),
        ("stratum", "wild"): (1, 1),
    }
    assert "better than chance: 25.0% of 20 answers are wrong (11.2% to 46.9%), p = 0.041" in figures["finding"]
    assert "not: answers of one judge about many pictures go together" in figures["note"]
    even = [row("Ada", REAL, answer) for answer in (REAL, GENERATED)] * 4
    assert "no better and no worse than chance" in results(RECORDED, even)["finding"]
    wrong = results(RECORDED, [row("Ada", GENERATED, REAL)] * 12)
    assert "worse than chance" in wrong["finding"]
    empty = results({**RECORDED, "pairs": True}, [])
    assert (empty["error"], empty["groups"], empty["finding"]) == (None, [], "No answers yet.")


def a_test(sources, out, *, count=4, **options):
    pairs = choose(*sources, count, 0)
    files, _ = prepared(*sources, [each for pair in pairs for each in pair], None)
    record = {**RECORDED, "pairs": options.get("in_pairs", False)}
    return BlindTest(pairs, files, Answers(out=out, record=record), **options)


def ask(address, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=HANG)
    connection.request(method, urlsplit(address).path + path, body, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def test_what_is_answered_tells_nothing_and_only_the_page_may_ask(sources, tmp_path):
    test = a_test(sources, tmp_path / "out")
    with web_server(application(test, "a-token")) as address:
        page = f"{address}/a-token/"
        answer, text = ask(page, "GET", "")
        assert answer.status == 200 and answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert not re.search(rb"sha256-.{0,3}:|generated/|\.jpg|\.png", text)
        joined = json.loads(ask(page, "POST", "join", json.dumps({"judge": " Ada "}))[1])
        assert set(joined) == {"session", "judge", "answered", "total", "question"} and joined["judge"] == "Ada"
        headers, names = set(), set()
        for _ in range(8):
            (name,) = joined["question"]["pictures"]
            answer, body = ask(page, "GET", f"picture?session={joined['session']}&name={name}")
            headers.add(tuple(sorted((k, v) for k, v in answer.headers.items() if k.lower() != "date")))
            names |= {name, joined["question"]["id"]}
            truth = GENERATED if np.asarray(Image.open(io.BytesIO(body))).mean((0, 1)).argmax() == 2 else REAL
            asked = {"session": joined["session"], "question": joined["question"]["id"], "answer": truth, "seconds": 1}
            joined |= json.loads(ask(page, "POST", "answer", json.dumps(asked))[1])
        assert joined["question"] is None and joined["answered"] == 8 and "right" not in joined
        assert len(headers) == 1 and len(names) == 16 and all(re.fullmatch(r"[\w-]{12}", name) for name in names)
        assert all(row["answer"] == row["truth"] for row in test.answers.rows) and len(test.answers.rows) == 8
        assert ask(page, "GET", f"picture?session={joined['session']}&name={name}")[0].status == 404  # no longer asked
        good = json.dumps({"judge": "Bob"})
        assert ask(f"{address}/guess/", "POST", "join", good)[0].status == 404
        assert ask(address, "GET", "/")[0].status == 404
        assert ask(page, "POST", "join", good, Host="evil.example")[0].status == 404
        assert ask(page, "POST", "join", good, Origin="http://evil.example")[0].status == 403
        assert ask(page, "POST", "join", good, **{"Content-Type": "text/plain"})[0].status == 400
        for body in ("[]", "{}", "x" * 9000, json.dumps({"judge": ""})):
            assert ask(page, "POST", "join", body)[0].status == 400
        answer, text = ask(page, "POST", "answer", json.dumps({**asked, "session": "x"}))
        assert answer.status == 400 and b"this session has ended" in text
        assert len(test.answers.rows) == 8


def test_the_end_tells_how_many_are_right_only_when_asked_to(sources, tmp_path):
    test = a_test(sources, tmp_path / "out", count=1, feedback=True)
    shown = test.join("Ada")
    assert "right" not in shown
    for _ in range(2):
        shown |= test.answer(shown["session"], shown["question"]["id"], "real", 1)
        assert ("right" in shown) == (shown["question"] is None)
    assert shown["right"] == 1
    assert test.join("Ada")["question"] is None


@pytest.mark.parametrize("width", [390, 1280])
def test_a_judge_at_the_keyboard_goes_on_after_a_restart(sources, tmp_path, browser, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    trial = "!document.getElementById('trial').hidden && test.getAttribute('aria-busy') === 'false'"
    over = "!document.getElementById('end').hidden"
    begin = "judge.value = 'Ada'; document.querySelector('#join button').click()"
    for start in (0, 3):
        test = a_test(sources, tmp_path / "out")
        with web_server(application(test, "a-token")) as address:
            browser.open(f"{address}/a-token/", "document.querySelector('#choices button')")
            browser.press("ArrowLeft")  # before anything is asked
            browser.run(begin)
            for number in range(start, 3 if start == 0 else 8):
                browser.until(f"{trial} && progress.textContent === '{number + 1} of 8'")
                assert browser.run("document.images.length") == 1
                assert browser.run("document.documentElement.scrollWidth") <= width
                if number % 2:
                    browser.press("ArrowRight")
                else:
                    browser.press("ArrowLeft")
            browser.until(f"{trial} && progress.textContent === '4 of 8'" if start == 0 else over)
    assert "all 8 questions. You may close" in browser.run("told.textContent")
    rows = read_answers(tmp_path / "out")
    assert [row["answer"] for row in rows] == [REAL, GENERATED] * 4 and {row["judge"] for row in rows} == {"Ada"}
    assert len({row["question"] for row in rows}) == 8 and all(0 < row["seconds"] < HANG for row in rows)
    assert not browser.errors


def test_a_judge_taps_one_of_two_pictures(sources, tmp_path, browser):
    test = a_test(sources, tmp_path / "out", count=3, in_pairs=True, feedback=True)
    with web_server(application(test, "a-token")) as address:
        browser.send("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        browser.send("Emulation.setTouchEmulationEnabled", enabled=True)
        browser.open(f"{address}/a-token/", "document.querySelector('#choices button')")
        browser.run("judge.value = 'Bob'; document.querySelector('#join button').click()")
        for number in range(3):
            browser.until(f"test.getAttribute('aria-busy') === 'false' && progress.textContent === '{number + 1} of 3'")
            assert browser.run("[...document.images].map(image => image.alt).join()") == "Left picture,Right picture"
            box = browser.run(
                "(() => { const box = document.images[1].getBoundingClientRect(); return [box.x + 9, box.y + 9] })()"
            )
            point = [{"x": box[0], "y": box[1]}]
            browser.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=point)
            browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        browser.until("!document.getElementById('end').hidden")
        right = sum(row["truth"] == "right" for row in test.answers.rows)
        assert f"{right} of them are right" in browser.run("told.textContent")
    assert [row["answer"] for row in test.answers.rows] == ["right"] * 3 and not browser.errors


def test_the_command_serves_until_ctrl_c_and_tells_the_results(folders, tmp_path):
    words = ("eval", "blind", "--images", folders / "generated", "--data", folders / "real", "--out", tmp_path / "out")
    process = SalonProcess(tmp_path, *words, "--count", 2, "--json")
    try:
        until(lambda: "until Ctrl-C" in process.err, process)
        page = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", process.err)[0]
        assert "4 pictures of 32 pixels" in process.err
        joined = json.loads(ask(page, "POST", "join", json.dumps({"judge": "Ada"}))[1])
        asked = {"session": joined["session"], "question": joined["question"]["id"], "answer": "real", "seconds": 2}
        assert ask(page, "POST", "answer", json.dumps(asked))[0].status == 200
        os.kill(process.pid, signal.SIGINT)
        outcome = process.wait()
    finally:
        process.kill()
    assert outcome.code == 0 and outcome.json["answers"] == 1 and outcome.json["out"] == str(tmp_path / "out")
    again = run_salon("eval", "blind", "--out", tmp_path / "out", "--results", "--json")
    assert again.json == outcome.json
    text = run_salon("eval", "blind", "--out", tmp_path / "out", "--results").out
    assert "all answers" in text and "Ada" in text and "as independent" in text
    refused(run_salon(*words, "--count", 3), "has answers to another test, with another count")
    assert json.loads((tmp_path / "out" / RECORD).read_text())["format"] == "salon-blind-1"


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "--images and --data must name generated and real pictures, unless --results is asked for"),
        (("--results",), "--out must be the folder of a blind test"),
        (("--images", "absent", "--data", "{data}"), "--images must be a folder, ZIP or array of images; absent does"),
        (("--images", "{run}", "--data", "{data}"), "is a snapshot"),
        (("--images", "{data}", "--data", "{data}", "--count", "13"), "--count must be at most the 12 pairs"),
        (("--images", "{data}", "--data", "{data}", "--size", "32", "--count", "2"), "--size must be at most 16"),
        (
            ("--images", "{data}", "--data", "{data}", "--count", "2", "--host", "192.0.2.1"),
            "--host and --port must be",
        ),
        (("--results", "--allow-host", "a b"), "--allow-host must be a name alone"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_said_in_a_line(words, said, tiny_run, tiny_dataset, tmp_path):
    given = [word.format(run=tiny_run, data=tiny_dataset) for word in words]
    refused(run_salon("eval", "blind", *given, "--out", tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


def test_a_request_asks_for_one_picture_at_least(tmp_path):
    with pytest.raises(RequestError, match="`count` must be at least 1"):
        BlindRequest(out=tmp_path, results=True, count=0)


def test_jpegs_end_where_the_padding_begins(sources):
    # What browsers and Pillow pass over: zeros after the end of the image.
    body = encode(Image.new("RGB", (8, 8), "red"), "jpeg", 90)
    padded = Image.open(io.BytesIO(body + bytes(100)))
    assert np.array_equal(np.asarray(padded), np.asarray(Image.open(io.BytesIO(body))))
