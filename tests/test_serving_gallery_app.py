"""The web gallery: its answers, over a server and without one, and its page in a real browser."""

import contextlib
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import pytest
from conftest import HANG, run_salon, until
from PIL import Image

from gan.errors import RequestError, SalonError
from gan.runtime import web
from gan.sampling import latents
from serving.client.cancel import Cancellation
from serving.client.client import Client
from serving.client.retry import Unavailable
from serving.contract import ModelMetadata
from serving.gallery import backend
from serving.gallery.app import Gallery
from serving.gallery.backend import group

STYLES = ["Cubism", "Impressionism", "<b>Rococo</b>"]
ABOUT = ModelMetadata(kind="generator", resolution=16, z_dim=8, w_dim=8, num_ws=6, snapshot="ab" * 32)
KINDS = ("generator", "mapping", "synthesis")


class StandIn:
    """In place of a client: images that follow from latents as a generator's do. It counts what it is asked."""

    def __init__(self, models: list[ModelMetadata]) -> None:
        self.served = models
        self.calls: list[tuple] = []
        self.broken: SalonError | None = None
        self.closed = 0
        self.held: dict[str, threading.Semaphore] = {}  # kinds of calls of which each waits to be released

    def close(self) -> None:
        self.closed += 1

    def models(self) -> list[ModelMetadata]:
        if self.broken:
            raise self.broken
        return self.served

    def _asked(self, *call, cancel: Cancellation) -> None:
        if self.broken:
            raise self.broken
        self.calls.append(call)
        if call[0] in self.held:
            with cancel.ends_by(self.held[call[0]].release):
                assert self.held[call[0]].acquire(timeout=HANG)
                cancel.check()

    def _ws(self, seeds, truncation_psi, label) -> np.ndarray:
        z = latents.draw(seeds, 8) * np.float32(truncation_psi) + np.float32(label or 0)
        return np.repeat(z[:, None], 6, axis=1)

    def _synthesize(self, ws) -> list[np.ndarray]:
        rows = np.clip(128 + 60 * ws, 0, 255).astype(np.uint8)  # [N, 6, 8]: an image of the latents themselves
        return [np.pad(np.repeat(row[..., None], 3, axis=2), ((0, 10), (0, 8), (0, 0)), "edge") for row in rows]

    def _classify(self, images) -> np.ndarray:
        sums = np.array([image.reshape(-1, 3).mean() / 255 for image in images], np.float32)
        return np.stack([sums / 2, 1 - sums, sums / 2], axis=1)

    def generate(self, seeds, *, truncation_psi=1.0, label=None, cancel):
        self._asked("generate", *seeds, cancel=cancel)
        return self._synthesize(self._ws(seeds, truncation_psi, label))

    def map_seeds(self, seeds, *, truncation_psi=1.0, label=None, cancel):
        self._asked("map", *seeds, cancel=cancel)
        return self._ws(seeds, truncation_psi, label)

    def synthesize(self, ws, *, cancel):
        self._asked("synthesize", len(ws), cancel=cancel)
        return self._synthesize(ws)

    def classify(self, images, *, cancel):
        self._asked("classify", len(images), cancel=cancel)
        return self._classify(images)


@pytest.fixture
def stand() -> StandIn:
    """Two generators, "generator" and "people" in two classes, and a classifier."""
    people = replace(ABOUT, generator="people", num_classes=2, classes=["day", "night"], snapshot="cd" * 32)
    both = [replace(about, kind=kind) for about in (replace(ABOUT, generator="generator"), people) for kind in KINDS]
    return StandIn([*both, ModelMetadata(kind="style_classifier", styles=STYLES)])


@contextlib.contextmanager
def opened(gallery: Gallery) -> Iterator[str]:
    """The gallery on a free port of this machine, as the command serves it."""
    with web.listen("127.0.0.1", 0, "a port must be free") as listening, web.Server(gallery.app, listening):
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


@contextlib.contextmanager
def visit(stand: StandIn, **options) -> Iterator[httpx.Client]:
    """A client of a gallery of what `stand` serves."""
    with (
        opened(Gallery(lambda name: stand, **options)) as address,
        httpx.Client(base_url=address, trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def client(stand) -> Iterator[httpx.Client]:
    with visit(stand) as visitor:
        yield visitor


def pixels(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))


def test_the_page_and_what_it_may_do(client):
    kinds = {
        "/": "text/html",
        "/gallery.css": "text/css",
        "/gallery.js": "text/javascript",
        "/page.js": "text/javascript",
    }
    for path, kind in kinds.items():
        answer = client.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        assert "http://" not in answer.text and "https://" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and answer.headers["x-content-type-options"]
    assert not re.search(r"\s(style|on\w+)=", client.get("/").text)  # which the policy would forbid
    assert client.get("/nothing").status_code == 404 and client.post("/image").status_code == 405


def test_another_name_is_refused(client, stand):
    for path in ("/", "/about", "/image?seed=1"):
        answer = client.get(path, headers={"Host": "evil.example:8080"})
        assert answer.status_code == 421 and "allow this host name" in answer.text
    assert stand.calls == []
    with visit(stand, hosts=["gallery.example"]) as other:
        assert other.get("/about", headers={"Host": "gallery.example"}).status_code == 200


def test_what_there_is_to_choose_from(client):
    about = client.get("/about").json()
    assert [(m["name"], m["classes"], m["mixes"]) for m in about["models"]] == [
        ("generator", [], True),
        ("people", ["day", "night"], True),
    ]
    assert (about["model"], about["wall"], about["max_images"]) == ("generator", 12, 16)


def test_an_image_in_each_format(client, stand):
    expected = np.array(stand._synthesize(stand._ws([42], 0.7, None))[0])
    for format in ("png", "webp"):
        answer = client.get(f"/image?seed=42&psi=0.7&format={format}")
        assert answer.headers["content-type"] == f"image/{format}"
        assert np.array_equal(pixels(answer), expected)
    assert np.abs(pixels(client.get("/image?seed=42&psi=0.7&format=jpeg")).astype(int) - expected).mean() < 10
    assert stand.calls == [("generate", 42)]  # generated once
    night = np.array(stand._synthesize(stand._ws([42], 1, 1))[0])
    assert np.array_equal(pixels(client.get("/image?model=people&seed=42&class=1")), night)


def test_an_answer_may_be_kept_as_long_as_it_holds(client, stand):
    first = client.get("/image?seed=1")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get("/image?seed=1", headers={"If-None-Match": f'"x", W/{tag}'})
    assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == tag
    assert client.get("/image?seed=2", headers={"If-None-Match": tag}).status_code == 200
    assert client.get("/image?seed=1&format=png").headers["etag"] != tag
    assert "immutable" in client.get("/image?seed=1&v=abababababab").headers["cache-control"]
    assert "immutable" not in client.get("/image?seed=1&v=cdcdcdcdcdcd").headers["cache-control"]


def test_another_snapshot_is_another_image(client, stand, monkeypatch):
    monkeypatch.setattr(backend, "FRESH", 0.0)
    tag = client.get("/image?seed=1").headers["etag"]
    stand.served = [replace(about, snapshot="ef" * 32) for about in stand.served]
    closed = stand.closed
    answer = client.get("/image?seed=1", headers={"If-None-Match": tag})
    assert answer.status_code == 200 and answer.headers["etag"] != tag
    until(lambda: stand.closed > closed)  # a new client, that does not remember the old model
    assert stand.calls == [("generate", 1)] * 2


def test_another_classifier_changes_the_styles(client, stand, monkeypatch):
    monkeypatch.setattr(backend, "FRESH", 0.0)
    assert client.get("/styles?seed=5").json()["verdicts"][0][0][0] in STYLES
    stand.served = [replace(about, styles=["a", "b", "c"] if about.styles else []) for about in stand.served]
    assert client.get("/scene?seed=5").json()["pictures"][0]["verdict"] is None
    assert client.get("/styles?seed=5").json()["verdicts"][0][0][0] in ("a", "b", "c")
    stand.served = [replace(about, styles=["a", "b"] if about.styles else []) for about in stand.served]
    monkeypatch.setattr(stand, "_classify", lambda images: np.full([len(images), 2], 0.5))
    assert len(client.get("/styles?seed=5").json()["verdicts"][0]) == 2


def test_the_scenes(client, stand):
    grid = client.get("/scene?view=wall&seed=5&count=3").json()
    assert [image["title"] for image in grid["pictures"]] == ["Seed 5", "Seed 6", "Seed 7"]
    assert grid["snapshot"] == "abababababab" and stand.calls == [("generate", 5, 6, 7)]
    mixed = client.get("/scene?view=mix&seed=5&to=8&layers=colour&psi=0.5").json()["pictures"]
    ws = stand._ws([5, 8], 0.5, None)
    assert np.array_equal(
        pixels(client.get("/" + mixed[2]["src"])), stand._synthesize(latents.mix(ws[:1], ws[1:], [4, 5]))[0]
    )
    assert mixed[2]["name"] == "generator-5-colour-8.png" and "colour of seed 8" in mixed[2]["alt"]
    frames = client.get("/scene?view=journey&seed=5&to=8&psi=0.5&count=4").json()["pictures"]
    assert len(frames) == 4
    ends = [pixels(client.get("/" + frames[i]["file"])) for i in (0, 3)]
    assert all(np.array_equal(end, image) for end, image in zip(ends, stand._synthesize(ws), strict=True))
    calls = list(stand.calls)
    for image in [*grid["pictures"], *mixed, *frames]:
        assert client.get("/" + image["src"]).status_code == 200
    assert stand.calls == calls  # all of it was generated with the scenes


def test_verdicts_are_those_of_the_classifier(client, stand):
    (verdict,) = client.get("/styles?view=picture&seed=5").json()["verdicts"]
    probabilities = stand._classify(stand._synthesize(stand._ws([5], 1, None)))[0]
    assert verdict[0] == [
        STYLES[int(probabilities.argmax())],
        pytest.approx(float(probabilities.max()), abs=1e-4),
    ]
    assert [p for _, p in verdict] == sorted((p for _, p in verdict), reverse=True)
    assert client.get("/scene?view=picture&seed=5").json()["pictures"][0]["verdict"] == verdict
    frames = client.get("/scene?view=journey&seed=5&to=6&count=4").json()["pictures"]
    (of_frame,) = client.get("/" + frames[2]["src"].replace("image?", "styles?")).json()["verdicts"]
    again = client.get("/scene?view=journey&seed=5&to=6&count=4").json()["pictures"]
    assert [image["verdict"] for image in again] == [None, None, of_frame, None]
    stand.served = [about for about in stand.served if "classif" not in about.kind]
    with visit(stand) as other:
        assert other.get("/scene?seed=5").json()["pictures"][0]["verdict"] is None
        answer = other.get("/styles?seed=5")
        assert answer.status_code == 400 and "without a style classifier" in answer.text


def test_no_image_waits_for_the_classifier(client, stand):
    stand.held["classify"] = threading.Semaphore(0)
    grid = "view=wall&seed=5&count=12"
    with ThreadPoolExecutor(1) as pool:
        styles = pool.submit(client.get, f"/styles?{grid}")
        until(lambda: ("classify", 8) in stand.calls)
        images = client.get(f"/scene?{grid}").json()["pictures"]
        assert [image["verdict"] for image in images] == [None] * 12
        assert client.get("/image?seed=99").status_code == 200  # not even those that must be generated
        stand.held["classify"].release(2)
        verdicts = styles.result().json()["verdicts"]
    assert [call for call in stand.calls if call[0] == "classify"] == [("classify", 8), ("classify", 4)]
    assert [image["verdict"] for image in client.get(f"/scene?{grid}").json()["pictures"]] == verdicts
    assert client.get(f"/styles?{grid}").json()["verdicts"] == verdicts  # kept
    assert len([call for call in stand.calls if call[0] == "classify"]) == 2


def test_a_generator_without_latents_generates_from_seeds_alone(stand):
    stand.served = [about for about in stand.served if about.kind == "generator"]
    with visit(stand) as client:
        assert [model["mixes"] for model in client.get("/about").json()["models"]] == [False, False]
        assert client.get("/image?seed=1").status_code == 200
        answer = client.get("/scene?view=mix&seed=1&to=2")
        assert answer.status_code == 400 and "without its latents" in answer.text


@pytest.mark.parametrize("format", ["webp", "mp4"])
def test_an_interpolation_goes_there_and_back(client, format):
    answer = client.get(f"/journey?seed=1&to=2&count=5&format={format}")
    assert answer.status_code == 200, answer.text
    with av.open(io.BytesIO(answer.content)) if format == "mp4" else contextlib.nullcontext() as movie:
        if movie:
            assert sum(1 for _ in movie.decode(video=0)) == 8 and answer.headers["content-type"] == "video/mp4"
        else:
            assert Image.open(io.BytesIO(answer.content)).n_frames == 8


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/image?seed=x", "seed must be"),
        ("/image?psi=3", "psi must be"),
        ("/image?format=gif", "format must be one of png, jpeg, webp"),
        ("/image?model=nobody", "model must be one of generator, people; got nobody"),
        ("/image?model=people&class=2", "class must be"),
        ("/scene?view=wall&count=17", "count must be from 1 to 16; got '17'"),
        ("/scene?view=wall&count=0", "count must be"),
        ("/scene?view=journey&to=1&count=1", "count must be 2 or more"),
        ("/scene?view=cellar", "view must be one of"),
        ("/journey?seed=1", "to must name a second seed"),
        ("/journey?seed=1&to=2&count=4&format=gif", "format must be one of webp, mp4"),
        ("/image?to=2&step=0&steps=16", "steps must be"),
        ("/image?seed=1&sed=3", "must have some of view, model, seed, psi, class, to, layers, step"),
        ("/scene?view=wall&number=3", "got 'number' instead"),
    ],
)
def test_requests_that_are_refused(client, stand, path, message):
    answer = client.get(path)
    assert answer.status_code == 400 and message in answer.text and answer.text.count("\n") == 1
    assert answer.headers["content-type"].startswith("text/plain") and stand.calls == []


def test_a_client_that_asks_too_much_is_told_when_to_go_on(stand):
    with visit(stand, rate=(2, 3600.0)) as client:
        assert client.get("/scene?view=wall&count=12").status_code == 200
        assert client.get("/image?seed=100").status_code == 200
        answer = client.get("/image?seed=101")
        assert answer.status_code == 429 and "2 requests in 3600 s" in answer.text
        assert 0 < int(answer.headers["retry-after"]) <= 1800
        for seed in (0, 11, 100):
            assert client.get(f"/image?seed={seed}").status_code == 200  # kept
    assert [call[1:] for call in stand.calls] == [tuple(range(8)), (8, 9, 10, 11), (100,)]


def test_a_server_that_is_gone_comes_back(client, stand, capsys, monkeypatch):
    monkeypatch.setattr(backend, "PAUSE", 0.0)
    assert client.get("/image?seed=1").status_code == 200
    stand.broken = Unavailable("grpc://127.0.0.1:1 is not available")
    for _ in range(3):
        answer = client.get("/image?seed=2")
        assert answer.status_code == 503 and answer.headers["retry-after"] and "not there" in answer.text
    stand.broken = None
    assert client.get("/image?seed=2").status_code == 200
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines == ["The server is gone: grpc://127.0.0.1:1 is not available", "The server is back"]


def test_visitors_do_not_queue_for_a_server_that_is_gone(client, stand, monkeypatch):
    monkeypatch.setattr(backend, "PAUSE", 3600.0)
    stand.broken = Unavailable("gone")
    assert client.get("/about").status_code == 503
    stand.broken = None
    assert client.get("/about").status_code == 503  # is not asked again so soon


def test_other_faults_of_the_server_are_told(client, stand, capsys):
    assert client.get("/about").status_code == 200
    stand.broken = SalonError("out of memory")
    answer = client.get("/image?seed=1")
    assert answer.status_code == 502 and "out of memory" in answer.text
    assert "could not generate: out of memory" in capsys.readouterr().err


def test_a_model_that_vanished_is_no_fault_of_the_visitors(client, stand):
    assert client.get("/about").status_code == 200
    stand.broken = RequestError("model generator has no available versions")
    answer = client.get("/image?seed=1")
    assert answer.status_code == 502 and answer.headers["retry-after"] and "no available versions" in answer.text
    stand.broken = None
    stand.served = [about for about in stand.served if about.generator != "people"]
    assert len(client.get("/about").json()["models"]) == 1  # it looked again


def test_what_is_kept_has_a_limit(stand, monkeypatch):
    monkeypatch.setattr(backend, "CACHE_BYTES", 3 * 16 * 16 * 3)
    gallery = Gallery(lambda name: stand)
    with opened(gallery) as address, httpx.Client(base_url=address, trust_env=False) as client:
        grid = client.get("/scene?view=wall&count=5").json()["pictures"]
        kept = gallery.backend.images
        assert len(grid) == 5 and kept.bytes == 3 * 16 * 16 * 3 and len(kept) == 3
        for image in grid[::-1]:  # those not kept any more are generated again
            assert client.get("/" + image["src"]).status_code == 200
    assert [call[1:] for call in stand.calls] == [(0, 1, 2, 3, 4), (1,), (0,)]


# Visitors among each other


@contextlib.contextmanager
def visitors(stand: StandIn, **options):
    """visitor(ADDRESS) -> a client that a trusted proxy hands on for that address; and the gallery."""
    gallery = Gallery(lambda name: stand, proxies=["127.0.0.0/8"], **options)
    with opened(gallery) as address, contextlib.ExitStack() as stack:

        def visitor(name: str) -> httpx.Client:
            limits = httpx.Limits(max_connections=None)
            headers = {"X-Forwarded-For": name}
            client = httpx.Client(base_url=address, trust_env=False, headers=headers, limits=limits, timeout=HANG)
            return stack.enter_context(client)

        yield visitor, gallery


def test_many_journeys_of_one_visitor_do_not_stop_another(stand):
    stand.held["synthesize"] = stand.held["generate"] = threading.Semaphore(0)
    with visitors(stand, rate=(1000, 60.0)) as (visitor, gallery), ThreadPoolExecutor(41) as pool:
        many, one = visitor("198.51.100.1"), visitor("203.0.113.9")
        waiting = gallery.backend.generating.waiting
        journeys = [
            pool.submit(many.get, f"/journey?seed={2 * i}&to={2 * i + 1}&count=16&format=mp4") for i in range(40)
        ]
        until(lambda: waiting("198.51.100.1") == 39)
        image = pool.submit(one.get, "/image?seed=7")
        until(lambda: waiting("203.0.113.9") == 1)
        stand.held["generate"].release(2)  # the part of a journey that is under way, and what comes then
        assert image.result(HANG).status_code == 200
        assert [call for call in stand.calls if call[0] != "map"][:2] == [("synthesize", 8), ("generate", 7)]
        stand.held["generate"].release(80)
        assert all(journey.result(HANG).status_code == 200 for journey in journeys)


def test_who_goes_leaves_no_work_behind(stand):
    stand.held["synthesize"] = threading.Semaphore(0)
    with visitors(stand) as (visitor, gallery):
        waiting = gallery.backend.generating.waiting
        host = urlsplit(str(visitor("198.51.100.1").base_url))
        with contextlib.ExitStack() as held:
            for number in range(5):
                connection = held.enter_context(socket.create_connection((host.hostname, host.port)))
                address = f"/journey?seed={number}&to=9&count=16"
                connection.sendall(
                    f"GET {address} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n".encode()
                )
            until(lambda: waiting("198.51.100.1") == 4)
        until(lambda: waiting("198.51.100.1") == 0)
        assert visitor("203.0.113.9").get("/image?seed=7").status_code == 200  # what was under way was cancelled
        assert [call[0] for call in stand.calls] == ["map", "synthesize", "generate"]


def test_an_animation_is_counted_and_encoded_once(stand, monkeypatch):
    encoded = []

    def save(frames, path, fps, recipe=None):
        encoded.append(len(list(frames)))
        path.write_bytes(b"movie")

    monkeypatch.setattr("serving.gallery.app.animation.save", save)
    journey = "/journey?seed=1&to=2&count=7&format="
    with visit(stand, rate=(4, 3600.0)) as client:
        assert client.get(f"/scene{journey[8:-8]}&view=journey").status_code == 200  # 7 images: 1
        first = client.get(f"{journey}mp4")  # 12 frames: 1
        assert first.content == b"movie" and encoded == [12]
        for _ in range(5):
            assert client.get(f"{journey}mp4").content == b"movie"
        again = client.get(f"{journey}mp4", headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 304 and encoded == [12]
        assert client.get("/journey?seed=1&to=2&count=7&format=webp&psi=0.5").status_code == 200  # 7 and 12: 2
        assert client.get("/journey?seed=3&to=2&count=7").status_code == 429
    assert encoded == [12, 12]


def test_a_large_animation_costs_more_than_a_grid(stand):
    with visit(stand, rate=(10, 3600.0), max_images=64) as client:
        assert client.get("/journey?seed=1&to=2&count=48&format=mp4").status_code == 200  # 48 and 94: 12
        assert client.get("/image?seed=1").status_code == 429  # a full bucket, whatever more it costs


def test_animations_are_encoded_one_at_a_time(stand, monkeypatch):
    lock = threading.Lock()

    def save(frames, path, fps, recipe=None):
        assert lock.acquire(blocking=False)
        path.write_bytes(b"%d" % next(iter(frames))[0, 0, 0])
        time.sleep(0.01)
        lock.release()

    monkeypatch.setattr("serving.gallery.app.animation.save", save)
    with visit(stand, rate=(1000, 60.0)) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: client.get(f"/journey?seed={seed}&to=99&count=4"), range(8)))
        assert [answer.status_code for answer in answers] == [200] * 8


def test_each_visitor_behind_a_proxy_has_a_rate(stand):
    with visitors(stand, rate=(1, 3600.0)) as (visitor, _):
        for seed, name in enumerate(("198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8:0:1::1")):
            assert visitor(name).get(f"/image?seed={seed}").status_code == 200
        for name in ("198.51.100.1", "2001:db8::2", "203.0.113.9, 198.51.100.2", "198.51.100.2, 127.0.0.3"):
            assert visitor(name).get("/image?seed=1001").status_code == 429  # who is nearest to the proxies counts
    with visit(stand, rate=(1, 3600.0)) as client:  # nobody is trusted
        assert client.get("/image?seed=1", headers={"X-Forwarded-For": "198.51.100.1"}).status_code == 200
        assert client.get("/image?seed=2", headers={"X-Forwarded-For": "198.51.100.2"}).status_code == 429


def test_sites_that_may_read(stand):
    with visit(stand, origins=["https://me.example"]) as client:
        for path in ("/about", "/image?seed=1", "/image?seed=x"):
            mine = client.get(path, headers={"Origin": "https://me.example"})
            assert (
                mine.headers["access-control-allow-origin"] == "https://me.example" and "Origin" in mine.headers["vary"]
            )
            for other in ("https://me.example.evil", "http://me.example", "null"):
                assert "access-control-allow-origin" not in client.get(path, headers={"Origin": other}).headers
        embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
        assert client.get("/image?seed=1", headers=embedded | {"Origin": "https://me.example"}).status_code == 200
    with visit(stand) as client:
        answer = client.get("/about", headers={"Origin": "https://me.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_pages_of_other_sites_make_nothing_work(client, stand):
    for mode in ("no-cors", "cors"):  # an <img>, a fetch
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Origin": "https://evil.example"}
        assert client.get("/image?seed=1", headers=headers).status_code == 403
    assert stand.calls == []
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/?view=picture&seed=1", headers=linked).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:49152", "[::1]:9000", "LOCALHOST:1"])
def test_it_is_reached_by_names_and_ports_of_this_machine(client, host):
    for path in ("/", "/about", "/scene?seed=1", "/styles?seed=1"):
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert client.get(path, headers=headers).status_code == 200


def test_a_repository_needs_a_generator():
    with pytest.raises(SalonError, match="no generator is served"):
        group([ModelMetadata(kind="style_classifier", styles=STYLES)])


def test_the_model_to_show_first_must_be_there(stand):
    Gallery(lambda name: stand, model="people").check()
    with pytest.raises(RequestError, match="`model` must be one of generator, people; got monet"):
        Gallery(lambda name: stand, model="monet").check()


# The command


def test_commands_that_are_refused():
    outcome = run_salon("gallery", "--rate", "often")
    assert outcome.code == 2 and "--rate must be requests a time" in outcome.err
    outcome = run_salon("gallery", "--allow-host", "http://x/y")
    assert outcome.code == 2 and "--allow-host must be a name alone" in outcome.err
    outcome = run_salon("gallery", "--trust-proxy", "proxy.example")
    assert outcome.code == 2 and "--trust-proxy must be an address or a network" in outcome.err
    outcome = run_salon("gallery", "--allow-origin", "me.example")
    assert outcome.code == 2 and "--allow-origin must be a site such as https://me.example" in outcome.err
    outcome = run_salon("gallery", "--host", "192.0.2.1", "--port", "0")
    assert outcome.code == 2 and "--host and --port must be" in outcome.err
    outcome = run_salon("gallery", "--url", "grpc://127.0.0.1:9", "--port", "0", "--timeout", "1")
    assert outcome.code == 1 and "Traceback" not in outcome.err and "grpc://127.0.0.1:9" in outcome.err


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "serving.client.transport_grpc", None)
    outcome = run_salon("gallery", "--port", "0")
    assert outcome.code == 1 and "is missing; install it with: pip install 'salon[query]'" in outcome.err


# In a browser


READY = "document.querySelector('#stage[aria-busy=false]')"
LOADED = "document.getElementById('image').naturalWidth === 16"


def enter(browser, field: str, text: str) -> None:
    """Type into a field as a person does."""
    browser.run(f"document.getElementById('{field}').select()")
    browser.send("Input.insertText", text=text)
    browser.run(f"document.getElementById('{field}').blur()")


def bytes_of_image(browser) -> str:
    return browser.run(
        "fetch(document.getElementById('image').src).then(a => a.arrayBuffer())"
        ".then(b => [...new Uint8Array(b)].join())"
    )


def test_a_visitor_looks_mixes_and_interpolates(stand, browser):
    with opened(Gallery(lambda name: stand)) as address:
        browser.open(address, READY)
        assert browser.run("document.querySelectorAll('#grid img').length") == 12
        assert browser.run("[...document.querySelectorAll('#grid img')].every(i => i.naturalWidth === 16 && i.alt)")
        browser.run("document.querySelector('#grid figure:nth-child(4) a').click()")
        browser.until(f"{READY} && location.search.includes('view=picture') && {LOADED}")
        assert browser.run("document.getElementById('title').textContent") == "Seed 3"
        enter(browser, "seed", "42")
        browser.until(f"{READY} && document.getElementById('title').textContent === 'Seed 42' && {LOADED}")
        assert ("generate", 42) in stand.calls
        browser.until("document.getElementById('styles').textContent.includes('%')")
        assert "classified as" in browser.run("document.getElementById('image').alt")
        browser.press("3")
        browser.until(f"{READY} && document.querySelectorAll('#parents img').length === 2")
        enter(browser, "to", "7")
        browser.run("document.querySelector('#parts input[value=composition]').click()")
        title = "document.getElementById('title').textContent"
        browser.until(f"{READY} && {title} === 'Seed 42 with composition and colour of seed 7' && {LOADED}")
        link, generated = browser.run("location.href"), bytes_of_image(browser)
        assert "v=abababababab" in link and "layers=composition,colour" in link
        browser.press("4")
        browser.until(f"{READY} && {title} === 'From seed 42 to seed 7'")
        before = browser.run("document.getElementById('image').src")
        browser.press(" ")
        browser.until(f"document.getElementById('image').src !== '{before}' && {LOADED}")
        browser.press(" ")
        browser.until("document.getElementById('play').textContent === 'Play'")
        assert browser.run("document.getElementById('mp4').href").startswith(f"{address}journey?")
        browser.run("history.back()")
        browser.until(f"{READY} && {title}.includes('composition') && {LOADED}")
        browser.open("about:blank", "true")
    assert browser.errors == []
    with opened(Gallery(lambda name: stand)) as other:  # one that has generated nothing yet
        browser.open(other + "?" + link.split("?")[1], READY)
        assert browser.run(title) == "Seed 42 with composition and colour of seed 7"
        assert bytes_of_image(browser) == generated
    assert browser.errors == []


def test_the_page_waits_for_a_server_that_is_gone(stand, browser, monkeypatch):
    monkeypatch.setattr(backend, "PAUSE", 0.0)
    monkeypatch.setattr("serving.gallery.app.RETRY", "1")
    with opened(Gallery(lambda name: stand)) as address:
        browser.open(address + "?view=picture&seed=1", READY)
        stand.broken = Unavailable("gone")
        browser.press("ArrowRight")
        status = "document.getElementById('status').textContent"
        browser.until(f"{status}.includes('not there')")
        stand.broken = None
        browser.until(f"{READY} && {status} === '' && document.getElementById('title').textContent === 'Seed 2'")
        assert all("503" in str(error) for error in browser.errors)


def test_an_old_link_says_that_its_generator_changed(stand, browser):
    with opened(Gallery(lambda name: stand)) as address:
        browser.open(address + "?view=picture&seed=1&v=000000000000", READY)
        assert "earlier snapshot" in browser.run("document.getElementById('note').textContent")
        browser.press("ArrowRight")
        browser.until(f"{READY} && document.getElementById('note').hidden && location.search.includes('seed=2')")


def test_the_page_shows_that_it_works_before_there_is_an_image(stand, browser):
    stand.held["generate"] = threading.Semaphore(0)
    with opened(Gallery(lambda name: stand)) as address:
        for view, frames in (("wall", 12), ("picture", 1)):
            visible = "[...document.querySelectorAll('.blank')].filter(e => e.offsetParent).length"
            browser.open(f"{address}?view={view}&seed={100 * frames}", f"{visible} === {frames}")
            working = "getComputedStyle(document.getElementById('working')).visibility"
            assert browser.run(working) == "visible"
            assert "Generating" in browser.run("document.getElementById('working').textContent")
            stand.held["generate"].release(2)
            browser.until(f"{READY} && {visible} === 0 && {working} === 'hidden'")
    assert browser.errors == []


def test_styles_come_after_the_images(stand, browser):
    stand.held["classify"] = threading.Semaphore(0)
    with opened(Gallery(lambda name: stand)) as address:
        browser.open(address, READY)
        captions = "[...document.querySelectorAll('#grid figcaption span:last-child')].map(e => e.textContent)"
        assert browser.run(captions) == ["…"] * 12
        before = browser.run("document.documentElement.scrollHeight")
        stand.held["classify"].release(2)
        browser.until(f"{captions}.every(text => text.includes('%'))")
        assert browser.run("document.documentElement.scrollHeight") == before  # nothing moved
        browser.press("4")
        browser.until(f"{READY} && document.getElementById('styles').textContent === '…'")
        stand.held["classify"].release(1)
        browser.until("document.getElementById('styles').textContent.includes('%')")
    assert [call for call in stand.calls if call[0] == "classify"] == [("classify", n) for n in (8, 4, 1)]
    assert browser.errors == []


@pytest.mark.parametrize("width", [390, 1280])
def test_views_have_the_same_edges(stand, browser, width):
    stand.served = [about for about in stand.served if about.generator != "people"]
    edges, first = set(), "[...document.querySelectorAll('#stage img')].find(e => e.offsetParent)"
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    with opened(Gallery(lambda name: stand)) as address:
        for view in ("wall", "picture", "mix", "journey"):
            browser.open(f"{address}?view={view}&seed=4294967295&to=4294967294", READY)
            image, form = f"{first}.getBoundingClientRect()", "document.forms[0].getBoundingClientRect()"
            edges.add(tuple(browser.run(f"[{image}.left, {image}.top, {form}.left]")))
            wide = (
                "[...document.querySelectorAll('#stage figcaption')].filter(e => e.offsetParent && e.scrollWidth > "
                "Math.ceil(e.parentElement.querySelector('img').getBoundingClientRect().width)).length"
            )
            assert browser.run(wide) == 0  # captions are no wider than their images
            assert browser.run(f"getComputedStyle({first}).imageRendering") == "pixelated"
            if view != "wall":
                assert browser.run("document.getElementById('size').textContent") == "16 \u00d7 16 pixels"
    assert len(edges) == 1


def test_the_slider_reaches_what_it_shows(stand, browser):
    with opened(Gallery(lambda name: stand)) as address:
        for psi in ("-0.5", "0.333", "0.7", "1.8", "-2"):
            browser.open(f"{address}?view=picture&psi={psi}", READY)
            assert float(browser.run("document.getElementById('psi').value")) == float(psi)
            shown = browser.run("document.getElementById('psi-value').textContent")
            assert float(shown.removeprefix("ψ ").replace("\u2212", "-")) == round(float(psi), 2)


def test_messages_go_and_only_keys_that_work_are_listed(stand, browser):
    keys = "document.getElementById('keys').innerText"
    sooner = "const wait = setTimeout; setTimeout = (work, ms) => wait(work, ms < 60000 ? ms / 100 : ms);"
    record = "const told = [], status = document.getElementById('status');"
    record += "new MutationObserver(() => told.push(status.textContent)).observe(status, {childList: true})"
    browser.send("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
    with opened(Gallery(lambda name: stand)) as address:
        browser.open(address, READY)
        assert "play" not in browser.run(keys) and "download" not in browser.run(keys)
        browser.run(sooner + record)
        browser.press("c")
        browser.until("told.some(text => text.includes('this again')) && told.at(-1) === ''")
        browser.press("2")
        browser.until(f"{READY} && {keys}.includes('download') && !{keys}.includes('play')")
        enter(browser, "seed", "much")
        browser.until("told.some(text => text.includes('must be from 0')) && told.at(-1) === ''")
        browser.press("4")
        browser.until(f"{READY} && {keys}.includes('play') && {keys}.includes('steps')")
    stand.served = [about for about in stand.served if about.kind == "generator"]
    with opened(Gallery(lambda name: stand)) as address:
        browser.open(address, READY)
        assert browser.run(keys).split()[-4:] == ["1", "to", "2", "views"]


def test_classes_styles_and_widths(stand, browser):
    with opened(Gallery(lambda name: stand, model="people")) as address:
        for width, scheme in ((390, "light"), (1280, "dark")):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.send("Emulation.setDeviceMetricsOverride", **size)
            browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            for view in ("wall", "picture", "mix", "journey"):
                browser.open(f"{address}?view={view}&class=1&seed=4294967295&to=4294967294", READY)
                assert browser.run("document.documentElement.scrollWidth") <= width
                assert browser.run("document.getElementById('class').selectedOptions[0].text") == "night"
                assert browser.run("document.querySelectorAll('#stage b').length") == 0  # names are text
                nameless = "[...document.querySelectorAll('input, select, button')].filter(e => e.offsetParent !== null"
                nameless += " && !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).length"
                assert browser.run(nameless) == 0
    assert browser.errors == []


# With a real server


@contextlib.contextmanager
def command(*arguments: object) -> Iterator[tuple[str, subprocess.Popen]]:
    """The running command `salon gallery ARGUMENTS`, and its address."""
    program = [sys.executable, "-m", "gan", "gallery", "--port", "0", "--json", *map(str, arguments)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(program, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield json.loads(running.stdout.readline())["address"], running
        finally:
            running.kill()


def test_the_command_shows_the_images_of_salon_generate(server, tiny_run, tmp_path):
    outcome = run_salon("generate", tiny_run, "--seeds", "5", "--out", tmp_path, "--truncation-psi", "0.7")
    assert outcome.code == 0, outcome.err
    expected = np.asarray(Image.open(next(tmp_path.iterdir())).convert("RGB")).astype(int)
    for url in (server.grpc_url, server.http_url):
        with command("--url", url) as (address, running), httpx.Client(base_url=address, trust_env=False) as client:
            names = {model["name"]: model["classes"] for model in client.get("/about").json()["models"]}
            assert names == {"generator": [], "times": ["day", "night"]}
            alone = client.get("/image?seed=5&psi=0.7&format=png")
            assert np.abs(pixels(alone) - expected).max() <= 1
            grid = client.get("/scene?view=wall&seed=0&count=12&psi=0.5").json()["pictures"]
            verdicts = client.get("/styles?view=wall&seed=0&count=12&psi=0.5").json()["verdicts"]
            assert len(grid) == len(verdicts) == 12
            assert all(verdict[0][0] in ("red", "green", "blue") for verdict in verdicts)
            mixed = client.get("/scene?view=mix&seed=5&to=6&layers=colour&model=times&class=1").json()["pictures"]
            assert len({client.get("/" + image["src"]).content for image in mixed}) == 3
            frames = client.get("/scene?view=journey&seed=5&to=6&count=5&psi=0.7").json()["pictures"]
            assert np.abs(pixels(client.get("/" + frames[0]["src"])) - expected).max() <= 1
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=HANG)
        assert running.returncode == 0, err
        assert out == "" and f"{1 + 12 + 3 + 5} images were generated" in err


def test_a_real_server_does_no_work_for_who_has_gone(server):
    def synthesized() -> int:
        with Client(server.grpc_url) as client:
            return sum(model["images"] for model in client.status()["models"] if model["name"] == "synthesis")

    with command("--url", server.grpc_url, "--trust-proxy", "127.0.0.1", "--rate", "1000/s") as (address, _):
        before, gallery = synthesized(), urlsplit(address)
        with contextlib.ExitStack() as held:
            for seed in range(20):
                connection = held.enter_context(socket.create_connection((gallery.hostname, gallery.port)))
                view = f"GET /scene?view=journey&seed={5000 + seed}&to=9&count=16 HTTP/1.1\r\nHost: localhost\r\n"
                connection.sendall(f"{view}X-Forwarded-For: 198.51.100.1\r\n\r\n".encode())
            until(lambda: synthesized() > before)
        image = httpx.get(f"{address}image?seed=777", headers={"X-Forwarded-For": "203.0.113.9"}, trust_env=False)
        assert image.status_code == 200 and synthesized() - before < 20 * 16


def test_a_visitor_of_a_real_server(triton, model_repository, browser, tmp_path):
    for model in KINDS:
        shutil.copytree(model_repository / model, tmp_path / model, symlinks=True)
    server = triton(tmp_path)
    title = "document.getElementById('title').textContent"
    with command("--url", server.grpc_url) as (address, _):
        browser.open(address, READY)
        browser.press("2")
        enter(browser, "seed", "42")
        browser.until(f"{READY} && {title} === 'Seed 42' && {LOADED}")
        browser.press("3")
        browser.until(f"{READY} && document.querySelectorAll('#parents img').length === 2")
        link, generated = browser.run("location.href"), bytes_of_image(browser)
        server.stop()
        browser.press("2")
        enter(browser, "seed", "99")  # which no view has shown, so that it must be generated
        browser.until("document.getElementById('status').textContent")
        ports = {f"{name}_port": urlsplit(getattr(server, f"{name}_url")).port for name in ("http", "grpc", "metrics")}
        triton(tmp_path, **ports)
        browser.until(f"{READY} && {title} === 'Seed 99' && document.getElementById('status').textContent === ''")
    with command("--url", server.grpc_url) as (address, _):
        browser.open(f"{address}?{urlsplit(link).query}", READY)
        assert bytes_of_image(browser) == generated
