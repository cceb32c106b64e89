"""The command `salon curate auto`. Heavy imports wait until it runs."""

import shlex

import click

from curation.auto.request import AutoRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH, FiniteRange, column_option, device_option, json_option, overwrite_option
from gan.runtime.console import result, table


@click.command(cls=Command)
@takes(AutoRequest)
@click.argument("dataset", type=PATH)
@click.option("--manifest", metavar="DIR", type=PATH, help="The dataset's manifest. Default: that beside it.")
@click.option("--out", metavar="DIR", type=PATH, help="The manifest to write; those of the steps before lie beside it.")
@column_option("labels", "Column checked for label noise, which is flagged and not dropped.")
@column_option(
    "strata", "Column of strata: images are compared with those of the same value, and each stratum keeps its share."
)
@click.option("--keep", metavar="SHARE", type=FiniteRange(0, 1), help="Share to keep of all; copies count as dropped.")
@click.option(
    "--floor",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    help="Share of each stratum that stays at least. Default: a stratum may lose twice the share that all lose.",
)
@click.option(
    "--drop-flag",
    "drop_flags",
    metavar="CODE",
    multiple=True,
    help="Flag of check whose images to drop, repeatable; of copies a better one stays.",
)
@device_option
@overwrite_option
@click.option("--dry-run", is_flag=True, help="Print the commands that do the same one by one, and run none.")
@json_option
def auto(request: AutoRequest, as_json: bool) -> None:
    """Curate DATASET in one call: check, score by content and style, prune, and a page of what was decided.

    Copies go, and the least typical images by rank, 5 % together. Nothing is final: images stay where they are, the
    page shows what was dropped, and salon curate review overrules it. The same command goes on where it was stopped:
    steps that are done, of the same dataset and options, are not done again.

    \b
    salon curate auto paintings64.zip --out curated.manifest
    salon curate auto wikiart.zip --out curated.manifest --labels style --strata genre --floor 0.9
    """
    lines = _commands(request)
    if request.dry_run:
        result("\n".join(lines), {"commands": lines, "dry_run": True}, as_json)
        return
    from curation.auto import auto as curation

    figures = curation.auto(request)
    dropped = sum(figures["dropped"].values())
    rows = [*((reason, f"{count:,}") for reason, count in figures["dropped"].items()), ("all", f"{dropped:,}")]
    text = [f"{figures['kept']:,} of {figures['images']:,} images stay", table(rows, ["dropped for", "images"])]
    if dropped and figures["kept"] < request.keep * figures["images"]:
        text.append(
            f"Flags alone drop more than --keep {request.keep:g} says, and nothing went for its rank: look at the "
            "copies on the page before you train"
        )
    if figures["flagged"]:
        flags = ", ".join(f"{code} {count:,}" for code, count in figures["flagged"].items())
        text.append(f"Flagged and kept: {flags}")
    following = _following(request)
    text += [f"Wrote {request.out}, and for a look at it {request.page}", "", "Next:", *following]
    result("\n".join(text), {**figures, "next": following}, as_json)


def _commands(request: AutoRequest) -> list[str]:
    # Command lines that do the same.
    device = [] if request.device == "auto" else ["--device", request.device]
    strata = ["--strata", request.strata] if request.strata else []
    source = ["--manifest", request.manifest] if request.manifest else []
    labels = ["--labels", request.labels] if request.labels else []
    floor = [] if request.floor is None else ["--floor", f"{request.floor:g}"]
    flags = [word for code in request.drop_flags for word in ("--drop-flag", code)]
    both = ["--features", "both", *strata, *device]
    lines = [
        ["check", request.dataset, *source, "--out", request.checked, *labels, *device],
        ["score", request.dataset, "--manifest", request.checked, "--out", request.scored, *both],
        ["prune", request.scored, "--keep", f"{request.keep:g}", *strata, *floor, *flags, "--out", request.out],
        ["review", request.out, "--data", request.dataset, "--out", request.page],
    ]
    return [shlex.join(["salon", "curate", *map(str, line)]) for line in lines]


def _following(request: AutoRequest) -> list[str]:
    # What one does with the manifest.
    data = ["--data", request.dataset]
    reviewed = request.out.with_name(f"{request.out.name.removesuffix('.manifest')}-reviewed.manifest")
    lines = [
        ["curate", "review", request.out, *data, "--overrule", reviewed, "--reviewer", "NAME"],
        ["train", *data, "--manifest", request.out, "--out", "runs"],
        ["curate", "retrain", "--run", "RUN", "--manifest", request.out, *data, "--kimg", "500", "--out", "retraining"],
    ]
    return [shlex.join(["salon", *map(str, line)]) for line in lines]
