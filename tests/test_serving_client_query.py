"""The client and `salon query` before a real server: the pictures are those that PyTorch paints."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from conftest import HANG, run_salon, until
from test_cli import pixels

from gan import snapshot
from gan.errors import RequestError
from gan.runtime.files import sha256
from gan.sampling import generate
from serving.client.cancel import Cancellation, Cancelled
from serving.client.client import Client
from serving.client.transport import connect
from serving.server.server import serve

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", params=["grpc", "http"])
def url(request, server):
    return server.grpc_url if request.param == "grpc" else server.http_url


def near(image, other):
    """Within a level, which a sum in another order may round to."""
    return image.shape == other.shape and np.abs(image.astype(int) - other).max() <= 1


def painted(path, seeds, classes=None, psi=1.0):
    return list(generate.generate(snapshot.find(path).G_ema, seeds, classes, truncation_psi=psi))


def test_a_seed_is_the_picture_that_pytorch_paints(url, tiny_run):
    with Client(url) as client:
        images = list(client.generate(range(7), 0.7))
    assert all(map(near, images, painted(tiny_run, range(7), psi=0.7))) and len(images) == 7


def test_a_cancelled_call_leaves_the_server_in_peace(url):
    def generated():
        (model,) = [m for m in client.status()["models"] if m["name"] == "generator"]
        return model["images"]

    with Client(url) as client:
        before, cancel = generated(), Cancellation()
        images = client.generate(range(100_000), cancel=cancel)
        next(images)
        cancel.cancel()
        with pytest.raises(Cancelled):
            list(images)
        assert generated() - before < 1000
        assert len(list(client.generate(range(5)))) == 5


def test_pictures_are_the_same_whatever_the_way_and_the_concurrency(server):
    def bytes_of(url, concurrency):
        with Client(url, concurrency=concurrency) as client:
            return [image.tobytes() for image in client.generate(range(30))]

    first = bytes_of(server.grpc_url, 1)
    assert first == bytes_of(server.grpc_url, 7) == bytes_of(server.http_url, 1) == bytes_of(server.http_url, 7)
    with Client(server.grpc_url) as client:  # nor does a picture depend on what is asked for beside it
        assert [next(client.generate([seed])).tobytes() for seed in (5, 29)] == [first[5], first[29]]


def test_classes(url, conditional_snapshot):
    with Client(url, model="times") as client:
        night = list(client.generate(range(3), label="night"))
        assert all(map(near, night, painted(conditional_snapshot, range(3), [1] * 3)))
        assert client.about("generator").classes == ["day", "night"]


def test_pictures_are_classified_whatever_their_size(url):
    shades = {"red": (200, 10, 20), "green": (10, 200, 20), "blue": (10, 20, 200)}
    sizes = cycle([(16, 16), (5, 9)])
    images = [np.full([*size, 3], shade, np.uint8) for size, shade in zip(sizes, shades.values(), strict=False)]
    with Client(url) as client:
        probabilities = client.classify(images)
        styles = client.about("style_classifier").styles
        assert [styles[i] for i in probabilities.argmax(1)] == list(shades)
        images, judged = zip(*client.generate_and_classify(range(5)), strict=True)
        assert np.allclose(client.classify(images), judged, atol=1e-5)


def test_the_server_refuses_in_one_line(url):
    arrays = {"z": np.full([1, 8], 1000, np.float32), "truncation_psi": np.ones([1, 1], np.float32)}
    refused = pytest.raises(RequestError, match=r"refused the request: .*numbers from -100")
    with closing(connect(url)) as transport, refused as caught:
        transport.infer("generator", arrays, ["image"], 30)
    assert "\n" not in str(caught.value)


def test_mixing_tables_and_rejection_are_those_of_generate(url, tiny_run, tmp_path):
    mix = ("--rows", "0-1", "--columns", "3-5", "--layers", "0-2", "--truncation-psi", 0.8)
    assert run_salon("query", "mix", *mix, "--url", url, "--out", tmp_path / "served.png").code == 0
    assert run_salon("generate", "mix", tiny_run, *mix, "--out", tmp_path / "own.png").code == 0
    assert near(pixels(tmp_path / "served.png"), pixels(tmp_path / "own.png"))
    choice = ("--reject", "obrs", "--count", 4, "--budget", 5, "--json")
    served = run_salon("query", "generate", *choice, "--url", url, "--out", tmp_path / "served").json
    own = run_salon("generate", tiny_run, *choice, "--calibration", "none", "--out", tmp_path / "own").json
    assert served["seeds"] == own["seeds"] and served["snapshot"] == sha256(snapshot.find(tiny_run).path)


def test_status_counts(url):
    def counts():
        models = {model["name"]: model for model in run_salon("query", "status", "--url", url, "--json").json["models"]}
        return models, models["times"]

    before, times = counts()
    with Client(url, model="times") as client:
        list(client.generate(range(6), label=0))
    after, later = counts()
    assert after.keys() == before.keys() >= {"generator", "times", "times_mapping", "style_classifier"}
    assert (later["succeeded"] - times["succeeded"], later["images"] - times["images"]) == (2, 6)
    assert later["state"] == "READY" and later["version"] == "2" and later["failed"] == 0
    assert 0 < later["compute_ms"] <= later["total_ms"] and later["about"]["classes"] == ["day", "night"]
    assert run_salon("query", "status", "--url", url).out.count("READY") == len(after)


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_nothing_is_lost_or_doubled_when_the_server_is_killed(way, model_repository, installed_triton, tmp_path):
    shutil.copytree(model_repository / "generator", tmp_path / "models" / "generator")
    server = serve(tmp_path / "models", server=installed_triton)
    ports = {
        f"{name}_port": int(url.rpartition(":")[2])
        for name, url in (("http", server.http_url), ("grpc", server.grpc_url))
    }
    url, lines, started = getattr(server, f"{way}_url"), [], []

    def restart():
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        started.append(serve(tmp_path / "models", server=installed_triton, **ports))

    try:
        with Client(url, concurrency=4, retries=100, timeout=300, announce=lines.append) as client:
            seeds = [seed % 20 for seed in range(400)]
            images, killer = [], threading.Thread(target=restart)
            for image in client.generate(seeds):
                images.append(image.tobytes())
                if len(images) == 20:
                    killer.start()
            killer.join()
        assert len(images) == 400 and len(set(images[:20])) == 20 and images == images[:20] * 20
        assert lines and "is not available" in lines[0]
    finally:
        for running in [server, *started]:
            running.stop()


def test_an_interrupted_command_leaves_whole_files(server, tmp_path):
    command = [sys.executable, "-m", "gan", "query", "generate", "--seeds", "0-99999", "--out", str(tmp_path / "out")]
    running = subprocess.Popen([*command, "--url", server.grpc_url], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    until((tmp_path / "out" / "seed0009.png").exists, running)
    running.send_signal(signal.SIGINT)
    assert "Stopped." in running.communicate(timeout=HANG)[1] and running.returncode == 130
    files = list((tmp_path / "out").iterdir())
    assert all(pixels(file).shape == (16, 16, 3) for file in files) and not list((tmp_path / "out").glob(".*"))
