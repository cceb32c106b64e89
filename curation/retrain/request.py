"""What `salon curate retrain` takes. Light: the command line reads its defaults here."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError
from gan.runtime.files import refuse_inside

SHORT = 100  # kimg of an arm, up to which it is trained so often unless the request says how often:
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class RetrainRequest:
    """A curation to put to the test, and how.

    Raises RequestError when the dataset is not named and does not lie beside the manifest.
    """

    run: Path  # run of salon train, or folder of runs, whose newest checkpoint all arms start from
    manifest: Path  # the curation
    kimg: float  # training of each arm, thousands of images
    out: Path  # folder of the experiment
    data: Path | None = None  # the dataset of the manifest; None: the ZIP of the manifest's name
    holdout: float = 0.1  # share of the images to hold out: they evaluate, and no arm learns from them
    holdout_of: str = "full"  # full: held out from all images; kept: from those that the manifest keeps
    holdout_data: Path | None = None  # dataset that evaluates in their place; None: a part of `data`
    strata_by: str = "auto"  # column of STRATA; auto: the first of label, style, genre that parts the images; none
    repeats: int | None = None  # trainings of each arm; None: REPEATS of up to SHORT kimg, 1 of more. 1: no verdict
    seed: int = 0  # of the split, of the random arm, and of the order of the images
    num_images: int = 10_000  # generated images of each arm to evaluate
    extractor: str | None = None  # None: as salon eval run chooses
    weights: tuple[str, ...] = ()  # NAME=PATH
    batch_gpu: int | None = None  # most images in a forward pass; None: all
    workers: int | None = None  # processes that load images; None: as many as keep up
    cache: bool = False  # whether to keep decoded pixels in a file beside the dataset
    device: str = "auto"  # auto, cpu, cuda or cuda:N; several, parted by commas, train arms side by side

    def __post_init__(self) -> None:
        if self.data is None and not self.dataset.exists():
            raise RequestError(
                f"`data` must name the dataset of `manifest` {self.manifest}; {self.dataset} does not exist"
            )

        refuse_inside(self.out, self.dataset, parameter="data")

    @property
    def dataset(self) -> Path:
        """`data`, or the ZIP of the manifest's name."""
        return self.data or self.manifest.with_suffix(".zip")

    @property
    def devices(self) -> list[str]:
        """Names of the devices."""
        return self.device.split(",")
