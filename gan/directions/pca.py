"""GANSpace: the principal components of w (Härkönen et al. 2020, section 2.1)."""

import numpy as np

from gan.directions.samples import Matrix, Spread
from gan.errors import RequestError
from gan.sampling.directions import Direction


def principal_components(spread: Spread, count: int, first: int, last: int) -> list[Direction]:
    """The `count` components of largest variance, largest first, for the layers from `first` to `last`.

    They are pc1, pc2, ... Raises RequestError for more than w has dimensions.
    """
    values, vectors = largest(spread.cov, count)
    total = spread.total()
    return [
        Direction(
            name=f"pc{number}",
            vector=vector.astype(np.float32),
            sigma=float(np.sqrt(value)),
            first=first,
            last=last,
            method="pca",
            explained_variance=float(value / total) if total else 0.0,
        )
        for number, (value, vector) in enumerate(zip(values, vectors, strict=True), 1)
    ]


def largest(symmetric: Matrix, count: int) -> tuple[Matrix, Matrix]:
    """The largest eigenvalues [count] of a positive matrix [d, d], falling, and their unit eigenvectors [count, d].

    The sign of a vector makes its largest entry positive, so that two findings agree. Raises RequestError for more than
    there are.
    """
    if not 1 <= count <= len(symmetric):
        raise RequestError(f"`count` must be from 1 to {len(symmetric)}, the dimensions of w; got {count} instead")
    values, columns = np.linalg.eigh(symmetric)  # rising
    vectors = columns.T[::-1][:count]
    signs = np.sign(vectors[np.arange(count), np.abs(vectors).argmax(axis=1)])
    return np.maximum(values[::-1][:count], 0.0), vectors * signs[:, None]
