"""What a training was asked for, and resolved: the config, the dataset with the images to learn from, the start."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan.config import FROM_WEIGHTS, TrainingConfig, make_config, parse_override
from gan.errors import RequestError
from gan.runtime.files import refuse_existing, refuse_inside

if TYPE_CHECKING:
    import torch

    from gan.data.collection import Collection  # heavy: a command's --help starts without it

DATA_ON_DEVICE = ("auto", "yes", "no")
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
    precision: str = "auto"  # auto: bf16 on GPUs that compute it fast, fp16 on those with that alone, else fp32
    freeze_d: int | None = None
    augment: str = "auto"  # auto: ada for few images, else none (see gan.training.defaults)
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
        refuse_inside(self.out, self.data, parameter="data")
        if self.metrics == "none" and (self.metrics_budget or self.metrics_weights):
            raise RequestError(f"`metrics_{'budget' if self.metrics_budget else 'weights'}` needs `metrics`")
        if self.resume_kimg is not None and self.resume in ("auto", "never") and self.transfer is None:
            raise RequestError("`resume_kimg` needs `resume` FILE or `transfer` FILE")

    def fields(self) -> dict[str, Any]:
        """The fields of the config that are set, by name. Raises RequestError for overrides that fit no field."""
        own = {name: value for name in FIELDS if (value := getattr(self, name)) not in (None, "auto")}
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
    workers: int | None = None  # processes that load images; 0: none; None: as many as keep up
    data_on_device: str = "auto"  # where the pixels lie: yes, no, or auto (see gan.data.device_images.wanted)
    wandb: str | None = None  # project of W&B to log to; None: not there
    cache: bool = False  # keep decoded pixels in a memory map
    cuda_graphs: bool = False  # run each phase of an iteration as a CUDA graph, where that is possible
    post_hoc_ema: bool = False  # keep what averages of any width are made of afterwards (gan.training.power_averages)
    deterministic: bool = False  # the same bits in every run on a GPU, which is slower; a CPU's always are

    def __post_init__(self) -> None:
        if self.data_on_device not in DATA_ON_DEVICE:
            choices = ", ".join(DATA_ON_DEVICE)
            raise RequestError(f"`data_on_device` must be one of {choices}; got {self.data_on_device} instead")

    @property
    def total_nimg(self) -> int:
        """Length of the run in images."""
        return int(self.total_kimg * 1000)


@dataclass(frozen=True, kw_only=True)
class AverageRequest:
    """A width in which to average a run's generator after training.

    Raises RequestError when `out` is no name of a snapshot, or exists and may not be replaced.
    """

    run: Path  # trained with `post_hoc_ema`
    width: float  # sigma_rel: standard deviation of the weights over time, as a share of the training
    out: Path  # snapshot to write
    overwrite: bool = False  # whether `out` may be replaced

    def __post_init__(self) -> None:
        if self.out.suffix != ".safetensors":
            raise RequestError(f"`out` must end in .safetensors; got {self.out} instead")
        refuse_existing([self.out], self.overwrite)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What there is to train."""

    config: TrainingConfig
    collection: "Collection"  # the dataset and the images to learn from
    start: Path | None  # checkpoint or snapshot to start from; None: anew
    chosen: dict[str, str]  # the fields that "auto" decided -> value and reason, for people
    run: Path  # folder of the run, which need not exist

    def class_note(self) -> str | None:
        """What a person may not expect of the classes: that labels are not learned, or that classes have no image."""
        dataset, kept = self.collection.dataset, self.collection.kept
        if not self.config.network.num_classes:
            unused = f"Its labels, of {dataset.num_classes} classes, are not learned: `conditional` learns them"
            return unused if dataset.num_classes > 1 else None
        labels = set() if dataset.labels is None else set(dataset.labels[kept].tolist())
        empty = [dataset.class_name(index) for index in range(dataset.num_classes) if index not in labels]
        shown = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
        return f"{len(empty)} of {dataset.num_classes} classes have no image to learn from: {shown}" if empty else None


def resolve(request: TrainingRequest, device: "torch.device | None" = None) -> Training:
    """Open and hash what a request names, and make the config of it, for training on `device` (None: a CPU).

    Raises RequestError where its parts contradict one another or the data.
    """
    from gan.data.collection import Collection
    from gan.runtime import files
    from gan.training import defaults
    from gan.training.start import architecture_of, find_start

    lost = _lost_start(request)
    start = None if lost else find_start(request.resume, request.transfer)
    fields = request.fields()
    collection = Collection.open(request.data, request.manifest, beside=False)
    dataset = collection.dataset
    if request.conditional and dataset.labels is None:
        raise RequestError(f"`conditional` needs labels; {request.data} has none: prepare it with labels")
    collection.require_kept()
    if "ada_target" in fields:
        fields.setdefault("augment", "ada")
    elif fields.get("augment_p") and "augment" not in fields:
        raise RequestError("`augment_p` needs `augment` ada or fixed; got `augment` auto instead")
    automatic = [name for name in ("precision", "augment") if name not in fields]
    chosen = defaults.choose(automatic, len(collection.kept), device)
    values = {name: value for name, (value, _) in chosen.items()}
    networks = architecture_of(start) if start else {}
    resume_from = files.sha256(start) if start else None

    def config_of(values: dict[str, Any], first_version: bool, from_weights: bool | None = None) -> TrainingConfig:
        from_weights = start is not None if from_weights is None else from_weights
        given = networks | FROM_WEIGHTS if from_weights else {}
        if first_version:
            given = {name: given[name] for name in ("conv_clamp",) if name in given}
            given |= defaults.FIRST_PRESETS.get(request.preset, {})
        return make_config(
            preset=request.preset,
            shape=dataset.shape,
            num_classes=dataset.num_classes if request.conditional else 0,
            dataset=collection.fingerprint,
            overrides=given | values | fields,
            manifest=collection.selection,
            resume_from=resume_from,
            transfer=request.transfer is not None,
            resume_kimg=request.resume_kimg,
        )

    config = config_of(values, False)
    if "ada_target" in fields and config.augment != "ada":
        raise RequestError("`ada_target` needs `augment` ada")
    reasons = {name: f"{value}, {reason}" for name, (value, reason) in chosen.items()}
    begun = _begun(request, lost, config_of, automatic, fields)
    if begun:
        path, kept = begun
        start = None
    elif request.resume == "never":
        path, kept = _path_of(request, config, new=True), config
    else:
        kept = defaults.of_run(config_of, values, lambda one: _path_of(request, one))
        path = _path_of(request, kept)
    if request.resume != "never":
        for name in automatic:
            if getattr(kept, name) != getattr(config, name):
                reasons[name] = f"{getattr(kept, name)}, as the run began"
        config = kept
    return Training(config=config, collection=collection, start=start, chosen=reasons, run=path)


def _path_of(request: TrainingRequest, config: TrainingConfig, *, new: bool = False) -> Path:
    from gan.training import run_dir

    if request.name or new:
        return request.out / (request.name or run_dir.default_name(request.data, config))
    return run_dir.find(request.out, request.data, config)


def _lost_start(request: TrainingRequest) -> Path | None:
    # The file or run to start from, where it is named and is not there.
    named = request.transfer or (None if request.resume in ("auto", "never") else Path(request.resume))
    return named if named is not None and not named.exists() else None


def _begun(
    request: TrainingRequest,
    lost: Path | None,
    config_of: Callable[[dict[str, Any], bool, bool], TrainingConfig],
    automatic: Sequence[str],
    fields: Mapping[str, Any],
) -> tuple[Path, TrainingConfig] | None:
    """The run that goes on without the file that it began from, and its config; None where that file counts.

    That is the named run; the one that `resume` names, in `out`; or the one that began from a file which is gone.
    Raises RequestError for such a file where no run did.
    """
    from gan.runtime.console import say
    from gan.training.run_dir import Run, goes_on, held_config
    from gan.training.start import find_start

    resumed = Path(request.resume)
    if request.resume == "never" or (request.transfer and not lost):
        paths = []
    elif request.name and (
        lost or request.resume == "auto" or resumed.resolve() == (request.out / request.name).resolve()
    ):
        paths = [request.out / request.name]
    elif lost:
        paths = [file.parent for file in sorted(request.out.glob("*/start.json")) if Run(file.parent).began_from(lost)]
    else:
        paths = [resumed] if not request.name and resumed.resolve().parent == request.out.resolve() else []
    for path in paths:
        held = held_config(path)
        if held is None:
            continue
        values, from_weights = {name: getattr(held, name) for name in automatic}, held.resume_from is not None
        configs = (config_of(values, first_version, from_weights) for first_version in (False, True))
        if any(goes_on(held, config, fields) for config in configs):
            if lost:
                say(f"{lost} is gone; {path}, which began from it, goes on")
            return path, held
    if lost:
        find_start(request.resume, request.transfer)  # says that it does not exist
    return None
