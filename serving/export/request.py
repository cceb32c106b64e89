"""What `salon export` takes. `--help` loads it: nothing heavy here."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError
from serving.contract import DEFAULT_NAME, MAX_BATCH

OPSET = 20  # of ONNX
OLDEST_OPSET = 15  # into which a classifier can be converted


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A version of a snapshot's models, for a model repository; or a look at its versions, or one of them again."""

    out: Path  # the model repository
    snapshot: Path | None = None  # a snapshot, a run, or a folder of runs; None: with `list_versions` and `rollback`
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
        modes = {"snapshot": self.snapshot, "list_versions": self.list_versions or None, "rollback": self.rollback}
        if sum(value is not None for value in modes.values()) != 1:
            raise RequestError("one of `snapshot`, `list_versions` and `rollback` must be given, and only one")
        if not OLDEST_OPSET <= self.opset <= OPSET:
            raise RequestError(f"`opset` must be from {OLDEST_OPSET} to {OPSET}; got {self.opset} instead")
        if self.tensorrt and self.backend != "onnxruntime":
            raise RequestError(f"`tensorrt` needs `backend` onnxruntime; got `backend` {self.backend} instead")

    @property
    def kinds(self) -> list[str] | None:
        """`models` as a list of kinds."""
        return None if self.models is None else [kind.strip() for kind in self.models.split(",")]
