"""What is asked of the evaluation, as plain values; light, so that `--help` reads the defaults here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan.errors import RequestError
from gan.runtime.addresses import check_host_names

METRICS = ("fid", "kid", "pr", "dc")  # where none are named
SPACES, SAMPLINGS = ("w", "z"), ("end", "full")  # of path length
VIEWS = ("original", "flips", "crops")  # of training images


@dataclass(frozen=True, kw_only=True)
class FeatureRequest:
    """How features are extracted. Raises RequestError for values out of range."""

    extractors: tuple[str, ...] = ()  # networks by name; (): those of eval.suite that have their weights here
    weights: tuple[str, ...] = ()  # NAME=PATH: files of weights of extractors, and of lpips-vgg and lpips-linear
    fetch: bool = False  # whether missing weights of extractors may be downloaded
    preprocess: str | None = None  # name of a way to resize (eval.features.preprocess); None: each network's own
    precision: str = "fp32"  # of the network: fp32, tf32 (on a GPU) or bf16
    backend: str = "torch"  # what runs the network: torch, onnxruntime or openvino
    batch_size: int = 16  # images

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise RequestError(f"`batch_size` must be at least 1; got {self.batch_size} instead")


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest(FeatureRequest):
    """How images are evaluated against a dataset. Raises RequestError for values out of range."""

    metrics: tuple[str, ...] = ()  # names of eval.metric_registry; (): those of eval.suite
    num_images: int | None = None  # images to evaluate; None: 10,000 of a snapshot, all of a folder or ZIP
    seed: int = 0  # of a snapshot's first image; of the draw from a folder or ZIP
    cuda_graphs: bool = False  # make each batch of a snapshot's images as a CUDA graph, where that is possible
    truncation_psi: float = 1.0  # of a snapshot; below 1: more typical and less varied images
    dims: int | None = None  # principal components of the dataset's features to measure in; None: all features
    strata: str | None = None  # column to report by as well: label, style, genre or artist; None: none
    ppl_space: str = "w"  # latent space of path length: w or z
    ppl_sampling: str = "end"  # where on its path a step is measured: end or full
    ppl_crop: bool = False  # path length only where aligned portraits have the face
    require: tuple[str, ...] = ()  # bounds that results must keep, such as "fid<20"
    rejection: Mapping[str, Any] | None = None  # options of eval.accepted_samples.accept; None: no rejection
    overwrite: bool = False  # whether results of another request are replaced

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_images is not None and self.num_images < 1:
            raise RequestError(f"`num_images` must be at least 1; got {self.num_images} instead")
        if self.dims is not None and self.dims < 1:
            raise RequestError(f"`dims` must be at least 1; got {self.dims} instead")
        for name, value, known in (
            ("ppl_space", self.ppl_space, SPACES),
            ("ppl_sampling", self.ppl_sampling, SAMPLINGS),
        ):
            if value not in known:
                raise RequestError(f"`{name}` must be one of {', '.join(known)}; got {value} instead")


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """At which settings a generator is evaluated. Raises RequestError for values out of range."""

    psi: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # truncations
    budget: tuple[int, ...] = (1,)  # candidates an image; 1: no rejection

    def __post_init__(self) -> None:
        if not self.psi or len(set(self.psi)) < len(self.psi) or not all(-2 <= psi <= 2 for psi in self.psi):
            raise RequestError(f"`psi` must be different numbers from -2 to 2; got {list(self.psi)} instead")
        if not self.budget or len(set(self.budget)) < len(self.budget) or min(self.budget) < 1:
            raise RequestError(f"`budget` must be different whole numbers from 1 up; got {list(self.budget)} instead")


@dataclass(frozen=True, kw_only=True)
class NoveltyRequest(FeatureRequest):
    """How generated images are compared with the training images. Raises RequestError for values out of range."""

    views: str = "crops"  # in which training images are compared too: original, flips, or crops with their flips
    num_images: int | None = None  # generated images; None: 10,000 of a snapshot, all of a folder or ZIP
    seed: int = 0  # of a snapshot's first image; of the draw from a folder or ZIP
    truncation_psi: float = 1.0  # of a snapshot; below 1: more typical and less varied images
    strata: str | None = None  # column of the training images to report by: label, style, genre or artist; None: none
    num_pairs: int = 48  # generated images shown beside the training image that each is nearest to
    overwrite: bool = False  # whether results of another request are replaced

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_images is not None and self.num_images < 1:
            raise RequestError(f"`num_images` must be at least 1; got {self.num_images} instead")
        if self.views not in VIEWS:
            raise RequestError(f"`views` must be one of {', '.join(VIEWS)}; got {self.views} instead")


@dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """What is compared: evaluations, runs and snapshots one by one, or groups of trainings.

    Raises RequestError when neither or both are given, and for groups that are not at least two of different names,
    each of different paths.
    """

    evaluated: tuple[Path, ...] = ()  # results of evaluations, runs (of which all snapshots count) and snapshots
    groups: tuple[str, ...] = ()  # NAME=PATH,PATH,...: trainings of one kind each; of a run the newest snapshot counts
    data: Path | None = None  # dataset to evaluate snapshots against; None: there are none
    out: Path | None = None  # folder of comparison, report, and what is evaluated now; None: there is only a printout

    def __post_init__(self) -> None:
        if bool(self.evaluated) == bool(self.groups):
            got = "both" if self.groups else "neither"
            raise RequestError(f"`evaluated` or `group` must say what to compare, one of the two; got {got}")
        if self.groups and len(self.members) < 2:
            raise RequestError(f"`group` must be given twice or more, to compare groups; got {self.groups[0]} alone")

    @property
    def members(self) -> dict[str, tuple[Path, ...]]:
        """Each group's paths, by its name."""
        groups: dict[str, tuple[Path, ...]] = {}
        for text in self.groups:
            name, sign, paths = text.partition("=")
            parts = tuple(path.strip() for path in paths.split(","))
            if not sign or not name.strip() or not all(parts):
                raise RequestError(f"`group` must be NAME=PATH,PATH,...; got {text} instead")
            if name.strip() in groups:
                raise RequestError(f"`group` must have names that differ; got {name.strip()} twice")
            groups[name.strip()] = tuple(map(Path, parts))
        return groups


@dataclass(frozen=True, kw_only=True)
class WidthsRequest:
    """Which widths of a run's average to evaluate. Raises RequestError for fewer than two, or one that comes twice."""

    run: Path  # of salon train, with `post_hoc_ema`
    data: Path  # dataset to evaluate against
    out: Path  # folder of a snapshot and an evaluation of each, of comparison and report
    widths: tuple[float, ...] = (0.04, 0.05, 0.07, 0.1, 0.13, 0.15)  # sigma_rel, as a share of the training

    def __post_init__(self) -> None:
        if len(set(self.widths)) < 2 or len(set(self.widths)) < len(self.widths):
            raise RequestError(f"`widths` must be two or more that differ; got {', '.join(map(str, self.widths))}")


@dataclass(frozen=True, kw_only=True)
class RejectionOptions:
    """How images are rejected, and what the discriminator is calibrated on; None: not given."""

    reject: str | None = None  # drs, mh or obrs
    budget: int | None = None  # candidates an accepted image
    calibration: str | None = None  # platt, isotonic or none
    burn_in: int | None = None  # generated images to calibrate on
    gamma: float | None = None  # of drs
    gamma_percentile: float | None = None  # of drs, per cent
    calibration_data: Path | None = None  # dataset to calibrate on; None: that of the evaluation


@dataclass(frozen=True, kw_only=True)
class BlindRequest:
    """A blind test of generated pictures by people. Raises RequestError for values out of range."""

    out: Path  # folder of the answers
    images: Path | None = None  # generated pictures; None: only the results of `out` are asked for
    data: Path | None = None  # real pictures
    results: bool = False  # whether only the results of `out` are told
    pairs: bool = False  # two pictures at a time, of which one is real, instead of one
    count: int = 50  # real pictures, and as many generated ones, that each judge is asked about
    size: int | None = None  # pixels of a side at which all are shown; None: that of the smallest, 512 at most
    seed: int = 0  # of the choice of pictures and of their order
    feedback: bool = False  # whether judges are told at the end how many of their answers are right
    host: str = "127.0.0.1"  # address to listen on
    port: int = 0  # to listen on; 0: any that is free
    allow_host: tuple[str, ...] = ()  # further host names that requests may be for

    def __post_init__(self) -> None:
        check_host_names(self.allow_host)
        if self.count < 1:
            raise RequestError(f"`count` must be at least 1; got {self.count} instead")
        if not self.results and (self.images is None or self.data is None):
            raise RequestError(
                "`images` and `data` must name generated and real pictures, unless `results` is asked for"
            )
