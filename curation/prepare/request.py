"""What `salon prepare` takes. Light: the command line reads its defaults here."""

import re
from dataclasses import dataclass
from pathlib import Path

from curation.prepare.addresses import Source, require_known
from curation.prepare.wikiart import KINDS
from gan.errors import RequestError
from gan.runtime.engines import check_engine
from gan.runtime.files import refuse_existing

KINDS_OF_SOURCES = "must be a folder, a ZIP, a tar or a Parquet file of images"
SHORTEST = 0.001  # seconds between frames, which are named by milliseconds
EVERY = 1.0  # seconds between the frames among which new scenes are looked for
FOLDERS = re.compile(r"folders(:innermost|:[1-9]\d{0,2})?")


@dataclass(frozen=True, kw_only=True)
class PrepareRequest:
    """What to prepare, and how. Raises RequestError for what does not go together, and an `out` that cannot be meant.

    A dry run without sources only describes the WikiArt lists: see `lists_only`.
    """

    # Folders, ZIPs, tars and Parquet files of images, videos, and lists of addresses (.txt); a text is an address
    sources: tuple[Source, ...] = ()
    out: Path | None = None  # the .zip to write; None: for a dry run
    dry_run: bool = False  # read and report, and write nothing
    overwrite: bool = False  # whether `out` may exist
    resolution: int | None = None  # side of the square images, px: a power of two, 8 to 1024; None: for the lists only
    fit: str = "stretch"  # stretch, crop or pad
    crops: int = 1  # squares to take of an original whose size allows, 1 to 256; 1: the original is fitted whole
    format: str = "jpeg"  # jpeg, png or webp
    quality: int = 95  # of JPEG, 1 to 100
    filter: str = "lanczos"  # one of resize.FILTERS
    background: str = "white"  # name or #rrggbb of the colour behind transparency, and around padded images
    # none, dataset (the sources' dataset.json, WebDataset's .cls, or Parquet's labels), folders, folders:innermost or
    # folders:N, style, genre, artist, or the path of a file (see label_files); None: dataset where that labels all
    # images, else none
    labels: str | None = None
    # Of a file of labels, by its name in the header; None: the one that can be meant. With `labels` dataset, the
    # column of Parquet, or the key in the JSON of WebDataset's samples; None: the one that can be meant, or their .cls
    label_column: str | None = None
    wikiart_csv: Path | None = None  # folder of the WikiArt lists; None: no lists
    style: tuple[str, ...] = ()  # styles to keep, by the lists; none: all
    genre: tuple[str, ...] = ()  # genres to keep, likewise
    artist: tuple[str, ...] = ()  # artists to keep, likewise
    video_every: float | None = None  # seconds between the frames that are taken of videos; None: see `video_scenes`
    video_scenes: bool = False  # take of videos only frames of another scene than the one before; without: no videos
    limit: int | None = None  # only the first so many files and frames, by their paths; None: all
    keep_duplicates: bool = False  # also images whose encoded pixels are those of another
    max_pixels: int = 200_000_000  # larger originals are quarantined
    workers: int | None = None  # processes that decode; None: one a core
    engine: str = "local"  # local, or ray: a cluster of machines that see the same files
    address: str | None = None  # of the cluster; None: a Ray of this machine's own

    def __post_init__(self) -> None:
        check_engine(self.engine, self.address)
        for source in self.sources:
            require_known(source)
        if not 1 <= self.crops <= 256:
            raise RequestError(f"`crops` must be from 1 to 256; got {self.crops} instead")
        if self.video_every is not None and not SHORTEST <= self.video_every < float("inf"):
            raise RequestError(f"`video_every` must be at least {SHORTEST} seconds; got {self.video_every} instead")
        self._require_lists()
        self._require_labels()
        if self.lists_only:
            return
        if not self.sources:
            raise RequestError(f"`sources` {KINDS_OF_SOURCES}; got none. Try: salon prepare paintings/ ...")
        if self.out is None and not self.dry_run:
            raise RequestError("`out` must name the dataset to write, such as paintings.zip; or add `dry_run`")
        if self.resolution is None or not 8 <= self.resolution <= 1024 or self.resolution & (self.resolution - 1):
            got = "none" if self.resolution is None else f"{self.resolution} instead"
            raise RequestError(f"`resolution` must be a power of two from 8 to 1024; got {got}")
        if self.archive is not None:
            self._require_place(self.archive)

    @property
    def archive(self) -> Path | None:
        """The archive to write; None for a dry run."""
        return None if self.dry_run else self.out

    @property
    def chosen(self) -> dict[str, tuple[str, ...]]:
        """Names to keep for each kind of list; a kind without any does not select."""
        return {"style": self.style, "genre": self.genre, "artist": self.artist}

    @property
    def lists_only(self) -> bool:
        """Whether only the WikiArt lists are to be described."""
        return self.dry_run and self.wikiart_csv is not None and not self.sources

    def _require_lists(self) -> None:
        if self.wikiart_csv is not None:
            return
        asking = [f"`{kind}`" for kind, names in self.chosen.items() if names]
        asking += [f"`labels` {self.labels}"] if self.labels in KINDS else []
        if asking:
            raise RequestError(f"{asking[0]} needs the WikiArt lists: add `wikiart_csv`, their folder")

    def _require_labels(self) -> None:
        folders = FOLDERS.fullmatch(self.labels or "")
        if self.labels is not None and self.labels.startswith("folders:") and not folders:
            raise RequestError(
                f"`labels` must be folders, folders:innermost or folders:N with N from 1 on; got {self.labels} instead"
            )
        if self.label_column is not None and (self.labels in (None, "none", *KINDS) or folders):
            raise RequestError("`label_column` needs `labels` FILE or dataset, whose column it is")

    def _require_place(self, archive: Path) -> None:
        if archive.suffix.lower() != ".zip":
            raise RequestError(f"`out` must end in .zip; got {archive} instead")
        if archive.is_dir():
            raise RequestError(f"`out` must be a file; got {archive}, which is a folder, instead")
        refuse_existing([archive], self.overwrite)
        for source in self.sources:
            if isinstance(source, Path) and source.resolve() in (archive.resolve(), *archive.resolve().parents):
                raise RequestError(f"`out` must lie outside `sources`, which stays as it is; got {archive} instead")
