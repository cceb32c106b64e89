"""The commands synthetic and doctor. Heavy imports wait until a command runs."""

from pathlib import Path

import click

from gan.console import result, table
from gan.errors import BoundError, RequestError
from gan.options import PATH, WholeRange, json_option, seed_option


@click.command()
@click.argument("folder", type=PATH)
@click.option("--count", metavar="NIMG", type=WholeRange(1), default=200, show_default=True, help="Pictures to make.")
@click.option("--size", metavar="PX", type=WholeRange(16, 4096), default=96, show_default=True, help="Longer side.")
@seed_option("The same seed, the same pictures.")
@click.option(
    "--genres",
    metavar="LIST",
    default="landscape",
    show_default=True,
    help="landscape, still_life and portrait, which take turns.",
)
@click.option(
    "--styles",
    metavar="LIST",
    default="impressionism",
    show_default=True,
    help="impressionism, pointillism, cubism and woodblock, which take turns; a folder each.",
)
@click.option(
    "--outliers",
    metavar="NIMG",
    type=WholeRange(0),
    default=0,
    show_default=True,
    help="How many of them are no paintings: text, charts, colour bars, noise.",
)
@json_option
def synthetic(
    folder: Path, count: int, size: int, seed: int, genres: str, styles: str, outliers: int, as_json: bool
) -> None:
    """Make a folder of pictures to try Salon on, without any data of your own.

    Pictures that are already there are left as they are. paintings.csv tells the style and genre of each, and which of
    them are outliers.

    \b
    salon synthetic paintings --count 200
    salon synthetic mixed --count 600 --genres landscape,portrait --styles impressionism,cubism --outliers 30
    """
    from gan.synthetic import GENRES, LIST, write_paintings
    from gan.synthetic_styles import STYLES

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
    result(f"{folder} holds {count} pictures, {made} of them new", figures, as_json)


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say whether this machine is ready: versions, GPU, compilers, op implementations, weights, server, disk.

    Ends with exit code 3 when something that Salon needs is missing.

    \b
    salon doctor
    salon doctor --json
    """
    from gan.doctor import FAILED, examine

    findings = examine()
    rows = [(f.status, f.name, f.found) for f in findings]
    remedies = [f"{f.name}: {f.remedy}" for f in findings if f.remedy]
    text = table(rows) + ("\n\nRemedies\n" + "\n".join(remedies) if remedies else "")
    result(text, {"findings": [vars(f) for f in findings]}, as_json)
    if failed := [f.name for f in findings if f.status == FAILED]:
        raise BoundError(f"not ready: {', '.join(failed)}")
