"""The command eval novelty. Heavy imports wait until it runs."""

from pathlib import Path
from typing import Any

import click

from eval.cli.options import extractor_options, require_one
from eval.request import VIEWS, NoveltyRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH, FiniteRange, WholeRange, column_option, overwrite_option, seed_option
from gan.runtime.console import result, table


@click.command(cls=Command)
@takes(NoveltyRequest)
@click.option("--snapshot", metavar="SNAPSHOT", type=PATH, help="A snapshot, a run, or a folder of runs.")
@click.option("--images", metavar="FOLDER|ZIP|NPZ", type=PATH, help="Images to compare, instead of a snapshot.")
@click.option("--data", required=True, metavar="DATASET", type=PATH, help="Training images, made by salon prepare.")
@click.option("--manifest", metavar="DIR", type=PATH, help="Manifest of the training; only the images that it keeps.")
@click.option(
    "--held-out",
    metavar="FOLDER|ZIP|NPZ|DIR",
    type=PATH,
    help="Real images that no training saw; or a manifest of the same dataset that keeps them, such as "
    "manifests/held-out of curate retrain. Without them only authenticity is told.",
)
@click.option(
    "--out", required=True, metavar="DIR", type=PATH, help="Folder of novelty.json, novelty.html and features."
)
@click.option(
    "--views",
    type=click.Choice(VIEWS),
    help="Training images as they are, also flipped, or also cropped to 85 % in 5 places: 1, 2 or 12 passes over them.",
)
@click.option(
    "--num-images",
    metavar="NIMG",
    type=WholeRange(1),
    help="Images to compare. Default: 10,000 of a snapshot, all of a folder or ZIP.",
)
@seed_option("Seed of the first image.")
@click.option(
    "--truncation-psi",
    metavar="PSI",
    type=FiniteRange(-2, 2),
    help="Truncation of snapshots. Below 1: more typical and less varied images.",
)
@column_option(
    "strata",
    "Strata of the training images to report by as well: label of the dataset, or style, genre or artist of the "
    "manifest.",
)
@click.option("--num-pairs", metavar="N", type=WholeRange(0), help="Pairs to show, the most suspicious.")
@overwrite_option
@extractor_options
def novelty(
    snapshot: Path | None,
    images: Path | None,
    data: Path,
    manifest: Path | None,
    held_out: Path | None,
    out: Path,
    device: str,
    as_json: bool,
    request: NoveltyRequest,
) -> None:
    """Test whether a generator copies its training images, flipped and cropped ones too.

    Told are authenticity, the share of images that are nearer to a training image than 95 % of held-out real images,
    and the test C_T, each with its interval beside the same of held-out images. The most suspicious pairs are shown.

    \b
    salon eval novelty --snapshot runs --data paintings64.zip --held-out others --out novelty
    """
    from eval.data.image_sources import open_source
    from eval.evaluator import require_folder
    from eval.novelty import REPORT, NoveltyTest
    from gan.data.collection import Collection
    from gan.runtime import distributed

    path = require_one(snapshot, images, request.truncation_psi)
    require_folder(out)
    test = NoveltyTest(Collection.open(data, manifest), held_out, request, device)
    with distributed.joined(test.target):
        source = open_source(
            path,
            request.num_images,
            seed=request.seed,
            truncation_psi=request.truncation_psi,
            class_shares=test.real.class_shares(),
            device=test.target,
            batch_size=request.batch_size,
        )
        figures = test(source, out)
    if figures is not None:
        result(_text(figures, out / REPORT), {"out": str(out), **figures}, as_json)


def _text(figures: dict[str, Any], report: Path) -> str:
    rows = [
        [row["name"], *(_told(row["id"], row[key]) for key in ("control", "difference")), row["extractor"]]
        for row in figures["results"]
    ]
    for row, measured in zip(rows, figures["results"], strict=True):
        row.insert(1, _told(measured["id"], measured))
    parts = [table(rows, ["", "generated (95 % interval)", "held-out", "difference", "extractor"]), ""]
    if figures["strata"]:
        header = ["stratum", "generated", "authenticity", "held-out", "their authenticity", "nearer than 95 %"]
        parts += [table([_stratum(row) for row in figures["strata"]], header), ""]
    parts += [finding["text"] for finding in figures["findings"]]
    return "\n".join([*parts, figures["limits"], f"Report: {report}"])


def _told(id: str, estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return ""
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    return (
        f"{value:.2f} ({low:.2f} to {high:.2f})" if id == "copying_test" else f"{value:.1%} ({low:.1%} to {high:.1%})"
    )


def _stratum(row: dict[str, Any]) -> list[object]:
    shares = (_told("", row[name]) for name in ("authenticity", "control", "copied"))
    authenticity, control, copied = shares
    return [row["name"], row["n_gen"], authenticity, row["n_held_out"], control, copied]
