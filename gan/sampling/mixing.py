"""Style mixing (Karras et al. 2019, section 3.1): some layers of one image's ws, the others of another's."""

from collections.abc import Sequence

import numpy as np
import torch

from gan.data.images import Pixels
from gan.networks.generator import Generator
from gan.sampling import image_grid, latents
from gan.sampling.generate import map_seeds, synthesize


def mix_one(
    G: Generator,
    seed: int,
    other: int,
    layers: Sequence[int],
    class_index: int | None = None,
    *,
    truncation_psi: float = 1.0,
    noise_mode: str = "const",
) -> Pixels:
    """The image of one seed, uint8 [H, W, C], with `layers` of another's. Raises RequestError as mix."""
    classes = None if class_index is None else [class_index] * 2
    ws = map_seeds(G, [seed, other], classes, truncation_psi=truncation_psi)
    mixed = torch.from_numpy(latents.mix(ws[:1].cpu().numpy(), ws[1:].cpu().numpy(), layers)).to(ws)
    (image,) = synthesize(G, mixed, noise_mode=noise_mode, seeds=[seed])
    return image


def mix(
    G: Generator,
    rows: Sequence[int],
    columns: Sequence[int],
    layers: Sequence[int],
    class_index: int | None = None,
    *,
    truncation_psi: float = 1.0,
    noise_mode: str = "const",
) -> Pixels:
    """A grid, uint8 [H, W, 3], whose cells are the images of their row's seed with `layers` of their column's.

    Raises RequestError for layers that the generator has not.
    """
    row_ws, column_ws = (
        map_seeds(G, s, None if class_index is None else [class_index] * len(s), truncation_psi=truncation_psi)
        for s in (rows, columns)
    )
    mixed_ws = latents.mix(row_ws.cpu().numpy(), column_ws.cpu().numpy(), layers)
    ws = torch.cat([column_ws, row_ws, torch.from_numpy(mixed_ws).to(row_ws)])
    noise_seeds = [*columns, *rows, *(row for row in rows for _ in columns)]
    cells = np.stack(list(synthesize(G, ws, noise_mode=noise_mode, seeds=noise_seeds)))
    top, left, inner = np.split(cells, [len(columns), len(columns) + len(rows)])
    return image_grid.mixing_grid(list(left), list(top), list(inner))
