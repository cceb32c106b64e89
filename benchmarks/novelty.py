"""What `salon eval novelty` tells of planted copies and of other images: python benchmarks/novelty.py FOLDER.

The images of FOLDER are parted by chance into training, held-out and other ones; a hundred training images are copied
with noise, as a JPEG, flipped, cropped, or cropped and flipped, in turn.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from PIL import Image

from eval.data.array_source import ArraySource
from eval.novelty import NoveltyTest
from eval.request import NoveltyRequest
from gan.data.collection import Collection
from gan.data.dataset import DatasetWriter
from gan.data.images import encode
from gan.runtime.console import say, table

SIDES = (0.8, 0.9)  # of a crop, as shares of the image's
NOISE = 8  # of 255


def copies(images: Iterable[Image.Image], rng: np.random.Generator) -> Iterator[Image.Image]:
    """An altered copy of each image: with noise, as a JPEG, flipped, cropped, or cropped and flipped, in turn."""
    for number, image in enumerate(images):
        yield ALTERATIONS[number % len(ALTERATIONS)](image, rng)


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image) + rng.normal(0, NOISE, [*image.size, 3])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, "jpeg", 70))).convert("RGB")


def _flipped(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = round(image.width * rng.uniform(*SIDES))
    left, top = rng.integers(0, image.width - side + 1, 2)
    return image.crop((left, top, left + side, top + side)).resize(image.size, Image.Resampling.BICUBIC)


def _mirrored(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _flipped(_cropped(image, rng), rng)


ALTERATIONS = (_noisy, _jpeg, _flipped, _cropped, _mirrored)


def load(folder: Path, size: int) -> list[Image.Image]:
    """The middle squares of the images of a folder, `size` pixels wide."""
    found = []
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
        with Image.open(file) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
            found.append(square.resize((size, size), Image.Resampling.LANCZOS))
    return found


def _saved(images: Iterable[Image.Image], file: Path) -> Path:
    np.save(file, np.stack([np.asarray(image) for image in images]))
    return file


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--size", default=256, show_default=True, help="Pixels.")
@click.option("--training", default=140, show_default=True, help="Training images.")
@click.option("--copied", default=100, show_default=True, help="Training images that are copied.")
@click.option("--held-out", default=80, show_default=True, help="Held-out images.")
@click.option("--draws", default=3, show_default=True, help="Partitions by chance.")
@click.option("--extractor", default="efficientnet-lite0", show_default=True)
def main(folder: Path, size: int, training: int, copied: int, held_out: int, draws: int, extractor: str) -> None:
    images = load(folder, size)
    say(f"{len(images)} images; {len(images) - training - held_out} are other ones")
    request = NoveltyRequest(extractors=(extractor,))
    rows = []
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        order = [images[index] for index in rng.permutation(len(images))]
        known, unseen, others = order[:training], order[training : training + held_out], order[training + held_out :]
        with TemporaryDirectory() as temporary:
            place = Path(temporary)
            writer = DatasetWriter(place / "training.zip", ".png")
            for image in known:
                writer.add(encode(image, "png"), None)
            writer.close(None)
            control = _saved(unseen, place / "held-out.npy")
            test = NoveltyTest(Collection.open(place / "training.zip"), control, request, "cpu")
            for kind, shown in (("copies", copies(known[:copied], rng)), ("others", others)):
                document = test(ArraySource(_saved(shown, place / f"{kind}.npy")), place / kind)
                assert document
                rows.append([str(draw), kind, *map(_cell, document["results"])])
                heads = ["draw", "images", *(row["name"] for row in document["results"])]
    say(table(rows, heads))


def _cell(row: dict[str, Any]) -> str:
    control = row["control"]
    beside = "" if control is None else f"; held-out {control['value']:.3g}"
    return f"{row['value']:.3g} ({row['low']:.3g} to {row['high']:.3g}{beside})"


if __name__ == "__main__":
    main()
