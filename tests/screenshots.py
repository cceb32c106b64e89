"""Screenshots of every page at two widths, light and dark: python tests/screenshots.py [--data FOLDER] [--out DIR].

The pages are made by the product, once: a short loop, on pictures that Salon makes up or on those of FOLDER, whose
folders are styles. What is in DIR/pages already is not made again.
"""

import argparse
import base64
import functools
import http.server
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from browser import Browser
from made_directions import saved

from gan import snapshot
from gan.runtime.files import sha256

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
ROOT = Path(__file__).parent.parent
SOURCE = """
[synthetic]
count = 150
size = 64
genres = "landscape,still_life,portrait"
styles = "impressionism,woodblock"
outliers = 8
"""
LOOP = """
folder = "loop"
{images}
[prepare]
resolution = 32
labels = "folders"
[train]
preset = "tiny"
mirror = true
augment = "none"
total-kimg = 2
kimg-per-tick = 0.25
post-hoc-ema = true
network-snapshot-ticks = 1
[evaluate]
num-images = 96
metrics = "fid,kid,pr,dc,is"
extractor = "efficientnet-lite0"
strata = "label"
reject = "obrs"
budget = 2
burn-in = 64
require = ["kd<9"]
[check]
[score]
strata = "label"
[prune]
keep = 0.9
[retrain]
kimg = 0.2
repeats = 2
num-images = 96
extractor = "efficientnet-lite0"
[style]
target = "{target}"
group-by = "image"
report = "style-report"
[export]
[query]
seeds = "0-31"
grid = "8x4"
[style-check]
num-images = 48
require = 0.5
"""


def salon(folder: Path, *arguments: object, codes: tuple[int, ...] = (0,)) -> dict:
    """Run `salon ARGUMENTS --json` -> what it prints."""
    print("salon", *arguments, flush=True)
    done = subprocess.run(_command(arguments), cwd=folder, stdout=subprocess.PIPE, text=True)
    assert done.returncode in codes, done.returncode
    return json.loads(done.stdout)


@contextmanager
def running(folder: Path, address: str, *arguments: object) -> Iterator[str]:
    """`salon ARGUMENTS`, a server, while the block runs -> the first of what it says that looks like `address`."""
    print("salon", *arguments, flush=True)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(_command(arguments), cwd=folder, text=True, **pipes) as process:
        try:
            assert process.stdout
            found = next((found for line in process.stdout if (found := re.search(address, line))), None)
            assert found, "it ended before it said its address"
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def _command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "gan", *map(str, arguments), "--json"]


def made(folder: Path, data: Path | None) -> dict[str, Path]:
    """What the stages of the loop wrote. All other pages that need no server are made as well."""
    styles = sorted(inside.name for inside in data.iterdir() if inside.is_dir()) if data else ["impressionism"]
    target = next((style for style in styles if "impressionism" in style.lower()), styles[0])
    images = f"images = {json.dumps(str(data.resolve()))}" if data else SOURCE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "loop.toml").write_text(LOOP.format(images=images, target=target))
    stages = salon(folder, "run", "loop.toml", codes=(0, 3))["stages"]
    place = {name: folder / record["output"] for name, record in stages.items()}
    usual = ("--data", place["prepare"], "--metrics", "fid,kid,pr,dc", "--extractor", "efficientnet-lite0")
    measured = ("--num-images", 96, *usual)
    run = stages["train"]["figures"]["run"]
    if not (folder / "comparison").exists():
        salon(folder, "eval", "compare", run, *measured, "--out", "comparison")
    if not (folder / "sweep").exists():
        salon(folder, "eval", "sweep", "--snapshot", run, *measured, "--budget", "1,4", "--out", "sweep")
    if not (folder / "widths").exists():
        salon(folder, "eval", "ema", "--run", run, *measured, "--out", "widths")
    if not (folder / "groups").exists():
        arms = place["retrain"] / "evaluations"
        groups = (("--group", f"{arm}={arms}/{arm}-0,{arms}/{arm}-1") for arm in ("full", "curated"))
        salon(folder, "eval", "compare", *(word for group in groups for word in group), "--out", "groups")
    if not (folder / "rivals").exists():
        seeds = {"a": 0, "b": 1000}  # of one snapshot: chance alone makes them differ
        for name, seed in seeds.items():
            some = ("--metrics", "fid,pr", "--num-images", 40, "--seed", seed, "--out", f"evaluation-{name}")
            salon(folder, "eval", "run", "--snapshot", run, *usual, *some, "--overwrite")
        salon(folder, "eval", "compare", *(f"evaluation-{name}" for name in seeds), "--out", "rivals")
    if not (folder / "novelty").exists():
        few = ("--extractor", "efficientnet-lite0", "--views", "flips", "--num-images", 96, "--out", "novelty")
        salon(folder, "eval", "novelty", "--snapshot", run, "--data", place["prepare"], *few)
    if not (folder / "pictures").exists():
        salon(folder, "generate", run, "--seeds", "0-15", "--out", "pictures")
    if not (folder / "review.html").exists():
        salon(folder, "curate", "review", place["prune"], "--data", place["prepare"], "--out", "review.html")
    if not (folder / "gallery" / "index.html").exists():
        with_directions = ("--directions", random_directions(folder, folder / run))
        salon(folder, "gallery", "--static", "gallery", "--snapshot", run, *with_directions)
    if not (folder / "map.html").exists():
        shown = ("--manifest", place["prune"], "--snapshot", run, "--num-images", 48)
        salon(folder, "curate", "map", place["prepare"], *shown, "--out", "map.html")
    return place


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """A host of static pages while the block runs -> the address of `folder`, below its root."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_address[1]}/{folder.name}/"
        finally:
            host.shutdown()
            thread.join()


def editable(folder: Path, place: dict[str, Path]) -> Path:
    """The generator of the loop as a model repository, with directions, which are random ones."""
    models = folder / "models-with-directions"
    if not models.exists():
        words = ("--classifier", place["style"], "--directions", random_directions(folder, place["train"]))
        salon(folder, "export", "--snapshot", place["train"], "--out", models, *words)
    return models


def random_directions(folder: Path, run: Path) -> Path:
    """A file of directions of a run's generator, by chance: what they are called is what pages show."""
    source = snapshot.find(run)
    network, names = (
        source.config.network,
        ["sky", "brushwork.coarse-to-fine", *(f"pc{number}" for number in range(3, 9))],
    )
    return saved(folder / "directions.npz", sha256(source.path), names, network.num_ws, network.w_dim)


class Camera:
    """Takes every page at both widths, light and dark, and lists what is wider than its window."""

    def __init__(self, browser: Browser, out: Path) -> None:
        self.browser, self.out, self.faults = browser, out, list[str]()

    def take(self, name: str, address: str, ready: str = "true", act: str = "") -> None:
        """Images of the page at `address`, once `ready`, and after `act`, a script."""
        for width in WIDTHS:
            size = {"width": width, "height": 900 if width > 500 else 800}
            self.browser.send("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=width < 500)
            for scheme in SCHEMES:
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                features.append({"name": "prefers-reduced-motion", "value": "reduce"})
                self.browser.send("Emulation.setEmulatedMedia", features=features)
                self.browser.open(address, ready)
                if act:
                    self.browser.run(act)
                self.browser.run("for (const image of document.images) image.loading = 'eager'")
                self.browser.run("Promise.all([...document.images].map(image => image.decode().catch(() => 0)))")
                if (wide := self.browser.run("document.documentElement.scrollWidth")) > width:
                    self.faults.append(f"{name} at {width}: {wide} pixels wide")
                image = self.browser.send("Page.captureScreenshot", format="png", captureBeyondViewport=not act)
                (self.out / f"{name}-{width}-{scheme}.png").write_bytes(base64.b64decode(image["data"]))


def main() -> None:
    """Make the pages, and take them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", metavar="FOLDER", type=Path)
    parser.add_argument("--out", metavar="DIR", type=Path, default=ROOT / "build" / "screenshots")
    asked = parser.parse_args()
    folder = asked.out.resolve() / "pages"
    place = made(folder, asked.data)
    reports = {
        "loop": folder / "loop" / "index.html",
        "evaluation": place["evaluate"] / "report.html",
        "comparison": folder / "comparison" / "comparison.html",
        "comparison-no-best": folder / "rivals" / "comparison.html",
        "sweep": folder / "sweep" / "sweep.html",
        "widths": folder / "widths" / "comparison.html",
        "groups": folder / "groups" / "comparison.html",
        "novelty": folder / "novelty" / "novelty.html",
        "retraining": place["retrain"] / "report.html",
        "style-training": folder / "style-report" / "report.html",
        "style-check": place["style-check"] / "report.html",
        "review-file": folder / "review.html",
    }
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        browser = Browser(temporary / "profile")
        stack.callback(browser.close)
        stack.enter_context(browser.page())
        camera = Camera(browser, asked.out)
        for name, file in reports.items():
            camera.take(name, file.as_uri())
        page = (folder / "map.html").as_uri()
        camera.take("map", page, "document.body.dataset.ready")
        select = "zoom(3); select((i) => Math.hypot(X[i] - 0.5, Y[i] - 0.5) < 0.15, false); tell(selectedImages()[0])"
        drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        camera.take("map-selection", page, "document.body.dataset.ready", f"{select}; {drawn}")
        review = ("curate", "review", place["prune"], "--data", place["prepare"], "--overrule", temporary / "reviewed")
        with running(folder, r"http://[\w.:/-]+", *review, "--reviewer", "Ada") as address:
            figure = "document.querySelector('figure')"
            camera.take("review", address, figure, f"{figure}.querySelector('button').click()")
            camera.take("review-large", address, figure, f"enlarge({figure})")
        begin = "judge.value = 'Ada'; document.querySelector('#join button').click()"
        begun = "new Promise(done => setInterval(() => document.images.length && done(), 20))"
        for name, options in {"blind": (), "blind-pairs": ("--pairs",)}.items():
            words = ("eval", "blind", "--images", "pictures", "--data", place["prepare"], "--count", 8, *options)
            with running(folder, r"http://[\w.:/-]+", *words, "--out", temporary / name) as address:
                camera.take(name, address, "document.querySelector('#choices button')", f"{begin}; {begun}")
        with hosted(folder / "gallery") as address:
            generated = "document.querySelector('#stage[aria-busy=false]')"
            for view in ("wall", "picture", "mix"):
                state = f"#view={view}&seed=4&to=9&psi=0.7{'&edit=sky:1.5' if view == 'picture' else ''}"
                camera.take(f"gallery-static-{view}", f"{address}?{view}{state}", generated)
        camera.take("gallery-static-file", (folder / "gallery" / "index.html").as_uri())
        ports = ("--http-port", 0, "--grpc-port", 0, "--metrics-port", 0)
        server = stack.enter_context(running(folder, r"grpc://[\w.:]+", "serve", editable(folder, place), *ports))
        gallery = running(folder, r"http://[\w.:]+/", "gallery", "--url", server, "--port", 0, "--rate", "1000/min")
        address = stack.enter_context(gallery)
        for view in ("wall", "picture", "mix", "journey"):
            ready = "document.querySelector('#stage[aria-busy=false]')"
            camera.take(f"gallery-{view}", f"{address}?view={view}&seed=4&to=9&psi=0.7", ready)
        edited = f"{address}?view=picture&seed=4&psi=0.7&edits=pc1:1.5,pc2:-0.8"
        camera.take("gallery-edited", edited, ready, "document.getElementById('directions').scrollIntoView(false)")
        for fault in [*camera.faults, *map(str, browser.errors)]:
            print(fault)


if __name__ == "__main__":
    main()
