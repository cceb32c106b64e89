"""What a training was asked for, and resolved: the config, the dataset with the images to learn from, the start."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan.config import TrainingConfig, make_config, parse_override
from gan.errors import RequestError

if TYPE_CHECKING:
    from gan.data.collection import Collection  # heavy: a command's --help starts without it

FIELDS = ("seed", "mirror", "batch_size", "r1_gamma", "precision", "freeze_d", "augment", "augment_p", "ada_target")


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What to train, from where, and into which folder; and the metrics to measure meanwhile."""

    data: Path  # the dataset
    out: Path  # folder of runs
    name: str | None = None  # of the run's folder in `out`; None: from dataset, preset and a digest of the config
    preset: str = "auto"  # of gan.config.PRESETS
    conditional: bool = False  # learn the dataset's classes
    manifest: Path | None = None  # only the images that it keeps; None: all of the dataset
    resume: str = "auto"  # auto: this run's newest checkpoint; never: a new run; else a file or run to start from
    transfer: Path | None = None  # start from weights of any architecture; None: do not
    resume_kimg: float | None = None  # count of images at the start, in thousands; None: as in the file
    # Fields of TrainingConfig; None: as in the preset.
    seed: int = 0
    mirror: bool = False
    batch_size: int | None = None
    r1_gamma: float | None = None
    precision: str | None = None
    freeze_d: int | None = None
    augment: str | None = None
    augment_p: float | None = None
    ada_target: float | None = None
    overrides: tuple[str, ...] = ()  # FIELD=VALUE, of any field of the config; they win
    metrics: str = "none"  # names of metrics of snapshots, with commas between them; none: no metrics
    metrics_budget: float | None = None  # most per cent of the time for them; None: 5
    metrics_weights: tuple[str, ...] = ()  # NAME=PATH of their extractors

    def __post_init__(self) -> None:
        if self.name is not None and (self.name in ("", ".", "..") or Path(self.name).name != self.name):
            raise RequestError(f"`name` must be the name of one folder in `out`; got {self.name!r} instead")
        if self.out.exists() and not self.out.is_dir():
            raise RequestError(f"`out` must be a folder of runs; got {self.out} instead, which is a file")
        if self.metrics == "none" and (self.metrics_budget or self.metrics_weights):
            raise RequestError(f"`metrics_{'budget' if self.metrics_budget else 'weights'}` needs `metrics`")
        if self.resume_kimg is not None and self.resume in ("auto", "never") and self.transfer is None:
            raise RequestError("`resume_kimg` needs `resume` FILE or `transfer` FILE")

    def fields(self) -> dict[str, Any]:
        """The fields of the config that are set, by name. Raises RequestError for overrides that fit no field."""
        own = {name: value for name in FIELDS if (value := getattr(self, name)) is not None}
        return own | dict(map(parse_override, self.overrides))


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a run is carried out; nothing here changes its weights."""

    total_kimg: float = 25_000  # length of the run, thousands of real images shown to D
    kimg_per_tick: float = 4  # a tick ends after so many, or after a minute
    image_snapshot_ticks: int = 0  # ticks between image grids; 0: by minutes alone
    image_snapshot_minutes: float = 5  # 0: by ticks alone
    network_snapshot_ticks: int = 0  # ticks between checkpoints with their snapshots; 0: by minutes alone
    network_snapshot_minutes: float = 15  # 0: by ticks alone
    keep: int = 3  # newest checkpoints and snapshots to keep; 0: all
    batch_gpu: int | None = None  # most images in a forward pass, on each process; None: its part of the batch
    workers: int = 1  # processes that load images; 0: none
    wandb: str | None = None  # project of W&B to log to; None: not there
    cache: bool = False  # keep decoded pixels in a memory map
    deterministic: bool = False  # the same bits in every run on a GPU, which is slower; a CPU's always are

    @property
    def total_nimg(self) -> int:
        """Length of the run in images."""
        return int(self.total_kimg * 1000)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What there is to train."""

    config: TrainingConfig
    collection: "Collection"  # the dataset and the images to learn from
    start: Path | None  # checkpoint or snapshot to start from; None: anew


def resolve(request: TrainingRequest) -> Training:
    """Open and hash what a request names, and make the config of it.

    Raises RequestError where its parts contradict one another or the data.
    """
    from gan.data.collection import Collection
    from gan.runtime import files
    from gan.training.start import find_start

    start = find_start(request.resume, request.transfer)
    fields = request.fields()
    collection = Collection.open(request.data, request.manifest, columns=(), beside=False)
    dataset = collection.dataset
    if request.conditional and dataset.labels is None:
        raise RequestError(f"`conditional` needs labels; {request.data} has none: prepare it with labels")
    collection.require_kept()
    config = make_config(
        preset=request.preset,
        resolution=dataset.resolution,
        num_classes=dataset.num_classes if request.conditional else 0,
        dataset=collection.fingerprint,
        overrides=fields,
        manifest=collection.selection,
        resume_from=files.sha256(start) if start else None,
        transfer=request.transfer is not None,
        resume_kimg=request.resume_kimg,
    )
    if "ada_target" in fields and config.augment != "ada":
        raise RequestError("`ada_target` needs `augment` ada")
    return Training(config=config, collection=collection, start=start)
