"""What `salon export` takes. `--help` loads it: nothing heavy here."""

from dataclasses import dataclass, fields
from pathlib import Path

from gan.errors import RequestError
from serving.contract import DEFAULT_NAME, MAX_BATCH

OPSET = 20  # of ONNX
OLDEST_OPSET = 15  # into which a classifier can be converted
TRITON = "triton"
FILES = {"stylegan3-pkl": ".pkl", "rosinality": ".pt"}  # other forms -> what their files end in


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A version of a snapshot's models, for a model repository; or a look at its versions, or one of them again.

    Or the snapshot's weights as a file for other StyleGAN2 code.
    """

    out: Path  # the model repository, or the file
    snapshot: Path | None = None  # a snapshot, a run, or a folder of runs; None: with `list_versions` and `rollback`
    format: str = TRITON  # triton: models in a repository; else one of FILES
    overwrite: bool = False  # whether a file that is there is replaced
    list_versions: bool = False  # say which versions there are, and export nothing
    rollback: int | None = None  # publish this version again, as the newest, and export nothing
    name: str = DEFAULT_NAME  # of this generator in the repository
    backend: str = "python"  # of the server: python or onnxruntime
    classifier: Path | None = None  # ONNX file of a style classifier
    directions: Path | None = None  # file of the generator's directions, which clients are offered
    models: str | None = None  # kinds such as "generator,mapping"; None: all that can be had
    precision: str = "fp32"  # of the generator's features and convolutions: fp32 or fp16
    max_batch: int = MAX_BATCH  # images in one request at most
    instances: int = 1  # of each model, on each device
    opset: int = OPSET  # of ONNX
    tensorrt: bool = False  # whether ONNX Runtime uses TensorRT
    response_cache: bool = False  # whether a server that has a cache keeps answers

    def __post_init__(self) -> None:
        if self.format == TRITON:
            self._check_models()
        else:
            self._check_file()

    def _check_models(self) -> None:
        if self.overwrite:
            raise RequestError(f"`overwrite` needs `format` {' or '.join(FILES)}; in a repository a version is added")
        modes = {"snapshot": self.snapshot, "list_versions": self.list_versions or None, "rollback": self.rollback}
        if sum(value is not None for value in modes.values()) != 1:
            raise RequestError("one of `snapshot`, `list_versions` and `rollback` must be given, and only one")
        if not OLDEST_OPSET <= self.opset <= OPSET:
            raise RequestError(f"`opset` must be from {OLDEST_OPSET} to {OPSET}; got {self.opset} instead")
        if self.tensorrt and self.backend != "onnxruntime":
            raise RequestError(f"`tensorrt` needs `backend` onnxruntime; got `backend` {self.backend} instead")

    def _check_file(self) -> None:
        if self.format not in FILES:
            raise RequestError(f"`format` must be one of {', '.join((TRITON, *FILES))}; got {self.format} instead")
        for field in fields(self):
            own = field.name in ("out", "snapshot", "format", "overwrite")
            if not own and getattr(self, field.name) != field.default:
                raise RequestError(f"`{field.name}` is of models for Triton; `format` {self.format} has none")
        if self.snapshot is None:
            raise RequestError(f"`format` {self.format} needs `snapshot`: a snapshot, a run or a folder of runs")
        if self.out.suffix != FILES[self.format]:
            raise RequestError(f"`out` must end in {FILES[self.format]}; got {self.out} instead")

    @property
    def kinds(self) -> list[str] | None:
        """`models` as a list of kinds."""
        return None if self.models is None else [kind.strip() for kind in self.models.split(",")]
