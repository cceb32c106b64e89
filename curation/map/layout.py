"""Features to positions in two dimensions: principal components, then t-SNE (van der Maaten and Hinton 2008).

By openTSNE, from the first two principal components on and with exact neighbours, so that only rounding depends on
anything but the features. Axis legend: N images, D features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from curation.score.density import normalized
from gan.errors import RequestError
from gan.runtime.console import progress

COMPONENTS = 50  # principal components that t-SNE sees
PERPLEXITY = 30.0
EARLY, LATE = 250, 500  # iterations with exaggerated attraction, and without
STEP = 10  # iterations between two steps of the progress bar
NEIGHBOURS = 10  # of which `kept` tells

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where images lie on a map, and how much of their neighbourhood it shows."""

    positions: Doubles  # [N, 2]
    components: int  # principal components
    perplexity: float | None  # None: so few images that they lie by their principal components
    kept: float | None  # mean share of an image's 10 nearest by features that are so on the map; None: too few images


def require_library() -> Any:
    """The module openTSNE. Raises RequestError where it is not installed."""
    try:
        import openTSNE
    except ImportError as error:
        raise RequestError(f"a map needs pip install 'salon[map]': {error}") from error
    return openTSNE


def layout(features: Floats, *, seed: int) -> Layout:
    """Lay features [N, D] out.

    They are compared by their directions from the set's mean. The same features in another order have the same
    positions, if no two of them begin with the same three numbers; `seed` is of the principal components. Raises
    RequestError where openTSNE is missing.
    """
    tsne = require_library()
    count = len(features)
    order = np.lexsort(features[:, : min(3, features.shape[1])].T[::-1])
    x = normalized(features[order] - features.mean(axis=0, dtype=np.float64).astype(np.float32))
    components = min(COMPONENTS, *x.shape)
    principal = np.zeros((count, components))
    if x.any():  # else all images are the same, and have no components
        principal[:] = PCA(components, random_state=seed, copy=False).fit_transform(x)
    found = np.zeros((count, 2))
    found[:, : min(2, components)] = principal[:, :2]
    perplexity = None
    if count > 3:
        perplexity = min(PERPLEXITY, (count - 1) / 3)
        found = _tsne(tsne, principal, found, perplexity, seed)
    kept = _kept(principal, found) if count > NEIGHBOURS else None
    positions = np.empty_like(found)
    positions[order] = found
    return Layout(positions=positions, components=components, perplexity=perplexity, kept=kept)


def _tsne(tsne: Any, principal: Doubles, start: Doubles, perplexity: float, seed: int) -> Doubles:
    # The start is scaled as Kobak and Berens (2019) recommend, so that the first steps are not spent on its size.
    deviation = start[:, 0].std()
    steps = iter(progress(range((EARLY + LATE) // STEP), "Laying out the map", unit="step"))

    def advance(iteration: int, error: float, embedding: Any) -> None:
        next(steps, None)

    fitted = tsne.TSNE(
        perplexity=perplexity,
        initialization=start / (deviation if deviation > 0 else 1.0) * 1e-4,
        neighbors="exact",
        early_exaggeration_iter=EARLY,
        n_iter=LATE,
        n_jobs=1,  # more threads wait for each other at each of the short steps, the longer the busier the machine
        random_state=seed,
        callbacks=advance,
        callbacks_every_iters=STEP,
    ).fit(principal)
    for _ in steps:  # to the bar's end, which closes it
        pass
    return np.asarray(fitted, np.float64)


def _kept(principal: Doubles, positions: Doubles) -> float:
    near, shown = (
        NearestNeighbors(n_neighbors=NEIGHBOURS).fit(points).kneighbors(return_distance=False)
        for points in (principal, positions)
    )
    return float((near[:, :, None] == shown[:, None, :]).any(axis=2).mean())
