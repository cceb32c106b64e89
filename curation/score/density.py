"""How typical an image is of its stratum: the density of its features, and how near its neighbours are.

`features` are float32 [N, dim]; `strata` int64 [N]. Scores are higher for what is more typical, as robust z within the
stratum, so that strata can be compared. Models are fitted on random halves: each image is scored by those models that
have not seen it, and its standard error is over them. Nothing is N x N: models are fitted on, and neighbours are
searched among, at most MAX_REFERENCES images of a stratum, MAX_STANDARDIZED by style.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from curation.score.methods import BY_FEATURES
from eval.metrics.feature_stats import Features, as_features
from eval.metrics.neighbours import neighbours_among
from gan.errors import RequestError
from gan.runtime.files import atomic

if TYPE_CHECKING:
    import torch  # only named here

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]
Strata = NDArray[np.int64]

POOLED = -1  # the stratum of all that belong to strata too small for a model of their own
MIN_STRATUM = 100  # images
MIN_POOL = 20  # images, for any model
MAX_REFERENCES = 16384
MAX_STANDARDIZED = 4096  # references of style, whose features are four times as many
MODELS = 8
COMPONENTS = 32
NEIGHBOUR_SHARE = 0.1  # the k-th neighbour, as a share of the half: k must exceed a clique of outliers that look alike
CORE = 0.85  # share of a half, those with the nearest neighbours, that the Gaussian is fitted on
BLOCK = 2048  # images at a time
DEVIATIONS = 8  # from the median, beyond which a standardized feature does not count
LEAST = 1e-6  # deviation of a feature that most images have alike
UNIT = np.zeros([2, 0], np.float32)
PARTS = ("references", "standard", "rows", "centre", "scale")  # of a fitted stratum, in a file
DEVICE_BLOCK = 8 * BLOCK  # on a GPU, to which references are uploaded anew for each


@dataclass(frozen=True, kw_only=True)
class HalfModel:
    """One half of a stratum's references, and the Gaussian of its principal components."""

    members: NDArray[np.bool_]  # [references]
    mean: Floats  # [dim]
    whiten: Floats  # [dim, components]: principal axes, divided by the standard deviations along them
    precision: float  # 1 / variance in every other direction
    k: int


@dataclass(frozen=True, kw_only=True)
class FittedStratum:
    """What scoring needs of a stratum: its references, models, and the scale of its scores."""

    references: Floats  # [references, dim], as `prepared` gives them
    standard: Floats  # [2, dim], median and deviation that features are standardized by; [2, 0]: have unit length
    rows: Strata  # of the references, among the features that it was fitted on
    models: list[HalfModel]
    centre: Scores  # [methods, models], medians of raw scores
    scale: Scores  # [methods, models], their robust standard deviations


@dataclass(frozen=True, kw_only=True)
class State:
    """A fitted set: enough to score new images without any of the old."""

    strata: dict[int, FittedStratum]
    extractor: str  # key of what made the features

    def save(self, path: Path) -> None:
        """Write it as .npz, atomically."""
        arrays: dict[str, NDArray[np.generic]] = {"extractor": np.array(self.extractor)}
        for number, stratum in self.strata.items():
            arrays |= {f"{number}/{name}": getattr(stratum, name) for name in PARTS}
            for index, model in enumerate(stratum.models):
                arrays |= {f"{number}/{index}/{name}": getattr(model, name) for name in ("members", "mean", "whiten")}
                arrays |= {f"{number}/{index}/k": np.array(model.k)}
                arrays |= {f"{number}/{index}/precision": np.array(model.precision)}
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> State:
    """Read a state. Raises RequestError when the file is no state that salon curate score wrote."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        numbers = sorted({int(name.split("/")[0]) for name in arrays if "/" in name})
        strata = {}
        for number in numbers:
            models = [
                HalfModel(
                    **{name: arrays[f"{number}/{index}/{name}"] for name in ("members", "mean", "whiten")},
                    k=int(arrays[f"{number}/{index}/k"]),
                    precision=float(arrays[f"{number}/{index}/precision"]),
                )
                for index in range(arrays[f"{number}/centre"].shape[1])
            ]
            arrays.setdefault(f"{number}/standard", UNIT)  # states that are older have none
            parts = {name: arrays[f"{number}/{name}"] for name in PARTS}
            strata[number] = FittedStratum(models=models, **parts)
        return State(strata=strata, extractor=str(arrays["extractor"]))
    except (OSError, EOFError, TypeError, ValueError, KeyError, IndexError, BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it is another file, or damaged"
        raise RequestError(f"`state` {path} must be a state that salon curate score wrote; {reason}") from error


def pool_small(strata: Strata, least: int = MIN_STRATUM) -> Strata:
    """Strata of fewer than `least` images become POOLED; all others stay as they are."""
    values, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    return np.asarray(np.where(counts < least, POOLED, values)[inverse], np.int64)


def fit(
    features: Features | Floats,
    strata: Strata,
    *,
    seed: int,
    extractor: str,
    standardized: bool = False,
    device: "torch.device | None" = None,
) -> State:
    """Fit the models of each stratum, pooled where small. `features` may be memory maps.

    Features are compared at unit length or, as those of style must be, `standardized`.

    A pool of fewer than 20 images gets no model: `score` compares its images with all strata. Neighbours are searched
    on a `device` where one is given, in `score` too.

    Raises RequestError for fewer than 20 images.
    """
    if len(features) < MIN_POOL:
        raise RequestError(f"a density needs {MIN_POOL} images at least; got {len(features)} instead")
    features, pooled = as_features(features), pool_small(strata)
    numbers, counts = np.unique(pooled, return_counts=True)
    return State(
        strata={
            int(number): _fit_stratum(
                features, np.flatnonzero(pooled == number), np.random.default_rng([seed, i]), standardized, device
            )
            for i, number in enumerate(numbers[(numbers != POOLED) | (counts >= MIN_POOL)])
        },
        extractor=extractor,
    )


def score(
    state: State, features: Features | Floats, strata: Strata, *, fitted: bool, device: "torch.device | None" = None
) -> dict[str, tuple[Scores, Scores]]:
    """Method -> (scores [N], standard errors [N]). `fitted`: these are the rows that the state was fitted on, and a
    model that has seen an image does not score it.

    An image of a stratum that the state does not know is scored by the pooled one, or without it by all strata, and
    keeps the highest score.
    """
    features, count = as_features(features), len(features)
    means, errors = (np.full([len(BY_FEATURES), count], -np.inf) for _ in range(2))
    known = np.isin(strata, list(state.strata))
    if POOLED in state.strata:
        strata, known = np.where(known, strata, POOLED), np.ones_like(known)
    for number, stratum in state.strata.items():
        members = np.flatnonzero((strata == number) | ~known)
        place = np.full(count, -1)
        if fitted:
            place[stratum.rows] = np.arange(len(stratum.rows))
        size = _block(device)
        for start in range(0, len(members), size):
            rows = members[start : start + size]
            own = prepared(features.take(rows, np.float32), stratum.standard)
            mean, error = _score(stratum, own, place[rows], device)
            better = mean > means[:, rows]
            means[:, rows] = np.where(better, mean, means[:, rows])
            errors[:, rows] = np.where(better, error, errors[:, rows])
    return {method: (means[i], errors[i]) for i, method in enumerate(BY_FEATURES)}


def normalized(features: Floats) -> Floats:
    """Features of unit length: their direction says what is shown, their length mostly how much contrast."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, 1e-12), np.float32)


def prepared(features: Floats, standard: Floats) -> Floats:
    """Features [N, dim] as they are compared: at unit length or, where there is a `standard`, in its deviations."""
    if not standard.size:
        return normalized(features)
    return np.asarray(np.clip((features - standard[0]) / standard[1], -DEVIATIONS, DEVIATIONS), np.float32)


def standard_of(features: Floats) -> Floats:
    """Median and robust standard deviation of each of features [N, dim] -> [2, dim]."""
    median = np.median(features, axis=0)
    deviation = 1.4826 * np.median(np.abs(features - median), axis=0)
    return np.asarray([median, np.maximum(deviation, LEAST)], np.float32)


def shrunken_gaussian(features: Floats, components: int = COMPONENTS) -> tuple[Floats, Floats, float]:
    """Mean [dim], whitening [dim, components] and the residual's precision of a Gaussian fitted to [n, dim].

    The covariance is shrunken towards a multiple of the identity (Ledoit & Wolf 2004); beyond the principal components
    it is the same in all directions (Tipping & Bishop 1999), which is what an outlier of a new kind shows itself by.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    dim = features.shape[1]
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    variances = singular**2 / len(features)
    share = shrinkage(variances, (centred**2).sum(axis=1), dim)
    kept = min(components, len(features) - 1, dim)
    target = variances.sum() / dim
    shrunken = (1 - share) * variances[:kept] + share * target
    tail = (1 - share) * variances[kept:].sum() / max(dim - kept, 1) + share * target
    whiten = axes[:kept].T / np.sqrt(np.maximum(shrunken, 1e-12))
    return mean.astype(np.float32), whiten.astype(np.float32), float(1 / max(tail, 1e-12))


def shrinkage(variances: Scores, squared_lengths: Scores, dim: int) -> float:
    """Share of the identity in a covariance [dim, dim], from its eigenvalues and the N centred points' |x|^2.

    Ledoit & Wolf 2004, section 3: the sampling error of S as a share of its distance from the identity's multiple; the
    same as scikit-learn's, which forms matrices of dim x dim for it.
    """
    spread = (variances**2).sum()
    distance = spread - variances.sum() ** 2 / dim
    error = ((squared_lengths**2).mean() - spread) / len(squared_lengths)
    return float(min(max(error, 0) / distance, 1)) if distance > 0 else 0.0


def mahalanobis(features: Floats, mean: Floats, whiten: Floats, precision: float) -> Scores:
    """Squared distance of each of features [N, dim] under shrunken_gaussian's covariance."""
    centred = features - mean
    inside = centred @ whiten  # [N, components]
    unit = whiten / np.linalg.norm(whiten, axis=0)
    residual = (centred**2).sum(axis=1) - ((centred @ unit) ** 2).sum(axis=1)
    return np.asarray((inside**2).sum(axis=1) + precision * np.maximum(residual, 0), np.float64)


def kth_distance(features: Floats, references: Floats, k: int, device: "torch.device | None" = None) -> Scores:
    """Distance of each of features [N, dim] to its k-th nearest of [M, dim]."""
    near = neighbours_among(features, references, k, dtype=np.float32, device=device)
    return near.distances[:, -1].astype(np.float64)


def _block(device: "torch.device | None") -> int:
    return BLOCK if device is None else DEVICE_BLOCK


def _fit_stratum(
    features: Features, rows: Strata, rng: np.random.Generator, standardized: bool, device: "torch.device | None"
) -> FittedStratum:
    limit = MAX_STANDARDIZED if standardized else MAX_REFERENCES
    if len(rows) > limit:
        rows = np.sort(rng.choice(rows, limit, replace=False))
    chosen = np.asarray(features.take(rows, np.float32))
    standard = standard_of(chosen) if standardized else UNIT
    references = prepared(chosen, standard)
    models = []
    for _ in range(MODELS // 2):
        half = rng.permutation(len(rows)) < len(rows) / 2
        for members in (half, ~half):  # both halves, so that every image has models that have not seen it
            half_references = references[members]
            k = max(1, round(NEIGHBOUR_SHARE * len(half_references)))
            near = kth_distance(half_references, half_references, k, device)
            # A clique of outliers would bend the Gaussian towards itself: it is fitted on the core, without the rim.
            mean, whiten, precision = shrunken_gaussian(half_references[near <= np.quantile(near, CORE)])
            models.append(HalfModel(members=members, mean=mean, whiten=whiten, precision=precision, k=k))
    blank = np.zeros([len(BY_FEATURES), len(models)])
    unscaled = FittedStratum(
        references=references, standard=standard, rows=rows, models=models, centre=blank, scale=blank + 1
    )
    raw = _raw(unscaled, references, device)  # [methods, models, references]
    unseen = ~np.stack([model.members for model in models])
    centre, scale = blank.copy(), blank.copy()
    for method in range(len(BY_FEATURES)):
        for index in range(len(models)):
            values = raw[method, index, unseen[index]]
            centre[method, index] = np.median(values)
            scale[method, index] = max(1.4826 * np.median(np.abs(values - centre[method, index])), 1e-9)
    return FittedStratum(references=references, standard=standard, rows=rows, models=models, centre=centre, scale=scale)


def _raw(stratum: FittedStratum, features: Floats, device: "torch.device | None" = None) -> Scores:
    # Logarithms of the distances, negative -> [methods, models, N]
    scores = np.empty([len(BY_FEATURES), len(stratum.models), len(features)])
    size = _block(device)
    for start in range(0, len(features), size):
        some = features[start : start + size]
        rows = slice(start, start + len(some))
        for index, model in enumerate(stratum.models):
            distance = mahalanobis(some, model.mean, model.whiten, model.precision)
            scores[0, index, rows] = -np.log(np.maximum(distance, 1e-12))
            near = kth_distance(some, stratum.references[model.members], model.k, device)
            scores[1, index, rows] = -np.log(np.maximum(near, 1e-6))
    return scores


def _score(
    stratum: FittedStratum, features: Floats, place: Strata, device: "torch.device | None"
) -> tuple[Scores, Scores]:
    # -> mean and standard error over the models that have not seen an image, each [methods, N]
    z = (_raw(stratum, features, device) - stratum.centre[:, :, None]) / stratum.scale[:, :, None]
    seen = np.stack([model.members[place] & (place >= 0) for model in stratum.models])  # [models, N]
    weight = (~seen).astype(np.float64)
    count = weight.sum(axis=0)
    mean = (z * weight).sum(axis=1) / count
    variance = ((z - mean[:, None]) ** 2 * weight).sum(axis=1) / np.maximum(count - 1, 1)
    return mean, np.sqrt(variance / count)
