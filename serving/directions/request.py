"""What directions are to be found. Light."""

from dataclasses import dataclass
from pathlib import Path

from gan.data.strata import STRATA
from gan.errors import RequestError

METHODS = ("pca", "sefa", "supervised")
SAMPLES = {"pca": 10_000, "sefa": 10_000, "supervised": 1000}  # seeds by method, where none are asked for


@dataclass(frozen=True, kw_only=True)
class DirectionsRequest:
    """Which directions of a generator to find. Raises RequestError for values that do not go together."""

    snapshot: Path  # a snapshot's file, a run, or a folder of runs
    method: str = "pca"  # pca: components of w; sefa: of the weights; supervised: by labels
    count: int | None = None  # directions; None: 10 of pca and sefa, one for each attribute of supervised
    layers: str | None = None  # that the directions move, such as 0-3; None: all
    samples: int | None = None  # seeds whose w are looked at, and with supervised their images; None: SAMPLES
    seed: int = 0  # the first of them
    class_name: str | None = None  # class of the samples; None: all classes alike
    data: Path | None = None  # of supervised: a dataset with labels, to learn to tell them from
    manifest: Path | None = None  # whose kept images alone are learned from
    strata: str = "label"  # which labels: label of the dataset, or style, genre or artist of its manifest
    extractor: str = "efficientnet-lite0"  # network whose features the labels are learned by
    classifier: Path | None = None  # of supervised, in place of `data`: a style classifier, ONNX
    device: str = "auto"  # auto, cpu, cuda or cuda:N

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise RequestError(f"`method` must be one of {', '.join(METHODS)}; got {self.method} instead")
        if self.strata not in STRATA:
            raise RequestError(f"`strata` must be one of {', '.join(STRATA)}; got {self.strata} instead")
        if self.method != "supervised" and (self.data or self.classifier or self.manifest):
            raise RequestError("`data`, `manifest` and `classifier` are for the `method` supervised")
        if self.method == "supervised" and (self.data is None) == (self.classifier is None):
            raise RequestError("`method` supervised needs labels: give either `data` or `classifier`")
        if self.manifest is not None and self.data is None:
            raise RequestError("`manifest` needs `data`, whose images it chooses among")
        if self.method == "supervised" and self.count is not None:
            raise RequestError("`count` is for the `method` pca or sefa: supervised gives one for each attribute")
