"""What `salon export` takes. `--help` loads it: nothing heavy here."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError
from serving.contract import DEFAULT_NAME, MAX_BATCH


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A version of a snapshot's models, for a model repository."""

    snapshot: Path  # a snapshot, a run, or a folder of runs
    out: Path  # the model repository
    name: str = DEFAULT_NAME  # of this generator in the repository
    backend: str = "python"  # of the server: python or onnxruntime
    classifier: Path | None = None  # ONNX file of a style classifier
    models: str | None = None  # kinds such as "generator,mapping"; None: all that can be had
    precision: str = "fp32"  # of the generator's features and convolutions: fp32 or fp16
    max_batch: int = MAX_BATCH  # images in one request at most
    instances: int = 1  # of each model, on each device
    tensorrt: bool = False  # whether ONNX Runtime uses TensorRT
    response_cache: bool = False  # whether a server that has a cache keeps answers

    def __post_init__(self) -> None:
        if self.tensorrt and self.backend != "onnxruntime":
            raise RequestError(f"`tensorrt` needs `backend` onnxruntime; got `backend` {self.backend} instead")

    @property
    def kinds(self) -> list[str] | None:
        """`models` as a list of kinds."""
        return None if self.models is None else [kind.strip() for kind in self.models.split(",")]
