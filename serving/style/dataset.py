"""Paintings with their styles and artists: what a style classifier learns from.

Folders by style, a ZIP of such, a prepared dataset, or its manifest; artists come from the manifest or from names as
WikiArt forms them, "claude-monet_the-sea.jpg", see serving.style.artists.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetSource
from gan.data.archives import is_prepared
from gan.data.collection import Collection
from gan.data.manifest import Manifest
from gan.errors import RequestError
from gan.runtime.console import say
from serving.style.artists import artist_key, artist_of, may_name_artist

MIN_PAINTINGS = 10  # of a style, for 5 folds with two each


@dataclass(frozen=True, kw_only=True)
class Paintings:
    """N images by index, their styles and their groups: images of one artist, or one image whose artist is unknown."""

    source: DatasetSource | FilesSource
    indices: NDArray[np.int64] = field(repr=False)  # [N], of the source
    styles: list[str]  # names, sorted
    labels: NDArray[np.int64] = field(repr=False)  # [N], index into styles
    groups: NDArray[np.int64] = field(repr=False)  # [N]
    artists: int  # known ones
    artists_from: dict[str, int]  # images of known artists, by what names them: "manifest", "file names"
    nameless: int  # images of unknown artists; each has a group of its own
    doubtful: list[str]  # names of those that may begin with an artist or not, such as "still_life-with-apples.jpg"

    @property
    def counts(self) -> dict[str, int]:
        """Images by style."""
        return dict(zip(self.styles, np.bincount(self.labels, minlength=len(self.styles)).tolist(), strict=True))


def open_paintings(data: Path, manifest: Path | None = None) -> Paintings:
    """Read `data`: a folder or ZIP of folders named by style, a prepared dataset, or a manifest beside its dataset.

    Images without a style stay out, and so do styles of fewer than 10 images. Raises RequestError when fewer than two
    are left.
    """
    data, manifest = _dataset_of(data, manifest)
    source: DatasetSource | FilesSource
    if manifest is not None or is_prepared(data):
        source = DatasetSource(Collection.open(data, manifest))
        columns = _columns(source, source.collection.manifest)
    else:
        source = FilesSource(data)
        if note := source.note():
            say(note)
        columns = [source.label(index) for index in range(len(source))], [None] * len(source), source.names
    return _assemble(source, *columns)


def _dataset_of(data: Path, manifest: Path | None) -> tuple[Path, Path | None]:
    # A manifest given as data stands for the dataset beside it.
    if not (Path(data) / "manifest.json").is_file():
        return Path(data), manifest
    if manifest is not None:
        raise RequestError(f"`data` must be the dataset where `manifest` is given; {data} is a manifest too")
    for dataset in (Path(data).with_suffix(".zip"), Path(data).with_suffix("")):
        if dataset.exists() and dataset != Path(data):
            return dataset, Path(data)
    raise RequestError(
        f"`data` {data} is a manifest without its dataset beside it; give `data` DATASET `manifest` {data}"
    )


def _columns(source: DatasetSource, manifest: Manifest | None) -> tuple[list[str | None], list[str | None], list[str]]:
    # Style, artist and original name of each image of a prepared dataset, by its manifest; without it by its labels.
    styles = [source.label(index) for index in range(len(source))]
    if manifest is None:
        return styles, [None] * len(source), [""] * len(source)
    names = manifest.column("name").to_pylist()
    rows = {name: row for row, name in enumerate(names) if name}
    place = [rows.get(source.dataset.names[index]) for index in source.indices]
    known = {column: manifest.column(column).to_pylist() for column in ("style", "artist", "source")}
    if any(known["style"]):
        styles = [None if row is None else known["style"][row] for row in place]
    artists = [None if row is None else known["artist"][row] for row in place]
    return styles, artists, ["" if row is None else known["source"][row] or "" for row in place]


def _assemble(
    source: DatasetSource | FilesSource,
    styles: Sequence[str | None],
    artists: Sequence[str | None],
    files: Sequence[str],
) -> Paintings:
    counts = Counter(style for style in styles if style)
    names = sorted(style for style, count in counts.items() if count >= MIN_PAINTINGS)
    if few := sorted(set(counts) - set(names)):
        say(f"Left out, with fewer than {MIN_PAINTINGS} images: {', '.join(few)}")
    if len(names) < 2:
        styles_found = ", ".join(f"{style} {count}" for style, count in counts.most_common(5)) or "none"
        raise RequestError(
            f"`data` must hold two styles or more with {MIN_PAINTINGS} images each, as folders named by style or in a "
            f"manifest's column style; {source.name} holds {styles_found}"
        )
    indices = np.array([index for index, style in enumerate(styles) if style in names], np.int64)
    in_manifest = [artists[index] for index in indices]
    chosen = [files[index] for index in indices]
    by_name = [None if artist else artist_of(name) for artist, name in zip(in_manifest, chosen, strict=True)]
    known = [artist_key(first or second or "") for first, second in zip(in_manifest, by_name, strict=True)]
    keys = [key or f"image {index}" for key, index in zip(known, indices, strict=True)]
    _, groups = np.unique(keys, return_inverse=True)
    origins = {"manifest": sum(map(bool, in_manifest)), "file names": sum(map(bool, by_name))}
    return Paintings(
        source=source,
        indices=indices,
        styles=names,
        labels=np.array([names.index(str(styles[index])) for index in indices], np.int64),
        groups=groups.astype(np.int64),
        artists=len({*known} - {""}),
        artists_from={origin: count for origin, count in origins.items() if count},
        nameless=known.count(""),
        doubtful=[name for key, name in zip(known, chosen, strict=True) if not key and may_name_artist(name)],
    )
