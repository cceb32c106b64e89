"""What `salon prepare` takes. Light: the command line reads its defaults here."""

import re
from dataclasses import dataclass
from pathlib import Path

from curation.prepare.addresses import Source, require_known
from curation.prepare.shapes import AUTO, BUCKETS, Size, require_resolution, size_of
from curation.prepare.wikiart import KINDS
from gan.errors import RequestError
from gan.runtime.engines import check_engine
from gan.runtime.files import refuse_existing

KINDS_OF_SOURCES = "must be a folder, a ZIP, a tar or a Parquet file of images"
SHORTEST = 0.001  # seconds between frames, which are named by milliseconds
EVERY = 1.0  # seconds between the frames among which new scenes are looked for
MAX_CROP = 0.25  # share of a side that is cut off at most, where a shape is named and no way to fit into it
CHANNELS = {"rgb": 3, "grey": 1, "rgba": 4}
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
    # Side of square images, px: a power of two, 8 to 1024; of others four cells of their base, which are those of the
    # ratio: 3:2 is 6x4. None: for the lists only, and where `shape` is a size
    resolution: int | None = None
    shape: str | None = None  # size such as 384x256, ratio such as 3:2, or auto: that which loses least; None: square
    buckets: bool = False  # one dataset each of portrait, landscape and square images, named after `out`
    fit: str | None = None  # stretch, crop or pad; None: stretch, and with a `shape` or `buckets` crop
    # Share of a side that crop cuts off at most, 0 to 1; the rest is stretched. None: all there is, but a quarter where
    # crop is not asked for by `fit`
    max_crop: float | None = None
    channels: str = "rgb"  # rgb, grey, rgba, or auto: grey where all are grey, rgba where some are transparent
    crops: int = 1  # parts to take of an original whose size allows, 1 to 256; 1: the original is fitted whole
    format: str | None = None  # jpeg, png or webp; None: jpeg, and png for images with alpha
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
        self._require_shape()
        self._require_channels()
        for archive in self.archives.values():
            self._require_place(archive)

    @property
    def archive(self) -> Path | None:
        """The archive to write; None for a dry run."""
        return None if self.dry_run else self.out

    @property
    def archives(self) -> dict[str, Path]:
        """The archives to write: of each bucket, or the one that is called "" here; none for a dry run."""
        if self.archive is None:
            return {}
        if not self.buckets:
            return {"": self.archive}
        return {bucket: self.archive.with_name(f"{self.archive.stem}.{bucket}.zip") for bucket in BUCKETS}

    @property
    def size(self) -> Size | None:
        """Width and height of the images, pixels; None where the collection decides."""
        return None if self.buckets or self.shape == AUTO else size_of(self.shape or "1:1", self.resolution)

    @property
    def crops_by_default(self) -> bool:
        """Whether images are cropped though nothing was said of how they are to fit."""
        return self.fit is None and (self.shape is not None or self.buckets)

    @property
    def chosen(self) -> dict[str, tuple[str, ...]]:
        """Names to keep for each kind of list; a kind without any does not select."""
        return {"style": self.style, "genre": self.genre, "artist": self.artist}

    @property
    def lists_only(self) -> bool:
        """Whether only the WikiArt lists are to be described."""
        return self.dry_run and self.wikiart_csv is not None and not self.sources

    def _require_shape(self) -> None:
        if self.buckets and self.shape not in (None, AUTO):
            raise RequestError(
                f"`shape` must be left out, since each of `buckets` has its own; got {self.shape} instead"
            )
        if self.size is None:
            require_resolution(self.resolution)
        if self.max_crop is None:
            return
        if not 0 <= self.max_crop < 1:
            raise RequestError(f"`max_crop` must be a share from 0 to below 1; got {self.max_crop} instead")
        if self.fit != "crop" and not self.crops_by_default:
            raise RequestError("`max_crop` needs `fit` crop, which it limits")

    def _require_channels(self) -> None:
        if self.channels not in (AUTO, *CHANNELS):
            raise RequestError(f"`channels` must be auto, {', '.join(CHANNELS)}; got {self.channels} instead")
        self.require_alpha(CHANNELS.get(self.channels), "`channels` is rgba")

    def require_alpha(self, channels: int | None, reason: str) -> None:
        """Raise RequestError for images with alpha, which they have for a `reason`, and a format that has none."""
        if channels == 4 and self.format == "jpeg":
            raise RequestError(f"`format` must be png or webp, which have alpha, since {reason}; got jpeg instead")

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
        if self.out is not None and self.out.suffix.lower() != ".zip":
            raise RequestError(f"`out` must end in .zip; got {self.out} instead")
        if archive.is_dir():
            raise RequestError(f"`out` must be a file; got {archive}, which is a folder, instead")
        refuse_existing([archive], self.overwrite)
        for source in self.sources:
            if isinstance(source, Path) and source.resolve() in (archive.resolve(), *archive.resolve().parents):
                raise RequestError(f"`out` must lie outside `sources`, which stays as it is; got {archive} instead")
