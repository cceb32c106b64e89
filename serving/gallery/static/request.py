"""What a gallery without a server takes. `--help` loads it: nothing heavy here."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class StaticGalleryRequest:
    """A gallery of one snapshot as a folder of files, for a host of static pages."""

    static: Path  # the folder to write
    snapshot: Path  # a snapshot, a run, or a folder of runs
    directions: Path | None = None  # file of directions in w, each of which gets a slider; None: no sliders
    runtime: Path | None = None  # the npm package onnxruntime-web, unpacked; None: downloaded once, into the cache
    overwrite: bool = False  # whether a gallery at `static` may be replaced

    def __post_init__(self) -> None:
        if self.static.exists() and not self.static.is_dir():
            raise RequestError(f"`static` must be a folder; {self.static} is none")
