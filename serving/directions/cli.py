"""The group `salon directions`. Heavy imports wait until a command runs."""

from pathlib import Path

import click

from gan.cli.command import Command, Group, takes
from gan.cli.directions import figures_of, listed, rename, sheet, show
from gan.cli.options import PATH, WholeRange, class_option, device_option, json_option, overwrite_option, seed_option
from gan.data.strata import STRATA
from gan.errors import RequestError
from gan.runtime.console import result
from gan.runtime.files import refuse_existing
from serving.directions.request import METHODS, DirectionsRequest


@click.group(cls=Group)
def directions() -> None:
    """Find directions in latent space along which images change in one way, to edit images by them.

    \b
    salon directions find --snapshot runs --out directions.npz
    salon directions sheet directions.npz --snapshot runs --seeds 0-1 --out sheet.png
    salon directions rename directions.npz pc2 sky
    salon generate edit runs --directions directions.npz --direction sky=2 --seeds 0-7 --out edited
    """


@click.command(cls=Command)
@takes(DirectionsRequest)
@click.option("--snapshot", metavar="SNAPSHOT", type=PATH, help="Snapshot, run, or folder of runs to find them in.")
@click.option("--out", required=True, metavar="FILE.npz", type=PATH, help="File for the directions.")
@click.option(
    "--method",
    metavar="METHOD",
    type=click.Choice(METHODS),
    help="Method. pca: principal components of w (GANSpace). sefa: what moves styles most, by the weights (SeFa). "
    "supervised: normals of hyperplanes that separate labels.",
)
@click.option(
    "--count",
    metavar="N",
    type=WholeRange(1),
    help="Directions to find. Default: 10; with supervised one for each attribute.",
)
@click.option(
    "--layers", metavar="LAYERS", help="Layers that the directions move, one range such as 0-3. Default: all."
)
@click.option(
    "--samples",
    metavar="NIMG",
    type=WholeRange(2),
    help="Seeds whose w are looked at; with supervised their images are generated. Default: 10,000; with supervised "
    "1,000.",
)
@seed_option("Seed of the first sample.")
@class_option
@click.option("--data", metavar="DATASET", type=PATH, help="Dataset with labels, for supervised.")
@click.option("--manifest", metavar="DIR", type=PATH, help="Manifest; only the images that it keeps are learned from.")
@click.option(
    "--strata",
    type=click.Choice(STRATA),
    help="Labels of --data: label of the dataset, or style, genre or artist of its manifest.",
)
@click.option("--extractor", metavar="NAME", help="Network by whose features the labels are learned.")
@click.option(
    "--classifier",
    metavar="FILE.onnx",
    type=PATH,
    help="Style classifier of salon style train, for supervised in the place of --data.",
)
@device_option
@overwrite_option
@json_option
def find(request: DirectionsRequest, out: Path, overwrite: bool, as_json: bool) -> None:
    """Find directions: without labels by pca or sefa, with labels the normals of separating hyperplanes.

    An amount of 1 along a direction is one standard deviation of w. Without --class those of a generator with classes
    are found among the w of all classes alike. The file says how they were found.

    \b
    salon directions find --snapshot runs --method sefa --layers 0-3 --count 5 --out coarse.npz
    """
    from serving.directions import find as library

    if out.suffix.lower() != ".npz":
        raise RequestError(f"`out` must end in .npz; got {out} instead")
    refuse_existing([out], overwrite)
    found = library.find(request)
    found.save(out)
    result(f"{listed(found)}\n{len(found.entries)} directions: {out}", figures_of(found, out), as_json)


for command in (find, show, sheet, rename):
    directions.add_command(command)
