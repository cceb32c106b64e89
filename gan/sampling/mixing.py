"""Style mixing (Karras et al. 2019, section 3.1): some layers of one image's ws, the others of another's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gan.data.images import Pixels
from gan.networks.generator import Generator
from gan.sampling import image_grid, latents
from gan.sampling.generate import synthesize
from gan.sampling.origin import Origin, of_seeds


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
    left, top = (of_seeds(G, seeds, class_index, truncation_psi=truncation_psi) for seeds in (rows, columns))
    return mix_origins(G, left, top, layers, noise_mode=noise_mode)


def mix_origins(
    G: Generator, rows: Origin, columns: Origin, layers: Sequence[int], *, noise_mode: str = "const"
) -> Pixels:
    """The same of seeds or rows of files of ws. Raises RequestError for layers that the generator has not."""
    mixed_ws = latents.mix(rows.ws.cpu().numpy(), columns.ws.cpu().numpy(), layers)
    ws = torch.cat([columns.ws, rows.ws, torch.from_numpy(mixed_ws).to(rows.ws)])
    noise_seeds = [*columns.numbers, *rows.numbers, *(row for row in rows.numbers for _ in columns.numbers)]
    cells = np.stack(list(synthesize(G, ws, noise_mode=noise_mode, seeds=noise_seeds)))
    top, left, inner = np.split(cells, [len(columns.ws), len(columns.ws) + len(rows.ws)])
    return image_grid.mixing_grid(list(left), list(top), list(inner))


def columns_recipe(columns: Origin) -> dict[str, Any]:
    """Fields of a mix's recipe that its columns decide."""
    return {"columns": list(columns.numbers)} | ({} if columns.file is None else {"columns_ws": columns.file})
