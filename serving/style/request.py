"""What `salon style train` and `salon style check` take. `--help` loads it: nothing heavy here."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class StyleTrainingRequest:
    """A style classifier: what it learns from, and how its errors are measured."""

    data: Path  # folders named by style, a ZIP of such, a dataset, or its manifest
    target: str  # style that checks will ask for
    out: Path  # file of the classifier, .onnx
    manifest: Path | None = None  # only images that it keeps, by its styles and artists; None: all images
    extractor: str = "efficientnet-lite0"  # name of the network that gives the features
    weights: Path | None = None  # file of its weights; None: where they are kept
    fetch: bool = False  # whether missing weights may be downloaded
    precision: str = "fp32"  # of the network in the graph: fp32, or int8, which is faster on CPUs
    group_by: str = "artist"  # what is held out together: all works of an artist, where known, or an image by itself
    seed: int = 0  # of the folds
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.out.suffix != ".onnx":
            raise RequestError(f"`out` must end in .onnx; got {self.out} instead")


@dataclass(frozen=True, kw_only=True)
class StyleCheckRequest:
    """Which images are checked, for which style, by which classifier."""

    images: Path | None = None  # folder or ZIP; None: the served generator's
    classifier: Path | None = None  # .onnx file; None: the served one
    target: str | None = None  # style; None: the one that the classifier was trained for
    num_images: int | None = None  # None: 256 generated ones, all of `images`
    seed: int = 0  # of the first image
    truncation_psi: float = 1.0
    label: str | None = None  # class, by index or name
    require: float | None = None  # least corrected rate that the interval's lower end must reach; None: none
    confidence: float = 0.95  # of the intervals
