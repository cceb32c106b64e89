"""The commands `salon curate check` and `salon curate score`. Heavy imports wait until a command runs."""

import click

from curation.score.request import CheckRequest, ScoreRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH, column_option, device_option, engine_options, json_option, seed_option, together
from gan.runtime.console import result, table

# DATASET and the options with which both commands find it, its manifest, and its features.
feature_options = together(
    click.argument("dataset", type=PATH),
    click.option("--manifest", metavar="DIR", type=PATH, help="The dataset's manifest. Default: that beside it."),
    click.option("--out", metavar="DIR", type=PATH, help="The new manifest to write."),
    click.option(
        "--extractor", metavar="NAME", help="Extractor whose features are compared; the default works offline."
    ),
    click.option(
        "--weights", metavar="FILE", type=PATH, help="File of the extractor's weights, where not in the cache."
    ),
    click.option("--fetch", is_flag=True, help="Allow to download the extractor's weights."),
    device_option,
    engine_options,
    json_option,
)


@click.command(cls=Command)
@takes(CheckRequest)
@feature_options
@column_option("labels", "Column checked for label noise: flags images whose nearest neighbours share another value.")
@click.option(
    "--known", metavar="ARCHIVE", type=PATH, help="Dataset that is there already: flags copies of its images."
)
def check(request: CheckRequest, as_json: bool) -> None:
    """Flag what may not belong into a dataset: padding, frames, greyscale, text, emptiness, size, duplicates, labels.

    Nothing is dropped: the new manifest has flags, measures, and groups of near duplicates and of series. Blur is no
    fault.

    \b
    salon curate check paintings64.zip --out checked.manifest
    salon curate check wikiart.zip --out checked.manifest --labels style
    salon curate check more.zip --out more-checked.manifest --known paintings64.zip
    """
    from curation.score import check as checking

    figures = checking.check(request)
    rows = [(code, count) for code, count in figures["flags"].items()]
    text = f"{figures['flagged']} of {figures['images']} images are flagged\n{table(rows)}\n"
    text += f"{figures['duplicate_groups']} groups of duplicates, {figures['series_groups']} of series\n"
    if recall := figures["neighbours_recall"]:
        low, high = (100 * recall[bound] for bound in ("low", "high"))
        text += (
            f"{100 * recall['value']:.1f} % of an image's 20 nearest neighbours were found ({low:.1f} to {high:.1f})\n"
        )
    result(f"{text}Wrote {request.out}", figures, as_json)


@click.command(cls=Command)
@takes(ScoreRequest)
@feature_options
@click.option(
    "--features",
    type=click.Choice(["content", "style", "both"]),
    help="Features to compare: content, what is shown (by --extractor); style, how it is painted, which finds "
    "photographs among paintings of the same things; or both.",
)
@click.option(
    "--method",
    "methods",
    metavar="METHOD",
    multiple=True,
    help="Method of scoring, repeatable: density or knn, of features, d-low, or one of another package. d-low, the "
    "logit of a run's discriminator, is a baseline and points the wrong way for outliers that the generator never "
    "makes.",
)
@column_option(
    "strata", "Column of strata: images are compared with those of the same value only; small strata are pooled."
)
@seed_option("Seed of the halves that models are fitted on, and of d-low's minibatches.")
@click.option("--state", metavar="FILE", type=PATH, help="File of the fitted models: written, or scored with if there.")
@click.option("--known", metavar="DIR", type=PATH, help="Manifest whose scores are kept: only other images are scored.")
@click.option("--run", metavar="RUN", type=PATH, help="Snapshot, run or folder of runs, for d-low.")
def score(request: ScoreRequest, as_json: bool) -> None:
    """Score how typical of its dataset each image is, with a standard error.

    The default is the density of features and the distance to neighbours. torchrun shares the images out.

    \b
    salon curate score paintings64.zip --manifest checked.manifest --out scored.manifest --strata genre
    salon curate score paintings64.zip --manifest scored.manifest --out styled.manifest --features style
    salon curate score more.zip --known scored.manifest --state paintings.npz --out more-scored.manifest
    """
    from curation.score import score as scoring

    figures = scoring.score(request)
    rate = f"{figures['seconds']:.1f} s, {figures['images_per_second']:.0f} images/s"
    text = f"Scored {figures['scored']} of {figures['images']} images in {rate}\n"
    for kind, compared in (("pooled", "each other"), ("all", "all strata")):
        if small := (figures["models"] or {}).get(kind):
            sizes = ", ".join(f"{name} {count:,}" for name, count in small.items())
            text += f"Strata too small for a model of their own, compared with {compared}: {sizes}\n"
    result(f"{text}Wrote {request.out}", figures, as_json)
