"""The reference: a dataset's features, and what metrics need of them, kept in the cache under all that decides them.

The folder's name is a digest of the images (names, bytes and labels: one changed pixel is another reference), the
manifest that chose among them, the extractor with its weights, preprocessing, precision and backend.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.data import feature_cache
from eval.data.feature_cache import FeatureShards, Thumbnails, folder_name, load_arrays, save_arrays
from eval.data.image_sources import DatasetSource
from eval.features.extractor import Extractor
from eval.metrics import kernel
from eval.metrics.confidence_intervals import Estimate
from eval.metrics.feature_stats import Array, Features, Matrix, Moments
from eval.metrics.frechet import noise_floor, sqrt_factor
from eval.metrics.kernel import Within
from eval.metrics.precision_recall import Neighbours, neighbours
from gan.data import manifest as manifests
from gan.data.dataset import ImageDataset
from gan.data.manifest import Manifest
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.files import cache_folder, read_json, write_json

STRATA = ("style", "genre", "artist", "label")
NEIGHBOURS = 6  # kept for each reference image


class Reference:
    """One extractor's view of the reference images. Everything is computed when it is first asked for, and kept."""

    def __init__(self, source: DatasetSource, extractor: Extractor) -> None:
        self.source, self.extractor = source, extractor
        self.identity = {"images": source.identity, "extractor": extractor.identity}
        self.folder = cache_folder() / "reference" / folder_name(self.identity)
        self.shards = FeatureShards(self.folder, extractor)
        self.moments = Moments(extractor.dim)

    def __len__(self) -> int:
        return len(self.source)

    def count_moments(self) -> None:
        """After the pass, in all processes."""
        self.moments = feature_cache.moments(self.shards, len(self))
        if distributed.is_main():
            write_json(self.folder / "identity.json", self.identity)

    @cached_property
    def features(self) -> Features:
        """[M, d], memory maps."""
        return self.shards.read(range(feature_cache.shard_count(len(self))))

    @cached_property
    def factor(self) -> Matrix:
        """sqrt_factor of the moments."""
        return self._kept("factor", lambda: {"factor": sqrt_factor(self.moments)})["factor"]

    @cached_property
    def within(self) -> Within:
        """Kernel values among the reference images."""
        arrays = self._kept("kernel", lambda: asdict(kernel.within(self.features)))
        return Within(sums=arrays["sums"], squares=float(arrays["squares"]))

    @cached_property
    def neighbours(self) -> Neighbours:
        """The nearest others of each image, NEIGHBOURS of them."""
        arrays = self._kept("neighbours", lambda: asdict(neighbours(self.features, NEIGHBOURS)))
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


def open_reference(data: Path, manifest: Path | None = None) -> tuple[DatasetSource, Manifest | None]:
    """The images of a prepared dataset that a manifest keeps, or all, and the manifest that describes them.

    Without `manifest` the one that salon prepare wrote beside the dataset describes its images, where it fits.
    """
    dataset = ImageDataset(data)
    fingerprint = dataset.fingerprint()
    if manifest is None:
        beside = Path(data).with_suffix(".manifest")
        found = manifests.read(beside) if beside.is_dir() else None
        if found is not None and found.dataset != fingerprint:
            found = None
        return DatasetSource(dataset, fingerprint=fingerprint), found
    chosen = manifests.read(manifest)
    if chosen.dataset != fingerprint:
        raise RequestError(f"--manifest {manifest} must be of the dataset {data}; it is of another")
    kept = chosen.kept()
    indices = [index for index, name in enumerate(dataset.names) if name in kept]
    if not indices:
        raise RequestError(f"--manifest {manifest} keeps no image of {data}")
    return DatasetSource(dataset, fingerprint=fingerprint, indices=indices, manifest=str(chosen.header["hash"])), chosen


def strata(source: DatasetSource, manifest: Manifest | None, kind: str) -> list[str | None]:
    """The stratum of every reference image: its label, or its style, genre or artist by the manifest.

    Raises RequestError when no image has one.
    """
    if kind not in STRATA:
        raise RequestError(f"--strata must be one of {', '.join(STRATA)}; got {kind} instead")
    names: Sequence[Any]
    if kind == "label":
        names = [source.label(index) for index in range(len(source))]
    else:
        rows = manifest.rows if manifest is not None else None
        by_name = {} if rows is None else dict(zip(rows["name"].to_pylist(), rows[kind].to_pylist(), strict=True))
        names = [by_name.get(source.dataset.names[index]) for index in source.indices]
    if not any(names):
        if kind == "label":
            raise RequestError(f"--strata label needs labels in the dataset; {source.name} has none")
        lack = f"{source.name} has none beside it" if manifest is None else f"{manifest.path} has no {kind}"
        raise RequestError(f"--strata {kind} needs a manifest with a {kind} for some image; {lack}")
    return [str(name) if name else None for name in names]


def pass_over(
    source: DatasetSource, extractors: Sequence[Extractor], *, batch_size: int
) -> tuple[list[Reference], Thumbnails]:
    """Bring the reference's features and small pictures into the cache; what is there is not made again."""
    references = [Reference(source, extractor) for extractor in extractors]
    pictures = Thumbnails(cache_folder() / "reference" / folder_name({"images": source.identity}))
    feature_cache.one_pass(
        source, [pictures, *(r.shards for r in references)], batch_size=batch_size, what="Reference images"
    )
    for reference in references:
        reference.count_moments()
    return references, pictures
