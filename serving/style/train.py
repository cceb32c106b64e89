"""Training of a style classifier: features by a frozen network, a calibrated head, held-out figures, one ONNX file.

Its card, which travels inside of the file, says what it learned from and how often it errs about the target style.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from eval.data.feature_cache import cached
from eval.data.thumbnails import Thumbnails
from eval.features.extractor import Extractor, find_weights, load_extractor
from eval.features.registry import NETWORKS
from gan import __version__
from gan.data.images import Pixels
from gan.errors import RequestError
from gan.runtime.console import progress, say
from serving.contract import CLASSIFIER, About
from serving.export import onnx_file
from serving.style import head as style_head
from serving.style import onnx_classifier
from serving.style.dataset import Paintings, open_paintings
from serving.style.head import Doubles, Floats
from serving.style.metrics import errors_about, judge

PRESETS = ("imagenet", "clip")  # of eval.features.preprocess
VIEWS = "imagenet, imagenet mirrored, clip"  # of each image; its features are their mean
CHECKED = 48  # images that the exported graph is compared on


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A classifier that was trained: figures as in its report, and small pictures of what it learned from."""

    figures: dict[str, Any]
    paintings: Paintings
    pictures: Thumbnails
    probabilities: Doubles  # [N, K], held out by painter


def train(
    data: Path,
    target: str,
    out: Path,
    *,
    manifest: Path | None = None,
    extractor: str = "efficientnet-lite0",
    weights: Path | None = None,
    fetch: bool = False,
    group_by: str = "artist",
    seed: int = 0,
    device: str = "auto",
) -> Trained:
    """Train a classifier of the styles in `data` and write it to `out`. `target` is the style that checks ask for.

    Raises RequestError for data or names that do not fit, SalonError when the exported graph computes something else.
    """
    if extractor not in NETWORKS:
        raise RequestError(f"--extractor must be one of {', '.join(NETWORKS)}; got {extractor} instead")
    clock = _Clock()
    paintings = open_paintings(data, manifest)
    if target not in paintings.styles:
        raise RequestError(f"--target must be one of {', '.join(paintings.styles)}; got {target} instead")
    if group_by == "artist" and paintings.nameless:
        group_by = "artist" if paintings.artists else "image"
        say(
            f"{paintings.nameless} of {len(paintings.labels)} images name no artist, so pictures of one painter may be "
            f"on both sides when they are held out by {group_by}, and the held-out rates too good: name the files "
            "ARTIST_TITLE.jpg, or give a --manifest with artists"
        )
    network = NETWORKS[extractor]
    file = find_weights(network, weights, fetch=fetch)
    middle, whole = (load_extractor(extractor, weights=file, preprocess=name, device=device) for name in PRESETS)
    features, pictures = _see(paintings, middle, whole)
    clock.lap("features")
    labels = paintings.labels
    apart = np.arange(len(labels))  # every image a group of its own
    groups = paintings.groups if group_by == "artist" else apart
    steps = iter(progress(range(style_head.fits(2 * style_head.FOLDS + 1)), "Fitting", unit="fit"))
    held_out = style_head.held_out(features, labels, groups, seed=seed, step=lambda: next(steps))
    plain = style_head.held_out(features, labels, apart, seed=seed, step=lambda: next(steps))
    head = style_head.fit(features, labels, groups, seed=seed, step=lambda: next(steps))
    next(steps, None)  # closes the bar
    clock.lap("fitting")
    card = {
        "target": target,
        "errors": {
            style: errors_about(held_out, labels, groups, k).to_dict() for k, style in enumerate(paintings.styles)
        },
        "group_by": group_by,
        "seed": seed,
        "data": _described(paintings, pictures),
        "extractor": middle.identity | {"preprocess": VIEWS},
        "head": {"C": head.strength, "temperature": head.temperature, "folds": style_head.FOLDS},
        "held_out": judge(held_out, labels, groups, paintings.styles),
        "plain": judge(plain, labels, apart, paintings.styles),
        "versions": {name: version(name) for name in ("torch", "scikit-learn", "numpy", "onnx")},
    }
    about = About(kind=CLASSIFIER, styles=paintings.styles, card=card, salon=__version__)
    onnx_classifier.export(head, network, file, about, out)
    chosen = np.random.default_rng(seed).permutation(len(labels))[:CHECKED]
    images = [next(paintings.source.pixels(i, i + 1)) for i in paintings.indices[chosen].tolist()]
    difference = onnx_classifier.check(out, images, head.probabilities(features[chosen]))
    clock.lap("export")
    figures = {
        "out": str(out),
        "salon": __version__,
        "styles": paintings.styles,
        **card,
        "onnx": {"opset": onnx_file.OPSET, "difference": difference, "images": len(images)},
        "seconds": clock.laps,
    }
    return Trained(figures=figures, paintings=paintings, pictures=pictures, probabilities=held_out)


class _Mirrored(Extractor):
    """An extractor that sees images mirrored."""

    def __init__(self, extractor: Extractor) -> None:
        vars(self).update(vars(extractor))
        self.identity = {**extractor.identity, "mirrored": "left to right"}

    def __call__(self, pixels: Pixels | Sequence[Pixels]) -> dict[str, Floats]:
        return super().__call__([image[:, ::-1] for image in pixels])


def _see(paintings: Paintings, middle: Extractor, whole: Extractor) -> tuple[Floats, Thumbnails]:
    # Features [N, D] of the paintings, and small pictures of the whole source; both are kept, shard by shard.
    views, pictures = cached(
        paintings.source,
        [middle, _Mirrored(middle), whole],
        batch_size=middle.batch_size,
        description="Looking at paintings",
    )
    features = np.mean([view.take(paintings.indices) for view in views], axis=0)
    return features.astype(np.float32), pictures


def _described(paintings: Paintings, pictures: Thumbnails) -> dict[str, Any]:
    sizes = pictures.traits(len(paintings.source)).sizes
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
