"""The command `salon project`. Heavy imports wait until it runs."""

import click

from gan.cli.command import Command, takes
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    class_option,
    device_option,
    json_option,
    marking_options,
    overwrite_option,
    seed_option,
)
from gan.projection.request import NOISES, SPACES, SearchRequest, TuningRequest
from gan.runtime.console import result, table
from gan.sampling.request import MarkingRequest
from serving.project.request import RESULTS, ProjectRequest


@click.command(cls=Command)
@takes(ProjectRequest)
@takes(SearchRequest, "search")
@takes(TuningRequest, "tuning")
@takes(MarkingRequest, "marking")
@click.argument("pictures", metavar="PICTURE...", nargs=-1, required=True, type=PATH)
@click.option("--snapshot", metavar="SNAPSHOT", type=PATH, help="Snapshot, run, or folder of runs of the generator.")
@click.option("--out", metavar="DIR", type=PATH, help="Folder for the results.")
@click.option(
    "--space",
    type=click.Choice(SPACES),
    help="Space of the latents. w: one w for all layers, which edits and mixes well; w+: one w a layer, which comes "
    "nearer to the picture.",
)
@click.option("--steps", metavar="STEPS", type=WholeRange(1), help="Steps of the search from each start.")
@click.option(
    "--starts",
    metavar="N",
    type=WholeRange(1),
    help="Starts of the search, of which the best is kept: the average w, then images of the generator's own.",
)
@click.option(
    "--tune",
    metavar="STEPS",
    type=WholeRange(0),
    help="Steps of pivotal tuning after the search: the generator itself is fine-tuned until it shows the picture, and "
    "written as a snapshot of its own. 0: none.",
)
@click.option(
    "--locality",
    metavar="WEIGHT",
    type=FiniteRange(0),
    help="Weight of what keeps the tuned generator's other images as they are.",
)
@click.option(
    "--noise",
    type=click.Choice(NOISES),
    help="Noise maps of the generator. const: as they are, so that latents and snapshot make the image again; search: "
    "searched for as well, held to be noise, and written as a snapshot of its own.",
)
@class_option
@click.option(
    "--fit",
    type=click.Choice(["stretch", "crop", "pad"]),
    help="Fit of the picture into the generator's shape, as salon prepare has it. Default: stretch for squares, else "
    "crop by a quarter of a side at most.",
)
@click.option(
    "--background",
    metavar="COLOUR",
    help="Colour behind transparent parts and in the border of --fit pad, a name or #rrggbb; not with alpha.",
)
@click.option(
    "--distance",
    type=click.Choice(["lpips-vgg", "efficientnet-lite0"]),
    help="Distance between images: LPIPS, or the bundled network's features. Default: LPIPS where its weights are.",
)
@click.option(
    "--weights",
    metavar="NAME=PATH",
    multiple=True,
    help="File of weights of lpips-vgg and lpips-linear, or of efficientnet-lite0; repeat.",
)
@seed_option("Seed of the search: the same seed, the same latents.")
@click.option(
    "--learning-rate", metavar="RATE", type=FiniteRange(0, min_open=True), help="Learning rate of the search, at most."
)
@click.option(
    "--tune-learning-rate", metavar="RATE", type=FiniteRange(0, min_open=True), help="Learning rate of the tuning."
)
@click.option("--no-video", "video", flag_value=False, default=True, help="Leave out the video of the search.")
@click.option(
    "--preview-every", metavar="STEPS", type=WholeRange(1), help="Steps between two previews, NAME-preview.jpg."
)
@device_option
@marking_options
@overwrite_option
@json_option
def project(
    request: ProjectRequest,
    search: SearchRequest,
    tuning: TuningRequest,
    marking: MarkingRequest,
    as_json: bool,
) -> None:
    """Find the latents with which a generator shows a PICTURE, to edit, mix or interpolate them.

    Each picture is turned upright and fitted to the generator's shape. Of NAME.jpg the folder then holds NAME.npz, the
    latents; NAME.png, the generator's image of them; NAME-target.png, the picture as it was fitted; NAME-beside.png,
    both; NAME.mp4, the search; with --tune NAME.safetensors, the tuned generator, which the latents then belong to; and
    results.json has how near they came. Ctrl-C keeps the best so far.

    Pictures like those that the generator was trained on are found best. LPIPS below 0.1 looks alike; a generator that
    has not learned a motif does not show it in w, shows it roughly in w+, and exactly only after tuning.

    \b
    salon project monet.jpg --snapshot runs --out projected
    salon project monet.jpg --snapshot runs --out tuned --space w+ --starts 3 --tune 300
    """
    from gan.training.schedule import StopRequest
    from serving.project import project as library

    with StopRequest() as stop:
        figures = library.project(request, search, tuning, marking, stopped=lambda: stop.wanted)
    lpips = figures["distance_used"] == "lpips-vgg"
    rows = [
        (one["picture"], f"{one['distance']:.4f}", f"{one['pixel_error']:.2f}", one["steps"], one["tuned_steps"])
        for one in figures["pictures"]
    ]
    head = ["picture", "LPIPS" if lpips else figures["distance_used"], "levels off", "steps", "tuned"]
    lines = [table(rows, head), f"Results: {request.out / RESULTS}"]
    if figures["stopped"]:
        lines.append(f"Stopped: {len(rows)} of {len(request.pictures)} pictures, with the best so far")
    result("\n".join(lines), figures, as_json)
