"""The command synthetic. Heavy imports wait until it runs."""

from pathlib import Path

import click

from gan.cli.command import Command
from gan.cli.options import PATH, WholeRange, json_option, seed_option
from gan.errors import RequestError
from gan.runtime.console import result


@click.command(cls=Command)
@click.argument("folder", type=PATH)
@click.option("--count", metavar="NIMG", type=WholeRange(1), default=200, show_default=True, help="Images to make.")
@click.option(
    "--size",
    metavar="PX",
    type=WholeRange(16, 4096),
    default=96,
    show_default=True,
    help="Side of the images, the longer one.",
)
@seed_option("Seed of the images: the same seed, the same images.")
@click.option(
    "--genres",
    metavar="LIST",
    default="landscape",
    show_default=True,
    help="Genres, round robin: landscape, still_life, portrait.",
)
@click.option(
    "--styles",
    metavar="LIST",
    default="impressionism",
    show_default=True,
    help="Styles, round robin, each in a folder of its own: impressionism, pointillism, cubism, woodblock, fauvism.",
)
@click.option(
    "--outliers",
    metavar="NIMG",
    type=WholeRange(0),
    default=0,
    show_default=True,
    help="Images that are no paintings, among them: text, charts, colour bars, noise.",
)
@json_option
def synthetic(
    folder: Path, count: int, size: int, seed: int, genres: str, styles: str, outliers: int, as_json: bool
) -> None:
    """Make a folder of synthetic paintings to try Salon on, without any data of your own.

    Images that are already there are left as they are. paintings.csv tells the style and genre of each, and which of
    them are outliers.

    \b
    salon synthetic paintings --count 200
    salon synthetic mixed --count 600 --genres landscape,portrait --styles impressionism,cubism --outliers 30
    """
    from gan.data.synthetic_scenes import GENRES, LIST, write_paintings
    from gan.data.synthetic_styles import STYLES

    chosen = []
    for option, text, known in (("--genres", genres, GENRES), ("--styles", styles, STYLES)):
        names = [name.strip() for name in text.split(",")]
        if bad := [name for name in names if name not in known]:
            raise RequestError(f"{option} must be a list of {', '.join(known)}; got {bad[0]!r} instead")
        chosen.append(names)
    if outliers > count:
        raise RequestError(f"--outliers must be at most --count, {count}; got {outliers} instead")
    made = write_paintings(folder, count, size, seed, chosen[0], chosen[1], outliers)
    figures = {"folder": str(folder), "count": count, "made": made, "outliers": outliers, "list": str(folder / LIST)}
    result(f"{folder} holds {count} images, {made} of them new", figures, as_json)
