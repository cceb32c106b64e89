"""The style classifier beside a generator: milliseconds of an image by part, and what int8 does to accuracy.

python benchmarks/classifier.py
python benchmarks/classifier.py --data wikiart_styles8 --target Impressionism --seeds 5
"""

import sys

sys.path.pop(0)  # this folder, in which the package `serving` would be another benchmark

import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
import onnxruntime
import torch
from PIL import Image

from eval.features.extractor import find_weights
from eval.features.registry import NETWORKS
from eval.metrics.confidence_intervals import bootstrap
from gan import snapshot
from gan.config import make_config
from gan.data.images import encode
from gan.image_shape import ImageShape
from gan.networks.generator import Generator
from gan.runtime.console import say, table
from gan.sampling.latents import draw
from serving.contract import CLASSIFIER, ModelMetadata
from serving.export.export import export
from serving.export.request import ExportRequest
from serving.style import head as classifier_head
from serving.style import int8, onnx_classifier
from serving.style.dataset import Paintings, open_paintings
from serving.style.head import Doubles, Floats, Head
from serving.style.request import StyleTrainingRequest
from serving.style.train import features_of

NETWORK = NETWORKS["efficientnet-lite0"]
STYLES = [f"style {k}" for k in range(8)]
SIDES, BATCHES = (32, 256), (1, 16)


def graphs(folder: Path) -> dict[str, Path]:
    """The classifier's graph as it was before its padding was static, as it is, and in int8."""
    weights, about = find_weights(NETWORK, None), ModelMetadata(kind=CLASSIFIER, styles=STYLES)
    zeros = np.zeros([8, NETWORK.dim], np.float32)
    head = Head(weight=zeros, bias=zeros[:, 0], strength=0.0, temperature=1.0)
    paths = {name: folder / f"{name}.onnx" for name in ("traced padding", "fp32", "int8")}
    with patch.object(onnx_classifier, "with_static_padding", lambda trunk, size: trunk):
        onnx_classifier.export(head, NETWORK, weights, about, paths["traced padding"])
    onnx_classifier.export(head, NETWORK, weights, about, paths["fp32"])
    noise = np.random.default_rng(0).integers(0, 256, [8, 64, 64, 3], np.uint8)
    int8.write(NETWORK, weights, STYLES, list(noise), paths["int8"])
    int8.finish(paths["int8"], head, about, paths["int8"])
    return paths


def generator(folder: Path, side: int) -> Path:
    """The graph of an untrained generator, preset auto."""
    config = make_config(preset="auto", shape=ImageShape(side, side), num_classes=0, dataset="none", overrides={})
    path = snapshot.path_for(folder, 0)
    snapshot.save(path, Generator(config.network), None, config, 0, None)
    export(ExportRequest(snapshot=path, out=folder / "models", models="generator"))
    return folder / "models" / "generator" / "1" / "model.onnx"


def milliseconds(step: Callable[[], object], rounds: int) -> float:
    """The least CPU time of a step, which other processes disturb less than they do a clock's."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def session(path: Path, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """In one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def share_of_network(path: Path, image: Floats, folder: Path) -> float:
    """The share of a graph's time that is spent in the network; the rest is resizing, and a little for the head."""
    profiled = session(path, folder / "profile")
    for _ in range(5):
        profiled.run(None, {"image": image})
    least: dict[str, float] = {}
    for event in json.loads(Path(profiled.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            least[event["name"]] = min(event["dur"], least.get(event["name"], np.inf))
    network = sum(took for name, took in least.items() if "/trunk/" in name or name.startswith("Reorder"))
    return network / sum(least.values())


def milliseconds_an_image(path: Path, feeds: list[dict[str, Floats]], rounds: int) -> list[str]:
    """Milliseconds an image of a graph, for each feed."""
    opened = session(path)
    output, times = opened.get_outputs()[0].name, list[str]()
    for feed in feeds:
        batch = len(next(iter(feed.values())))
        took = milliseconds(lambda feed=feed: opened.run([output], feed), -(-rounds // batch))
        times.append(f"{took / batch:.1f}")
    return times


def speed(rounds: int) -> None:
    """Print a table of times for each size of images."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classifiers = graphs(folder)
        for side in SIDES:
            (place := folder / str(side)).mkdir()
            painter = generator(place, side)
            z_dim = session(painter).get_inputs()[0].shape[1]
            pixels = rng.integers(0, 256, [max(BATCHES), side, side, 3], np.uint8)
            file = encode(Image.fromarray(pixels[0]), "jpeg", 95)
            decoding = milliseconds(lambda file=file: np.array(Image.open(io.BytesIO(file))), 10 * rounds)
            latents = [{"z": draw(range(n), z_dim), "truncation_psi": np.ones([n, 1], np.float32)} for n in BATCHES]
            rows = [
                ["decoding of a JPEG", f"{decoding:.1f}", "", ""],
                ["generator", *milliseconds_an_image(painter, latents, rounds), ""],
            ]
            for kind, path in classifiers.items():
                times = milliseconds_an_image(path, [{"image": pixels[:n]} for n in BATCHES], rounds)
                rows.append([f"classifier, {kind}", *times, f"{share_of_network(path, pixels[:1], folder):.0%}"])
            print(table(rows, [f"{side} pixels, CPU ms an image", *(f"batch {n}" for n in BATCHES), "network"]))


def held_out(data: Path, target: str, precision: str, seeds: int) -> tuple[Paintings, list[Doubles]]:
    """Held-out probabilities [N, K] of a training's cross-validation, by each seed of its folds."""
    request = StyleTrainingRequest(data=data, target=target, out=Path("none.onnx"), precision=precision)
    paintings = open_paintings(data)
    with tempfile.TemporaryDirectory() as folder:
        features, *_ = features_of(request, paintings, Path(folder) / "int8.onnx")
    return paintings, [
        classifier_head.held_out(features, paintings.labels, paintings.groups, seed=seed) for seed in range(seeds)
    ]


def accuracy(data: Path, target: str, seeds: int) -> None:
    """Print accuracies by the training's own cross-validation, with the interval of the difference over artists."""
    right = {}
    for precision in ("fp32", "int8"):
        paintings, probabilities = held_out(data, target, precision, seeds)
        right[precision] = np.mean([found.argmax(1) == paintings.labels for found in probabilities], axis=0)
        say(f"{precision}: {', '.join(f'{(p.argmax(1) == paintings.labels).mean():.2%}' for p in probabilities)}")
    _, groups = np.unique(paintings.groups, return_inverse=True)
    sizes = np.bincount(groups)
    rows = []
    for name, each in (*right.items(), ("int8 - fp32", right["int8"] - right["fp32"])):
        sums = np.bincount(groups, weights=each)
        found = bootstrap(np.arange(len(sizes), dtype=np.float64), _ratio(sums, sizes))
        rows.append([name, f"{each.mean():.2%}", f"{found.low:.2%} to {found.high:.2%}"])
    print(table(rows, [f"accuracy, {len(groups)} images, {seeds} seeds of folds", "value", "95 % interval"]))


def _ratio(sums: Doubles, sizes: Doubles) -> Callable[[Doubles], float]:
    def statistic(drawn: Doubles) -> float:
        places = drawn.astype(int)
        return float(sums[places].sum() / sizes[places].sum())

    return statistic


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), help="Folders named by style: measures accuracy, not time.")
@click.option("--target", default="Impressionism", show_default=True)
@click.option("--seeds", default=5, show_default=True, help="Seeds of the folds.")
@click.option("--rounds", default=10, show_default=True)
def main(data: Path | None, target: str, seeds: int, rounds: int) -> None:
    torch.manual_seed(0)
    if data:
        accuracy(data, target, seeds)
    else:
        speed(rounds)


if __name__ == "__main__":
    main()
