"""Training of a style classifier: features by a frozen network, a calibrated head, held-out figures, one ONNX file.

Its card, which travels inside of the file, says what it learned from and how often it errs about the target style.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.data.feature_cache import cached
from eval.data.thumbnails import Thumbnails
from eval.features.extractor import Extractor, find_weights, load_extractor
from eval.features.registry import NETWORKS, named_network
from gan import __version__
from gan.data.images import Pixels, to_rgb
from gan.errors import RequestError
from gan.runtime.console import progress, say
from serving.contract import CLASSIFIER, ModelMetadata
from serving.export import onnx_file
from serving.style import head as classifier_head
from serving.style import int8, onnx_classifier
from serving.style.dataset import Paintings, open_paintings
from serving.style.head import Doubles, Floats
from serving.style.metrics import classification_metrics, errors_about
from serving.style.request import StyleTrainingRequest

PRESETS = ("imagenet", "clip")  # of eval.features.preprocess
VIEWS = "imagenet, imagenet mirrored, clip"  # of each image; its features are their mean
CHECKED = 24  # images that the exported graph is compared on


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A classifier that was trained: figures as in its report, and thumbnails of what it learned from."""

    figures: dict[str, Any]
    paintings: Paintings
    thumbnails: Thumbnails
    probabilities: Doubles  # [N, K], held out by group


def train(request: StyleTrainingRequest) -> Trained:
    """Train a classifier of the styles in `request.data` and write it to `request.out`.

    Raises RequestError for data or names that do not fit, SalonError when the exported graph computes something else.
    """
    named_network(request.extractor)
    clock = _Clock()
    paintings = open_paintings(request.data, request.manifest)
    if request.target not in paintings.styles:
        raise RequestError(f"`target` must be one of {', '.join(paintings.styles)}; got {request.target} instead")
    with tempfile.TemporaryDirectory() as folder:
        return _train(request, paintings, _group_by(request, paintings), Path(folder), clock)


def _train(
    request: StyleTrainingRequest, paintings: Paintings, group_by: str, folder: Path, clock: "_Clock"
) -> Trained:
    network = NETWORKS[request.extractor]
    weights = find_weights(network, request.weights, fetch=request.fetch)
    graph = folder / "int8.onnx"
    features, thumbnails, extractor = features_of(request, paintings, graph)
    clock.lap("features")
    labels = paintings.labels
    single = np.arange(len(labels))  # every image a group of its own
    groups = paintings.groups if group_by == "artist" else single
    judged = classifier_head.FOLDS * (1 if groups is single else 2)  # heads that images are held out of
    steps = iter(progress(range(classifier_head.fits(judged + 1)), "Fitting", unit="fit"))

    def step() -> object:
        return next(steps)

    held_out = classifier_head.held_out(features, labels, groups, seed=request.seed, step=step)
    plain = held_out
    if groups is not single:
        plain = classifier_head.held_out(features, labels, single, seed=request.seed, step=step)
    head = classifier_head.fit(features, labels, groups, seed=request.seed, step=step)
    next(steps, None)  # closes the bar
    clock.lap("fitting")
    card = {
        "target": request.target,
        "errors": {
            style: errors_about(held_out, labels, groups, k).to_dict() for k, style in enumerate(paintings.styles)
        },
        "group_by": group_by,
        "kept_apart": kept_apart(group_by, paintings),
        "seed": request.seed,
        "data": _described(paintings, thumbnails),
        "extractor": extractor | {"preprocess": VIEWS},
        "head": {"C": head.strength, "temperature": head.temperature, "folds": classifier_head.FOLDS},
        "held_out": classification_metrics(held_out, labels, groups, paintings.styles),
        "plain": classification_metrics(plain, labels, single, paintings.styles),
        "versions": {name: version(name) for name in ("torch", "scikit-learn", "numpy", "onnx")},
    }
    about = ModelMetadata(kind=CLASSIFIER, styles=paintings.styles, card=card, salon=__version__)
    if request.precision == "int8":
        int8.finish(graph, head, about, request.out)
    else:
        onnx_classifier.export(head, network, weights, about, request.out)
    parity = _parity(request, paintings, head.probabilities(features))
    clock.lap("export")
    figures = {
        "out": str(request.out),
        "salon": __version__,
        "styles": paintings.styles,
        **card,
        "onnx": parity,
        "seconds": clock.laps,
    }
    return Trained(figures=figures, paintings=paintings, thumbnails=thumbnails, probabilities=held_out)


def _group_by(request: StyleTrainingRequest, paintings: Paintings) -> str:
    # What is held out together: by artist only where some artist is known.
    if request.group_by != "artist" or not paintings.nameless:
        return request.group_by
    group_by = "artist" if paintings.artists else "image"
    doubtful = ""
    if paintings.doubtful:
        doubtful = f" ({len(paintings.doubtful)}, such as {paintings.doubtful[0]}, may name one or not)"
    say(
        f"{paintings.nameless} of {len(paintings.labels)} images name no artist for sure{doubtful}, so images of one "
        f"artist may be on both sides when they are held out by {group_by}, and the held-out rates too good: name the "
        "files ARTIST-NAME_TITLE.jpg, or give a `manifest` with artists"
    )
    return group_by


def kept_apart(group_by: str, paintings: Paintings) -> str:
    """What was held out together, as reports say it."""
    count = len(paintings.labels)
    if group_by == "image":
        return "each image held out by itself, while other works of its artist may have been seen"
    by = " and ".join(paintings.artists_from)
    named = f"all works of an artist held out together, {paintings.artists} artists by {by}"
    if not paintings.nameless:
        return named
    return (
        f"{named}; {paintings.nameless} of {count} images, whose artist is not known, each held out by itself, while "
        "others of its artist may have been seen"
    )


def _parity(request: StyleTrainingRequest, paintings: Paintings, expected: Doubles) -> dict[str, Any]:
    # The exported graph against scikit-learn's probabilities [N, K], on some images.
    chosen, images = _some(request, paintings, CHECKED)
    difference = onnx_classifier.check(request.out, images, expected[chosen])
    return {"opset": onnx_file.OPSET, "difference": difference, "images": len(images)}


def _some(request: StyleTrainingRequest, paintings: Paintings, count: int) -> tuple[NDArray[np.int64], list[Pixels]]:
    # So many images by chance: their places, and their pixels [H, W, 3].
    chosen = np.random.default_rng(request.seed).permutation(len(paintings.labels))[:count]
    positions = paintings.indices[chosen].tolist()
    images = [to_rgb(image) for i in positions for image in paintings.source.pixels(i, i + 1) if image is not None]
    return chosen, images


class _Mirrored(Extractor):
    """An extractor that sees images mirrored."""

    def __init__(self, extractor: Extractor) -> None:
        vars(self).update(vars(extractor))
        self.identity = {**extractor.identity, "mirrored": "left to right"}

    def __call__(self, pixels: Pixels | Sequence[Pixels]) -> dict[str, Floats]:
        return super().__call__([image[:, ::-1] for image in pixels])


def features_of(
    request: StyleTrainingRequest, paintings: Paintings, graph: Path
) -> tuple[Floats, Thumbnails, dict[str, str]]:
    """Features [N, D] of the paintings, thumbnails of their source, and who gives the features.

    Features and thumbnails are kept, shard by shard. In int8 they come from `graph`, which is written first, without a
    head.
    """
    network = NETWORKS[request.extractor]
    weights = find_weights(network, request.weights, fetch=request.fetch)
    if request.precision == "int8":
        int8.write(network, weights, paintings.styles, _some(request, paintings, int8.CALIBRATION)[1], graph)
        extractors: list[Extractor] = [int8.Int8Extractor(graph, network, weights)]
    else:
        middle, square = (
            load_extractor(request.extractor, weights=weights, preprocess=name, device=request.device)
            for name in PRESETS
        )
        extractors = [middle, _Mirrored(middle), square]
    views, thumbnails = cached(
        paintings.source, extractors, batch_size=extractors[0].batch_size, description="Extracting features"
    )
    features = np.mean([view.take(paintings.indices) for view in views], axis=0)
    return features.astype(np.float32), thumbnails, extractors[0].identity


def _described(paintings: Paintings, thumbnails: Thumbnails) -> dict[str, Any]:
    sizes = thumbnails.traits(len(paintings.source)).sizes
    sides = np.repeat([min(size) for size in sizes], list(sizes.values()))
    return {
        "name": Path(paintings.source.name).name,
        "images": len(paintings.labels),
        "by_style": paintings.counts,
        "artists": paintings.artists,
        "side": int(np.median(sides)),  # of the shorter sides, in pixels
        **paintings.source.identity,
    }


class _Clock:
    """Seconds by part of the work."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """A part has ended."""
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now
