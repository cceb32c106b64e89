"""A request that is checked and opened once: the collection, the extractors, and one call for each set of images."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from eval import metric_plugins, metric_registry, suite, thresholds
from eval.accepted_samples import accept
from eval.data.image_sources import DatasetSource, Source, open_source
from eval.data.reference import StatisticsSource, require_dims
from eval.data.snapshot_source import SnapshotSource
from eval.evaluate import RESULTS, Evaluation, evaluate
from eval.features.extractor import Extractor, load_extractor
from eval.features.registry import INCEPTION, NETWORKS
from eval.generator_metrics import PathLength
from eval.metrics import perceptual
from eval.request import EvaluationRequest, FeatureRequest
from gan.data.collection import Collection
from gan.data.images import Pixels
from gan.device import graphs
from gan.errors import RequestError
from gan.runtime.console import say
from gan.runtime.files import read_json

CALIBRATION = 256  # images of the dataset that a precision other than fp32 must prove itself on


class Evaluator:
    """Evaluates sets of images against the images that a collection keeps, or statistics of images, all in one way.

    `besides` are further metrics of the headline, where the request names none. Raises RequestError for a request that
    cannot be carried out.
    """

    def __init__(
        self,
        reference: Collection | StatisticsSource,
        request: EvaluationRequest,
        device: torch.device,
        *,
        besides: Sequence[str] = (),
    ) -> None:
        if request.metrics:
            metric_plugins.require_known(request.metrics)
        self._notes: list[str] = []
        self.request, self.device = request, device
        files = suite.parse_weights(request.weights)
        self.metrics = suite.choose(request, files, besides)
        if isinstance(reference, StatisticsSource):
            self.metrics = self._of_statistics(reference)
        if request.rejection and not set(self._all_metrics()) & set(metric_registry.of_features()):
            raise RequestError(
                f"`reject` needs one of `metrics` {','.join(metric_registry.of_features())} to be evaluated by"
            )
        names = list(self.metrics)
        ids = [
            id
            for name, own in self.metrics.items()
            for metric in own
            for id in metric_registry.result_ids(metric, name == INCEPTION)
        ]
        self.requirements = [thresholds.parse(text, list(dict.fromkeys(ids))) for text in request.require]
        self.paths = _path_length(request, files) if "ppl" in self._all_metrics() else None
        self.real = DatasetSource(reference) if isinstance(reference, Collection) else reference
        self.strata = None
        if request.strata is not None:
            assert isinstance(reference, Collection) and isinstance(self.real, DatasetSource)
            strata = reference.stratum_names(request.strata)
            self.strata = [strata[index] for index in self.real.indices]
        self.extractors = _load(request, names, files, self.real, device)
        for extractor in self.extractors if request.dims else ():
            require_dims(request.dims or 0, self.real, extractor)
        self._wanted = [] if request.extractors else [INCEPTION] if request.metrics else list(suite.SUITE)

    def __call__(
        self, images: Path | Iterable[Pixels], out: Path, *, num_images: int | None = None
    ) -> Evaluation | None:
        """Evaluate a snapshot, a folder or ZIP of images, or an iterator, and write results and report to `out`.

        `num_images` replaces the request's. Of several processes all must call it; the main one gets the evaluation.
        Raises RequestError when the request does not fit the images, or `out` holds results of another request.
        """
        return self.evaluate(self.open(images, num_images=num_images), out)

    def open(
        self,
        images: Path | Iterable[Pixels],
        *,
        num_images: int | None = None,
        truncation_psi: float | None = None,
    ) -> Source:
        """The source that __call__ evaluates; what is given replaces the request's.

        Raises RequestError for what cannot be opened.
        """
        source = open_source(
            images,
            self.request.num_images if num_images is None else num_images,
            seed=self.request.seed,
            truncation_psi=self.request.truncation_psi if truncation_psi is None else truncation_psi,
            class_shares=self.real.class_shares(),
            device=self.device,
            batch_size=self.request.batch_size,
        )
        if self.request.cuda_graphs and isinstance(source, SnapshotSource):
            say(graphs.describe(source.use_graphs()))
        return source

    def evaluate(self, source: Source, out: Path) -> Evaluation | None:
        """Evaluate the images of a source; see __call__."""
        self._require_fitting(source)
        record = self.record(source)
        require_same(out / RESULTS, record, self.request.overwrite)
        self.tell_network()
        accepted = None
        if self.request.rejection and isinstance(source, SnapshotSource):
            assert isinstance(self.real, DatasetSource)
            accepted = accept(source, self.real, self.request.rejection, out)
        return evaluate(
            source,
            self.real,
            networks=[(extractor, self.metrics[extractor.name]) for extractor in self.extractors],
            out=out,
            strata=self.strata,
            paths=self.paths,
            requirements=self.requirements,
            accepted=accepted,
            batch_size=self.request.batch_size,
            dims=self.request.dims,
            notes=self._notes,
            request=record,
        )

    def tell_network(self, parameter: str = "weights") -> None:
        """Say once, when the request is known to be sound, which networks are missing where none was named."""
        suite.tell_missing(list(self.metrics), self._wanted, parameter)
        self._wanted = []

    def record(self, source: Source) -> dict[str, Any]:
        """What decides the results, as results.json keeps it under "request"."""
        request, rejection = self.request, self.request.rejection
        ppl = [request.ppl_space, request.ppl_sampling, request.ppl_crop]
        return {
            "metrics": self._all_metrics_text(),
            "extractors": ", ".join(" ".join(extractor.identity.values()) for extractor in self.extractors),
            "strata": request.strata,
            **({"dims": request.dims} if request.dims else {}),
            "ppl": ppl if self.paths else None,
            "rejection": rejection and {option: str(value) for option, value in rejection.items()},
            **{f"reference's {key}": value for key, value in self.real.identity.items()},
            "images": len(source),
            **{f"generator's {key}": value for key, value in source.identity.items()},
        }

    def _all_metrics(self) -> list[str]:
        return list(dict.fromkeys(metric for own in self.metrics.values() for metric in own))

    def _all_metrics_text(self) -> str:
        if len(set(self.metrics.values())) == 1:
            return ",".join(self._all_metrics())
        return "; ".join(f"{name}: {','.join(own)}" for name, own in self.metrics.items())

    def _of_statistics(self, reference: StatisticsSource) -> suite.Suite:
        # The metrics without those that need images.
        request, asked = self.request, self._all_metrics()
        possible = tuple(name for name in asked if metric_registry.METRICS[name].of_statistics)
        impossible = [name for name in asked if name not in possible]
        lack = f"{reference.name} has the mean and the covariance of real images alone"
        if not possible:
            raise RequestError(f"`metrics` {','.join(asked)} cannot be computed: {lack}; fid can")
        for name, needs in (("strata", request.strata), ("reject", request.rejection)):
            if needs:
                raise RequestError(f"`{name}` needs the real images; {lack}")
        if request.precision != "fp32":
            raise RequestError(f"`precision` {request.precision} needs real images to be calibrated on; {lack}")
        if impossible:
            self._notes.append(f"{', '.join(impossible)} cannot be computed and are left out: {lack}")
        own = {
            name: tuple(metric for metric in metrics if metric in possible) for name, metrics in self.metrics.items()
        }
        # Statistics are of one network: its dimension says of which, where several are used.
        return {name: metrics for name, metrics in own.items() if NETWORKS[name].dim == reference.moments.dim} or own

    def _require_fitting(self, source: Source) -> None:
        metrics = self._all_metrics()
        for extractor in self.extractors:
            own = self.metrics[extractor.name]
            metric_registry.require_possible(own, extractor, len(source), len(self.real) or None)
        for metric in metric_registry.OF_GENERATORS:
            if metric in metrics and not isinstance(source, SnapshotSource):
                raise RequestError(f"`metrics` {metric} needs a snapshot, whose latents are known; got {source.name}")
        if "ls" in metrics and self.strata is None:
            raise RequestError("`metrics` ls needs `strata`, the attributes that are to be separable")


def open_extractors(request: FeatureRequest, real: DatasetSource, device: torch.device) -> list[Extractor]:
    """The networks of a request; a precision other than fp32 is calibrated on images of `real`.

    Raises RequestError for unknown names, missing weights and what does not go together.
    """
    files = suite.parse_weights(request.weights)
    names = suite.networks(request, files)
    suite.require_used(files, names)
    return _load(request, names, files, real, device)


def open_data(data: Path, manifest: Path | None = None) -> Collection | StatisticsSource:
    """What images are evaluated against: a dataset, or statistics of real images in a file .npz.

    Raises RequestError for anything else, and for a manifest of statistics.
    """
    if data.suffix.lower() != ".npz":
        return Collection.open(data, manifest)
    if manifest is not None:
        raise RequestError(f"`manifest` needs a dataset, whose images it selects; {data} holds statistics")
    return StatisticsSource(data)


def require_folder(out: Path) -> None:
    """Raise RequestError when `out` is a file."""
    if out.is_file():
        raise RequestError(f"`out` must be a folder; got the file {out} instead")


def require_same(file: Path, request: Mapping[str, Any], overwrite: bool) -> None:
    """Raise RequestError when `file` holds the results of another request, unless they may be overwritten."""
    if overwrite or not file.exists():
        return
    results = read_json(file)
    there = (results.get("request") if isinstance(results, dict) else None) or {}
    here = json.loads(json.dumps(request))
    if there != here:
        keys = [key for key in {**here, **there} if there.get(key) != here.get(key)]
        apart = [f"{key} is {there.get(key)} there, {here.get(key)} here" for key in keys]
        why = "; ".join(apart) if there else "it does not say which"
        raise RequestError(f"`out` would replace {file} of another request: {why}; choose another, or add `overwrite`")


def _load(
    request: FeatureRequest,
    names: Sequence[str],
    files: Mapping[str, Path],
    real: DatasetSource | StatisticsSource,
    device: torch.device,
) -> list[Extractor]:
    def load(name: str, precision: str) -> Extractor:
        return load_extractor(
            name,
            weights=files.get(name),
            preprocess=request.preprocess,
            precision=precision,
            backend=request.backend,
            device=device,
            fetch=request.fetch,
        )

    extractors = [load(name, request.precision) for name in names]
    for extractor in extractors if request.precision != "fp32" and isinstance(real, DatasetSource) else []:
        assert isinstance(real, DatasetSource)
        count = min(CALIBRATION, len(real))
        moved = extractor.calibrate(list(real.pixels(0, count)), load(extractor.name, "fp32"))
        say(f"{extractor.key} moves the features of {count} images by {moved:.1e} of their variance")
    return extractors


def _path_length(request: EvaluationRequest, files: Mapping[str, Path]) -> PathLength:
    vgg, linear = perceptual.lpips_files(files, "`metrics` ppl")
    space, sampling, crop = request.ppl_space, request.ppl_sampling, request.ppl_crop
    return PathLength(vgg=vgg, linear=linear, space=space, sampling=sampling, crop=crop)
