"""The reference: a dataset's features, and what metrics need of them, kept in the cache under all that decides them.

Features lie in the feature cache. Statistics of them lie in a folder whose name is a digest of the images (names, bytes
and labels: one changed pixel is another reference), the manifest that chose among them, and the extractor with its
weights, preprocessing, precision and backend.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.data.feature_cache import cached, folder_name, load_arrays, save_arrays, shared_moments
from eval.data.image_sources import Source
from eval.data.thumbnails import Thumbnails
from eval.features.extractor import Extractor
from eval.metrics import kernel
from eval.metrics.confidence_intervals import Estimate
from eval.metrics.feature_stats import Array, Features, Matrix
from eval.metrics.frechet import noise_floor, sqrt_factor
from eval.metrics.kernel import Within
from eval.metrics.neighbours import Neighbours, neighbours
from gan.runtime import distributed
from gan.runtime.files import cache_folder, read_json, write_json

NEIGHBOURS = 6  # kept for each reference image


class Reference:
    """Features [M, d] of the reference images by one extractor, and statistics, each computed once and kept.

    Of several processes all must make it: they share the moments out.
    """

    def __init__(self, source: Source, extractor: Extractor, features: Features) -> None:
        self.source, self.extractor, self.features = source, extractor, features
        self.folder = folder_of(source, extractor)
        self.moments = shared_moments(features, self.folder / "moments.npz")
        if distributed.is_main():
            write_json(self.folder / "identity.json", _identity(source, extractor))

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def factor(self) -> Matrix:
        """sqrt_factor of the moments."""
        return self._kept("factor", lambda: {"factor": sqrt_factor(self.moments)})["factor"]

    @cached_property
    def within(self) -> Within:
        """Kernel values among the reference images."""
        arrays = self._kept("kernel", lambda: asdict(kernel.within(self.features, device=self.extractor.gpu)))
        return Within(sums=arrays["sums"], squares=float(arrays["squares"]))

    @cached_property
    def neighbours(self) -> Neighbours:
        """The NEIGHBOURS nearest others of each image."""
        arrays = self._kept(
            "neighbours", lambda: asdict(neighbours(self.features, NEIGHBOURS, device=self.extractor.gpu))
        )
        return Neighbours(distances=arrays["distances"], indices=arrays["indices"])

    def prepare(self) -> None:
        """Compute all of this now, as far as there are images enough."""
        if len(self) > NEIGHBOURS:
            self.factor, self.within, self.neighbours  # noqa: B018

    def noise_floor(self, n: int) -> Estimate:
        """Fréchet distance of n real images to real ones."""
        path = self.folder / f"noise-floor-{n}.json"
        if not path.exists():
            write_json(path, asdict(noise_floor(self.features, n)))
        return Estimate(**read_json(path))

    def _kept(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Array]:
        path = self.folder / f"{name}.npz"
        if not path.exists():
            save_arrays(path, compute())
        return load_arrays(path)


def open_references(
    source: Source, extractors: Sequence[Extractor], *, batch_size: int
) -> tuple[list[Reference], Thumbnails]:
    """The reference by each extractor, and small images of it; features that are not in the cache are extracted.

    Of several processes all must call it.
    """
    features, thumbnails = cached(source, extractors, batch_size=batch_size, description="Reference images")
    pairs = zip(extractors, features, strict=True)
    return [Reference(source, extractor, own) for extractor, own in pairs], thumbnails


def folder_of(source: Source, extractor: Extractor) -> Path:
    """Where statistics of a source's features lie."""
    return cache_folder() / "reference" / folder_name(_identity(source, extractor))


def _identity(source: Source, extractor: Extractor) -> dict[str, Any]:
    return {"images": source.identity, "extractor": extractor.identity}
