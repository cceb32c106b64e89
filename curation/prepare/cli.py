"""The commands `salon prepare` and `salon dataset`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Command, Group
from gan.cli.options import WholeRange, json_option
from gan.errors import RequestError
from gan.runtime.console import result
from gan.runtime.files import refuse_existing

if TYPE_CHECKING:
    from curation.prepare.resize import Settings
    from curation.prepare.wikiart import WikiArt


@click.command(cls=Command)
@click.argument("sources", metavar="SOURCE...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", metavar="DATASET.zip", type=click.Path(path_type=Path), help="The dataset to write.")
@click.option("--resolution", metavar="PX", type=int, help="Side of the square images: a power of two, 8 to 1024.")
@click.option(
    "--fit",
    type=click.Choice(["stretch", "crop", "pad"]),
    default="stretch",
    show_default=True,
    help="How images become square: stretch keeps the whole composition, crop the middle, pad adds a border.",
)
@click.option(
    "--format",
    type=click.Choice(["jpeg", "png", "webp"]),
    default="jpeg",
    show_default=True,
    help="File format: jpeg with full colour resolution, or png or webp without loss.",
)
@click.option(
    "--quality", metavar="1-100", type=WholeRange(1, 100), default=95, show_default=True, help="Quality of JPEGs."
)
@click.option(
    "--filter",
    type=click.Choice(["lanczos", "bicubic", "bilinear", "box"]),
    default="lanczos",
    show_default=True,
    help="Resampling filter; all of them average where they make an image smaller.",
)
@click.option(
    "--background",
    metavar="COLOUR",
    default="white",
    show_default=True,
    help="Shows through transparent parts and fills the border of --fit pad: a name or #rrggbb.",
)
@click.option(
    "--labels",
    metavar="HOW",
    help="Classes: folders (the folder directly inside SOURCE; one folder around all others is passed over), style, "
    "genre or artist (with --wikiart-csv), or a CSV file of name,label. Images without a label are left out.",
)
@click.option(
    "--wikiart-csv",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the WikiArt lists; style, genre and artist of each image found in them go into the manifest.",
)
@click.option(
    "--style", multiple=True, metavar="NAME", help="Keep only images that the lists give this style; repeatable."
)
@click.option(
    "--genre", multiple=True, metavar="NAME", help="Keep only images that the lists give this genre; repeatable."
)
@click.option(
    "--artist", multiple=True, metavar="NAME", help="Keep only images that the lists give this artist; repeatable."
)
@click.option(
    "--limit",
    metavar="NIMG",
    type=WholeRange(1),
    help="Try only the first NIMG files, in the order of their paths.",
)
@click.option("--keep-duplicates", is_flag=True, help="Keep images whose prepared pixels are the same as another's.")
@click.option(
    "--max-pixels",
    metavar="NPIXELS",
    type=WholeRange(1),
    default=200_000_000,
    show_default=True,
    help="Quarantine originals of more pixels: they may be made to exhaust the memory.",
)
@click.option("--workers", metavar="N", type=WholeRange(1, 256), help="Processes that decode; by default one a core.")
@click.option("--dry-run", is_flag=True, help="Read and report, and write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace an existing --out.")
@json_option
def prepare(
    sources: tuple[Path, ...],
    out: Path | None,
    resolution: int | None,
    labels: str | None,
    wikiart_csv: Path | None,
    style: tuple[str, ...],
    genre: tuple[str, ...],
    artist: tuple[str, ...],
    limit: int | None,
    keep_duplicates: bool,
    workers: int | None,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
    **look: Any,
) -> None:
    """Make a dataset of square images from folders and ZIPs of images.

    SOURCE is a folder, searched deep (hidden files are passed over, links to files are read, links to folders followed
    once), or a ZIP; several may be given. Whatever cannot be read is put in quarantine with a reason and never stops
    the run. Beside DATASET.zip lie DATASET.manifest, with one row for each image, and DATASET.report.json.

    \b
    salon prepare paintings/ --out paintings64.zip --resolution 64
    salon prepare wikiart.zip --out by_genre.zip --resolution 256 \\
        --wikiart-csv lists/ --style Impressionism --labels genre
    salon prepare --wikiart-csv lists/ --style Impressionism --dry-run
    """
    from curation.prepare import report

    chosen = {"style": style, "genre": genre, "artist": artist}
    wikiart = _read_lists(wikiart_csv, chosen, labels)
    if wikiart and dry_run and not sources:
        figures = _describe(wikiart, chosen)
        result(report.genres(figures), figures, as_json)
        return
    if not sources:
        raise RequestError("SOURCE must be a folder or a ZIP of images; got none. Try: salon prepare paintings/ ...")
    if out is None and not dry_run:
        raise RequestError("--out must name the dataset to write, such as --out paintings.zip; or add --dry-run")

    from curation.prepare.pipeline import collect
    from curation.prepare.plan import Request

    request = Request(
        sources=list(sources),
        out=None if dry_run else out,
        settings=_settings(resolution, **look),
        labels=labels,
        wikiart=wikiart,
        chosen=chosen,
        workers=workers or _cores(),
        limit=limit,
        overwrite=overwrite,
        keep_duplicates=keep_duplicates,
    )
    figures = collect(request)
    result(report.preparation(figures), figures, as_json)


@click.group(cls=Group)
def dataset() -> None:
    """Look at datasets."""


@dataset.command()
@click.argument("path", metavar="DATASET", type=click.Path(path_type=Path))
@click.option(
    "--montage",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw at most 64 evenly spaced images on one sheet: a .png, .jpg or .webp file.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing --montage.")
@json_option
def info(path: Path, montage: Path | None, overwrite: bool, as_json: bool) -> None:
    """Tell what is in DATASET, a ZIP or a folder: images, classes, file formats, fingerprint, manifest.

    \b
    salon dataset info paintings64.zip
    salon dataset info paintings64.zip --montage sheet.png
    """
    from curation.prepare import report
    from curation.prepare.dataset_info import describe, draw_montage
    from gan.data.images import check_suffix

    if montage:
        check_suffix(montage, "montage")
        refuse_existing([montage], overwrite, parameter="montage")
    figures = describe(path)
    if montage:
        draw_montage(path, montage)
    figures["montage"] = str(montage) if montage else None
    result(report.dataset(figures), figures, as_json)


def _settings(resolution: int | None, background: str, **look: Any) -> "Settings":
    from PIL import ImageColor

    from curation.prepare.resize import Settings

    if resolution is None or not 8 <= resolution <= 1024 or resolution & (resolution - 1):
        got = "none" if resolution is None else f"{resolution} instead"
        raise RequestError(f"--resolution must be a power of two from 8 to 1024; got {got}")
    try:
        red, green, blue = ImageColor.getrgb(background)[:3]
    except ValueError:
        raise RequestError(
            f"--background must be a colour such as white or #20304f; got {background} instead"
        ) from None
    return Settings(resolution=resolution, background=(red, green, blue), **look)


def _read_lists(folder: Path | None, chosen: dict[str, tuple[str, ...]], labels: str | None) -> "WikiArt | None":
    from curation.prepare.wikiart import KINDS, WikiArt

    if folder is None:
        asking = [f"--{kind}" for kind, names in chosen.items() if names]
        asking += [f"--labels {labels}"] if labels in KINDS else []
        if asking:
            raise RequestError(f"{asking[0]} needs the WikiArt lists: add --wikiart-csv DIR")
        return None
    lists = WikiArt(folder)
    lists.select(chosen)  # an unknown name is told before any image is looked for
    return lists


def _describe(wikiart: "WikiArt", chosen: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    from dataclasses import asdict

    from curation.prepare.wikiart import genre_counts

    paintings = wikiart.select(chosen)
    genres = genre_counts(paintings)
    selected = {painting.path for painting in paintings}
    return {
        "images": len(paintings),
        "genres": genres,
        "without_genre": genres.get("(none)", 0),
        "conflicts": [asdict(conflict) for conflict in wikiart.conflicts if conflict.path in selected],
        "repeated_rows": wikiart.repeats,
        "malformed_rows": wikiart.malformed,
    }


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
