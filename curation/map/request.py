"""What `salon curate map` takes. Light: the command line reads its defaults here."""

from dataclasses import dataclass
from pathlib import Path

from curation.score.request import STYLE, FeatureRequest
from gan.errors import RequestError
from gan.runtime.files import refuse_existing

MAX_IMAGES = 20_000  # of one page
GENERATED = 500  # images of a snapshot, where their number is not given
FEATURES = ("content", "style")


@dataclass(frozen=True, kw_only=True)
class MapRequest(FeatureRequest):
    """Which images to show, and by which features they are near each other. `out` is the page, an .html file.

    Raises RequestError for what does not go together, and when `out` exists and is not to be replaced.
    """

    features: str = "content"  # content, what is shown; style, how it is painted
    count: int = MAX_IMAGES  # images to show at most, generated ones among them; of more a sample is shown
    snapshot: Path | None = None  # snapshot, run or folder of runs whose images are shown as well; None: none
    num_images: int | None = None  # generated images; None: GENERATED
    color: str | None = None  # column that colours the images at first; None: the strata
    seed: int = 0  # of the sample and of the principal components; the first generated image's
    overwrite: bool = False  # whether `out` may be replaced

    def __post_init__(self) -> None:
        if self.out.suffix != ".html":
            raise RequestError(f"`out` must end in .html; got {self.out} instead")
        refuse_existing([self.out], self.overwrite)
        if self.features not in FEATURES:
            raise RequestError(f"`features` must be one of {', '.join(FEATURES)}; got {self.features} instead")
        if self.features == "style" and (self.extractor != FeatureRequest.extractor or self.weights):
            raise RequestError(f"`features` style are those of {STYLE} alone; `extractor` and `weights` are of content")
        if not 1 <= self.count <= MAX_IMAGES:
            raise RequestError(f"`count` must be from 1 to {MAX_IMAGES:,}; got {self.count} instead")
        if self.num_images is not None and self.snapshot is None:
            raise RequestError("`num_images` needs `snapshot`, which generates them")
        if not 0 <= self.generated < self.count:
            raise RequestError(
                f"`num_images` must be from 1 up and below `count`, {self.count:,}; got {self.num_images or GENERATED}"
            )

    @property
    def generated(self) -> int:
        """How many images to generate."""
        if self.snapshot is None:
            return 0
        return GENERATED if self.num_images is None else self.num_images

    def extractors(self) -> dict[str, str]:
        """The extractor by what it sees of an image."""
        return {self.features: STYLE if self.features == "style" else self.extractor}
