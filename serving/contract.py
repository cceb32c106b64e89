"""The contract of exporter, server and client: kinds of models, their tensors, and their metadata. It imports nothing
that a client lacks.

Axis legend: N batch, L layers (num_ws), K styles, H and W height and width; -1 is free.
"""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan.errors import RequestError
from gan.image_shape import ImageShape

FORMAT = "salon-serving-1"
MAX_BATCH = 16  # images a request
DEFAULT_NAME = "generator"
DEFAULT_URL = "grpc://127.0.0.1:8001"  # of the server
CLASSIFIER = "style_classifier"
PARAMETER = "salon"  # of config.pbtxt and of ONNX metadata: where a model's ModelMetadata lies
LIMITS = "limits"  # parameter of config.pbtxt: limits() as JSON
VERSIONS = "versions"  # parameter of config.pbtxt: the versions that are served, version -> ModelMetadata, as JSON
# Parameter of a mapping's config.pbtxt, where it has any: version -> the file of its directions in base64, as JSON.
DIRECTIONS = "directions"
DIRECTIONS_FILE = "directions.npz"  # beside a mapping's graph
MAX_DIRECTIONS = 256 * 1024  # bytes of that file, which clients read with the description of the model
IMAGE_FORMATS = ("png", "jpeg", "webp")

PSI_RANGE = (-2.0, 2.0)  # of truncation_psi
Z_LIMIT = 100.0  # no draw of a normal comes near
W_LIMIT = 10_000.0


@dataclass(frozen=True)
class Tensor:
    """A named tensor; `dims` are those after the batch dimension, `dtype` is Triton's name, such as FP32."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Metadata of a model, as JSON in config.pbtxt's parameters and in ONNX files.

    A model of a generator, which is every one but the style classifier, has the four sizes, each above 0. Other fields
    are None or empty where a model has none.
    """

    kind: str  # one of KINDS
    generator: str | None = None  # name of the generator that it belongs to
    z_dim: int | None = None
    w_dim: int | None = None
    num_ws: int | None = None
    resolution: int | None = None  # pixels: the side of square images; of others see gan.config.NetworkConfig
    width: int | None = None  # pixels; None: the images are square
    height: int | None = None  # the same
    channels: int = 3  # 1 grey, 3 RGB, 4 RGBA
    num_classes: int = 0
    classes: list[str] = field(default_factory=list)  # names, where the dataset has them
    snapshot: str | None = None  # SHA-256 of the file that it was exported from
    cur_nimg: int | None = None
    styles: list[str] = field(default_factory=list)  # of a classifier, in the order of its probabilities
    card: dict[str, Any] = field(default_factory=dict)  # of a classifier: how it was trained and how often it errs
    directions: str | None = None  # of a mapping: SHA-256 of the file of directions that is served with it
    salon: str = ""  # version that exported it
    format: str = FORMAT
    # Of a served model, and not in the JSON, which is written before there are any.
    version: int | None = None
    max_batch: int = MAX_BATCH  # images a request

    def to_dict(self) -> dict[str, Any]:
        """What the JSON holds."""
        values = dataclasses.asdict(self)
        del values["version"], values["max_batch"]
        if self.width is None:
            del values["width"], values["height"]
        if self.channels == 3:
            del values["channels"]
        if self.directions is None:
            del values["directions"]
        return values

    @property
    def shape(self) -> ImageShape:
        """Of a generator's images."""
        return ImageShape(self.width or _size(self.resolution), self.height or _size(self.resolution), self.channels)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """The inverse of to_json. Raises ValueError for anything else, and for sizes that are missing."""
        values = json.loads(text)
        format = values.get("format") if isinstance(values, dict) else None
        if format != FORMAT:
            raise ValueError(f"must be a model in the format {FORMAT}; got {format} instead")
        try:
            metadata = cls(**values)
        except TypeError as error:
            raise ValueError(f"not the metadata of a model of Salon's: {error}") from error
        if metadata.kind not in KINDS:
            raise ValueError(f"must be one of {', '.join(KINDS)}; got {metadata.kind} instead")
        for name in () if metadata.kind == CLASSIFIER else SIZES:
            size = getattr(metadata, name)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} of a {metadata.kind} must be a whole number above 0; got {size} instead")
        for side in (metadata.width, metadata.height):
            if (side is None) != (metadata.width is None) or not (side is None or (isinstance(side, int) and side > 0)):
                raise ValueError(f"width and height must be whole numbers above 0; got {side} instead")
        if metadata.channels not in (1, 3, 4):
            raise ValueError(f"channels must be 1, 3 or 4; got {metadata.channels} instead")
        if not isinstance(metadata.directions, str | None):
            raise ValueError(f"directions must be a SHA-256; got {metadata.directions} instead")
        return metadata


def served_versions(text: str) -> dict[int, ModelMetadata]:
    """Versions of a model and what each is, of the parameter VERSIONS. Raises ValueError for anything else."""
    values = json.loads(text)
    if not isinstance(values, dict) or not values or not all(version.isdecimal() for version in values):
        raise ValueError(f"must be versions and their metadata; got {text[:100]} instead")
    return {
        int(version): dataclasses.replace(ModelMetadata.from_json(json.dumps(value)), version=int(version))
        for version, value in values.items()
    }


SIZES = ("z_dim", "w_dim", "num_ws", "resolution")  # of a generator, in the metadata of all its models
KINDS = (
    "generator",  # z -> image
    "mapping",  # z -> ws
    "synthesis",  # ws -> image
    "seed_to_png",  # seed -> an image file's bytes
    "discriminator",  # image -> logit
    "style_classifier",  # image -> probabilities
    "generate_and_score",  # z -> image and logit
    "generate_and_classify",  # z -> image and probabilities
)
ENSEMBLES = {  # -> the model that sees the generator's images
    "generate_and_score": "discriminator",
    "generate_and_classify": "style_classifier",
}


def model_name(kind: str, generator: str = DEFAULT_NAME) -> str:
    """The name under which the model of a kind is served: "mapping" for the default generator, else "people_mapping".

    There is one style_classifier in a repository, whatever the generators.
    """
    if kind == CLASSIFIER or generator == DEFAULT_NAME:
        return kind
    return generator if kind == "generator" else f"{generator}_{kind}"


def inputs(metadata: ModelMetadata) -> list[Tensor]:
    """Input tensors of a model."""
    psi = Tensor("truncation_psi", "FP32", (1,))
    label = [Tensor("label", "INT64", (1,))] if metadata.num_classes else []  # index of the class
    if metadata.kind in ("generator", "mapping", "generate_and_score", "generate_and_classify"):
        return [Tensor("z", "FP32", (_size(metadata.z_dim),)), psi, *label]
    if metadata.kind == "synthesis":
        return [Tensor("ws", "FP32", (_size(metadata.num_ws), _size(metadata.w_dim)))]
    if metadata.kind == "seed_to_png":
        optional = [dataclasses.replace(psi, optional=True), Tensor("format", "BYTES", (1,), optional=True)]
        return [Tensor("seed", "INT64", (1,)), *optional, *label]
    if metadata.kind == "discriminator":
        return [Tensor("image", "UINT8", metadata.shape.hwc), *label]
    return [Tensor("image", "UINT8", (-1, -1, 3))]  # style_classifier


def outputs(metadata: ModelMetadata) -> list[Tensor]:
    """Output tensors of a model."""
    if metadata.kind == "mapping":
        return [Tensor("ws", "FP32", (_size(metadata.num_ws), _size(metadata.w_dim)))]
    if metadata.kind == "seed_to_png":
        return [Tensor("file", "BYTES", (1,))]
    tensors = []
    if metadata.kind in ("generator", "synthesis", "generate_and_score", "generate_and_classify"):
        tensors.append(Tensor("image", "UINT8", metadata.shape.hwc))  # NHWC
    if metadata.kind in ("discriminator", "generate_and_score"):
        tensors.append(
            Tensor("logit", "FP32", (1,))
        )  # of one image by itself, as in gan.rejection.discriminator_logits
    if metadata.kind in ("style_classifier", "generate_and_classify"):
        tensors.append(Tensor("probabilities", "FP32", (len(metadata.styles),)))
    return tensors


def require_outputs(metadata: ModelMetadata, names: Sequence[str]) -> None:
    """Raise ValueError unless a request for the outputs `names` can be answered: Triton's ensembles give all or none.

    No names at all are a request for all outputs.
    """
    known = [tensor.name for tensor in outputs(metadata)]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"outputs must be some of {', '.join(known)}; got {unknown[0]} instead")
    if metadata.kind in ENSEMBLES and names and (missing := [name for name in known if name not in names]):
        raise ValueError(
            f"outputs of {metadata.kind} must be asked for together, {' and '.join(known)}, or by no name at all; "
            f"{missing[0]} is missing"
        )


def limits(metadata: ModelMetadata) -> dict[str, tuple[float, float]]:
    """Smallest and largest number that each input may hold; inputs of bytes are left out."""
    from gan.sampling.latents import MAX_SEED

    ranges = {
        "z": (-Z_LIMIT, Z_LIMIT),
        "ws": (-W_LIMIT, W_LIMIT),
        "truncation_psi": PSI_RANGE,
        "label": (0, metadata.num_classes - 1),
        "seed": (0, MAX_SEED),
    }
    return {tensor.name: ranges[tensor.name] for tensor in inputs(metadata) if tensor.name in ranges}


def directions_parameter(files: Mapping[int, bytes]) -> str:
    """The parameter DIRECTIONS, of the files of directions by version."""
    return json.dumps({version: base64.b64encode(content).decode() for version, content in files.items()})


def _size(size: int | None) -> int:
    assert size is not None  # as from_json makes sure
    return size


def read_token(file: Path) -> str:
    """The secret that clients send to a server, from a file. Raises RequestError, without a word of what it is."""
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise RequestError(f"`token_file` must be a file with a token; got {file} instead: {reason}") from error
    return check_token(token, f"`token_file` {file}")


def check_token(token: str, source: str) -> str:
    """`token` itself. Raises RequestError, which names its `source`, when it is none."""
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise RequestError(f"{source} must hold one token, of letters, digits and signs, and nothing else")
    return token
