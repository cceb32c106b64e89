"""SeFa: the directions of w that move styles most, in closed form from the weights (Shen and Zhou 2021, equation 5)."""

import numpy as np

from gan.directions.pca import largest
from gan.directions.samples import Matrix, Spread
from gan.networks.generator import Generator
from gan.sampling.directions import Direction


def style_directions(G: Generator, spread: Spread, count: int, first: int, last: int) -> list[Direction]:
    """The eigenvectors of A^T A with the largest eigenvalues, of the layers from `first` to `last`: sefa1, sefa2, ...

    Their `sigma` is that of w, by `spread`, as with other directions. Raises RequestError for more than w has
    dimensions.
    """
    styles = style_matrix(G, first, last)
    energies, vectors = largest(styles.T @ styles, count)
    total = float(np.square(styles).sum())
    return [
        Direction(
            name=f"sefa{number}",
            vector=vector.astype(np.float32),
            sigma=float(np.sqrt(spread.variance(vector))),
            first=first,
            last=last,
            method="sefa",
            explained_variance=float(energy / total) if total else 0.0,
        )
        for number, (energy, vector) in enumerate(zip(energies, vectors, strict=True), 1)
    ]


def style_matrix(G: Generator, first: int, last: int) -> Matrix:
    """A [styles, w_dim], float64: all matrices from w to styles in the layers from `first` to `last`, stacked.

    A w is a convolution's, and a ToRGB's where that shares it with the convolution; the last w is a ToRGB's alone.
    Each has the gain with which it is used.
    """
    affines = []
    for layer in range(first, last + 1):
        if layer < len(G.synthesis.layers):
            affines.append(G.synthesis.layers[layer].affine)
        if layer % 2:
            affines.append(G.synthesis.torgbs[layer // 2].affine)
    matrices = [a.weight.detach().cpu().numpy().astype(np.float64) * a.factors()["weight"] for a in affines]
    return np.concatenate(matrices)
