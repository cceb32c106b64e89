"""What tests of several modules share: the command run in this process, a tiny dataset, a tiny trained run."""

import contextlib
import functools
import io
import json
import multiprocessing.context
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads only wait for each other on tiny tensors

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from gan.__main__ import main
from gan.config import NetworkConfig, TrainingConfig
from gan.data.images import encode
from gan.runtime import parallel

# A shell's background jobs start with Ctrl-C ignored, and would hand that on to the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
HANG = 500  # seconds: beyond what anything takes on the busiest machine; it only ends what would never end

GRID = (2, 1)  # columns and rows of image grids
STYLE_FIGURES = {  # of the training of a style classifier: each strength takes fits, each image runs of the graph
    "serving.style.head.STRENGTHS": (1e-2,),
    "serving.style.train.CHECKED": 8,
}

# Overrides that make `salon train` take a second: 32 images, 4 iterations.
QUICK_TRAINING = (
    *("--preset", "tiny", "--device", "cpu", "--workers", "0", "--total-kimg", "0.032", "--kimg-per-tick", "0.016"),
    *("--set", "z_dim=8", "--set", "w_dim=8", "--set", "mapping_layers=2", "--set", "channel_base=128"),
    *("--set", "channel_max=8", "--set", "batch_size=8", "--image-snapshot-ticks", "0"),
    *("--image-snapshot-minutes", "0", "--network-snapshot-minutes", "0"),  # nothing goes by the clock
)
TINY_TRAINING = (*QUICK_TRAINING, "--augment", "none")  # ADA's draws depend on the number of processes
# What commands import, most of all torch: once for all processes that are forked from one server.
PRELOAD = (
    *("conftest", "gan.training.training_loop", "torch.utils.tensorboard", "eval.evaluate"),
    "torch.distributed.run",
    "torch.fx.experimental.symbolic_shapes",  # of the first gradient
    *("curation.retrain.multi_device", "curation.score.score", "serving.export", "serving.style.train"),
)


@dataclass
class Outcome:
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """Standard output, all of which must be one JSON object on one line."""
        assert self.out.count("\n") == 1
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def run_salon(*arguments: object) -> Outcome:
    """Run `salon ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    return Outcome(exit.value.code, out.getvalue(), err.getvalue())


class SalonProcess:
    """`salon ARGUMENTS` in a process and a group of its own, forked from a server that has imported what it needs.

    What it prints goes to files in `folder`. It has the environment of this process, and `environment`. With `shard`
    features are cached in shards of so many images. With `event` it sends itself the signal that is first there, just
    before it opens ("open"), renames or removes a file that the pattern matches, for the n-th time. Where a `terminal`
    is named, its messages go there. With `torchrun` it is torchrun with these options, which starts Python anew for
    each process of the job.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        environment: dict[str, str] | None = None,
        name: str = "salon",
        shard: int | None = None,
        event: tuple[int, str, str, int] | None = None,
        terminal: str | None = None,
        torchrun: Sequence[str] = (),
    ) -> None:
        self._out, self._err = folder / f"{name}.out", Path(terminal) if terminal else folder / f"{name}.err"
        words = [str(argument) for argument in arguments]
        streams = (self._out, self._err)
        self.process = parallel.start(PRELOAD, _salon, words, streams, environment or {}, shard, event, torchrun)
        self.pid = self.process.pid

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.read_text() if self._out.exists() else ""

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text() if self._err.exists() else ""

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.process.exitcode

    def wait(self) -> Outcome:
        """How it ended."""
        self.process.join(HANG)
        assert self.process.exitcode is not None, "it never ended"
        return Outcome(self.process.exitcode, self.out, self.err)

    def kill(self) -> None:
        """End it at once, if it runs, and wait for its end."""
        self.process.kill()
        self.process.join()


def _salon(
    words: list[str],
    streams: tuple[Path, Path],
    environment: dict[str, str],
    shard: int | None,
    event: tuple[int, str, str, int] | None,
    torchrun: Sequence[str],
) -> None:
    from gan.training.sample_grids import SampleGrids

    os.setsid()
    for number, path in enumerate(streams, 1):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.update(environment)
    server = forkserver._forkserver
    if not hasattr(server, "_forkserver_authkey"):  # what it starts is forked from the server of this process, too
        forkserver.ensure_running = server.ensure_running = lambda: None
    SampleGrids.COLUMNS, SampleGrids.ROWS = GRID
    if shard is not None:
        from eval.data import feature_cache

        feature_cache.SHARD = shard
    if event is not None:
        sys.addaudithook(_signals_itself(*event))
    if torchrun:
        from torch.distributed.run import main as launch

        os.environ["PYTHONPATH"] = str(ROOT)
        launch([*torchrun, "-m", "gan", *words])
    else:
        main(words)


def _signals_itself(number: int, event: str, pattern: str, count: int) -> Callable[[str, tuple[object, ...]], None]:
    left = count

    def hook(name: str, values: tuple[object, ...]) -> None:
        nonlocal left
        if name == event and re.search(pattern, str(values[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    return hook


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def as_torchrun(
    folder: Path, *arguments: object, caches: tuple[Path, Path] | None = None, shard: int | None = None
) -> list[SalonProcess]:
    """Start `salon ARGUMENTS` in two processes of one job, with what torchrun tells them -> both, the main one first.

    With `caches` each is on a machine of its own, which has one of these caches.
    """
    job = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = []
    for rank in range(2):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
        if caches:
            own |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "SALON_CACHE": str(caches[rank])}
        processes.append(SalonProcess(folder, *arguments, environment=job | own, name=f"rank-{rank}", shard=shard))
    return processes


def until(
    condition: Callable[[], Any], process: "subprocess.Popen[Any] | SalonProcess | None" = None, pause: float = 0.01
) -> Any:
    """Wait for `condition()` to hold -> its value. Fails at once when `process`, which is to do it, ended.

    `pause` is seconds between two looks, more where a look costs a server its time.
    """
    end = time.monotonic() + HANG
    while True:
        ended = process is not None and process.poll() is not None  # looked at first: it may end in between
        if value := condition():
            return value
        assert not ended, f"it ended with code {process.returncode} before"
        assert time.monotonic() < end, "it never came true"
        time.sleep(pause)


@dataclass
class Clock:
    """A clock that stands still until it is told to go on."""

    now: float = 0.0  # seconds

    def __call__(self) -> float:
        """The time."""
        return self.now


def write_dataset(path: Path, sizes: list[tuple[int, int]], labels: list[int] | None = None, classes=None) -> Path:
    """Write a dataset of PNGs of random pixels, one for each (width, height)."""
    rng = np.random.default_rng(0)
    from gan.data.dataset import DatasetWriter  # which imports what a client has not: see test_serving_client

    writer = DatasetWriter(path, ".png")
    for index, (width, height) in enumerate(sizes):
        image = Image.fromarray(rng.integers(0, 256, [height, width, 3], np.uint8))
        writer.add(encode(image, "png"), None if labels is None else labels[index])
    writer.close(classes)
    return path


@contextlib.contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """Let the system refuse to write any file beyond `largest` bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def read_only_shared_memory(command: list[str]) -> list[str]:
    """`command`, to be run with a /dev/shm that cannot be written. Skips the test where no such place can be made."""
    mount = 'mount -t tmpfs -o ro none /dev/shm && exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces")
    return [*prefix, *command]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def fork_server():
    """Let whatever starts the one server that processes are forked from, start it with PRELOAD."""
    server = multiprocessing.context.ForkServerContext
    preload = server.set_forkserver_preload

    def with_all(context: Any, modules: list[str]) -> None:
        preload(context, [*(name for name in modules if not name.startswith("test_")), *PRELOAD])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "set_forkserver_preload", with_all)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory, pytestconfig):
    """Keep what Salon caches out of the user's home. All workers share compiled operators, in pytest's own cache."""
    cache = tmp_path_factory.mktemp("cache")
    if pytestconfig.pluginmanager.hasplugin("cacheprovider"):
        (cache / "native").symlink_to(pytestconfig.cache.mkdir("salon-native"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALON_CACHE", str(cache))
        yield cache


@pytest.fixture(scope="session", autouse=True)
def networks_built_once():
    """Build an extractor's network, make it fast and check that once in a process, where two tests give its weights."""
    from eval.features import extractor, registry

    load, fast, check = registry.Network.load, extractor.fast, extractor.check
    load_once, fast_once = functools.cache(load), functools.cache(fast)
    kept, checked = set(), set()

    def loaded(network: registry.Network, path: Path, digest: str) -> registry.Cut:
        if network.name not in ("efficientnet-lite0", "inception-v3-compat"):  # no other is built often
            return load(network, path, digest)
        cut = load_once(network, path, digest)
        kept.add(cut.trunk)
        return cut

    def check_once(run: Callable[..., Any], module: Any, size: int) -> None:
        if module not in checked:
            check(run, module, size)
        if module in kept:
            checked.add(module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.Network, "load", loaded)
        patch.setattr(extractor, "fast", lambda module, to: (fast_once if module in kept else fast)(module, to))
        patch.setattr(extractor, "check", check_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def small_grids():
    """Image grids of two images, in forked processes as well: each takes as long as an image of a tiny training."""
    from gan.training.sample_grids import SampleGrids

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleGrids, "COLUMNS", GRID[0])
        patch.setattr(SampleGrids, "ROWS", GRID[1])
        yield


def empty_cache(path: Path) -> Path:
    """A cache with nothing in it but the compiled operators, which take long."""
    from gan.runtime.files import cache_folder

    path.mkdir()
    (cache_folder() / "native").mkdir(exist_ok=True)
    (path / "native").symlink_to(cache_folder() / "native")
    return path


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """made_once(name, make) -> a folder that make(folder) has filled, in the first worker that wanted it, for all."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all workers of this run

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        path = base / f"shared-{name}"
        with FileLock(f"{path}.lock"):
            if not (path / "made").exists():
                shutil.rmtree(path, ignore_errors=True)  # of a worker that failed
                path.mkdir()
                make(path)
                (path / "made").touch()
        return path

    return folder


@pytest.fixture(scope="session")
def tiny_network() -> NetworkConfig:
    """Networks of a few thousand weights for 16x16 images."""
    return NetworkConfig(resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)


@pytest.fixture(scope="session")
def tiny_config(tiny_network) -> TrainingConfig:
    """A training config around `tiny_network`, of no real dataset."""
    return TrainingConfig(network=tiny_network, dataset="0" * 64, batch_size=8)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory) -> Path:
    """A ZIP of 12 images of 16x16 in two classes, "day" and "night"."""
    path = tmp_path_factory.mktemp("datasets") / "tiny.zip"
    return write_dataset(path, [(16, 16)] * 12, [0, 1] * 6, ["day", "night"])


@pytest.fixture(scope="session")
def tiny_run(made_once, tmp_path_factory, tiny_dataset) -> Path:
    """A finished run of `salon train` on `tiny_dataset`, unconditional. Not to be changed."""

    def make(folder: Path) -> None:
        train = ("train", "--data", tiny_dataset, "--out", folder / "runs", *TINY_TRAINING)
        outcome = run_salon(*train, "--image-snapshot-ticks", "1")
        assert outcome.code == 0, outcome.err

    runs = tmp_path_factory.mktemp("copy") / "runs"
    shutil.copytree(made_once("tiny-run", make) / "runs", runs)
    (run,) = (path for path in runs.iterdir() if path.is_dir())
    return run


@pytest.fixture(scope="session")
def installed_triton(pytestconfig, own_cache):
    """The server that Salon installs, once for all test runs: pytest's own cache keeps it, all workers share it."""
    from serving.server import install as triton

    shared = pytestconfig.cache.mkdir("salon")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALON_CACHE", str(shared))
        found = triton.bundled()
    for folder in shared.glob("triton-*/"):
        (own_cache / folder.name).symlink_to(folder)  # commands find it, too
    return found


@pytest.fixture(scope="session")
def onnxruntime_web(pytestconfig, own_cache) -> Path:
    """ONNX Runtime for browsers, which Salon downloads: once for all test runs. Skips the test where npm has it not."""
    from gan.errors import SalonError
    from serving.gallery.static import runtime

    shared = pytestconfig.cache.mkdir("salon")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALON_CACHE", str(shared))
        try:
            found = runtime.find()
        except SalonError as error:
            pytest.skip(str(error))
    (own_cache / found.name).symlink_to(found)  # commands find it, too
    return found


@pytest.fixture(scope="session")
def server(installed_triton, model_repository):
    """A running serving.server.server.Server of `model_repository`, for all tests that only ask it."""
    from serving.server.server import serve

    with serve(model_repository, server=installed_triton) as running:
        yield running


@pytest.fixture
def triton(installed_triton):
    """start(repository, **options) -> a running Server, ready, that is stopped at the end of the test."""
    from serving.server.server import serve

    with contextlib.ExitStack() as stack:
        yield lambda repository, **options: stack.enter_context(serve(repository, server=installed_triton, **options))


@pytest.fixture(scope="session")
def classifier_file(tmp_path_factory) -> Path:
    """A style classifier as ONNX that goes by the mean colours: styles "red", "green" and "blue"."""
    import torch

    from serving.contract import ModelMetadata
    from serving.export import onnx_file

    class ByColour(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return (image.float().mean(dim=[1, 2]) / 8).softmax(dim=1)

    path = tmp_path_factory.mktemp("classifier") / "style.onnx"
    about = ModelMetadata(kind="style_classifier", styles=["red", "green", "blue"], card={"accuracy": 0.9})
    onnx_file.write(ByColour(), [torch.zeros([2, 24, 24, 3], dtype=torch.uint8)], about, path, [])
    return path


@pytest.fixture(scope="session")
def model_repository(made_once, tmp_path_factory, tiny_run, conditional_snapshot, classifier_file) -> Path:
    """All kinds of models of `tiny_run`, and those of `conditional_snapshot` as "times". Not to be changed."""

    def make(folder: Path) -> None:
        for arguments in (
            ("--snapshot", tiny_run, "--classifier", classifier_file),
            ("--snapshot", conditional_snapshot, "--name", "times"),
        ):
            outcome = run_salon("export", *arguments, "--out", folder / "models")
            assert outcome.code == 0, outcome.err

    path = tmp_path_factory.mktemp("served") / "models"
    shutil.copytree(made_once("models", make) / "models", path, symlinks=True)
    return path


@pytest.fixture(scope="session")
def lite():
    """The extractor efficientnet-lite0, with its real weights."""
    from eval.features.extractor import load_extractor

    return load_extractor("efficientnet-lite0", device="cpu")


@pytest.fixture
def double(monkeypatch):
    """Learners of float64: of two equal ones, no rounding turns an activation around its kink."""
    import torch

    monkeypatch.setattr("gan.training.learner.to_float", lambda pixels: pixels.double() / 127.5 - 1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 4 images."""
    from eval.data import feature_cache

    monkeypatch.setattr(feature_cache, "SHARD", 4)


@pytest.fixture(scope="session")
def inception_weights(made_once) -> Path:
    """A state dict of random weights that keep the scale of what passes through, as torch-fidelity names them."""
    return made_once("inception", lambda folder: write_inception_weights(folder / "inception.pth")) / "inception.pth"


def write_inception_weights(path: Path) -> None:
    import torch

    from eval.features.torchvision_compat import torch_fidelity

    class Untrained(torch_fidelity().FeatureExtractorInceptionV3):
        def load_state_dict(self, state) -> None:
            pass

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.manual_seed(0)
    network = Untrained("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.7, 1.3),
                (module.bias, -0.1, 0.1),
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.7, 1.3),
            ):
                torch.nn.init.uniform_(tensor, low, high)
    torch.save(network.state_dict(), path)


def stripes_or_blots(rng: np.random.Generator, style: str, width: int, height: int) -> Image.Image:
    """Stripes, or blots: textures that any network tells apart."""
    y, x = np.mgrid[:height, :width]
    plane = np.sin((x + y) / 3 + rng.uniform(0, 6)) if style == "Stripes" else rng.standard_normal([height, width])
    tint = rng.uniform(40, 127, 3)
    return Image.fromarray(np.clip(128 + plane[:, :, None] * tint, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def two_styles(tmp_path_factory):
    """Two styles by six painters each, in folders, with names as WikiArt forms them."""
    folder, rng = tmp_path_factory.mktemp("styles"), np.random.default_rng(0)
    for style in ("Blots", "Stripes"):
        (folder / style).mkdir()
        for number in range(18):
            name = f"painter-{style.lower()}-{'abcdef'[number % 6]}_work-{number}.png"
            stripes_or_blots(rng, style, 48 + number, 64 - number).save(folder / style / name)
    return folder


@pytest.fixture(scope="session")
def style_classifier(two_styles, made_once):
    """Figures of `salon style train` on `two_styles` with STYLE_FIGURES, and its files and its cache.

    Not to be changed.
    """

    def make(out: Path) -> None:
        command = ("style", "train", "--data", two_styles, "--target", "Stripes", "--out", out / "style.onnx")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in STYLE_FIGURES.items():
                patch.setattr(name, value)
            patch.setenv("SALON_CACHE", str(empty_cache(out / "cache")))
            outcome = run_salon(*command, "--report", out / "report", "--device", "cpu", "--json")
        assert outcome.code == 0, outcome.err
        (out / "figures.json").write_text(outcome.out)

    out = made_once("style", make)
    return json.loads((out / "figures.json").read_text()), out


@pytest.fixture
def quick_style(monkeypatch):
    """Let a style classifier be trained with STYLE_FIGURES, also by a pipeline's stage."""
    for name, value in STYLE_FIGURES.items():
        monkeypatch.setattr(name, value)
    monkeypatch.setattr("serving.pipeline.runner._command", _quick_stage)


def _quick_stage(line: list[str], base: Path, printed: str) -> None:
    from serving.pipeline.runner import _command

    with pytest.MonkeyPatch.context() as patch:
        for name, value in STYLE_FIGURES.items():
            patch.setattr(name, value)
        _command(line, base, printed)


@pytest.fixture(scope="session")
def conditional_snapshot(made_once, tiny_config):
    """A snapshot of an untrained generator of two classes."""
    from dataclasses import replace

    from gan import snapshot
    from gan.networks.generator import Generator

    name = "snapshot-0000000000.safetensors"

    def make(folder: Path) -> None:
        config = replace(tiny_config, network=replace(tiny_config.network, num_classes=2))
        snapshot.save(folder / name, Generator(config.network), None, config, 0, ["day", "night"])

    return made_once("conditional", make) / name


@contextlib.contextmanager
def web_server(app):
    """A web application on a free port of this machine -> http://HOST:PORT."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A headless Chromium without a page. Skips the test where there is none."""
    from browser import CHROMIUM, Browser

    if CHROMIUM is None:
        pytest.skip("no Chromium")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def browser(chromium):
    """A headless Chromium that shows an empty page, and knows nothing of other tests'."""
    with chromium.page():
        yield chromium
