"""Features of images: one registry of pretrained networks, for metrics, density, duplicates and style alike.

An extractor maps pixels to features, and says who it is: network, preprocessing, precision, backend, and SHA-256 of its
weights. All of these belong into the key of every result and every cache.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval.features import runtimes, weights
from eval.features.fast_trunk import Bfloat16, Run, check, fast
from eval.features.preprocess import PRESETS, Preset
from eval.features.registry import INCEPTION, NETWORKS, Network, named_network
from gan.data.images import SEEN_AS, Pixels, to_rgb
from gan.device.determinism import deterministic, tf32
from gan.device.memory import Download
from gan.device.selection import select
from gan.errors import RequestError
from gan.runtime import plugins
from gan.runtime.files import sha256

EXTRACTORS = NETWORKS
BACKENDS = ("torch", *runtimes.BACKENDS)
PRECISIONS = ("fp32", "tf32", "bf16")
BATCH_SIZE, GPU_BATCH_SIZE = 16, 64

Floats = NDArray[np.float32]


# TF32 and bfloat16 are accepted where they move features by less than this Fréchet distance, as a share of their
# variance tr S, on this many images or more. A distance between two sets moves by less where both sets move alike.
MAX_CALIBRATION, MIN_CALIBRATION_IMAGES = 5e-3, 64


def as_rgb(pixels: Pixels | Sequence[Pixels]) -> Pixels | list[Pixels]:
    """Images of any channels as networks see them; see gan.data.images.to_rgb."""
    if isinstance(pixels, np.ndarray):
        return to_rgb(pixels) if pixels.shape[-1] in SEEN_AS else pixels
    return [to_rgb(image) if image.shape[-1] in SEEN_AS else image for image in pixels]


class Extractor:
    """pixels -> features [N, dim] and, where `has_logits`, logits [N, classes]; made by load_extractor."""

    def __init__(
        self, network: Network, preset: Preset, run: Run, head: Any, identity: dict[str, str], device: torch.device
    ) -> None:
        self.name, self.dim = network.name, network.dim
        self.has_logits = network.has_logits
        self.is_inception = network.name == INCEPTION  # else no result may be called FID, KID or IS
        self.batch_size = GPU_BATCH_SIZE if device.type == "cuda" else BATCH_SIZE
        self.identity, self.device = identity, device
        self.key = "/".join(identity[part] for part in ("extractor", "preprocess", "precision"))
        self.calibration: float | None = None
        self._network, self._preset, self._run, self._head = network, preset, run, head
        mean, std = (torch.tensor(values, device=device).reshape(1, 3, 1, 1) for values in (network.mean, network.std))
        self._mean, self._std = mean.float(), std.float()

    @property
    def gpu(self) -> torch.device | None:
        """Its device, where that is a GPU: there features of all pairs are compared as well."""
        return None if self.device.type == "cpu" else self.device

    def __call__(self, pixels: Pixels | Sequence[Pixels]) -> dict[str, Floats]:
        """uint8 [N, H, W, C], or a list of N images [H, W, C], as RGB -> {"features": float32 [N, dim], "logits": ...}.

        Raises ValueError for other shapes and dtypes, RequestError while another precision than fp32 is not calibrated.
        """
        return self.start(pixels).result()

    def start(self, pixels: Pixels | Sequence[Pixels]) -> "Extraction":
        """The same; on a GPU it is only started, and result() of what this gives waits for it. Raises the same."""
        if self.identity["precision"] != "fp32" and self.calibration is None:
            raise RequestError(f"{self.key} must be calibrated on images of the dataset before it is used")
        return self._extract(pixels)

    def calibrate(self, pixels: Pixels | Sequence[Pixels], reference: "Extractor") -> float:
        """Accept this precision if its features are near those of `reference`, the same network in fp32.

        `pixels` are 64 real images or more -> the distance that relative_distance() gives, which must be below 0.005.
        Raises RequestError when it is not.
        """
        same = ("extractor", "preprocess", "weights")
        if reference.identity["precision"] != "fp32" or any(self.identity[k] != reference.identity[k] for k in same):
            raise RequestError(
                f"{self.key} must be calibrated by the same network in fp32; got {reference.key} instead"
            )
        if len(pixels) < MIN_CALIBRATION_IMAGES:
            raise RequestError(f"calibration needs {MIN_CALIBRATION_IMAGES} images; got {len(pixels)} instead")
        distance = relative_distance(reference(pixels)["features"], self._extract(pixels).result()["features"])
        if not distance < MAX_CALIBRATION:
            raise RequestError(
                f"{self.key} must move the features of these images by less than {MAX_CALIBRATION:.1e} of their "
                f"variance; got {distance:.1e} instead. Use fp32"
            )
        self.calibration = distance
        return distance

    def _extract(self, pixels: Pixels | Sequence[Pixels]) -> "Extraction":
        batches = []
        for start in range(0, len(pixels), self.batch_size):
            batch = as_rgb(pixels[start : start + self.batch_size])
            with torch.inference_mode(), deterministic(), self._tf32():
                x = self._preset(batch, self._network.size, self.device)
                batches.append(self._run(x.sub_(self._mean).div_(self._std)).float())
        with torch.inference_mode():
            features = torch.cat(batches) if batches else torch.empty([0, self.dim])
        return Extraction(Download(features), self._head)

    def _tf32(self) -> AbstractContextManager[None]:
        # Several threads extract on a CPU, which has none.
        return tf32(self.identity["precision"] == "tf32") if self.device.type == "cuda" else nullcontext()


class Extraction:
    """Features on their way from where they are computed."""

    def __init__(self, features: Download, head: tuple[Floats, Floats] | None) -> None:
        self._features, self._head = features, head

    def result(self) -> dict[str, Floats]:
        """What Extractor gives."""
        features: Floats = self._features.result().numpy()
        if self._head is None:
            return {"features": features}
        weight, bias = self._head
        return {"features": features, "logits": features @ weight.T + bias}


def load_extractor(
    extractor: str,
    *,
    weights: Path | None = None,
    preprocess: str | None = None,
    precision: str = "fp32",
    backend: str = "torch",
    device: torch.device | str = "auto",
    fetch: bool = False,
) -> Extractor:
    """An extractor by name. `weights` is a file for this network alone; without it the network's own place is searched.

    `preprocess` is one of PRESETS (default: the network's own), `precision` fp32, or tf32 (on a GPU) or bf16 after
    calibrate(), `backend` torch, onnxruntime or openvino. `fetch` allows to download missing weights; nothing else ever
    does.
    Raises RequestError for an unknown name, missing or foreign weights, and what does not go together.
    """
    network = named_network(extractor)
    for parameter, value, known in (
        ("preprocess", preprocess or next(iter(PRESETS)), tuple(PRESETS)),
        ("precision", precision, PRECISIONS),
        ("backend", backend, BACKENDS),
    ):
        if value not in known:
            raise RequestError(f"`{parameter}` must be one of {', '.join(known)}; got {value} instead")
    target = select(device) if isinstance(device, str) else device
    if backend != "torch" and target.type != "cpu":
        raise RequestError(f"`backend` {backend} needs `device` cpu; got {target} instead")
    if precision == "tf32" and target.type != "cuda":
        raise RequestError(f"`precision` tf32 needs `device` cuda; got {target} instead")
    preset = PRESETS[preprocess or network.preset]
    if network.package is None:
        path = find_weights(network, weights, fetch=fetch)
        digest = sha256(path)
        cut = network.load(path, digest)
    else:
        with plugins.running(f"the extractor {extractor}", network.package):
            path = find_weights(network, weights, fetch=fetch)
            digest = sha256(path)
            cut = network.load(path, digest)
            _require_features(cut.trunk, network)
    identity = {
        # Another version of a package may compute other features.
        "extractor": extractor if network.package is None else f"{extractor} ({network.package})",
        "preprocess": preset.name,
        "precision": precision,
        "backend": backend,
        "weights": digest,
    }
    run: Run
    if backend != "torch":
        run = runtimes.load(cut.trunk, network.size, backend, precision)
    elif precision == "bf16":
        run = Bfloat16(cut.trunk, target)
    else:
        run = fast(cut.trunk, target)
        with deterministic(), tf32(False):
            check(lambda x: run(x.to(target)), cut.trunk, network.size)
    head = None if cut.head is None else tuple(part.numpy() for part in cut.head)
    return Extractor(network, preset, run, head, identity, target)


def _require_features(trunk: torch.nn.Module, network: Network) -> None:
    with torch.inference_mode():
        features = trunk(torch.zeros([2, 3, network.size, network.size]))
    if not isinstance(features, torch.Tensor) or features.shape != (2, network.dim):
        shape = list(getattr(features, "shape", [type(features).__name__]))
        raise RequestError(
            f"`extractor` {network.name} of {network.package} must give features [N, {network.dim}]; got {shape} of "
            "2 images instead"
        )


def relative_distance(reference: Floats, features: Floats) -> float:
    """Fréchet distance of two sets of features [N, dim], as a share of the reference's variance tr S, in O(N^2 dim).

    With centred features A and B, tr (S_A S_B)^1/2 is the nuclear norm of A B^T / N: no dim x dim matrix is needed.
    """
    a, b = (each.astype(np.float64) for each in (reference, features))
    shift = a.mean(0) - b.mean(0)
    a, b = a - a.mean(0), b - b.mean(0)
    nuclear = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float((len(a) * (shift**2).sum() + (a**2).sum() + (b**2).sum() - 2 * nuclear) / (a**2).sum())


def find_weights(network: Network, given: Path | None, *, fetch: bool = False) -> Path:
    """The file of a network's weights: `given`, inside of its package, or in its own place; see weights.find."""
    if given is None and network.bundled is not None:
        return network.bundled()
    return weights.find(network.name, network.file, given, fetch=fetch)
