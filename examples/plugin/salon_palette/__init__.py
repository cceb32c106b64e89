"""What a package adds to Salon: a metric, a feature extractor, and two scores. Its pyproject.toml names them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from curation.score.image_score import ImageScore
from eval.features.registry import Cut, Network
from eval.features.weights import State, WeightsFile
from eval.metrics.feature_metric import FeatureMetric

GRID = 4  # cells a side of which the palette has the mean colours


def _between_means(gen: NDArray[np.float32], real: NDArray[np.float32]) -> float:
    # [N, dim], [M, dim] -> the distance between the means of both
    return float(np.linalg.norm(gen.mean(axis=0, dtype=np.float64) - real.mean(axis=0, dtype=np.float64)))


mean_distance = FeatureMetric(name="Distance of the means", measure=_between_means)


def _build_palette(network: Network, state: State, path: Path) -> Cut:
    # Lightness, red against green, and yellow against blue, on a grid: [N, 3 * GRID * GRID]
    opponent = nn.Conv2d(3, 3, 1, bias=False)
    opponent.load_state_dict({"weight": state["opponent"].reshape(3, 3, 1, 1)})
    return Cut(trunk=nn.Sequential(opponent, nn.AdaptiveAvgPool2d(GRID), nn.Flatten()))


palette = Network(
    name="palette",
    dim=3 * GRID * GRID,
    size=64,
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    preset="imagenet",
    file=WeightsFile(name="opponent.safetensors", url="the Python package salon-palette"),
    bundled=lambda: Path(__file__).with_name("opponent.safetensors"),
    build=_build_palette,
)


def _colourfulness(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    # M3 of Hasler and Suesstrunk 2003: how far colours spread, and how far they are from grey.
    values = []
    for image in images:
        red, green, blue = np.moveaxis(image.astype(np.float64), 2, 0)
        axes = np.stack([red - green, (red + green) / 2 - blue])  # [2, H, W]
        spread, mean = axes.std(axis=(1, 2)), axes.mean(axis=(1, 2))
        values.append(np.linalg.norm(spread) + 0.3 * np.linalg.norm(mean))
    return np.array(values)


colourfulness = ImageScore(of_images=_colourfulness)


def _nearness(features: NDArray[np.float32]) -> NDArray[np.float64]:
    # [N, dim] -> [N], the nearer to the mean of all the higher
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    return -np.linalg.norm(centred, axis=1)


mean_nearness = ImageScore(of_features=_nearness)
