"""A method of scoring images that another package adds, from features or from the images themselves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.score.methods import DISCRIMINATOR_PREFIX, METHODS, SCORE_FORM, score_column
from eval.data.feature_cache import stored_features_of
from eval.features.extractor import Extractor
from gan.data.collection import Collection
from gan.data.images import Pixels
from gan.errors import RequestError, SalonError
from gan.runtime import plugins
from gan.runtime.console import progress

Floats = NDArray[np.float32]
Scores = tuple[NDArray[np.float64], NDArray[np.float64]]  # scores [N], and their standard errors [N], NaN: not known
Places = NDArray[np.int64]

BATCH = 64  # images in a call of of_images


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """What an entry point of the group salon.scores names: one of two functions. More is more typical, or better.

    Raises ValueError for both, or none.
    """

    of_features: Callable[[Floats], NDArray[np.floating]] | None = None  # [N, dim] of all images -> scores [N], finite
    of_images: Callable[[Sequence[Pixels]], NDArray[np.floating]] | None = None  # RGB, uint8 [H, W, 3] each -> [N]

    def __post_init__(self) -> None:
        if (self.of_features is None) == (self.of_images is None):
            raise ValueError("one of of_features and of_images must be given, and only one")


@dataclass(frozen=True, kw_only=True)
class Offered:
    """A score that a package offers, by its name."""

    name: str
    package: str
    score: ImageScore

    def by_features(self, collection: Collection, places: Places, extractor: Extractor) -> Scores:
        """Scores of the images at `places` [N] of a collection by an extractor's features, which are kept.

        Raises SalonError where the package fails.
        """
        features = stored_features_of(collection.dataset, collection.indices[places], extractor)
        rows = features.take(np.arange(len(features)), np.float32)
        assert self.score.of_features is not None
        with plugins.running(f"the score {self.name}", self.package):
            return self._checked(self.score.of_features(rows), len(places))

    def by_images(self, collection: Collection, places: Places) -> Scores:
        """Scores of the images at `places` [N] themselves. Raises SalonError where the package fails."""
        assert self.score.of_images is not None
        values = [np.empty(0)]
        starts = range(0, len(places), BATCH)
        for start in progress(starts, f"Scoring by {self.name}", len(starts), unit="batch"):
            indices = collection.indices[places[start : start + BATCH]].tolist()
            images = [collection.dataset.rgb(index) for index in indices]
            with plugins.running(f"the score {self.name}", self.package):
                values.append(self._checked(self.score.of_images(images), len(images))[0])
        scores = np.concatenate(values)
        return scores, np.full(len(scores), np.nan)

    def _checked(self, values: object, count: int) -> Scores:
        scores = np.asarray(values, np.float64)
        if scores.shape != (count,) or not np.isfinite(scores).all():
            raise SalonError(
                f"the score {self.name} of {self.package} must be a finite number for each of {count} images; got "
                f"{list(scores.shape)} with {int((~np.isfinite(scores)).sum())} that are not finite"
            )
        return scores, np.full(count, np.nan)


def load_all(methods: Sequence[str]) -> dict[str, Offered]:
    """The scores among `methods` that packages offer. Raises RequestError for a package that cannot be used."""
    for method in methods:
        if method in METHODS:
            plugins.tell_taken(plugins.SCORES, method)
    return {method: _load(method) for method in methods if method not in METHODS}


def _load(name: str) -> Offered:
    score, package = plugins.load(plugins.SCORES, name, ImageScore, parameter="methods", form=SCORE_FORM)
    if score_column(name).startswith((DISCRIMINATOR_PREFIX, "score_style_")) or name.endswith("-se"):
        raise RequestError(f"`methods` {name} of {package} must not begin with d- or style-, nor end with -se")
    return Offered(name=name, package=package, score=score)
