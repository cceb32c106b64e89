"""Latents, classes and noise of the images that an iteration generates, and their way through the mapping network."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gan.config import TrainingConfig
from gan.networks.generator import Generator
from gan.networks.labels import one_hot
from gan.training.microbatches import Microbatch


@dataclass(frozen=True, kw_only=True)
class Latents:
    """Latents and noise of this process's generated images."""

    z: torch.Tensor  # [n, z_dim]
    c: torch.Tensor | None  # [n, classes], one-hot
    mixed: tuple[int | torch.Tensor, torch.Tensor] | None  # from this layer on, another z
    noises: list[torch.Tensor]  # one [n, 1, height, width] a layer
    moves_w_avg: bool = False  # when they are mapped

    def part(self, rows: slice) -> "Latents":
        """Those of the images `rows`."""
        return Latents(
            z=self.z[rows],
            c=None if self.c is None else self.c[rows],
            mixed=self.mixed and (self.mixed[0], self.mixed[1][rows]),
            noises=[noise[rows] for noise in self.noises],
            moves_w_avg=self.moves_w_avg,
        )


class LatentSampler:
    """Draws from torch's global generators for a batch that is divided into the microbatches of this process.

    `labels` are the classes of the dataset's images (None: unconditional); generated images draw theirs from them.
    `divisions` are the lists of microbatches that will be drawn for. For `synchronous` see Learner.
    """

    def __init__(
        self,
        G: Generator,
        config: TrainingConfig,
        device: torch.device,
        labels: NDArray[np.int64] | None,
        divisions: list[list[Microbatch]],
        *,
        synchronous: bool,
    ) -> None:
        self.G, self.config, self.device, self.synchronous = G, config, device, synchronous
        self.labels = None if labels is None else torch.from_numpy(labels).to(device)
        self._indices: dict[bytes, torch.Tensor] = {}
        for parts in divisions:
            self._rows(parts)  # uploaded now, not in an iteration

    def draw(self, parts: list[Microbatch]) -> Latents:
        """Those of this process's rows of a batch; w_avg moves towards the whole batch, now or when it is mapped."""
        # Every process draws for the whole batch and keeps its own rows, so that all generators stay in step and
        # nothing depends on the number of processes. The price is small: an image takes 2.7 random numbers a pixel
        # and draw, and millions of operations a pixel, so N processes lose about N thousandths of their time. A
        # layer's noise is cut down before the next is drawn. w_avg's mapping is less than 1e-4 of an image's work.
        count, rows, config = parts[0].total, self._rows(parts), self.config
        c = None
        if self.labels is not None:
            drawn = self.labels[torch.randint(len(self.labels), [count], device=self.device)]
            c = one_hot(drawn, config.network.num_classes)
        z = torch.randn([count, config.network.z_dim], device=self.device)
        # The generator's own mapping can move w_avg where it is of the whole batch.
        whole = not self.synchronous and len(parts) == 1 and rows is None
        if not whole:
            with torch.no_grad():
                self.G.mapping(z, c, update_w_avg=True)
        mixed: tuple[int | torch.Tensor, torch.Tensor] | None = None
        # Style mixing (Karras et al. 2019, section 3.1): from a random layer on, the ws come from a second z.
        chance = torch.rand([], device=self.device)
        if not self.synchronous or chance.item() < config.style_mixing_prob:
            cutoff = torch.randint(1, config.network.num_ws, [], device=self.device)
            if self.synchronous:
                mixed = int(cutoff.item()), _take(torch.randn_like(z), rows)
            else:  # all layers lie before the last
                cutoff.masked_fill_(chance >= config.style_mixing_prob, config.network.num_ws)
                mixed = cutoff, _take(torch.randn_like(z), rows)
        shapes = self.G.synthesis.noise_shapes()
        if self.synchronous:
            noises = [_take(torch.randn([count, 1, *shape], device=self.device), rows) for shape in shapes]
        else:  # in one draw
            sizes = [count * height * width for height, width in shapes]
            parts_of_noise = torch.split(torch.randn([sum(sizes)], device=self.device), sizes)
            noises = [
                _take(noise.view(count, 1, *shape), rows) for noise, shape in zip(parts_of_noise, shapes, strict=True)
            ]
        return Latents(
            z=_take(z, rows),
            c=None if c is None else _take(c, rows),
            mixed=mixed,
            noises=noises,
            moves_w_avg=whole,
        )

    def path_noise(self, parts: list[Microbatch]) -> torch.Tensor:
        """Unit-variance noise [n, C, H, W] for path lengths (losses.path_lengths), of this process's rows."""
        shape = parts[0].total, *self.config.network.shape.chw
        noise = torch.empty(shape, device=self.device, memory_format=torch.channels_last)
        return _take(noise.normal_(), self._rows(parts))

    def _rows(self, parts: list[Microbatch]) -> torch.Tensor | None:
        # This process's rows of the global batch, on the device; None: all, in order.
        rows = np.concatenate([microbatch.positions for microbatch in parts])
        if np.array_equal(rows, np.arange(parts[0].total)):
            return None
        key = rows.tobytes()
        if key not in self._indices:
            self._indices[key] = torch.from_numpy(rows).to(self.device)
        return self._indices[key]

    def map(self, latents: Latents) -> tuple[torch.Tensor, torch.Tensor | None]:
        """-> ws [n, num_ws, w_dim], styles mixed, and the classes."""
        mapping, z, c, mixed = self.G.mapping, latents.z, latents.c, latents.mixed
        if mixed is None or isinstance(mixed[0], int):
            ws = mapping(z, c)
            if mixed:
                cutoff, other = mixed
                ws = torch.cat([ws[:, :cutoff], mapping(other, c)[:, cutoff:]], dim=1)
            return ws, c
        cutoff, other = mixed
        w, other_w = mapping.w(torch.cat([z, other]), None if c is None else torch.cat([c, c])).chunk(2)
        if latents.moves_w_avg:
            mapping.update_w_avg(w)
        before = torch.arange(mapping.num_ws, device=w.device) < cutoff
        return torch.where(before[:, None], w[:, None], other_w[:, None]), c  # [N, num_ws, w_dim]


def _take(values: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    return values if rows is None else values[rows]
