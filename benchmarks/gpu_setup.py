"""What the sections of gpu.py share: their sizes, and snapshots, datasets and weights of random numbers."""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import contenders
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Variant:
    """Salon otherwise than by default: environment variables, and further arguments of its Learner."""

    label: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    learner: tuple[tuple[str, object], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """ "plain:SALON_NATIVE=0,batch_gpu=8": names in capitals are environment variables; values are JSON or text."""
        label, _, settings = text.partition(":")
        pairs = [setting.split("=", 1) for setting in settings.split(",")]
        learner = []
        for name, value in pairs:
            if not name.isupper():
                try:
                    learner.append((name, json.loads(value)))
                except ValueError:
                    learner.append((name, value))
        return cls(label, {name: value for name, value in pairs if name.isupper()}, tuple(learner))


@dataclass(frozen=True)
class Setup:
    """What is to be measured, and where."""

    device: str = "cuda"
    quick: bool = False  # tiny sizes: to see that it runs
    peers: tuple[str, ...] = ()  # NAME=PATH
    variants: tuple[str, ...] = ()
    data: str | None = None  # folder of pictures to train on; None: synthetic ones
    out: str = "build/gpu"
    minutes: float = 3.0  # of the training
    images: int = 50_000  # of the FID
    weights: str | None = None  # NAME=PATH of an extractor

    def pick(self, full: object, quick: object) -> object:
        """`full`, or `quick` where everything is tiny."""
        return quick if self.quick else full

    @property
    def resolution(self) -> int:
        """Of the images that are generated and evaluated."""
        return 32 if self.quick else 256

    @property
    def preset(self) -> str:
        """Of the generator that makes them."""
        return "tiny" if self.quick else "paper256"

    @property
    def all_variants(self) -> list[Variant]:
        """By default, and the others."""
        return [Variant(), *map(Variant.parse, self.variants)]

    def synchronize(self) -> None:
        """Wait for the device, so that a clock can be read."""
        contenders.synchronize(self.device)

    def rate(self, count: int, function: Callable[[], object], least: float = 1.0) -> float:
        """Things a second, where one call makes `count` of them."""
        return count / contenders.seconds(function, self.device, 0.0 if self.quick else least, 2)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for the time of a section."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def snapshot(setup: Setup, path: Path) -> Path:
    """Write a snapshot with random weights."""
    from gan import snapshot as snapshots
    from gan.config import make_config
    from gan.image_shape import ImageShape
    from gan.networks.discriminator import Discriminator
    from gan.networks.generator import Generator

    torch.manual_seed(0)
    config = make_config(
        preset=setup.preset,
        shape=ImageShape(setup.resolution, setup.resolution),
        num_classes=0,
        dataset="none",
        overrides={},
    )
    snapshots.save(path, Generator(config.network), Discriminator(config.network), config, 0, None)
    return path


def dataset(path: Path, count: int, side: int) -> Path:
    """Write a dataset of smooth random JPEGs."""
    from gan.data.dataset import DatasetWriter
    from gan.data.images import encode

    rng = np.random.default_rng(0)
    writer = DatasetWriter(path, ".jpg")
    for small in rng.integers(0, 256, [count, 8, 8, 3], np.uint8):
        writer.add(encode(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC), "jpeg"))
    writer.close()
    return path


def extractor(setup: Setup, place: Path) -> tuple[str, Path | None, bool]:
    """Name and weights of a network that is here, and whether the weights are random: Inception, or what there is."""
    from eval.features import weights
    from eval.features.dinov2 import Dinov2
    from eval.features.registry import INCEPTION, NETWORKS

    if setup.weights:
        name, _, path = setup.weights.partition("=")
        return name, Path(path), False
    if (weights.folder() / NETWORKS[INCEPTION].file.name).is_file():
        return INCEPTION, None, False
    if setup.quick:
        with contextlib.suppress(ImportError):
            NETWORKS["efficientnet-lite0"].bundled()
            return "efficientnet-lite0", None, False
    torch.manual_seed(0)
    path = place / "random.pth"
    try:
        from evaluate import random_weights

        random_weights(path)
    except ImportError:  # without torch-fidelity
        torch.save(Dinov2("s").state_dict(), path)
        return "dinov2-vit-s-14", path, True
    return INCEPTION, path, True


def salon(*arguments: object, stop_after: float | None = None) -> dict:
    """Run a command of Salon -> what it prints as JSON. Ctrl-C after so many seconds, where that is given."""
    import signal

    command = [sys.executable, "-m", "gan", *map(str, arguments), "--json"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, error = process.communicate(timeout=stop_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        out, error = process.communicate()
    if process.returncode:
        raise RuntimeError(f"salon {arguments[0]} ended with {process.returncode}: {error[-1500:]}")
    figures: dict = json.loads(out.splitlines()[-1])
    return figures


def quiet() -> contextlib.redirect_stderr:
    """No progress bars."""
    return contextlib.redirect_stderr(io.StringIO())


def clock() -> float:
    """Seconds."""
    return time.perf_counter()
