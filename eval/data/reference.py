"""The reference: a dataset's features, and what metrics need of them, kept in the cache under all that decides them.

Features lie in the feature cache. Statistics of them lie in a folder whose name is a digest of the images (names, bytes
and labels: one changed pixel is another reference), the manifest that chose among them, and the extractor with its
weights, preprocessing, precision and backend, and the number of principal components.
"""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eval.data.feature_cache import cached, folder_name, load_arrays, save_arrays, shared_moments
from eval.data.image_sources import Source
from eval.data.thumbnails import Thumbnails
from eval.features.extractor import Extractor
from eval.metrics import kernel
from eval.metrics.confidence_intervals import Estimate
from eval.metrics.feature_stats import Array, Features, Matrix, Moments
from eval.metrics.frechet import noise_floor, sqrt_factor
from eval.metrics.kernel import Within
from eval.metrics.neighbours import Neighbours, neighbours
from eval.metrics.precision_recall import Indices, drawn
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.file_kinds import why_unreadable
from gan.runtime.files import cache_folder, read_json, sha256, write_json

NEIGHBOURS = 6  # kept for each reference image


class StatisticsSource:
    """Real images of which a file .npz knows `mu` [d] and `sigma` [d, d] alone, as pytorch-fid writes them.

    It has no images, and their number is not known. Raises RequestError for another file.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                self.moments = Moments.of(arrays["mu"], arrays["sigma"])
        except KeyError as error:
            raise RequestError(f"{path} must hold statistics, mu and sigma; it lacks one of them") from error
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise RequestError(
                f"{path} must hold statistics, mu [d] and sigma [d, d]; {why_unreadable(path, error)}"
            ) from error
        self.identity: dict[str, Any] = {"kind": "statistics", "sha256": sha256(path)}

    def __len__(self) -> int:
        return 0

    def class_shares(self) -> None:
        """Not known."""


class Reference:
    """Features [M, d] of the reference images by one extractor, and statistics, each computed once and kept.

    With `dims` these are the features' first so many principal components. Of statistics alone there are neither
    features nor what comes from them. Of several processes all must make it: they share the moments out. Raises
    RequestError where dimensions do not fit.
    """

    def __init__(
        self,
        source: Source | StatisticsSource,
        extractor: Extractor,
        features: Features | None,
        dims: int | None = None,
    ) -> None:
        self.source, self.extractor, self.dims = source, extractor, dims
        if features is None:
            assert isinstance(source, StatisticsSource)
            every = source.moments
            if every.dim != extractor.dim:
                raise RequestError(f"{source.name} has {every.dim} dimensions; {extractor.name} has {extractor.dim}")
        else:
            every = shared_moments(features, folder_of(source, extractor) / "moments.npz")
        self.dim, self.folder = dims or extractor.dim, folder_of(source, extractor, dims)
        self._every, self._features, self.moments, self._centre, self._basis = (
            features,
            features,
            every,
            every.mean,
            None,
        )
        if distributed.is_main():
            write_json(self.folder / "identity.json", _identity(source, extractor, dims))
        if dims is not None:
            require_dims(dims, source, extractor)
            with distributed.main_first():
                self._basis = self._kept("components", lambda: {"basis": _components(every, dims)})["basis"]
            self._features = None if features is None else self.project(features)
            self.moments = every.project(self._centre, self._basis)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def features(self) -> Features:
        """Features [M, d], or their principal components."""
        assert self._features is not None
        return self._features

    def project(self, features: Features) -> Features:
        """Other features in the same components; as they are without `dims`."""
        return features if self._basis is None else features.project(self._centre, self._basis)

    @cached_property
    def factor(self) -> Matrix:
        """sqrt_factor of the moments."""
        return self._kept("factor", lambda: {"factor": sqrt_factor(self.moments, self._features)})["factor"]

    @cached_property
    def within(self) -> Within:
        """Kernel values among the reference images."""
        arrays = self._kept("kernel", lambda: asdict(kernel.within(self.features, device=self.extractor.gpu)))
        every = len(self) * (len(self) - 1)  # of all pairs, where it was kept by a version that knew no others
        return Within(sums=arrays["sums"], squares=float(arrays["squares"]), pairs=int(arrays.get("pairs", every)))

    @cached_property
    def compared(self) -> Indices:
        """Places [C] of the images that are compared in pairs: all; of very many without a GPU those that are drawn."""
        return drawn(len(self)) if self.extractor.gpu is None else np.arange(len(self))

    @property
    def compares_all(self) -> bool:
        """Whether `compared` are all images."""
        return len(self.compared) == len(self)

    @property
    def compared_features(self) -> Features:
        """Features [C, d] of the images that are compared."""
        return self.features if self.compares_all else self.features.view(self.compared)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The NEIGHBOURS nearest others of each image that is compared, by their places among these."""
        name = "neighbours" if self.compares_all else f"neighbours-of-{len(self.compared)}"
        arrays = self._kept(
            name, lambda: asdict(neighbours(self.compared_features, NEIGHBOURS, device=self.extractor.gpu))
        )
        return Neighbours(distances=arrays["distances"], indices=arrays["indices"])

    def prepare(self) -> None:
        """Compute all of this now, as far as there are images enough."""
        if len(self) > NEIGHBOURS:
            self.factor, self.within, self.neighbours  # noqa: B018

    def noise_floor(self, n: int) -> Estimate | None:
        """Fréchet distance of n real images to real ones; None of statistics alone."""
        if self._every is None:
            return None
        path = self.folder / f"noise-floor-{n}.json"
        if not path.exists():
            write_json(path, asdict(noise_floor(self._every, n, dims=self.dims)))
        return Estimate(**read_json(path))

    def _kept(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Array]:
        path = self.folder / f"{name}.npz"
        if not path.exists():
            save_arrays(path, compute())
        return load_arrays(path)


def open_references(
    source: Source | StatisticsSource, extractors: Sequence[Extractor], *, batch_size: int, dims: int | None = None
) -> tuple[list[Reference], Thumbnails | None]:
    """The reference by each extractor, and small images of it; features that are not in the cache are extracted.

    Of several processes all must call it.
    """
    if isinstance(source, StatisticsSource):
        return [Reference(source, extractor, None, dims) for extractor in extractors], None
    features, thumbnails = cached(source, extractors, batch_size=batch_size, description="Reference images")
    pairs = zip(extractors, features, strict=True)
    return [Reference(source, extractor, own, dims) for extractor, own in pairs], thumbnails


def require_dims(dims: int, source: Source | StatisticsSource, extractor: Extractor) -> None:
    """Raise RequestError when the reference has fewer principal components than `dims`."""
    most = extractor.dim if isinstance(source, StatisticsSource) else min(extractor.dim, len(source) - 1)
    if dims > most:
        raise RequestError(f"`dims` must be at most {most} for {source.name} and {extractor.name}; got {dims} instead")


def folder_of(source: Source | StatisticsSource, extractor: Extractor, dims: int | None = None) -> Path:
    """Where statistics of a source's features lie."""
    return cache_folder() / "reference" / folder_name(_identity(source, extractor, dims))


def _components(moments: Moments, dims: int) -> Matrix:
    # The first principal components [d, dims], each with its largest entry positive.
    vectors: Matrix = np.linalg.eigh(moments.cov)[1][:, : -dims - 1 : -1]
    signs: Matrix = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(dims)])
    return vectors * signs


def _identity(source: Source | StatisticsSource, extractor: Extractor, dims: int | None) -> dict[str, Any]:
    return {"images": source.identity, "extractor": extractor.identity} | ({"dims": dims} if dims else {})
