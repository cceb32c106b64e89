"""w of many seeds, and how they spread: what amounts along a direction are measured by."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gan.device.determinism import deterministic
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.networks.labels import one_hot
from gan.runtime.console import progress
from gan.sampling.latents import MAX_SEED, Floats, draw

MOST = 1_000_000  # samples, which are held in memory
BLOCK = 1024  # samples at a time

Matrix = NDArray[np.float64]


def sample_w(G: Generator, count: int, seed: int = 0, class_index: int | None = None) -> Floats:
    """w [N, w_dim], float32, of `count` seeds from `seed` on, without truncation.

    Of a generator with classes all are of `class_index`, or where it is None seed s is of class s modulo their number.
    Raises RequestError for seeds that there are not.
    """
    if not 2 <= count <= MOST or seed + count - 1 > MAX_SEED:
        raise RequestError(
            f"`samples` must be from 2 to {MOST:,}, and seeds at most {MAX_SEED}; got {count} from {seed} on"
        )
    device, config = next(G.parameters()).device, G.config
    blocks = []
    for first in progress(range(seed, seed + count, BLOCK), "Mapping", -(-count // BLOCK), f"x {BLOCK} seeds"):
        seeds = range(first, min(first + BLOCK, seed + count))
        c = one_hot(classes_of(seeds, config.num_classes, class_index) or [], config.num_classes, device)
        with torch.inference_mode(), deterministic():
            w = G.mapping.w(torch.from_numpy(draw(seeds, config.z_dim)).to(device), c)
        blocks.append(w.float().cpu().numpy())
    return np.concatenate(blocks)


def classes_of(seeds: range, num_classes: int, class_index: int | None) -> list[int] | None:
    """The class of each seed, see sample_w; None for a generator without classes."""
    if not num_classes:
        return None
    return [seed % num_classes if class_index is None else class_index for seed in seeds]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean [d] and covariance [d, d] of w, float64, by n - 1."""

    mean: Matrix
    cov: Matrix

    @classmethod
    def of(cls, w: Floats) -> "Spread":
        """Of samples w [N, d], N at least 2."""
        mean = w.mean(axis=0, dtype=np.float64)
        scatter = np.zeros([w.shape[1], w.shape[1]])
        for first in range(0, len(w), BLOCK):
            centred = w[first : first + BLOCK].astype(np.float64) - mean
            scatter += centred.T @ centred
        return cls(mean=mean, cov=scatter / (len(w) - 1))

    def variance(self, vector: Matrix) -> float:
        """Of w along a vector of length 1."""
        return max(0.0, float(vector @ self.cov @ vector))

    def total(self) -> float:
        """Of w along all axes."""
        return float(np.trace(self.cov))
