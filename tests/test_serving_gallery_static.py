"""The gallery without a server: its folder, and its page in a real browser, with the real runtime."""

import errno
import functools
import http.server
import json
import re
import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from conftest import run_salon, until
from PIL import Image
from test_cli import refused

from gan import snapshot
from gan.config import PRESETS, NetworkConfig, TrainingConfig
from gan.data import recipe, xmp
from gan.errors import SalonError
from gan.networks.generator import Generator
from gan.runtime import page
from gan.runtime.files import sha256
from gan.sampling import generate
from gan.sampling.directions import Direction, Directions
from serving.gallery.static import networks, runtime, site
from serving.gallery.static.request import StaticGalleryRequest

CLASSES = ["day", '<b>"dusk" &amp; dawn</b> {tool}']
LEVELS = 2  # by which a browser's images may be off
OURS = "serving.gallery.static"
READY = "document.querySelector('#stage')?.getAttribute('aria-busy') === 'false'"


def lively(network: NetworkConfig) -> Generator:
    """An untrained generator with all that training brings: noise, biases, and an average that is not zero."""
    torch.manual_seed(0)
    G = Generator(network)
    with torch.no_grad():
        G.mapping.w_avg.normal_(std=0.3)
        for name, parameter in G.named_parameters():
            if name.endswith(("noise_strength", ".bias")) and "affine" not in name:
                parameter.normal_(std=0.2)
    return G


def saved(folder: Path, config: TrainingConfig, classes: list[str] | None = None) -> Path:
    path = folder / "snapshot-0000000000.safetensors"
    snapshot.save(path, lively(config.network), None, config, 0, classes)
    return path


def direction(name: str, w_dim: int, **values) -> Direction:
    vector = np.random.default_rng(len(name) + values["first"]).standard_normal(w_dim).astype(np.float32)
    return Direction(name=name, vector=vector / np.linalg.norm(vector), method="pca", **values)


@pytest.fixture(scope="module")
def source(made_once, tiny_config) -> Path:
    """A generator of two classes, of the preset tiny at 64x64, and directions of it beside."""
    values = {name: value for name, value in PRESETS["tiny"].items() if name in NetworkConfig.__dataclass_fields__}
    network = NetworkConfig(resolution=64, num_classes=2, **values)

    def make(folder: Path) -> None:
        path = saved(folder, replace(tiny_config, network=network), CLASSES)
        entries = [
            direction("sky", network.w_dim, sigma=1.7, first=0, last=4),
            direction("pc2", network.w_dim, sigma=0.9, first=3, last=network.num_ws - 1),
        ]
        directions = Directions.of(entries, num_ws=network.num_ws, snapshot=sha256(path))
        directions.save(folder / "directions.npz")

    return made_once("static-source", make) / "snapshot-0000000000.safetensors"


@pytest.fixture(scope="module")
def gallery(made_once, source, onnxruntime_web) -> Path:
    """The gallery of `source`, with its directions. Not to be changed."""

    def make(folder: Path) -> None:
        directions = source.with_name("directions.npz")
        outcome = run_salon(
            *("gallery", "--static", folder / "site", "--snapshot", source, "--directions", directions, "--json")
        )
        assert outcome.code == 0, outcome.err
        (folder / "figures.json").write_text(outcome.out)

    return made_once("static-gallery", make) / "site"


@contextmanager
def hosted(folder: Path, *, tells_encoding: bool = False):
    """A host of static pages, with the folder below its root -> its address, and the paths that it is asked for.

    It may send files that are compressed as what they hold, compressed on the way, as some hosts do.
    """
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *values) -> None:
            asked.append(self.path)

        def end_headers(self) -> None:
            if tells_encoding and ".gz" in self.path:
                self.send_header("Content-Encoding", "gzip")
            super().end_headers()

    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder.parent)))
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{host.server_address[1]}/{folder.name}/", asked
    finally:
        host.shutdown()
        thread.join()
        host.server_close()


@pytest.fixture
def visit(browser, tmp_path):
    """visit(address, hash) opens the page there, or goes on to another state of it."""
    browser.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))

    def opened(address: str, hash: str) -> None:
        if browser.run("location.href").startswith(address):
            before = browser.run(f"{{ const before = turn; location.hash = {json.dumps(hash)}; before }}")
            browser.until(f"turn > {before} && {READY}")
        else:
            browser.open(f"{address}{hash}", READY)

    return opened


def downloaded(browser, tmp_path) -> Path:
    """The file that the page's button gives."""
    folder = tmp_path / "downloads"
    before = set(folder.glob("*")) if folder.exists() else set()
    browser.run("document.querySelector('#download').click()")
    until(lambda: set(folder.glob("*.png")) - before)
    (file,) = set(folder.glob("*.png")) - before
    until(lambda: not list(folder.glob("*.crdownload")))
    return file


def off(file: Path, wanted: np.ndarray) -> int:
    """Levels by which a file is off at most."""
    with Image.open(file) as image:
        found = np.asarray(image).astype(int)
    return int(np.abs(found.reshape(wanted.shape) - wanted).max())


def test_latents_are_numpys_to_the_bit(browser):
    seeds = [0, 1, 2, 42, 623, 624, 2**31 - 1, 2**31, 2**32 - 1, *np.random.default_rng(0).integers(2**32, size=40)]
    script = page.read(OURS, "gallery_random.js")
    drawn = browser.run(f"{script}; {json.dumps([int(seed) for seed in seeds])}.map(seed => [...latent(seed, 513)])")
    assert np.array_equal(np.array(drawn, np.float32), generate.latents(seeds, 513).numpy())


def test_images_are_those_of_salon_generate_and_say_so(browser, gallery, source, tmp_path, visit):
    G, directions = snapshot.find(source).G_ema, source.with_name("directions.npz")
    states = {  # hash -> seed, class, psi
        "#view=picture&seed=0&psi=0.7&class=0": (0, 0, 0.7),
        "#view=picture&seed=7&psi=1&class=1": (7, 1, 1.0),
        "#view=picture&seed=4294967295&psi=-0.35&class=1": (2**32 - 1, 1, -0.35),
    }
    with hosted(gallery) as (address, asked):
        files = []
        for hash, (seed, label, psi) in states.items():
            visit(address, hash)
            files.append(downloaded(browser, tmp_path))
            (wanted,) = generate.generate(G, [seed], [label], truncation_psi=psi)
            assert wanted.std() > 10 and off(files[-1], wanted) <= LEVELS
        visit(address, "#view=mix&seed=0&to=9&psi=0.7&class=1&layers=2-5")
        files.append(downloaded(browser, tmp_path))
        visit(address, "#view=picture&seed=0&psi=0.7&class=1&edit=sky:1.5,pc2:-2")
        edited = downloaded(browser, tmp_path)
        assert browser.errors == []
    assert {path.split("/")[1] for path in asked} == {"site"}  # it asked for nothing but its own files
    outcome = run_salon("verify", *files, "--snapshot", source, "--json")
    assert outcome.code == 0 and outcome.json["verified"] == 4, outcome.out
    mixed = outcome.json["pictures"][3]["recipe"]
    assert (mixed["seeds"], mixed["columns"], mixed["layers"]) == ([0], [9], [2, 3, 4, 5])
    assert mixed["class_name"] == CLASSES[1] and outcome.json["pictures"][0]["recipe"]["class_name"] == "day"
    ws = generate.map_seeds(G, [0], [1], truncation_psi=0.7)
    for file, amounts in ((files[3], {}), (edited, {"sky": 1.5, "pc2": -2.0})):
        moved = Directions.open(directions, G.config.num_ws, G.config.w_dim).edit(ws.numpy(), amounts)
        (wanted,) = generate.synthesize(G, torch.from_numpy(moved))
        assert (off(file, wanted) <= LEVELS) == bool(amounts)
        said = recipe.read(file)
        assert said.marked and said.recipe and said.recipe.edits == amounts
        assert said.recipe.directions == (sha256(directions) if amounts else None)
        with Image.open(file) as image:
            assert image.info["Software"] == f"Salon {said.recipe.salon}"
            ElementTree.fromstring(image.info[xmp.PNG_XMP])
            assert image.info["Description"].startswith("Generated by a trained model")
            assert amounts or image.info["Description"] == said.recipe.sentence()


@pytest.mark.parametrize(("base", "channels"), [((6, 4), 1), ((4, 5), 4)], ids=["grey", "alpha"])
def test_images_of_every_shape(browser, onnxruntime_web, tiny_config, tmp_path, visit, monkeypatch, base, channels):
    monkeypatch.setattr(networks, "COMPARED", 2)
    config = replace(tiny_config, network=replace(tiny_config.network, base=base, image_channels=channels))
    source = saved(tmp_path, config)
    site.write(StaticGalleryRequest(static=tmp_path / "site", snapshot=source))
    with hosted(tmp_path / "site", tells_encoding=channels == 1) as (address, _):
        visit(address, "#view=picture&seed=3&psi=0.5")
        file = downloaded(browser, tmp_path)
        assert browser.errors == []
    (wanted,) = generate.generate(snapshot.find(source).G_ema, [3], truncation_psi=0.5)
    assert recipe.read(file).recipe.seeds == [3] and off(file, wanted) <= LEVELS
    with Image.open(file) as image:
        assert (image.mode, image.size) == ({1: "L", 4: "RGBA"}[channels], config.network.shape.size)


def test_the_page_is_worked_by_hand(browser, gallery, visit):
    shown = "document.querySelector('#image').src"
    with hosted(gallery) as (address, _):
        visit(address, "#seed=5")
        titles = browser.run("[...document.querySelectorAll('#grid figcaption')].map(e => e.textContent)")
        assert titles == [f"Seed {seed}" for seed in range(5, 17)]
        browser.run("document.querySelector('#grid a').click()")
        browser.until(f"location.hash.includes('view=picture') && {READY} && {shown}")
        for key, seed in (("ArrowRight", 6), ("ArrowLeft", 5)):
            browser.press(key)
            browser.until(f"document.querySelector('#title').textContent === 'Seed {seed}' && {READY}")
        before, states = browser.run(shown), browser.run("history.length")
        slide = "const s = document.querySelector('#direction-0'); s.value = 2; s.dispatchEvent(new Event('{}'))"
        browser.run(f"{{ {slide.format('input')} }}")  # while it is dragged
        browser.until(f"location.hash.includes('edit=sky:2') && {shown} !== {json.dumps(before)}")
        assert browser.run("history.length") == states
        browser.run("document.querySelector('#reset').click()")
        browser.until(f"!location.hash.includes('edit') && {shown} === {json.dumps(before)}")
        browser.run("const c = document.querySelector('#class'); c.value = 1; c.dispatchEvent(new Event('change'))")
        browser.until(f"location.hash.includes('class=1') && {shown} !== {json.dumps(before)}")
        browser.run("history.back()")
        browser.until(f"location.hash.includes('class=0') && {shown} === {json.dumps(before)}")
        browser.press("3")
        browser.until(f"document.querySelectorAll('#parents img').length === 2 && {READY}")
        assert browser.run("[...document.querySelectorAll('#first, #last')].map(e => e.value)") == ["7", "9"]
        browser.run("const l = document.querySelector('#last'); l.value = 3; l.dispatchEvent(new Event('change'))")
        browser.until(f"document.querySelector('#title').textContent === 'Seed 5 with layer 3 of seed 6' && {READY}")
        unlabelled = "[...document.querySelectorAll('input, select')].filter(e => !e.labels.length && !e.ariaLabel)"
        assert browser.run(f"{unlabelled}.length") == 0
        assert browser.errors == []


def test_an_address_that_asks_for_what_is_not_there_shows_what_is(browser, gallery):
    with hosted(gallery) as (address, _):
        hash = "#view=nothing&seed=4294967296&psi=9&class=7&layers=9-2&edit=sea:1,sky:1e9,pc2"
        browser.open(f"{address}{hash}", "state.view")
        assert browser.run("JSON.stringify({...state})") == json.dumps(
            {"view": "wall", "seed": 0, "to": 1, "psi": 1, "label": 0, "layers": [7, 9], "edits": {}},
            separators=(",", ":"),
        )


def test_a_page_without_a_web_server_says_what_to_do(browser, gallery):
    browser.open(f"{gallery.as_uri()}/index.html", "document.querySelector('#alone')")
    assert "python3 -m http.server" in browser.run("document.querySelector('#alone').textContent")


def test_a_generator_that_does_not_arrive_is_named(browser, gallery, tmp_path):
    shutil.copytree(gallery, tmp_path / "site")
    (tmp_path / "site" / "synthesis.onnx").unlink()
    with hosted(tmp_path / "site") as (address, _):
        browser.open(address, "document.querySelector('#status').textContent")
        told = browser.run("document.querySelector('#status').textContent")
    assert told == "The generator could not be started: synthesis.onnx: 404 File not found"


def test_the_folder_is_small_whole_and_closed(gallery):
    figures = json.loads((gallery.parent / "figures.json").read_text())
    assert {file.name for file in gallery.iterdir()} == site.NAMES
    sizes = [file.stat().st_size for file in gallery.rglob("*") if file.is_file()]
    assert figures["bytes"] == sum(sizes) < 15e6 and figures["weights"] == "fp16"
    assert figures["directions"] == ["sky", "pc2"]
    assert {*runtime.FILES, *runtime.LICENSES} == {file.name for file in (gallery / "onnxruntime").iterdir()}
    index = (gallery / "index.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', index)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert not re.search(r"""(src|href)=["'](https?:)?//""", index)


def test_weights_that_show_in_half_the_size_stay_whole(gallery, source, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "MOST", -1)
    monkeypatch.setattr(networks, "COMPARED", 2)
    assert networks.write(snapshot.find(source), "ab" * 32, tmp_path) == "fp32"
    assert {file.name for file in tmp_path.iterdir()} == set(networks.FILES.values())
    assert (gallery / "synthesis.onnx").stat().st_size < 0.6 * (tmp_path / "synthesis.onnx").stat().st_size


def test_what_is_there_is_replaced_whole_and_only_when_asked(onnxruntime_web, tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "COMPARED", 2)
    out = tmp_path / "site"
    out.mkdir()
    command = ("gallery", "--static", out, "--snapshot", tiny_run)
    assert run_salon(*command).code == 0
    before = (out / "index.html").read_bytes()
    refused(run_salon(*command), "--static would replace", "add --overwrite")

    def fails(*_):
        raise SalonError("no network")

    with monkeypatch.context() as patch:
        patch.setattr(networks, "write", fails)
        assert "no network" in run_salon(*command, "--overwrite").err
    assert (out / "index.html").read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["site"]

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    (out / "index.html").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr("gan.runtime.files.fsync", full)  # when the old one has been put aside
        assert "No space left" in run_salon(*command, "--overwrite").err
    assert (out / "index.html").read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["site"]
    assert run_salon(*command, "--overwrite").code == 0
    assert (out / "index.html").read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["site"]
    (out / "CNAME").write_text("me.example")
    refused(run_salon(*command, "--overwrite"), "--static must be a folder of the gallery's own", "CNAME")
    (tmp_path / "file").touch()
    refused(run_salon("gallery", "--static", tmp_path / "file", "--snapshot", tiny_run), "--static must be a folder")


def test_requests_that_do_not_fit_are_refused(source, tiny_run, tmp_path):
    out = ("--static", tmp_path / "site")
    refused(run_salon("gallery", "--snapshot", source), "--snapshot needs --static")
    refused(run_salon("gallery", "--overwrite"), "--overwrite needs --static")
    refused(run_salon("gallery", *out), "--static needs --snapshot")
    refused(run_salon("gallery", *out, "--snapshot", source, "--port", 1), "--port is for a server's generators")
    refused(run_salon("gallery", *out, "--snapshot", tmp_path / "none"), "none must be a snapshot")
    directions = ("--directions", source.with_name("directions.npz"))
    refused(run_salon("gallery", *out, "--snapshot", tiny_run, *directions), "--directions must be")
    entries = [direction("sky", 8, sigma=1, first=0, last=3)]
    Directions.of(entries, num_ws=6, snapshot="ab" * 32).save(tmp_path / "other.npz")
    other = ("--directions", tmp_path / "other.npz")
    refused(
        run_salon("gallery", *out, "--snapshot", tiny_run, *other), "must be of this snapshot", "is of abababababab"
    )
    (tmp_path / "other.npz").unlink()
    assert list(tmp_path.iterdir()) == []
