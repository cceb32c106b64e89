"""Seeds and latents: z of seeds, style mixing, interpolation. Without torch, so that clients of a server can use it.

z is float32 [N, z_dim]; ws, one w for each layer, is float32 [N, num_ws, w_dim].
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gan import config
from gan.errors import RequestError

MAX_SEED = config.MAX_SEED
MAX_COUNT = 10_000_000  # in one range

Floats = NDArray[np.float32]


def parse_numbers(text: str, parameter: str = "seeds", maximum: int = MAX_SEED) -> list[int]:
    """ "0-3,42" -> [0, 1, 2, 3, 42].

    Raises RequestError, which names `parameter`, for anything else, or a number above `maximum`.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise RequestError(f"`{parameter}` must be numbers and ranges such as 0-15,42; got {text!r} instead")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last > maximum or last - first >= MAX_COUNT:
            raise RequestError(
                f"`{parameter}` must rise within 0 to {maximum}, at most {MAX_COUNT:,} at once; "
                f"got {part.strip()} instead"
            )
        numbers.extend(range(first, last + 1))
    return numbers


def draw(seeds: Sequence[int], z_dim: int) -> Floats:
    """z [N, z_dim], each row from its own seed, as throughout the StyleGAN family."""
    rows = [np.random.RandomState(seed).standard_normal(z_dim) for seed in seeds]
    return np.array(rows, np.float32).reshape(len(seeds), z_dim)


def mix(rows: Floats, columns: Floats, layers: Sequence[int]) -> Floats:
    """ws of a mixing grid: row r's, with `layers` taken from column c -> [rows * columns, num_ws, w_dim].

    Raises RequestError when a layer does not exist.
    """
    num_ws = rows.shape[1]
    if bad := [layer for layer in layers if layer >= num_ws]:
        raise RequestError(f"`layers` must be from 0 to {num_ws - 1}; got {bad[0]} instead")
    table = np.repeat(rows[:, None], len(columns), axis=1)  # [rows, columns, num_ws, w_dim]
    table[:, :, list(layers)] = columns[None, :, list(layers)]
    return table.reshape(-1, *rows.shape[1:])


def loop(ws: Floats, frames: int) -> Floats:
    """A smooth closed path through ws [K, num_ws, w_dim], `frames` steps from one to the next -> [K * frames, ...].

    A Catmull-Rom spline: it passes through every key with a continuous direction.
    """
    t = (np.arange(frames, dtype=np.float32) / np.float32(frames)).reshape(1, -1, 1, 1)  # [1, frames, 1, 1]
    p0, p1, p2, p3 = (np.roll(ws, shift, axis=0)[:, None] for shift in (1, 0, -1, -2))
    path = p1 + 0.5 * t * ((p2 - p0) + t * ((2 * p0 - 5 * p1 + 4 * p2 - p3) + t * (3 * (p1 - p2) + p3 - p0)))
    return path.reshape(-1, *ws.shape[1:])
