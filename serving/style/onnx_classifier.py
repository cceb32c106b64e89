"""A style classifier as one ONNX graph: uint8 images of any size -> probabilities, resized as in training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from eval.features.fast_trunk import fold_batch_norm
from eval.features.preprocess import CROP
from eval.features.registry import Network
from gan.data.images import Pixels
from gan.errors import RequestError, SalonError
from gan.runtime.files import atomic, sha256
from serving.contract import CLASSIFIER, ModelMetadata
from serving.export import onnx_file
from serving.style.head import Head
from serving.style.pillow_resize import Resize
from serving.style.static_padding import with_static_padding

TOLERANCE = 0.01  # of a probability: Pillow and the graph may round a pixel of 8 bits differently
BATCH = 8  # images that are compared in a batch and one by one
FEATURES = "features"  # output of a graph that is not finished
SHARES = (CROP, 1.0)  # of the shorter side: what the presets "imagenet" and "clip" of eval.features.preprocess see

Probabilities = NDArray[np.float32]


class StyleGraph(nn.Module):
    """uint8 [N, H, W, 3] -> probabilities float32 [N, K] and features [N, D]: three views, a trunk, the mean, a head.

    The views are those of serving.style.train.VIEWS: the middle, the same mirrored, and the whole square.
    """

    mean: torch.Tensor
    std: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, network: Network, trunk: nn.Module, head: Head) -> None:
        super().__init__()
        self.trunk = with_static_padding(trunk, network.size)
        self.middle, self.square = (Resize(network.size, share) for share in SHARES)
        self.register_buffer("mean", torch.tensor(network.mean, dtype=torch.float32).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(network.std, dtype=torch.float32).reshape(1, 3, 1, 1))
        self.register_buffer("weight", torch.from_numpy(head.weight))
        self.register_buffer("bias", torch.from_numpy(head.bias))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities, each row's sum is 1, and the features that they come from."""
        middle = self.middle(image)
        views = torch.cat([middle, middle.flip(3), self.square(image)])  # [3 N, 3, S, S]
        features = self.trunk((views - self.mean) / self.std)  # [3 N, D]
        features = features.reshape(3, -1, features.shape[1]).mean(0)  # [N, D]
        return torch.softmax(functional.linear(features, self.weight, self.bias), dim=1), features


class Classifier:
    """A style classifier in ONNX Runtime on the CPU. Raises RequestError when the file is none."""

    def __init__(self, path: Path) -> None:
        try:
            self.about = onnx_file.read_about(path)
            self._session = onnx_file.open_session(path)
        except Exception as error:  # of whatever class the runtime raises
            raise RequestError(
                f"`classifier` must be an ONNX file of salon style train; {path} is none: {error}"
            ) from error
        if self.about.kind != CLASSIFIER or not self.about.styles:
            raise RequestError(f"`classifier` must be a style classifier; {path} is a {self.about.kind}")
        self.sha256 = sha256(path)

    def __call__(self, pixels: Sequence[Pixels]) -> Probabilities:
        """N images [H, W, 3] of any sizes -> [N, K], in the order of about.styles."""
        rows = [self.batch(image[None]) for image in pixels]
        return np.concatenate([np.empty([0, len(self.about.styles)], np.float32), *rows])

    def batch(self, pixels: Pixels) -> Probabilities:
        """N images of one size [N, H, W, 3] -> [N, K]."""
        probabilities: Probabilities = self._session.run(None, {"image": pixels})[0]
        return probabilities


def export(head: Head, network: Network, weights: Path, about: ModelMetadata, out: Path) -> None:
    """Write the graph of a head behind a network, atomically. `about` joins the file's metadata."""
    with atomic(out) as temporary:
        write(head, network, weights, about, temporary)
        onnx_file.drop_outputs(temporary, [FEATURES])
        onnx_file.check(temporary, about)


def write(head: Head, network: Network, weights: Path, about: ModelMetadata, path: Path) -> None:
    """Write that graph with the features beside its probabilities."""
    trunk = fold_batch_norm(network.load(weights, sha256(weights)).trunk)
    example = torch.zeros([2, 48, 64, 3], dtype=torch.uint8)
    onnx_file.write(StyleGraph(network, trunk, head), [example], about, path, [FEATURES])


def check(path: Path, pixels: Sequence[Pixels], expected: NDArray[Any]) -> float:
    """Compare a graph with the probabilities [N, K] that scikit-learn gives for images -> the largest difference.

    Raises SalonError when it exceeds TOLERANCE, or when a batch is not what its images are one by one.
    """
    classifier = Classifier(path)
    difference = float(np.abs(classifier(pixels) - expected).max())
    few = pixels[:BATCH]
    side = min(min(image.shape[:2]) for image in few)
    batch = np.stack([image[:side, :side] for image in few])
    batched = classifier.batch(batch)
    apart = float(np.abs(batched - classifier(list(batch))).max())
    if not max(difference, apart) <= TOLERANCE:
        raise SalonError(
            f"the exported classifier must agree with scikit-learn and in batches within {TOLERANCE}; "
            f"it differs by {difference:.4f} and {apart:.4f}"
        )
    return difference
