"""The commands `salon curate check` and `salon curate score`. Heavy imports wait until a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Command
from gan.cli.options import PATH, FiniteRange, device_option, json_option, seed_option, together
from gan.runtime.console import result, table
from gan.runtime.files import refuse_existing

if TYPE_CHECKING:
    import torch

    from curation.collection import Collection
    from eval.features.extractor import Extractor

COLUMNS = ("none", "label", "style", "genre", "artist")


# DATASET and the options with which both commands find it, its manifest, and its features.
collection_options = together(
    click.argument("dataset", type=PATH),
    click.option("--manifest", metavar="DIR", type=PATH, help="The dataset's manifest. Default: that beside it."),
    click.option("--out", required=True, metavar="DIR", type=PATH, help="The new manifest to write."),
    click.option(
        "--extractor",
        metavar="NAME",
        default="efficientnet-lite0",
        show_default=True,
        help="Network whose features are compared; the default works offline.",
    ),
    click.option("--weights", metavar="FILE", type=PATH, help="The extractor's weights, where they lie elsewhere."),
    click.option("--fetch", is_flag=True, help="Allow to download the extractor's weights."),
    device_option,
    json_option,
)


@click.command(cls=Command)
@collection_options
@click.option(
    "--labels",
    type=click.Choice(COLUMNS),
    default="none",
    show_default=True,
    help="Doubt this column where an image's neighbours agree on another value.",
)
def check(dataset: Path, manifest: Path | None, out: Path, labels: str, as_json: bool, **how: Any) -> None:
    """Flag what may not belong into a dataset: padding, frames, greyscale, text, emptiness, size, duplicates, labels.

    Nothing is dropped: the new manifest has flags, measures, and groups of near duplicates and of series. Blur is no
    fault.

    \b
    salon curate check paintings64.zip --out checked.manifest
    salon curate check wikiart.zip --out checked.manifest --labels style
    """
    from curation.score.check import check as run
    from gan.runtime import distributed

    device, extractor = _prepare(out, **how)
    with distributed.joined(device):
        figures = run(_open(dataset, manifest), extractor, out, labels)
    rows = [(code, count) for code, count in figures["flags"].items()]
    text = f"{figures['flagged']} of {figures['images']} images are flagged\n{table(rows)}\n"
    text += f"{figures['duplicate_groups']} groups of duplicates, {figures['series_groups']} of series\nWrote {out}"
    result(text, figures, as_json)


@click.command(cls=Command)
@collection_options
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(["density", "knn", "d-low", "d-core", "d-cross"]),
    default=("density", "knn"),
    show_default=True,
    help="How to score; repeatable. d-low, the logit of a run's discriminator, is a baseline and points the wrong way "
    "for outliers that the generator never makes.",
)
@click.option(
    "--strata",
    type=click.Choice(COLUMNS),
    default="none",
    show_default=True,
    help="Compare images with those of the same value only; small strata are pooled.",
)
@seed_option("Of halves, folds and groupings.")
@click.option("--state", metavar="FILE", type=PATH, help="Save what was fitted here; if it exists, score with it.")
@click.option("--known", metavar="DIR", type=PATH, help="Manifest whose scores are kept: only other images are scored.")
@click.option("--run", "snapshots", metavar="RUN", type=PATH, help="For d-low: a snapshot, a run or a folder of runs.")
@click.option("--folder", metavar="DIR", type=PATH, help="For d-core and d-cross: where their runs go, and go on.")
@click.option("--preset", metavar="NAME", default="tiny", show_default=True, help="For d-core and d-cross.")
@click.option(
    "--kimg",
    metavar="KIMG",
    type=FiniteRange(0, min_open=True),
    default=20,
    show_default=True,
    help="For d-core and d-cross: length of each training.",
)
def score(
    dataset: Path,
    manifest: Path | None,
    out: Path,
    extractor: str,
    weights: Path | None,
    fetch: bool,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Score how typical of its dataset each image is, with a standard error.

    The default is the density of features and the distance to neighbours. torchrun shares the images out.

    \b
    salon curate score paintings64.zip --manifest checked.manifest --out scored.manifest --strata genre
    salon curate score more.zip --known scored.manifest --state paintings.npz --out more-scored.manifest
    """
    from curation.score.score import score as run
    from gan.runtime import distributed

    target, network = _prepare(out, extractor=extractor, weights=weights, fetch=fetch, device=device)
    with distributed.joined(target):
        figures = run(_open(dataset, manifest), network, out, device=target, **options)
    rate = f"{figures['seconds']:.1f} s, {figures['images_per_second']:.0f} images/s"
    result(f"Scored {figures['scored']} of {figures['images']} images in {rate}\nWrote {out}", figures, as_json)


def _prepare(
    out: Path, extractor: str, weights: Path | None, fetch: bool, device: str
) -> "tuple[torch.device, Extractor]":
    from eval.features.extractor import load_extractor
    from gan import device as devices

    refuse_existing([out])
    target = devices.select(device)
    return target, load_extractor(extractor, weights=weights, fetch=fetch, device=target)


def _open(dataset: Path, manifest: Path | None) -> "Collection":
    from curation.collection import open_collection

    return open_collection(dataset, manifest)
