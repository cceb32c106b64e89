"""Weights of content and style when their ranks are fused, chosen by a few images that are known to be outliers or not.

Of a small grid, by the average precision of the outliers in a few folds: equal weights stay unless others are better by
more than one standard error (Breiman et al. 1984), since the best of five by few images is often so by chance. How far
the choice holds is told by held-out images: in each fold the weights are chosen by the images outside of it.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from curation import columns
from curation.score.methods import BY_FEATURES, FEATURES, of_features
from eval.metrics.confidence_intervals import Estimate, normal_interval
from gan.data import manifest
from gan.errors import RequestError

STYLE_WEIGHTS = (
    0.5,
    0.25,
    0.75,
    0.0,
    1.0,
)  # content has the rest; the first that is about as good as the best is taken
SIDES = {side: tuple(of_features(method, side) for method in BY_FEATURES) for side in FEATURES["both"]}
FOLDS = 5
MIN_LABELLED, MIN_OF_A_KIND = 10, 3
OUTLIER = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The weights, and average precisions of labelled images."""

    style: float  # weight of style; that of content is 1 - style
    held_out: Estimate  # with weights that the held-out images had no part in
    equal: Estimate  # of the same held-out images with equal weights
    images: int  # labelled ones that have a rank
    outliers: int  # among them

    @property
    def weights(self) -> dict[str, float]:
        """By what the features see."""
        return {"content": 1 - self.style, "style": self.style}


def choose(content: Floats, style: Floats, outlier: Mask, *, seed: int = 0) -> Choice:
    """Choose weights for ranks [n] of content and of style, low for what is not typical, by which are outliers [n].

    Raises RequestError for fewer than MIN_LABELLED images, or MIN_OF_A_KIND that are outliers or are none.
    """
    outliers, others = int(outlier.sum()), int((~outlier).sum())
    if outliers + others < MIN_LABELLED or min(outliers, others) < MIN_OF_A_KIND:
        raise RequestError(
            f"`fuse_by` must label {MIN_LABELLED} images that have scores of content and of style, or more, at least "
            f"{MIN_OF_A_KIND} of them outliers and {MIN_OF_A_KIND} none; it labels {outliers} and {others}"
        )
    held_out, equal = [], []
    for train, test in _folds(outlier, seed):
        chosen = _best(content[train], style[train], outlier[train], seed)
        held_out.append(_precision(content[test], style[test], outlier[test], chosen))
        equal.append(_precision(content[test], style[test], outlier[test], 0.5))
    return Choice(
        style=_best(content, style, outlier, seed),
        held_out=_over_folds(held_out),
        equal=_over_folds(equal),
        images=len(outlier),
        outliers=outliers,
    )


def labelled(rows: pa.Table, file: Path) -> tuple[NDArray[np.int64], Mask]:
    """The places [n] of the rows that `file` labels, and whether each is an outlier [n].

    A manifest labels by the verdicts of persons: what they dropped is an outlier. A table of text (.csv) has the
    columns name and outlier, 1 or 0. Raises RequestError when it cannot be read, or names an image that is not there.
    """
    outlier_of = _by_verdict(file) if file.is_dir() else _by_table(file)
    names = rows.column("name").to_pylist()
    places = np.array([place for place, name in enumerate(names) if name in outlier_of], np.int64)
    if len(places) < len(outlier_of):
        missing = sorted(outlier_of.keys() - set(names))
        raise RequestError(f"`fuse_by` must name images of the manifest; {file} names {missing[0]!r}, which is none")
    return places, np.array([outlier_of[names[place]] for place in places.tolist()], bool)


def _by_verdict(path: Path) -> dict[str, bool]:
    rows = manifest.read(path, ["name", "verdict", "reviewer"]).rows
    mask = columns.by_person(rows) & np.asarray(pc.is_valid(rows.column("name")))
    kept = np.asarray(manifest.is_kept(rows))[mask]
    return dict(zip(rows.column("name").filter(pa.array(mask)).to_pylist(), (~kept).tolist(), strict=True))


def _by_table(path: Path) -> dict[str, bool]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return {row["name"]: OUTLIER[row["outlier"].strip().lower()] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError) as error:
        raise RequestError(
            f"`fuse_by` must be a manifest with verdicts, or a .csv with the columns name and outlier, 1 or 0; "
            f"{path} cannot be read as that: {error!r}"
        ) from error


def _folds(outlier: Mask, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    # Pairs of places (train, test), at most FOLDS: each test side has outliers and others.
    count = min(FOLDS, int(outlier.sum()), int((~outlier).sum()))
    return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(outlier, outlier))


def _best(content: Floats, style: Floats, outlier: Mask, seed: int) -> float:
    tests = [test for _, test in _folds(outlier, seed)]
    by_weight = {
        weight: np.array([_precision(content[test], style[test], outlier[test], weight) for test in tests])
        for weight in STYLE_WEIGHTS
    }
    best = max(by_weight.values(), key=np.mean)
    behind = {weight: best - values for weight, values in by_weight.items()}
    return next(weight for weight, lack in behind.items() if lack.mean() <= lack.std(ddof=1) / np.sqrt(len(lack)))


def _precision(content: Floats, style: Floats, outlier: Mask, weight: float) -> float:
    # Average precision, in [0, 1], of the outliers among images by their fused ranks, the lowest first.
    return float(average_precision_score(outlier, -((1 - weight) * content + weight * style)))


def _over_folds(values: list[float]) -> Estimate:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return normal_interval(float(np.mean(values)), error, len(values), "Student's, of folds", len(values) - 1).clipped(
        0, 1
    )
