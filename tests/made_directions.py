"""Directions by hand, for tests: orthonormal ones of a random basis."""

from pathlib import Path

import numpy as np

from gan.sampling.directions import Direction, Directions


def made_directions(
    snapshot: str | None, names=("age", "pose", "sky"), num_ws: int = 6, w_dim: int = 8, seed: int = 0
) -> Directions:
    """Orthonormal directions; the second is of the last layers alone."""
    vectors = np.linalg.qr(np.random.default_rng(seed).standard_normal([w_dim, w_dim]))[0].astype(np.float32)
    entries = [
        Direction(
            name=name,
            vector=vectors[index % w_dim],
            sigma=0.5 + 0.25 * (index % 3),
            first=num_ws - 2 if index == 1 else 0,
            last=num_ws - 1,
            method="pca",
            explained_variance=0.3 / (index + 1),
        )
        for index, name in enumerate(names)
    ]
    return Directions.of(entries, num_ws=num_ws, snapshot=snapshot)


def saved(path: Path, *arguments, **options) -> Path:
    """The file of made_directions."""
    made_directions(*arguments, **options).save(path)
    return path
