"""The command `salon curate map`. Heavy imports wait until it runs."""

import click

from curation.map.request import MAX_IMAGES, MapRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH, WholeRange, device_option, json_option, overwrite_option, seed_option
from gan.runtime.console import duration, result


@click.command("map", cls=Command)
@takes(MapRequest)
@click.argument("dataset", type=PATH)
@click.option("--manifest", metavar="DIR", type=PATH, help="The dataset's manifest. Default: that beside it.")
@click.option("--out", metavar="FILE.html", type=PATH, help="The page to write.")
@click.option(
    "--features",
    type=click.Choice(["content", "style"]),
    help="Features by which images are near: content, what is shown (by --extractor); style, how it is painted.",
)
@click.option(
    "--color",
    metavar="COLUMN",
    help="Column that colours the images at first, such as verdict or score_density. Default: the strata.",
)
@click.option(
    "--snapshot",
    metavar="SNAPSHOT",
    type=PATH,
    help="Snapshot, run, or folder of runs whose images are shown among the real ones, of each class as many.",
)
@click.option(
    "--num-images", metavar="NIMG", type=WholeRange(1), help="Generated images to show. Default: 500 of --snapshot."
)
@click.option(
    "--count",
    metavar="NIMG",
    type=WholeRange(1, MAX_IMAGES),
    help="Images to show at most; of more a sample is drawn, in which each stratum keeps its share.",
)
@click.option("--extractor", metavar="NAME", help="Extractor of content; the default works offline.")
@click.option("--weights", metavar="FILE", type=PATH, help="File of the extractor's weights, where not in the cache.")
@click.option("--fetch", is_flag=True, help="Allow to download the extractor's weights.")
@device_option
@seed_option("Seed of the sample, and of the first generated image.")
@overwrite_option
@json_option
def map_images(request: MapRequest, as_json: bool) -> None:
    """Draw a map of a dataset: its images in two dimensions, like ones side by side, on one page.

    The page needs nothing else: it zooms from dots to pictures, colours them by any column of the manifest, and writes
    a list of those in a region for salon curate prune, which --drop or --protect takes. Positions are by t-SNE, of the
    features that check and score keep.

    \b
    salon curate map paintings64.zip --manifest pruned.manifest --out map.html
    salon curate map paintings64.zip --features style --color score_style_density --out style.html
    salon curate map paintings64.zip --snapshot runs --num-images 1000 --color origin --out map.html
    """
    from curation.map import draw

    figures = draw.draw(request)
    shown = f"{figures['shown']:,} of {figures['images']:,} images"
    if figures["generated"]:
        shown += f" and {figures['generated']:,} generated ones"
    text = f"Wrote {request.out}: {shown}, {figures['bytes'] / 1e6:.1f} MB, in {duration(figures['seconds'])}"
    if figures["neighbours_kept"] is not None:
        text += f"\nOf an image's 10 nearest by {request.features}, {figures['neighbours_kept']:.0%} are so on the map"
    result(text, figures, as_json)
