"""Where a generator's ws lie: their mean and how far they are from it, and places to begin a search."""

from dataclasses import dataclass

import torch

from gan.device.determinism import deterministic
from gan.networks.generator import Generator
from gan.networks.labels import one_hot
from gan.sampling.generate import map_seeds

SAMPLES = 10_000  # of w, by which Karras et al. 2020 estimate mean and deviation
BATCH = 1000
START_PSI = 0.7  # truncation of the ws that further starts begin from


@dataclass(frozen=True, kw_only=True)
class LatentSpace:
    """Mean and spread of the ws of a generator, of one class where it has classes."""

    w_avg: torch.Tensor  # [w_dim]
    w_std: float  # root mean square distance of w from w_avg


def measure(G: Generator, class_index: int | None = None) -> LatentSpace:
    """Mean and spread over 10,000 ws, the same in each call. They lie on the generator's device."""
    device = next(G.parameters()).device
    generator = torch.Generator().manual_seed(0)
    ws = []
    with torch.no_grad(), deterministic():
        for _ in range(SAMPLES // BATCH):
            z = torch.randn([BATCH, G.config.z_dim], generator=generator).to(device)
            c = None if class_index is None else one_hot([class_index] * BATCH, G.config.num_classes, device)
            ws.append(G.mapping.w(z, c).double())
    w = torch.cat(ws)  # [SAMPLES, w_dim]
    w_avg = w.mean(dim=0)
    w_std = float((w - w_avg).square().sum(dim=1).mean().sqrt())
    return LatentSpace(w_avg=w_avg.float(), w_std=w_std)


def start(G: Generator, space: LatentSpace, seed: int, number: int, class_index: int | None = None) -> torch.Tensor:
    """w [1, w_dim] that start `number` begins from: w_avg for the first, else on the way from it to a seed's own w."""
    if number == 0:
        return space.w_avg[None].clone()
    classes = None if class_index is None else [class_index]
    w = map_seeds(G, [(seed + number) % 2**32], classes)[:, 0]
    return torch.lerp(space.w_avg[None], w.clone(), START_PSI)
