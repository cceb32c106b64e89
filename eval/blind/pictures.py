"""The pictures of a blind test: as many real as generated ones, all sent in one way, size and length.

Where their proportions differ, each is cut to its largest square in the middle; all are shrunk to one size, that of the
smallest at most, so that none is enlarged. They are sent as JPEGs of one quality, without metadata, and padded to one
number of bytes. Real pictures often were JPEGs before, and generated ones never: the last compression is in both, and
stronger than what shrinking leaves of an earlier one; only where real pictures are not shrunk may strong artefacts of
theirs stay visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from eval.data.image_sources import DatasetSource, Source, is_snapshot, open_files
from gan.data.archives import is_prepared
from gan.data.collection import Collection
from gan.data.images import Pixels, encode, for_display
from gan.errors import RequestError

REAL, GENERATED = "real", "generated"
QUALITY = 90  # of the JPEGs
LARGEST = 512  # pixels of a side, unless more are asked for


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of the test."""

    truth: str  # REAL or GENERATED
    index: int  # in its source
    stratum: str | None

    @property
    def key(self) -> str:
        """What it is called in the rows of answers, and never on the page."""
        return f"{self.truth}:{self.index}"


def open_pictures(path: Path, parameter: str) -> Source:
    """Pictures of a dataset, whose classes are their strata, of a folder or ZIP, whose folders are, or of an array.

    Raises RequestError for anything else.
    """
    if not path.exists():
        raise RequestError(f"`{parameter}` must be a folder, ZIP or array of images; {path} does not exist")
    if is_snapshot(path):
        raise RequestError(f"`{parameter}` must be images; {path} is a snapshot, of which `salon generate` makes some")
    if is_prepared(path):
        return DatasetSource(Collection.open(path, beside=False))
    return open_files(path)


def choose(gen: Source, real: Source, count: int, seed: int) -> list[tuple[Picture, Picture]]:
    """`count` pairs of a generated and a real picture, drawn by `seed`.

    Where both have strata of the same names, the two of a pair are of one, so that a style tells nothing. Raises
    RequestError when there are not so many.
    """
    rng = np.random.default_rng(seed)
    strata = [_strata(source) for source in (gen, real)]
    shared = sorted(set(strata[0]) & set(strata[1]) - {None}, key=str)
    sets = [{name: [i for i, own in enumerate(names) if own == name] for name in shared} for names in strata]
    if not shared:
        sets = [{"": list(range(len(source)))} for source in (gen, real)]
    pairs = []
    for name in sets[0]:
        some, others = (rng.permutation(of[name]).tolist() for of in sets)
        pairs += list(zip(some, others, strict=False))
    if len(pairs) < count:
        more = " of strata that both have" if shared else ""
        raise RequestError(f"`count` must be at most the {len(pairs)} pairs of images{more}; got {count}")
    chosen = [pairs[n] for n in rng.permutation(len(pairs))[:count].tolist()]
    return [
        (
            Picture(truth=GENERATED, index=a, stratum=strata[0][a]),
            Picture(truth=REAL, index=b, stratum=strata[1][b]),
        )
        for a, b in chosen
    ]


def prepared(gen: Source, real: Source, pictures: Sequence[Picture], size: int | None) -> tuple[dict[str, bytes], int]:
    """What is sent of each picture, by key, and its shorter side in pixels. `size` None: the smallest, LARGEST at most.

    Pictures whose proportions differ are cut to their middle square. Raises RequestError when a picture is smaller than
    `size`, or cannot be read.
    """
    sources = {GENERATED: gen, REAL: real}
    sizes = [_pixels(sources[each.truth], each.index).shape[:2] for each in pictures]
    smallest, alike = min(map(min, sizes)), len({Fraction(*size) for size in sizes}) == 1
    side = min(smallest, LARGEST) if size is None else size
    if side > smallest:
        raise RequestError(f"`size` must be at most {smallest}, the side of the smallest picture; got {size} instead")
    files = {each.key: _encoded(_pixels(sources[each.truth], each.index), side, whole=alike) for each in pictures}
    length = max(map(len, files.values()))
    return {key: file + bytes(length - len(file)) for key, file in files.items()}, side


def _encoded(pixels: Pixels, side: int, *, whole: bool) -> bytes:
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    if not whole:
        top, left = (height - shorter) // 2, (width - shorter) // 2
        pixels = np.ascontiguousarray(pixels[top : top + shorter, left : left + shorter])
        height = width = shorter
    size = round(width * side / shorter), round(height * side / shorter)
    return encode(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS), "jpeg", QUALITY)


def _pixels(source: Source, index: int) -> Pixels:
    (pixels,) = source.pixels(index, index + 1)
    assert pixels is not None  # sources are opened so that a damaged image is an error
    return for_display(pixels)


def _strata(source: Source) -> list[str | None]:
    return [source.label(index) for index in range(len(source))]
