"""The commands `salon prepare` and `salon dataset`."""

from pathlib import Path
from typing import Any

import click

from curation.prepare.addresses import is_address
from curation.prepare.request import PrepareRequest
from gan.cli.command import Command, Group, takes
from gan.cli.options import PATH, FiniteRange, WholeRange, engine_options, json_option, overwrite_option
from gan.runtime.console import result
from gan.runtime.files import refuse_existing


class PathOrAddress(click.Path):
    """A path, or an address such as s3://bucket/folder, which stays a text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, str) and is_address(value) else super().convert(value, param, ctx)


@click.command(cls=Command)
@takes(PrepareRequest)
@click.argument("sources", metavar="SOURCE...", nargs=-1, type=PathOrAddress(path_type=Path))
@click.option("--out", metavar="DATASET.zip", type=PATH, help="The dataset to write.")
@click.option(
    "--resolution",
    metavar="PX",
    type=int,
    help="Side of the square images: a power of two, 8 to 1024. With --shape A:B or auto, four cells of the base: 3:2, "
    "which is 6x4 cells, at 256 gives 384x256.",
)
@click.option(
    "--shape",
    metavar="WxH|A:B|auto",
    help="Shape of the images: a width and height such as 384x256, which needs no --resolution, a ratio such as 3:2 or "
    "4:5, or auto, the ratio that loses least of this collection; --dry-run prints the three best and writes nothing. "
    "Both sides are 2 to 8 times one power of two. Default: square.",
)
@click.option(
    "--buckets",
    is_flag=True,
    help="Buckets of the collection, a dataset each: DATASET.portrait.zip and DATASET.landscape.zip, each of the shape "
    "that loses least of it, and DATASET.square.zip of images whose sides differ by up to a tenth.",
)
@click.option(
    "--fit",
    type=click.Choice(["stretch", "crop", "pad"]),
    help="Fit into the shape: stretch keeps the whole composition, crop the middle, pad adds a border. Default: "
    "stretch; with --shape or --buckets crop, within --max-crop.",
)
@click.option(
    "--max-crop",
    metavar="SHARE",
    type=FiniteRange(0, 1, max_open=True),
    help="Share of a side that is cropped at most; what is still too long is stretched. Default: all with --fit crop, "
    "else a quarter.",
)
@click.option(
    "--channels",
    type=click.Choice(["rgb", "grey", "rgba", "auto"]),
    help="Channels to keep: auto takes grey where all images are grey, rgba where some are transparent.",
)
@click.option(
    "--crops",
    metavar="N",
    type=WholeRange(1, 256),
    help="Number of crops of an original, which do not overlap and are as large as they can be; fewer where they would "
    "be smaller than the images, and the original, as --fit has it, where there is no room for two.",
)
@click.option(
    "--format",
    type=click.Choice(["jpeg", "png", "webp"]),
    help="File format: jpeg with full colour resolution, or png or webp without loss. Default: jpeg; with alpha png.",
)
@click.option("--quality", metavar="1-100", type=WholeRange(1, 100), help="Quality of JPEGs.")
@click.option(
    "--filter",
    type=click.Choice(["lanczos", "bicubic", "bilinear", "box"]),
    help="Resampling filter; all of them average where they make an image smaller.",
)
@click.option(
    "--background",
    metavar="COLOUR",
    help="Colour behind transparent parts and in the border of --fit pad, a name or #rrggbb; not with alpha.",
)
@click.option(
    "--labels",
    metavar="HOW",
    help="Classes: folders (the folder directly inside SOURCE; one folder around all others is passed over), "
    "folders:innermost, folders:N (the N-th from SOURCE on), style, genre or artist (with --wikiart-csv), a CSV or "
    "JSON lines file of names and labels, dataset (SOURCE's own: dataset.json, .cls of WebDataset, Parquet) or none. "
    "Images without a label are left out. By default dataset, where that labels all images, else none.",
)
@click.option(
    "--label-column",
    metavar="NAME",
    help="Column of the --labels file that holds the labels, by its name in the header; by default the one that can be "
    "meant. With --labels dataset the column of Parquet, or the key in WebDataset's .json.",
)
@click.option(
    "--wikiart-csv",
    metavar="DIR",
    type=PATH,
    help="Folder of the WikiArt lists; style, genre and artist of each image found in them go into the manifest.",
)
@click.option(
    "--style", multiple=True, metavar="NAME", help="Style to keep, by the lists; repeatable. Default: all images."
)
@click.option(
    "--genre", multiple=True, metavar="NAME", help="Genre to keep, by the lists; repeatable. Default: all images."
)
@click.option(
    "--artist", multiple=True, metavar="NAME", help="Artist to keep, by the lists; repeatable. Default: all images."
)
@click.option(
    "--video-every",
    metavar="SECONDS",
    type=FiniteRange(),
    help="Seconds between the frames that are taken of videos (.mp4, .mov, .mkv, .webm, .avi); without it, and without "
    "--video-scenes, videos are ignored.",
)
@click.option(
    "--video-scenes",
    is_flag=True,
    help="Scene changes of videos alone: a frame counts where its colours differ from those of the last one taken; "
    "looked for every --video-every seconds, by default 1.",
)
@click.option(
    "--limit",
    metavar="NIMG",
    type=WholeRange(1),
    help="Number of files, and of frames of videos, to try at most, in the order of their paths.",
)
@click.option("--keep-duplicates", is_flag=True, help="Keep images whose prepared pixels are those of another.")
@click.option(
    "--max-pixels",
    metavar="NPIXELS",
    type=WholeRange(1),
    help="Largest size of an original; more pixels may be made to exhaust the memory, and are quarantined.",
)
@click.option("--workers", metavar="N", type=WholeRange(1, 256), help="Processes that decode; by default one a core.")
@engine_options
@click.option("--dry-run", is_flag=True, help="Read and report, and write nothing.")
@overwrite_option
@json_option
def prepare(request: PrepareRequest, as_json: bool) -> None:
    """Make a dataset of images of one shape from folders, ZIPs, tars and Parquet files of images, here or at addresses.

    SOURCE is a folder, searched deep (hidden files are passed over, links to files are read, links to folders followed
    once), or a ZIP or tar, compressed or not, such as WebDataset's shards, or a Parquet file with the bytes or
    paths of images, as Hugging Face's; several may be given. ZIPs and tars inside of one another and of folders, and
    Parquet files with bytes in folders, are read like folders. SOURCE may also be an
    address: a folder, an archive or a file at s3://bucket/..., gs://bucket/..., an archive or a file at https://...; or
    a text file (.txt) of addresses, one a line. With --video-every or --video-scenes videos give frames. Whatever
    cannot be read is put in quarantine with a reason and never stops the run. Beside DATASET.zip lie DATASET.manifest,
    with one row for each image, and DATASET.report.json.

    \b
    salon prepare paintings/ --out paintings64.zip --resolution 64
    salon prepare wikiart.zip --out by_genre.zip --resolution 256 \\
        --wikiart-csv lists/ --style Impressionism --labels genre
    salon prepare paintings/ --resolution 256 --shape auto --dry-run
    salon prepare landscapes/ --out landscapes.zip --shape 384x256
    salon prepare scans/ --out details512.zip --resolution 512 --crops 9
    salon prepare s3://bucket/paintings --out paintings64.zip --resolution 64
    salon prepare --wikiart-csv lists/ --style Impressionism --dry-run
    """
    from curation.prepare import report

    if request.wikiart_csv and request.lists_only:
        from curation.prepare.wikiart import describe

        figures = describe(request.wikiart_csv, request.chosen)
        result(report.genres(figures), figures, as_json)
        return

    from curation.prepare.pipeline import collect

    figures = collect(request)
    result(report.preparation(figures), figures, as_json)


@click.group(cls=Group)
def dataset() -> None:
    """Look at datasets, and join them."""


@dataset.command()
@click.argument("path", metavar="DATASET", type=PATH)
@click.option(
    "--montage",
    metavar="FILE",
    type=PATH,
    help="Grid of at most 64 evenly spaced images to write: a .png, .jpg or .webp file.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing --montage.")
@json_option
def info(path: Path, montage: Path | None, overwrite: bool, as_json: bool) -> None:
    """Tell what is in DATASET, a ZIP, a folder or a list of ZIPs: images, classes, file formats, fingerprint, manifest.

    \b
    salon dataset info paintings64.zip
    salon dataset info paintings64.zip --montage sheet.png
    """
    from curation.prepare import report
    from curation.prepare.dataset_info import describe, draw_montage
    from gan.data.dataset import ImageDataset
    from gan.data.images import check_suffix

    if montage:
        check_suffix(montage, "montage")
        refuse_existing([montage], overwrite, parameter="montage")
    images = ImageDataset(path)
    figures = describe(images)
    if montage:
        draw_montage(images, montage)
    figures["montage"] = str(montage) if montage else None
    result(report.dataset(figures), figures, as_json)


@dataset.command()
@click.argument("path", metavar="DATASET", type=PATH)
@json_option
def join(path: Path, as_json: bool) -> None:
    """Write the manifest of DATASET, a list of ZIPs, from those beside its ZIPs.

    The list is a text file that ends in .zips, with a path a line, from its own folder. Each ZIP is a dataset that
    salon prepare wrote, with its manifest beside it; what was written to these since is left out.

    \b
    ls shards/*.zip > paintings.zips
    salon dataset join paintings.zips
    salon curate check paintings.zips --out checked.manifest
    """
    from curation.prepare import report
    from curation.prepare.joined_manifest import join_manifests

    figures = join_manifests(path)
    result(report.joined(figures), figures, as_json)
