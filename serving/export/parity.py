"""Parity of exported graphs with PyTorch: with gan.sampling and gan.rejection.discriminator_logits.

Axis legend: ws [N, L, w_dim]; img float32 NCHW; image uint8 NHWC; logit [N, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan.data.images import to_pixels
from gan.errors import SalonError
from gan.networks.generator import Generator
from gan.rejection.discriminator_logits import DiscriminatorLogits
from gan.runtime.console import progress
from gan.sampling import generate
from serving.contract import ModelMetadata

Array = NDArray[Any]
Run = Callable[[dict[str, Array]], dict[str, Array]]  # a graph, from inputs to outputs by name

FEW = 8  # values of an image that may differ however small it is
PSIS = (1.0, 0.7, 0.5, -0.3)


@dataclass(frozen=True)
class Bounds:
    """Tolerances of a graph against PyTorch."""

    img: float  # largest difference of ws, img and logit
    levels: int  # largest difference of image
    equal: float  # share of image's values that are equal, but for FEW


BOUNDS = {"fp32": Bounds(1e-3, 1, 0.999), "fp16": Bounds(0.05, 6, 0.7)}


@dataclass(frozen=True)
class Reference:
    """Tensors of N seeds as PyTorch computes them, by the contract's names; psi and class change from row to row."""

    tensors: dict[str, Array]

    def __len__(self) -> int:
        return len(self.tensors["z"])

    def compare(
        self, run: Run, metadata: ModelMetadata, names: tuple[str, ...], given: tuple[str, ...], bounds: Bounds
    ) -> float:
        """Largest difference of the float tensors among the outputs `given`, over batches of 1, 3 and all.

        Raises SalonError when an output is out of bounds.
        """
        largest = 0.0
        for size in sorted({1, min(3, len(self)), len(self)}):
            # The last ones, so that each batch holds another first image.
            outputs = run({name: self.tensors[name][-size:] for name in names})
            for name in given:
                largest = max(largest, _difference(outputs[name], self.tensors[name][-size:], name, metadata, bounds))
        return largest


def make_reference(G: Generator, count: int, discriminator_logits: list[DiscriminatorLogits] | None) -> Reference:
    """Reference of the seeds 0 to count - 1.

    `discriminator_logits`: one for each class, or one alone; None: without logits.
    """
    number = G.config.num_classes
    psi = np.resize(np.array(PSIS, np.float32), [count, 1])
    classes = [index % number for index in range(count)] if number else None
    rows: dict[str, list[Array]] = {"ws": [], "img": [], "image": [], "logit": []}
    for seed in progress(range(count), "Computing references", count):
        label = classes and classes[seed : seed + 1]
        with torch.inference_mode():
            ws = generate.map_seeds(G, [seed], label, truncation_psi=float(psi[seed, 0]))
            img = G.synthesis(ws, "const")
        image = to_pixels(img)
        rows["ws"].append(ws.numpy())
        rows["img"].append(img.contiguous().numpy())
        rows["image"].append(image)
        if discriminator_logits:
            logits = discriminator_logits[label[0] if label else 0](image, label)
            rows["logit"].append(logits.astype(np.float32)[:, None])
    tensors = {name: np.concatenate(arrays) for name, arrays in rows.items() if arrays}
    tensors |= {"z": generate.latents(range(count), G.config.z_dim).numpy(), "truncation_psi": psi}
    if classes:
        tensors["label"] = np.array(classes, np.int64)[:, None]
    return Reference(tensors)


def _difference(output: Array, expected: Array, name: str, metadata: ModelMetadata, bounds: Bounds) -> float:
    batch = f"{name} of the exported {metadata.kind} in a batch of {len(expected)}"
    if output.shape != expected.shape or output.dtype != expected.dtype:
        raise SalonError(
            f"{batch} must be {expected.dtype} {expected.shape}; got {output.dtype} {output.shape} instead"
        )
    apart = np.abs(output.astype(np.float64) - expected)
    if name != "image":
        if not apart.max() <= bounds.img:  # nor is NaN
            raise SalonError(f"{batch} must be within {bounds.img} of PyTorch's; it is {apart.max():.3g} away")
        return float(apart.max())
    unequal, equal = int((apart > 0).sum()), float((apart == 0).mean())
    if apart.max() > bounds.levels or (equal < bounds.equal and unequal > FEW):
        raise SalonError(
            f"{batch} must be within {bounds.levels} levels of PyTorch's and {bounds.equal:.1%} equal; "
            f"it is {apart.max():.0f} away and {equal:.2%} equal"
        )
    return 0.0
