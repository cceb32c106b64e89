"""Configs of the networks and of training, and their presets. A config is checked when it is made."""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gan.errors import RequestError
from gan.image_shape import RESOLUTIONS, SQUARE, Base, ImageShape, base_of

MAX_SEED = 2**32 - 1  # that every generator of random numbers takes
MAX_BATCH = 4096  # images an iteration
NOISE_MODES = ("const", "random", "none")  # noise inputs of the generator: stored, drawn, or without
PRECISIONS = ("fp32", "bf16", "fp16")
FROM_WEIGHTS = {"ema_rampup": None, "ada_kimg": 100.0}  # of a run that starts from trained networks, as the reference
FP16_CLAMP = 256.0  # conv_clamp of new networks in fp16 (Karras et al. 2020, ADA, appendix)
OF_DATASET = ("resolution", "base", "image_channels", "num_classes")  # fields of networks that follow from the images
AUGMENTS = ("none", "ada", "fixed", "diffaugment")
# Presets of the stages of gan.augment.pipeline (Karras et al. 2020, ADA, figure 4), each in the order of application.
AUGMENT_CATEGORIES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("blit", "geom", "color", "filter", "noise", "cutout")},
    "bg": ("blit", "geom"),
    "bgc": ("blit", "geom", "color"),
    "bgcf": ("blit", "geom", "color", "filter"),
    "bgcfn": ("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": ("blit", "geom", "color", "filter", "noise", "cutout"),
}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The shape of generator and discriminator."""

    resolution: int  # pixels of four cells of the base, a power of two, 8..1024: the side of square images
    num_classes: int = 0  # 0: unconditional
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    D_mapping_layers: int | None = None  # layers that map the classes for the discriminator; None: mapping_layers
    channel_base: int = 16384  # channels at a resolution: channel_base / resolution, at most channel_max
    channel_max: int = 512
    mbstd_group_size: int | None = 4  # images a group in the minibatch standard deviation; None: the whole batch
    conv_clamp: float | None = None  # largest magnitude of activations, before a branch's gain; None: no limit
    base: Base = SQUARE  # cells across and down of G's constant, 2..8 each; images are resolution / 4 times as large
    image_channels: int = 3  # 1 grey, 3 RGB, 4 RGBA

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", tuple(self.base))  # of JSON it is a list
        if self.resolution not in RESOLUTIONS:
            raise RequestError(f"`resolution` must be a power of two from 8 to 1024; got {self.resolution} instead")
        for name in ("z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max"):
            _require(name, getattr(self, name), 1)
        if self.mbstd_group_size is not None:
            _require("mbstd_group_size", self.mbstd_group_size, 1)
        _require("num_classes", self.num_classes, 0)
        if self.D_mapping_layers is not None:
            _require("D_mapping_layers", self.D_mapping_layers, 0)
        if self.conv_clamp is not None and not 0 < self.conv_clamp < float("inf"):
            raise RequestError(f"`conv_clamp` must be above 0 and finite; got {self.conv_clamp} instead")
        if self.channel_base < self.resolution:
            raise RequestError(f"`channel_base` must be at least the resolution {self.resolution}")
        if base_of(*self.shape.size) != (self.base, self.resolution):
            raise RequestError(f"`base` must be {base_of(*self.shape.size)[0]}; got {self.base} instead")

    @property
    def shape(self) -> ImageShape:
        """Of the images."""
        scale = self.resolution // 4
        return ImageShape(self.base[0] * scale, self.base[1] * scale, self.image_channels)

    def grid(self, resolution: int) -> tuple[int, int]:
        """Height and width in pixels of the features at a resolution."""
        return self.base[1] * resolution // 4, self.base[0] * resolution // 4

    def resolutions(self) -> list[int]:
        """Resolutions of the blocks: 4, 8, ... up to the image's."""
        return [2**k for k in range(2, self.resolution.bit_length())]

    def channels(self, resolution: int) -> int:
        """Feature channels at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    def group_size(self, batch: int) -> int:
        """Images a group in the minibatch standard deviation of a batch of so many images."""
        return batch if self.mbstd_group_size is None else min(self.mbstd_group_size, batch)

    @property
    def num_ws(self) -> int:
        """Number of w vectors that the synthesis network takes."""
        return 2 * len(self.resolutions())


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """All that decides the outcome of a run. Two runs with equal configs on equal machines end with equal weights."""

    network: NetworkConfig
    dataset: str  # fingerprint
    manifest: str | None = None  # hash; None: every image of the dataset
    preset: str = "auto"  # the preset that the values came from
    seed: int = 0
    batch_size: int = 32  # images an iteration, over all devices
    learning_rate: float = 0.0025  # Adam's, before the correction for lazy regularisation
    beta1: float = 0.0
    beta2: float = 0.99
    r1_gamma: float | None = None  # weight of R1; None: 0.0002 * width * height / batch_size
    r1_interval: int = 16  # iterations between R1 steps
    pl_weight: float = 2.0  # weight of path length regularisation; 0: off
    pl_interval: int = 4  # iterations between path length steps
    pl_batch_shrink: int = 2  # path length steps use batch_size / pl_batch_shrink images
    pl_decay: float = 0.01  # of the running mean path length
    style_mixing_prob: float = 0.9
    ema_kimg: float = 10.0  # half-life of the weights' moving average, thousands of images
    ema_rampup: float | None = 0.05  # half-life is at most this share of the images seen; None: no ramp-up
    freeze_d: int = 0  # resolution blocks of D, from the image on, that do not learn (Mo et al. 2020)
    precision: str = "fp32"  # of features and convolutions: fp32, bf16 or fp16 (see gan.networks.precision)
    mirror: bool = False  # flip real images horizontally with probability 1/2
    augment: str = "none"  # of what D sees: none, ada (p adapts), fixed (p stays), diffaugment
    augment_categories: str = "bgc"  # with ada and fixed: blit, geom, color, filter, noise, cutout, bg, ..., bgcfnc
    augment_p: float = 0.0  # probability of each augmentation: with fixed always, with ada at the start
    ada_target: float = 0.6  # r_t that ada holds: mean sign of D's logits of real images
    ada_interval: int = 4  # iterations between ada's adjustments of p
    ada_kimg: float = 500.0  # thousands of images in which ada moves p from 0 to 1 at most
    resume_from: str | None = None  # SHA-256 of the checkpoint or snapshot that training starts from
    transfer: bool = False  # resume_from may be of another architecture: what fits is taken
    resume_kimg: float | None = None  # count of images to start from, in thousands; None: as in resume_from, else 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "r1_interval", "pl_interval", "pl_batch_shrink", "ada_interval"):
            _require(name, getattr(self, name), 1)
        if self.r1_gamma is None:
            # The heuristic of Karras et al. 2020 (ADA), appendix.
            object.__setattr__(self, "r1_gamma", 0.0002 * self.network.shape.area / self.batch_size)
        for name in ("seed", "r1_gamma", "pl_weight", "ema_kimg", "learning_rate", "freeze_d"):
            _require(name, getattr(self, name), 0)
        for name, most in (("seed", MAX_SEED), ("batch_size", MAX_BATCH)):
            if getattr(self, name) > most:
                raise RequestError(f"`{name}` must be at most {most}; got {getattr(self, name)} instead")
        if not 0 <= self.style_mixing_prob <= 1:
            raise RequestError(f"`style_mixing_prob` must be in [0, 1]; got {self.style_mixing_prob} instead")
        _choose("precision", self.precision, PRECISIONS)
        self._check_augmentation()
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise RequestError(f"`{name}` must be in [0, 1); got {getattr(self, name)} instead")
        if self.freeze_d > (blocks := len(self.network.resolutions()) - 1):
            raise RequestError(
                f"`freeze_d` must be at most {blocks}, D's blocks above 4x4; got {self.freeze_d} instead"
            )
        group = self.network.group_size(self.batch_size)
        if self.batch_size % group:
            raise RequestError(
                f"`batch_size` must be a multiple of mbstd_group_size, {group}; got {self.batch_size} instead"
            )

    def _check_augmentation(self) -> None:
        _choose("augment", self.augment, AUGMENTS)
        _choose("augment_categories", self.augment_categories, AUGMENT_CATEGORIES)
        if not 0 <= self.augment_p <= 1:
            raise RequestError(f"`augment_p` must be in [0, 1]; got {self.augment_p} instead")
        if self.augment_p and self.augment not in ("ada", "fixed"):
            raise RequestError(f"`augment_p` needs `augment` ada or fixed; got `augment` {self.augment} instead")
        if self.augment == "fixed" and not self.augment_p:
            raise RequestError("`augment` fixed needs `augment_p` above 0")
        if not -1 <= self.ada_target <= 1:
            raise RequestError(f"`ada_target` must be in [-1, 1]; got {self.ada_target} instead")
        if not self.ada_kimg > 0:
            raise RequestError(f"`ada_kimg` must be above 0; got {self.ada_kimg} instead")

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON and checkpoints. The shape of images is in it where they are not square RGB."""
        values = dataclasses.asdict(self)
        network = values["network"]
        for name, usual in (("base", SQUARE), ("image_channels", 3)):
            if network[name] == usual:
                del network[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingConfig":
        """The inverse of to_dict. Raises RequestError for the config of another version."""
        try:
            return cls(**{**values, "network": NetworkConfig(**values["network"])})
        except (TypeError, KeyError) as error:
            raise RequestError(f"the config must be one of this version of Salon: {error}") from error

    def differences(self, other: "TrainingConfig") -> list[str]:
        """The fields that differ, as "name here, value there", for messages."""
        mine, others = (_flat(dataclasses.asdict(config)) for config in (self, other))
        return [f"{name} is {mine[name]}, not {others[name]}" for name in mine if mine[name] != others[name]]

    def digest(self) -> str:
        """Eight hexadecimal digits that differ when any value does; a new field with its default changes none."""
        defaults = {f.name: f.default for part in (NetworkConfig, type(self)) for f in dataclasses.fields(part)}
        chosen = {name: value for name, value in _flat(dataclasses.asdict(self)).items() if value != defaults[name]}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}  # of fields, in messages
_CONFIG_F = {"channel_base": 32768, "learning_rate": 0.002, "r1_gamma": 10.0, "ema_rampup": None}
_PAPER256 = {"batch_size": 64, "mbstd_group_size": 8, "r1_gamma": 1.0, "ema_kimg": 20.0, "ema_rampup": None}
# Values that differ from the defaults above. auto and tiny follow the resolution; the others have the values that were
# published under their names (docs/guide/train.md).
PRESETS: dict[str, dict[str, Any]] = {
    "auto": {},  # see _auto
    "config-f": _CONFIG_F,
    "paper256": _PAPER256,
    "paper512": {**_PAPER256, "channel_base": 32768, "r1_gamma": 0.5},
    "paper1024": {**_CONFIG_F, "r1_gamma": 2.0},
    "tiny": {
        "channel_base": 1024,
        "channel_max": 64,
        "z_dim": 64,
        "w_dim": 64,
        "mapping_layers": 4,
        "batch_size": 16,
        "ema_kimg": 2.0,
    },
}


def make_config(
    *, preset: str, shape: ImageShape, num_classes: int, dataset: str, overrides: dict[str, Any], **origin: Any
) -> TrainingConfig:
    """A preset's config for a dataset, with any field of either dataclass overridden. fp16 brings a conv_clamp.

    `origin` holds the manifest, resume_from and resume_kimg of TrainingConfig.
    Raises RequestError for an unknown preset or field, a value out of range, or a shape that networks do not have.
    """
    if preset not in PRESETS:
        raise RequestError(f"`preset` must be one of {', '.join(PRESETS)}; got {preset} instead")
    base, resolution = base_of(*shape.size)
    values = {**(_auto(resolution) if preset == "auto" else PRESETS[preset]), **overrides}
    if values.get("precision") == "fp16":
        values.setdefault("conv_clamp", FP16_CLAMP)
    unknown = sorted(set(values) - set(field_types()))
    if unknown:
        raise RequestError(f"`overrides` must name one of {', '.join(sorted(field_types()))}; got {unknown[0]} instead")
    network_fields = {f.name for f in dataclasses.fields(NetworkConfig)}
    network = NetworkConfig(
        resolution=resolution,
        base=base,
        image_channels=shape.channels,
        num_classes=num_classes,
        **{name: value for name, value in values.items() if name in network_fields},
    )
    rest = {name: value for name, value in values.items() if name not in network_fields}
    return TrainingConfig(network=network, dataset=dataset, preset=preset, **origin, **rest)


def field_types() -> dict[str, Any]:
    """Name -> type of every field that may be overridden."""
    given_otherwise = {*OF_DATASET, "network", "dataset", "manifest", "preset"}
    given_otherwise |= {"resume_from", "resume_kimg", "transfer"}
    hints = {**typing.get_type_hints(NetworkConfig), **typing.get_type_hints(TrainingConfig)}
    return {name: kind for name, kind in hints.items() if name not in given_otherwise}


def parse_override(text: str) -> tuple[str, Any]:
    """FIELD=VALUE -> the field and its value in the field's type; "none" where the field may be None.

    Raises RequestError when the field is unknown or the value does not fit.
    """
    name, equals, value = text.partition("=")
    kinds = field_types()
    if not equals or name not in kinds:
        raise RequestError(f"`overrides` must be FIELD=VALUE; got {text} instead{_field_meant(name, kinds)}")
    options = typing.get_args(kinds[name]) if isinstance(kinds[name], types.UnionType) else (kinds[name],)
    if value.lower() == "none" and type(None) in options:
        return name, None
    kind = options[0]
    try:
        if kind is bool:
            return name, {"true": True, "false": False}[value.lower()]
        return name, kind(value)
    except (ValueError, KeyError) as error:
        raise RequestError(f"`overrides` {name} must be {_KINDS[kind]}; got {value!r} instead") from error


def _field_meant(name: str, kinds: Mapping[str, Any]) -> str:
    # What to say to somebody who named a field that is none, or that follows from elsewhere.
    if name in OF_DATASET:
        return f": {name} comes from `data`"
    if close := difflib.get_close_matches(name.replace("-", "_"), kinds, n=1):
        return f". Did you mean {close[0]}?"
    return f". The fields are {', '.join(sorted(kinds))}"


def _auto(resolution: int) -> dict[str, Any]:
    # The heuristics of Karras et al. 2020 (ADA) for one device.
    batch_size = min(max(4096 // resolution, 1), 32)
    return {
        "mapping_layers": 2,
        "channel_base": 32768 if resolution >= 512 else 16384,
        "batch_size": batch_size,
        "learning_rate": 0.002 if resolution >= 1024 else 0.0025,
        "ema_kimg": batch_size * 10 / 32,
    }


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    return {**values["network"], **{name: value for name, value in values.items() if name != "network"}}


def _choose(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise RequestError(f"`{name}` must be one of {', '.join(choices)}; got {value} instead")


def _require(name: str, value: float, minimum: int) -> None:
    if not value >= minimum:
        raise RequestError(f"`{name}` must be at least {minimum}; got {value} instead")
