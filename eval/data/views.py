"""Views of real images, flipped and cropped, and their features: what a copy of an image may be of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from eval.data.feature_cache import FeatureShards, cached, folder_name, one_pass
from eval.data.image_sources import DatasetSource
from eval.data.thumbnails import Thumbnails
from eval.features.extractor import Extractor
from eval.metrics.feature_stats import Features
from gan.data.images import Pixels, to_rgb
from gan.runtime.files import cache_folder

ORIGINAL = "original"
CROP = 0.85  # share of each side that a crop keeps
_CROPS = {  # name -> share of the rest that lies above and to the left
    "centre": (0.5, 0.5),
    "top left": (0, 0),
    "top right": (0, 1),
    "bottom left": (1, 0),
    "bottom right": (1, 1),
}
SIDE = 32  # pixels to which two images are shrunk before they are compared

FLIPS = (ORIGINAL, "flip")
CROPS = (*FLIPS, *(f"{name}{flip}" for name in _CROPS for flip in ("", ", flip")))
VIEWS = {"original": (ORIGINAL,), "flips": FLIPS, "crops": CROPS}  # kind -> views


def seen(pixels: Pixels, view: str) -> Pixels:
    """A view of an image, uint8 [H, W, C]; crops are smaller."""
    place = view.removesuffix(", flip")
    if place in _CROPS:
        height, width = pixels.shape[:2]
        h, w = max(1, round(height * CROP)), max(1, round(width * CROP))
        top, left = (round(share * rest) for share, rest in zip(_CROPS[place], (height - h, width - w), strict=True))
        pixels = pixels[top : top + h, left : left + w]
    return np.ascontiguousarray(pixels[:, ::-1] if view.endswith("flip") else pixels)


class ViewShards(FeatureShards):
    """Features of a view of each image."""

    def __init__(self, identity: dict[str, Any], extractor: Extractor, view: str) -> None:
        name = folder_name({"images": identity, "extractor": extractor.identity, "view": [view, CROP]})
        super().__init__(cache_folder() / "features" / name, extractor)
        self.view = view

    def take(self, pixels: Sequence[Pixels | None]) -> dict[str, Any]:
        """Extract features of the view of a batch."""
        return super().take(self._seen(pixels))

    def start(self, pixels: Sequence[Pixels | None]) -> Any:
        """The same, only started."""
        return super().start(self._seen(pixels))

    def _seen(self, pixels: Sequence[Pixels | None]) -> list[Pixels | None]:
        return [None if image is None else seen(image, self.view) for image in pixels]


def cached_views(
    source: DatasetSource, extractors: Sequence[Extractor], views: Sequence[str], *, batch_size: int
) -> tuple[list[list[Features]], Thumbnails]:
    """Features [M, dim] of each view of a dataset's images, by extractor, and small images; see feature_cache.cached.

    `views` begin with ORIGINAL. Each image is decoded once for all others.
    """
    originals, thumbnails = cached(source, extractors, batch_size=batch_size, description="Training images")
    images, positions = source.all_images, source.indices
    sets = [[ViewShards(images.identity, each, view) for view in views[1:]] for each in extractors]
    every = [shards for own in sets for shards in own]
    if every:
        one_pass(images, every, positions=positions, batch_size=batch_size, description="Flips and crops")
    return [
        [original, *(shards.read(positions) for shards in own)] for original, own in zip(originals, sets, strict=True)
    ], thumbnails


def agreement(image: Pixels, real: Pixels, views: Sequence[str]) -> tuple[float, str]:
    """The largest correlation of an image's pixels with a view of a real one, and the view.

    Of luminances at SIDE pixels, from -1 to 1; 0 for an image of one colour.
    """
    a = _small(image)
    correlations = [float(a @ _small(seen(real, view))) for view in views]
    best = int(np.argmax(correlations))
    return correlations[best], views[best]


def _small(pixels: Pixels) -> Any:
    # -> [SIDE * SIDE] around 0, of length 1
    grey = Image.fromarray(to_rgb(pixels)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.float64).ravel()
    values = values - values.mean()
    length = np.linalg.norm(values)
    return values / length if length else values
