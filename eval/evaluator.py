"""A request that is checked and opened once: the collection, the extractors, and one call for each set of images."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eval import metric_registry, thresholds
from eval.accepted_samples import accept
from eval.data.image_sources import DatasetSource, Source, open_source
from eval.data.reference import StatisticsSource, require_dims
from eval.data.snapshot_source import SnapshotSource
from eval.evaluate import RESULTS, Evaluation, evaluate
from eval.features import weights
from eval.features.extractor import EXTRACTORS, Extractor, load_extractor
from eval.features.registry import INCEPTION
from eval.generator_metrics import LPIPS, PathLength
from eval.request import EvaluationRequest, FeatureRequest
from gan.data.collection import Collection
from gan.data.images import Pixels
from gan.device import graphs
from gan.errors import RequestError
from gan.runtime.console import say
from gan.runtime.files import read_json

OFFLINE = "efficientnet-lite0"  # comes with its weights
LPIPS_FILES = ("vgg16-397923af.pth", "lpips-vgg.pth")  # in weights.folder(), where `weights` does not name them
CALIBRATION = 256  # images of the dataset that a precision other than fp32 must prove itself on


class Evaluator:
    """Evaluates sets of images against the images that a collection keeps, or statistics of images, all in one way.

    Raises RequestError for a request that cannot be carried out.
    """

    def __init__(
        self, reference: Collection | StatisticsSource, request: EvaluationRequest, device: torch.device
    ) -> None:
        metric_registry.require_known(request.metrics)
        self._notes: list[str] = []
        if isinstance(reference, StatisticsSource):
            request = self._of_statistics(reference, request)
        self.request, self.device = request, device
        if request.rejection and not set(request.metrics) & set(metric_registry.OF_FEATURES):
            raise RequestError(
                f"`reject` needs one of `metrics` {','.join(metric_registry.OF_FEATURES)} to be evaluated by"
            )
        files = parse_weights(request.weights)
        names = _extractor_names(request, files, besides=LPIPS if "ppl" in request.metrics else ())
        ids = [id for n in names for m in request.metrics for id in metric_registry.result_ids(m, n == INCEPTION)]
        self.requirements = [thresholds.parse(text, list(dict.fromkeys(ids))) for text in request.require]
        self.paths = _path_length(request, files) if "ppl" in request.metrics else None
        self.real = DatasetSource(reference) if isinstance(reference, Collection) else reference
        self.strata = None
        if request.strata is not None:
            assert isinstance(reference, Collection) and isinstance(self.real, DatasetSource)
            strata = reference.stratum_names(request.strata)
            self.strata = [strata[index] for index in self.real.indices]
        self.extractors = _load(request, names, files, self.real, device)
        for extractor in self.extractors if request.dims else ():
            require_dims(request.dims or 0, self.real, extractor)
        self._by_default = not request.extractors

    def __call__(
        self, images: Path | Iterable[Pixels], out: Path, *, num_images: int | None = None
    ) -> Evaluation | None:
        """Evaluate a snapshot, a folder or ZIP of images, or an iterator, and write results and report to `out`.

        `num_images` replaces the request's. Of several processes all must call it; the main one gets the evaluation.
        Raises RequestError when the request does not fit the images, or `out` holds results of another request.
        """
        source = open_source(
            images,
            self.request.num_images if num_images is None else num_images,
            seed=self.request.seed,
            truncation_psi=self.request.truncation_psi,
            class_shares=self.real.class_shares(),
            device=self.device,
            batch_size=self.request.batch_size,
        )
        if self.request.cuda_graphs and isinstance(source, SnapshotSource):
            say(graphs.describe(source.use_graphs()))
        return self.evaluate(source, out)

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
            metrics=self.request.metrics,
            extractors=self.extractors,
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
        """Say once, when the request is known to be sound, which network is used where none was named."""
        if self._by_default:
            tell_default(self.extractors[0].name, parameter)
        self._by_default = False

    def record(self, source: Source) -> dict[str, Any]:
        """What decides the results, as results.json keeps it under "request"."""
        request, rejection = self.request, self.request.rejection
        ppl = [request.ppl_space, request.ppl_sampling, request.ppl_crop]
        return {
            "metrics": ",".join(request.metrics),
            "extractors": ", ".join(" ".join(extractor.identity.values()) for extractor in self.extractors),
            "strata": request.strata,
            **({"dims": request.dims} if request.dims else {}),
            "ppl": ppl if self.paths else None,
            "rejection": rejection and {option: str(value) for option, value in rejection.items()},
            **{f"reference's {key}": value for key, value in self.real.identity.items()},
            "images": len(source),
            **{f"generator's {key}": value for key, value in source.identity.items()},
        }

    def _of_statistics(self, reference: StatisticsSource, request: EvaluationRequest) -> EvaluationRequest:
        # The request without the metrics that need images.
        possible = tuple(name for name in request.metrics if metric_registry.METRICS[name].of_statistics)
        impossible = [name for name in request.metrics if name not in possible]
        lack = f"{reference.name} has the mean and the covariance of real images alone"
        if not possible:
            raise RequestError(f"`metrics` {','.join(request.metrics)} cannot be computed: {lack}; fid can")
        for name, asked in (("strata", request.strata), ("reject", request.rejection)):
            if asked:
                raise RequestError(f"`{name}` needs the real images; {lack}")
        if request.precision != "fp32":
            raise RequestError(f"`precision` {request.precision} needs real images to be calibrated on; {lack}")
        if impossible:
            self._notes.append(f"{', '.join(impossible)} cannot be computed and are left out: {lack}")
        return replace(request, metrics=possible)

    def _require_fitting(self, source: Source) -> None:
        metrics = self.request.metrics
        for extractor in self.extractors:
            metric_registry.require_possible(metrics, extractor, len(source), len(self.real) or None)
        for metric in metric_registry.OF_GENERATORS:
            if metric in metrics and not isinstance(source, SnapshotSource):
                raise RequestError(f"`metrics` {metric} needs a snapshot, whose latents are known; got {source.name}")
        if "ls" in metrics and self.strata is None:
            raise RequestError("`metrics` ls needs `strata`, the attributes that are to be separable")


def open_extractors(request: FeatureRequest, real: DatasetSource, device: torch.device) -> list[Extractor]:
    """The networks of a request; a precision other than fp32 is calibrated on images of `real`.

    Raises RequestError for unknown names, missing weights and what does not go together.
    """
    files = parse_weights(request.weights)
    return _load(request, _extractor_names(request, files), files, real, device)


def open_data(data: Path, manifest: Path | None = None) -> Collection | StatisticsSource:
    """What images are evaluated against: a dataset, or statistics of real images in a file .npz.

    Raises RequestError for anything else, and for a manifest of statistics.
    """
    if data.suffix.lower() != ".npz":
        return Collection.open(data, manifest)
    if manifest is not None:
        raise RequestError(f"`manifest` needs a dataset, whose images it selects; {data} holds statistics")
    return StatisticsSource(data)


def parse_weights(texts: Sequence[str]) -> dict[str, Path]:
    """["NAME=PATH"] -> paths by name. Raises RequestError for anything else, or a name that comes twice."""
    paths: dict[str, Path] = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not sign or not path or name not in (*EXTRACTORS, *LPIPS):
            raise RequestError(
                f"`weights` must be NAME=PATH with one of {', '.join((*EXTRACTORS, *LPIPS))}; got {text} instead"
            )
        if name in paths:
            raise RequestError(f"`weights` must name the file of {name} once; got {paths[name]} and {path}")
        paths[name] = Path(path)
    return paths


def default_extractor(files: Mapping[str, Path]) -> str:
    """Inception where its weights are given or found; else OFFLINE."""
    available = INCEPTION in files or (weights.folder() / EXTRACTORS[INCEPTION].file.name).is_file()
    return INCEPTION if available else OFFLINE


def tell_default(extractor: str, parameter: str = "weights") -> None:
    """Say what it means that a network other than Inception was chosen; `parameter` is what names files of weights."""
    if extractor == INCEPTION:
        return
    say(
        f"Note: the weights of {INCEPTION} are not here, so {extractor} sees the images, and the results are FD and "
        f"KD. For FID and KID put {EXTRACTORS[INCEPTION].file.name} ({EXTRACTORS[INCEPTION].file.url}) into "
        f"{weights.folder()}, or name it with `{parameter}` {INCEPTION}=PATH"
    )


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


def _extractor_names(request: FeatureRequest, files: Mapping[str, Path], besides: Sequence[str] = ()) -> list[str]:
    # The networks to use; `besides` are others whose weights may be given.
    names = list(dict.fromkeys(request.extractors)) or [default_extractor(files)]
    for name in names:
        if name not in EXTRACTORS:
            raise RequestError(f"`extractor` must be one of {', '.join(EXTRACTORS)}; got {name} instead")
    if unused := set(files) - set(names) - set(besides):
        raise RequestError(f"`weights` {min(unused)} is of no network that this evaluation uses")
    return names


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
    vgg, linear = (_lpips(name, files.get(name), file) for name, file in zip(LPIPS, LPIPS_FILES, strict=True))
    space, sampling, crop = request.ppl_space, request.ppl_sampling, request.ppl_crop
    return PathLength(vgg=vgg, linear=linear, space=space, sampling=sampling, crop=crop)


def _lpips(name: str, given: Path | None, file: str) -> Path:
    path = given or weights.folder() / file
    if not path.is_file():
        raise RequestError(
            f"`metrics` ppl needs the weights {name}: put {file} into {weights.folder()}, or name it with "
            f"`weights` {name}=PATH"
        )
    return path
