"""Planted copies and faults: how many `salon curate check` finds, and how many of its findings are right.

    python benchmarks/check.py --data FOLDER
    python benchmarks/check.py --data FOLDER --paintings monet --each 9

FOLDER holds wikiart_styles8 (folders by style), monet and photo. Into the paintings are put `--each` copies of every
kind, each of another painting, and as many faults of every kind; then the dataset is prepared and checked as a user
would. A false group holds two images of which neither is planted from the other: those among the paintings
themselves are listed, to be looked at.
"""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from curation.prepare.pipeline import collect
from curation.prepare.request import PrepareRequest
from curation.score import check
from curation.score.request import CheckRequest
from gan.data import manifest
from gan.runtime.console import table

Rng = np.random.Generator
WORDS = (
    *("of", "the", "painters", "in", "last", "century", "who", "saw", "light", "on", "water", "and", "left", "their"),
    *("work", "to", "museums", "by", "will", "or", "chance"),
)
INKS, GROUNDS = ((20, 20, 25), (60, 40, 30), (90, 20, 20)), ((252, 250, 245), (235, 222, 196), (214, 196, 160))


def _jpeg(image: Image.Image, rng: Rng) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def _cropped(image: Image.Image, rng: Rng, share: float) -> Image.Image:
    width, height = (round(side * (1 - share)) for side in image.size)
    left, top = (int(rng.integers(0, side - kept + 1)) for side, kept in zip(image.size, (width, height), strict=True))
    return image.crop((left, top, left + width, top + height))


def _toned(image: Image.Image, rng: Rng) -> Image.Image:
    bright = ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.25))
    return ImageEnhance.Color(ImageEnhance.Contrast(bright).enhance(rng.uniform(0.75, 1.3))).enhance(
        rng.uniform(0.5, 1.5)
    )


def framed(image: Image.Image, rng: Rng) -> Image.Image:
    """The picture in a carved frame, lit from above left, on a wall; half of the frames have a mat."""
    width = round(min(image.size) * rng.uniform(0.06, 0.16))
    if rng.random() < 0.5:
        image = ImageOps.expand(image, width // 2, tuple(int(v) for v in rng.integers(215, 250, 3)))
    colour = np.array([(150, 110, 40), (70, 45, 25), (35, 32, 30), (190, 160, 95)][rng.integers(4)])
    wood = ImageOps.expand(image, width)
    pixels = np.asarray(wood, np.float64)
    rows, columns = np.indices(pixels.shape[:2])
    height, breadth = pixels.shape[:2]
    depths = np.stack([rows, columns, height - 1 - rows, breadth - 1 - columns])  # from the top, left, bottom, right
    depth, side = depths.min(axis=0), depths.argmin(axis=0)
    profile = np.interp(depth / width, [0, 0.15, 0.5, 0.85, 1], rng.uniform(0.6, 1.3, 5))
    light = np.array([1.15, 1.05, 0.8, 0.7])[side]
    carved = rng.normal(0, rng.uniform(2, 18), pixels.shape[:2])
    frame = colour * (profile * light)[:, :, None] + carved[:, :, None]
    inside = (depth >= width)[:, :, None]
    result = Image.fromarray(np.where(inside, pixels, frame).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        result = ImageOps.expand(result, round(width * rng.uniform(0.1, 0.6)), tuple([int(rng.integers(120, 256))] * 3))
    return result


def page(rng: Rng) -> Image.Image:
    """A written page: a font, one or two columns, ink on paper, a little turned."""
    fonts = Path(__import__("matplotlib").get_data_path(), "fonts", "ttf")
    names = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Italic.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf")
    size = int(rng.integers(12, 30))
    font = ImageFont.truetype(fonts / names[rng.integers(len(names))], size)
    ground, ink = GROUNDS[rng.integers(3)], INKS[rng.integers(3)]
    image = Image.new("RGB", (500, int(rng.integers(420, 640))), ground)
    draw, columns = ImageDraw.Draw(image), int(rng.integers(1, 3))
    for column in range(columns):
        left, right = 30 + column * 460 // columns, 20 + (column + 1) * 460 // columns
        for top in range(int(rng.integers(15, 90)), image.height - 30, round(size * rng.uniform(1.2, 1.6))):
            line = ""
            while draw.textlength(line, font) < (right - left) * rng.choice([0.5, 0.85, 0.85, 0.85]):
                line += WORDS[rng.integers(len(WORDS))] + " "
            draw.text((left, top), line, ink, font)
    image = image.rotate(rng.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, fillcolor=ground)
    noise = rng.normal(0, 4, (image.height, image.width, 1))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def _colour(rng: Rng) -> tuple[int, ...]:
    return tuple(int(v) for v in rng.integers(0, 256, 3))


def _turned(how: Image.Transpose) -> Callable[[Image.Image, Rng], Image.Image]:
    return lambda image, rng: image.transpose(how)


COPIES: dict[str, Callable[[Image.Image, Rng], Image.Image]] = {
    "JPEG": _jpeg,
    "blurred": lambda image, rng: image.filter(ImageFilter.GaussianBlur(min(image.size) / 80)),
    "thumbnail": lambda image, rng: image.resize([max(round(side * 64 / max(image.size)), 1) for side in image.size]),
    "grey": lambda image, rng: image.convert("L").convert("RGB"),
    "toned": _toned,
    "flipped": _turned(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": _turned(Image.Transpose.ROTATE_90),
    "turned and flipped": _turned(Image.Transpose.TRANSPOSE),
    "upside down": _turned(Image.Transpose.ROTATE_180),
    "white border": lambda image, rng: ImageOps.expand(image, round(min(image.size) * 0.08), (255, 255, 255)),
    "uneven border": lambda image, rng: ImageOps.expand(image, (9, 40, 30, 60), _colour(rng)),
    "framed": framed,
    "cropped 10 %": lambda image, rng: _cropped(image, rng, 0.1),
    "cropped 20 %": lambda image, rng: _cropped(image, rng, 0.2),
}  # fmt: skip


def plant(paintings: list[Path], folder: Path, each: int, seed: int) -> None:
    """Paintings as ORIGINAL, copies as KIND@ORIGINAL, faults as fault-KIND@..., mislabelled ones in another folder."""
    rng = np.random.default_rng(seed)
    styles = sorted({file.parent.name for file in paintings})
    order = [paintings[i] for i in rng.permutation(len(paintings))]
    dealt = iter(order)
    moved = {next(dealt) for _ in range(2 * each if len(styles) > 1 else 0)}
    for file in order:
        style = file.parent.name
        if file in moved:
            style = str(rng.choice([other for other in styles if other != style]))
        target = folder / style / f"{'moved@' if file in moved else ''}{file.parent.name}+{file.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            image.convert("RGB").save(target)
    for kind, make in COPIES.items():
        for file in (next(dealt) for _ in range(each)):
            with Image.open(file) as image:
                copy = make(image.convert("RGB"), rng)
            copy.save(folder / file.parent.name / f"{kind}@{file.parent.name}+{file.stem}.png")
    for file in (next(dealt) for _ in range(each)):
        with Image.open(file) as image:
            framed(image.convert("RGB"), rng).save(
                folder / file.parent.name / f"fault-frame@{file.parent.name}+{file.stem}.png"
            )
        (folder / file.parent.name / f"{file.parent.name}+{file.stem}.png").unlink()
    for number in range(each):
        page(rng).save(folder / styles[number % len(styles)] / f"fault-text@{number}.png")


def checked(folder: Path, labels: str | None) -> list[dict]:
    """Prepare and check what lies in a folder -> rows of the manifest."""
    collect(
        PrepareRequest(
            sources=(folder / "pictures",),
            out=folder / "set.zip",
            resolution=256,
            labels="folders",
            workers=1,
            keep_duplicates=True,
        )
    )
    check.check(CheckRequest(dataset=folder / "set.zip", out=folder / "checked", labels=labels, device="cpu"))
    return manifest.read(folder / "checked").rows.to_pylist()


def split(row: dict) -> tuple[str, str]:
    """Kind of what was planted, or "", and the original."""
    kind, _, original = Path(row["source"]).stem.rpartition("@")
    return kind, original


def report(rows: list[dict]) -> list[str]:
    """Print how many of each kind were found -> groups among the paintings, to be looked at."""
    group = {split(row): row["embedding_group"] for row in rows}
    flags = {split(row): (row["flags"] or "").split(",") for row in rows}
    original = {name: value for (kind, name), value in group.items() if kind in ("", "moved")}
    lines = []
    for kind in COPIES:
        copies = [(name, value) for (planted, name), value in group.items() if planted == kind]
        found = sum(value is not None and value == original[name] for name, value in copies)
        lines.append((kind, f"{found}/{len(copies)}"))
    print(table(lines, ["copies", "found"]))
    members: dict[int, set[str]] = {}
    for (_, name), value in group.items():
        if value is not None:
            members.setdefault(value, set()).add(name)
    alone = [sorted(names) for names in members.values() if len(names) > 1]
    lines = [("groups of more than one painting", str(len(alone)))]
    for code, planted in (("frame", ("fault-frame", "framed")), ("text", ("fault-text",)), ("mislabelled", ("moved",))):
        flagged = [key for key, codes in flags.items() if code in codes]
        right = [key for key in flagged if key[0] in planted]
        there = sum(key[0] in planted for key in flags)
        wrong = [key for key in flagged if key[0] == ""]
        lines.append((f"{code}: found", f"{len(right)}/{there}"))
        lines.append((f"{code}: paintings flagged", f"{len(wrong)}"))
    probable = [(split(row)[1].split("+")[0], row.get("probable_label")) for row in rows if split(row)[0] == "moved"]
    named = [told == label for label, told in probable if told]
    lines.append(("probable label right", f"{sum(named)}/{len(named)}"))
    print(table(lines, ["all", ""]) + "\n", flush=True)
    return [" = ".join(names) for names in alone]


@click.command(help=__doc__)
@click.option("--data", required=True, type=click.Path(path_type=Path))
@click.option("--paintings", type=click.Choice(["wikiart", "monet"]), default="wikiart", show_default=True)
@click.option("--each", default=20, show_default=True, help="Copies and faults of every kind.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Folder in which dataset and manifest stay.")
def main(data: Path, paintings: str, each: int, seed: int, threads: int, keep: Path | None) -> None:
    torch.set_num_threads(threads)
    pattern = {"wikiart": "wikiart_styles8/*/*.*", "monet": "monet/*.*"}[paintings]
    files = [file for file in sorted(data.glob(pattern)) if file.parent.name not in ("photo", "cartoon")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        plant(files, folder / "pictures", each, seed)
        for groups in report(checked(folder, "label" if paintings == "wikiart" else None)):
            print(groups)


if __name__ == "__main__":
    main()
