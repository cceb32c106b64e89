"""A generator's images as a source: by seed, each generated when it is asked for."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from gan import snapshot
from gan.data.classes import class_name
from gan.data.images import SEEN_AS, Pixels
from gan.errors import RequestError
from gan.image_shape import ImageShape
from gan.runtime.files import sha256
from gan.sampling import generate, latents

DEFAULT_COUNT = 10_000  # images of a snapshot


def seen_as(shape: ImageShape) -> dict[str, str]:
    """What an identity says of how evaluators see images that are not RGB; nothing of others."""
    return {"channels": SEEN_AS[shape.channels]} if shape.channels in SEEN_AS else {}


class SnapshotSource:
    """A generator's images: image i is the one of seed `seed` + i, whatever the batch size, as in salon generate.

    A conditional generator generates each class as often as `class_shares` [classes] says (default: all alike). The
    class of an image follows from its seed too, so that all snapshots are evaluated by one bank of latents.
    """

    def __init__(
        self,
        path: Path,
        count: int = DEFAULT_COUNT,
        *,
        seed: int = 0,
        truncation_psi: float = 1.0,
        class_shares: Sequence[float] | None = None,
        device: torch.device | None = None,
        batch_size: int = 16,
    ) -> None:
        if count < 1 or seed + count - 1 > latents.MAX_SEED:
            raise RequestError(
                f"`num_images` must be at least 1, and seeds at most {latents.MAX_SEED}; got {count} from {seed} on"
            )
        self.snapshot = snapshot.find(path)
        self.G = self.snapshot.G_ema.to(device or torch.device("cpu"))
        self.seed, self.count, self.truncation_psi = seed, count, truncation_psi
        self._sampler = generate.Sampler(self.G, truncation_psi=truncation_psi, batch_size=batch_size)
        classes = self.G.config.num_classes
        shares = np.full(classes, 1.0) if class_shares is None else np.asarray(class_shares, float)
        if classes and (len(shares) != classes or not shares.sum()):
            raise RequestError(f"{path} generates {classes} classes; the dataset has {len(shares)}")
        self._shares = shares / shares.sum() if classes else None
        self.name = str(self.snapshot.path)
        self.identity = {
            "kind": "snapshot",
            "sha256": sha256(self.snapshot.path),
            "truncation_psi": truncation_psi,
            "z_bank": self.z_bank,
            "device": next(self.G.parameters()).device.type,  # convolutions round differently there
            **seen_as(self.G.config.shape),
        }

    @property
    def z_bank(self) -> str:
        """Names the latents and classes that image 0, 1, ... are made of; equal banks make differences paired."""
        classes = "" if self._shares is None else hashlib.sha256(self._shares.tobytes()).hexdigest()[:16]
        return f"seeds from {self.seed}, z_dim {self.G.config.z_dim}" + (f", classes {classes}" if classes else "")

    def __len__(self) -> int:
        return self.count

    def seeds(self, first: int, end: int) -> list[int]:
        """The seeds of images first..end."""
        return list(range(self.seed + first, self.seed + end))

    def classes(self, seeds: Sequence[int]) -> list[int] | None:
        """The class that is generated for each seed; None for a generator without classes."""
        if self._shares is None:
            return None
        return [int(np.random.default_rng([seed, 1]).choice(len(self._shares), p=self._shares)) for seed in seeds]

    def generate(self, seeds: Sequence[int], classes: Sequence[int] | None) -> Iterator[Pixels]:
        """Images of any seeds, generated now, uint8 [H, W, C]."""
        return self._sampler(seeds, classes)

    def use_graphs(self) -> str | None:
        """See gan.sampling.generate.Sampler."""
        return self._sampler.use_graphs()

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end, generated now."""
        seeds = self.seeds(first, end)
        return self.generate(seeds, self.classes(seeds))

    def format(self, index: int) -> str:
        """Never a file's."""
        return "array"

    def label(self, index: int) -> str | None:
        """Name of an image's class; None for a generator without classes."""
        return self.class_name(self.seed + index)

    def class_name(self, seed: int) -> str | None:
        """Name of the class that is generated for a seed."""
        classes = self.classes([seed])
        if classes is None:
            return None
        return class_name(classes[0], self.snapshot.classes)
