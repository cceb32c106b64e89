"""What `salon project` takes, besides how it searches and tunes (gan.projection.request). Light."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError
from gan.runtime.files import refuse_existing

RESULTS = "results.json"
# What is written of each picture, after its name; see output.
PROJECTION, TARGET, BESIDE, LATENTS = ".png", "-target.png", "-beside.png", ".npz"
VIDEO, SNAPSHOT, PREVIEW = ".mp4", ".safetensors", "-preview.jpg"
SUFFIXES = (PROJECTION, TARGET, BESIDE, LATENTS, VIDEO, SNAPSHOT, PREVIEW)


@dataclass(frozen=True, kw_only=True)
class ProjectRequest:
    """Which pictures, of which generator, and where to.

    Raises RequestError for pictures of one name, and an `out` that holds results already or the pictures themselves.
    """

    pictures: tuple[Path, ...]  # image files
    snapshot: Path  # a snapshot's file, a run, or a folder of runs
    out: Path  # folder of the results
    class_name: str | None = None  # name or index of the class; None: an unconditional generator
    fit: str | None = None  # stretch, crop or pad; None: stretch into squares, crop into other shapes
    background: str = "white"  # name or #rrggbb of the colour behind transparency, and around padded pictures
    distance: str | None = None  # lpips-vgg or efficientnet-lite0; None: the first where its weights are
    weights: tuple[str, ...] = ()  # NAME=PATH: files of the weights of lpips-vgg, lpips-linear or efficientnet-lite0
    video: bool = True  # write a video of the search
    preview_every: int | None = None  # steps between two previews; None: none are written
    overwrite: bool = False  # whether results in `out` may be replaced
    device: str = "auto"  # auto, cpu, cuda or cuda:N

    def __post_init__(self) -> None:
        if not self.pictures:
            raise RequestError("`pictures` must be one image file or more; got none")
        files = [file for name in self.names for file in self.files(name)]
        if len(set(files)) < len(files):
            raise RequestError(
                f"`pictures` must have names of their own; {', '.join(map(str, self.pictures))} have not"
            )
        if self.out.is_file():
            raise RequestError(f"`out` must be a folder; got the file {self.out} instead")
        if self.preview_every is not None and self.preview_every < 1:
            raise RequestError(f"`preview_every` must be at least 1; got {self.preview_every} instead")
        own = {picture.resolve() for picture in self.pictures}
        if taken := [file for file in files if file.resolve() in own]:
            raise RequestError(f"`out` must be another folder than that of `pictures`, of which {taken[0]} is one")
        refuse_existing([*files, self.out / RESULTS], self.overwrite)

    @property
    def names(self) -> list[str]:
        """What the results of each picture are called."""
        return [picture.stem for picture in self.pictures]

    def files(self, name: str) -> list[Path]:
        """All that may be written of a picture."""
        return [self.out / f"{name}{suffix}" for suffix in SUFFIXES]
