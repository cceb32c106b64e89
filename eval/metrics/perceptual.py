"""How different an image looks from a target, with gradients: LPIPS, or features of EfficientNet-Lite0 in its place.

img is float NCHW in about [-1, 1], of any channels and any size.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from eval import suite
from eval.features import weights
from eval.features.efficientnet_lite import SIZE
from eval.features.extractor import find_weights
from eval.features.fast_trunk import fold_batch_norm
from eval.features.registry import NETWORKS
from eval.metrics.lpips import SMALLEST, Lpips, as_judged, of_length_one
from gan.errors import RequestError
from gan.runtime.files import sha256

LPIPS_FILES = ("vgg16-397923af.pth", "lpips-vgg.pth")  # in weights.folder(), where `weights` does not name them
LPIPS, EFFICIENTNET = "lpips-vgg", suite.OFFLINE  # names of the distances
DISTANCES = (LPIPS, EFFICIENTNET)
BLOCKS = (0, 2, 4, 10)  # of EfficientNet-Lite0: the last one of 112, 56, 28 and 14 features a side


class Perceptual(Protocol):
    """A perceptual distance."""

    name: str  # one of DISTANCES
    weights: str  # SHA-256 of its files, with blanks between them

    def toward(self, target: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """What measures images [N, C, H, W] by their distance [N] from one `target` [1, C, H, W], with gradients."""


class LpipsDistance:
    """LPIPS (Zhang et al. 2018) of images of at most 256 pixels a side, as Karras et al. 2020 measure projections."""

    name = LPIPS

    def __init__(self, lpips: Lpips, weights: str = "") -> None:
        self.lpips, self.weights = lpips, weights

    def toward(self, target: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """See Perceptual. The target's features are computed once."""
        with torch.no_grad():
            features = self.lpips.features(_enlarged(as_judged(target), SMALLEST))
        return lambda img: self.lpips.between(self.lpips.features(_enlarged(as_judged(img), SMALLEST)), features)


class FeatureDistance(nn.Module):
    """Mean squared difference of EfficientNet-Lite0's features, each of length one along the channels. From 0 to 4.

    Of four resolutions, not weighted: heads like LPIPS's, which learned from people, there are none. Its values are no
    LPIPS and are not comparable with it.
    """

    name = EFFICIENTNET

    def __init__(self, trunk: nn.Sequential, weights: str = "") -> None:
        super().__init__()
        folded = fold_batch_norm(trunk)
        self.stem = folded.get_submodule("stem")
        self.blocks = nn.ModuleList(list(folded.get_submodule("blocks").children())[: BLOCKS[-1] + 1])
        self.weights = weights
        mean, std = NETWORKS[self.name].mean[0], NETWORKS[self.name].std[0]
        self.scale, self.shift = 127.5 / std, (127.5 - mean) / std  # img in [-1, 1] -> what the network expects
        self.eval().requires_grad_(False)

    def features(self, img: torch.Tensor) -> list[torch.Tensor]:
        """img of any channels -> features [N, C, h, w] of BLOCKS; the longer side is resized to 224 pixels."""
        img = as_judged(img)
        share = SIZE / max(img.shape[2:])
        size = [max(round(side * share), 1) for side in img.shape[2:]]
        x = nn.functional.interpolate(img, size, mode="bilinear", align_corners=False, antialias=share < 1)
        x = self.stem(x * self.scale + self.shift)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in BLOCKS:
                features.append(of_length_one(x))
        return features

    def toward(self, target: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """See Perceptual. The target's features are computed once."""
        with torch.no_grad():
            there = self.features(target)

        def distance(img: torch.Tensor) -> torch.Tensor:
            parts = [
                (a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in zip(self.features(img), there, strict=True)
            ]
            return torch.stack(parts).mean(dim=0)

        return distance


def load(files: Mapping[str, Path], device: torch.device, name: str | None = None) -> Perceptual:
    """The distance `name` with the weights of `files`, by name; None: LPIPS where its weights are, else the other.

    Raises RequestError for weights that are missing or another network's, and those of a distance that is not used.
    """
    if name not in (None, *DISTANCES):
        raise RequestError(f"`distance` must be one of {', '.join(DISTANCES)}; got {name} instead")
    if name is None:
        name = LPIPS if set(files) & set(suite.LPIPS) or lpips_is_here() else EFFICIENTNET
    suite.require_used(files, suite.LPIPS if name == LPIPS else (EFFICIENTNET,))
    if name == LPIPS:
        vgg, linear = lpips_files(files, "`distance` lpips-vgg")
        return LpipsDistance(Lpips.load(vgg, linear).to(device), f"{sha256(vgg)} {sha256(linear)}")
    network = NETWORKS[EFFICIENTNET]
    path = find_weights(network, files.get(EFFICIENTNET))
    digest = sha256(path)
    trunk = network.load(path, digest).trunk
    assert isinstance(trunk, nn.Sequential)
    return FeatureDistance(trunk, digest).to(device)


def lpips_is_here() -> bool:
    """Whether the weights of LPIPS lie where they are looked for."""
    return all((weights.folder() / file).is_file() for file in LPIPS_FILES)


def lpips_files(files: Mapping[str, Path], who: str) -> tuple[Path, Path]:
    """Files of VGG16's weights and of LPIPS's linear heads: those of `files`, by name, else in the usual place.

    Raises RequestError, which says `who` needs them, where one is missing.
    """
    vgg, linear = (_file(name, files.get(name), file, who) for name, file in zip(suite.LPIPS, LPIPS_FILES, strict=True))
    return vgg, linear


def _file(name: str, given: Path | None, file: str, who: str) -> Path:
    path = given or weights.folder() / file
    if not path.is_file():
        raise RequestError(
            f"{who} needs the weights {name}: put {file} into {weights.folder()}, or name it with `weights` {name}=PATH"
        )
    return path


def _enlarged(img: torch.Tensor, smallest: int) -> torch.Tensor:
    # An image so small that the network's poolings leave nothing of it.
    side = min(img.shape[2:])
    if side >= smallest:
        return img
    size = [-(-edge * smallest // side) for edge in img.shape[2:]]
    return nn.functional.interpolate(img, size, mode="bilinear", align_corners=False)
