"""The commands of `salon curate` that decide, and those that show what was decided. Heavy imports wait."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation.decide.request import LearnRequest, PruneRequest, ReviewRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH, FiniteRange, WholeRange, column_option, device_option, json_option, seed_option
from gan.runtime.console import result, say, table

if TYPE_CHECKING:
    from curation.decide.review_server import ReviewSession
    from gan.data.dataset import ImageDataset


manifest_argument = click.argument("manifest", type=PATH)
data_option = click.option(
    "--data", required=True, metavar="DATASET", type=PATH, help="The dataset that MANIFEST is of."
)


@click.command(cls=Command)
@takes(PruneRequest)
@manifest_argument
@click.option("--out", metavar="DIR", type=PATH, help="The manifest to write: a new folder.")
@click.option("--keep", metavar="SHARE", type=FiniteRange(0, 1), help="Share to keep of all.")
@column_option("strata", "Column of strata, for counts and quotas.")
@click.option(
    "--floor",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    help="Share of each stratum that stays at least. Default: a stratum may lose twice the share that all lose.",
)
@click.option("--cap", metavar="NIMG", type=WholeRange(1), help="Images of a stratum to keep at most.")
@click.option(
    "--method",
    "methods",
    metavar="METHOD",
    multiple=True,
    help="Method whose scores rank the images, repeatable. Default: density and knn, of content and style, where the "
    "manifest has them. learned is by a reviewer's verdicts (salon curate learn); d-low is the rule of a lowest logit, "
    "for comparison: it drops what the generator has learned best.",
)
@click.option(
    "--fuse", type=click.Choice(["mean", "min"]), help="Fusion of several ranks into one: their mean, or the lowest."
)
@click.option(
    "--fuse-by",
    metavar="FILE",
    type=PATH,
    help="Manifest with a person's verdicts, or .csv with the columns name and outlier (1 or 0): they weigh content "
    "and style. Default: equal weights.",
)
@click.option(
    "--protect", metavar="FILE", type=PATH, help="List of images to keep: name, source or SHA-256, one a line."
)
@click.option("--drop", metavar="FILE", type=PATH, help="List of images to drop first, whatever the floor.")
@click.option(
    "--drop-flag", "drop_flags", metavar="CODE", multiple=True, help="Flag of check whose images to drop; repeatable."
)
@click.option(
    "--tail",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    help="Share of the highest discriminator scores to report as under-covered.",
)
@click.option("--dry-run", is_flag=True, help="Print the table and write nothing.")
@json_option
def prune(request: PruneRequest, as_json: bool) -> None:
    """Drop the least typical images of a scored MANIFEST, in a new manifest that says why.

    Images are ranked among all, and the lowest go, in quotas by stratum. What a person decided stands, and images with
    a high discriminator score are only reported: the generator lacks them. No image is changed, moved or removed; to
    undo it, train with the parent.

    \b
    salon curate prune scored.manifest --keep 0.95 --strata genre --floor 0.9 --dry-run
    salon curate prune scored.manifest --keep 0.95 --strata genre --floor 0.9 --out pruned.manifest
    """
    from curation.decide import prune as pruning

    figures = pruning.prune(request)
    reasons = [code for code in (pruning.LISTED, pruning.FLAGGED, pruning.LOW, pruning.CAP) if code in figures]
    header = ["images", "kept", *reasons, "under-covered", "without a score"]
    rows = [
        (name, *(f"{counts[key]:,}" for key in header), _share(counts)) for name, counts in figures["strata"].items()
    ]
    rows.append(("all", *(f"{figures[key]:,}" for key in header), _share(figures)))
    text = table(rows, [request.strata or "", *header, "share kept"])
    if chosen := figures["parameters"].get("weights"):
        text += f"\n{_weighed(chosen)}"
    if figures["spared"]:
        text += f"\n{figures['spared']:,} stay as the last kept copies of their pictures"
    end = "Dry run: nothing was written" if request.dry_run else f"Wrote {request.out}"
    result(f"{text}\n{end}", figures, as_json)


def _weighed(chosen: dict[str, Any]) -> str:
    precision, equal = chosen["held_out"], chosen["equal"]["value"]
    return (
        f"Weights by {chosen['images']} labelled images, {chosen['outliers']} of them outliers: content "
        f"{1 - chosen['style']:g}, style {chosen['style']:g}. Held-out average precision {precision['value']:.3f} "
        f"({precision['low']:.3f} to {precision['high']:.3f}), {equal:.3f} with equal weights"
    )


@click.command(cls=Command)
@manifest_argument
@json_option
def log(manifest: Path, as_json: bool) -> None:
    """Tell where MANIFEST comes from: its parents, the newest first.

    \b
    salon curate log pruned.manifest
    """
    from curation.decide import lineage

    figures = lineage.log(manifest)
    lines = []
    for entry in figures["manifests"]:
        verdicts = ", ".join(f"{name} {count:,}" for name, count in entry["verdicts"].items())
        lines += [f"{entry['hash'][:12]}  {entry['path']}", f"              {entry['command'] or '-'}: {verdicts}"]
        lines += [
            f"              {name}: {value}" for name, value in (entry["parameters"] or {}).items() if _is_plain(value)
        ]
    if figures["missing"]:
        lines.append(f"{figures['missing'][:12]}  its parent lies neither where it was nor beside it")
    result("\n".join(lines), figures, as_json)


@click.command(cls=Command)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@column_option("strata", "Column of strata to count by as well.")
@json_option
def diff(a: Path, b: Path, strata: str | None, as_json: bool) -> None:
    """Tell what manifest B decides otherwise than manifest A, by reason and by stratum.

    \b
    salon curate diff scored.manifest pruned.manifest --strata genre
    """
    from curation.decide import lineage

    figures = lineage.diff(a, b, strata)
    groups = [("reason", figures["reasons"]), *([(strata, figures["strata"])] if strata else [])]
    lines = [
        f"{figures['changed']:,} verdicts differ; {figures['added']:,} images are only in {b}, "
        f"{figures['removed']:,} only in {a}"
    ]
    if not figures["same_dataset"]:
        lines.insert(0, "The manifests are of different datasets: their images are matched by source")
    for title, counts in groups:
        rows = [(name, change, f"{count:,}") for name, changes in counts.items() for change, count in changes.items()]
        lines += ["", table(rows, [title, "change", "images"])] if rows else []
    for sign, names in (("+", figures["columns_added"]), ("-", figures["columns_removed"])):
        lines += [f"\nColumns {sign} {', '.join(names)}"] if names else []
    result("\n".join(lines), figures, as_json)


@click.command(cls=Command)
@manifest_argument
@data_option
@click.option("--out", required=True, metavar="DATASET.zip", type=PATH, help="The archive to write.")
@json_option
def materialize(manifest: Path, data: Path, out: Path, as_json: bool) -> None:
    """Write the images that MANIFEST keeps as a dataset of its own, with its manifest beside it.

    Training needs no such copy: salon train takes --manifest. The bytes of each image stay the same.

    \b
    salon curate materialize pruned.manifest --data paintings64.zip --out pruned64.zip
    """
    from curation.decide.materialize import materialize

    figures = materialize(manifest, data, out)
    text = (
        f"Wrote {out}: {figures['images']:,} images, {figures['bytes'] / 1e6:,.1f} MB; {figures['left_out']:,} left out"
    )
    result(text, figures, as_json)


@click.command(cls=Command)
@takes(LearnRequest)
@manifest_argument
@click.option("--data", "dataset", required=True, metavar="DATASET", type=PATH, help="The dataset that MANIFEST is of.")
@click.option("--out", metavar="DIR", type=PATH, help="The new manifest to write.")
@click.option("--extractor", metavar="NAME", help="Extractor whose features it learns from; the default works offline.")
@click.option("--weights", metavar="FILE", type=PATH, help="File of the extractor's weights, where not in the cache.")
@click.option("--fetch", is_flag=True, help="Allow to download the extractor's weights.")
@device_option
@click.option("--count", metavar="NIMG", type=WholeRange(1, 5000), help="Images to propose for the next review.")
@seed_option("Seed of the folds of cross-validation.")
@json_option
def learn(request: LearnRequest, as_json: bool) -> None:
    """Learn from a person's verdicts in MANIFEST which images they would keep, and which to ask them about next.

    A new manifest has a calibrated probability for every image, score_learned, which salon curate prune ranks by with
    --method learned, and the images whose verdicts would teach most, which salon curate review --next shows. Verdicts
    are those that were overruled or confirmed: at least 10, 3 of them keep and 3 drop. The error is of verdicts that
    the model had not seen; images are proposed for being hard, so that on all others it is smaller.

    \b
    salon curate review scored.manifest --data paintings64.zip --next --overrule seen1.manifest --reviewer Ada
    salon curate learn seen1.manifest --data paintings64.zip --out learned1.manifest
    salon curate review learned1.manifest --data paintings64.zip --next --overrule seen2.manifest --reviewer Ada
    salon curate learn seen2.manifest --data paintings64.zip --out learned2.manifest
    salon curate prune learned2.manifest --method learned --keep 0.95 --out pruned.manifest
    """
    from curation.decide import learn as learning

    figures = learning.learn(request)
    verdicts, held_out = figures["verdicts"], figures["held_out"]
    rows = [
        ("wrong verdicts", f"{held_out['error']:.1%}", f"{held_out['error_base']:.1%}"),
        ("  95 % interval", f"{held_out['error_low']:.1%} to {held_out['error_high']:.1%}", ""),
        ("Brier score", f"{held_out['brier']:.3f}", f"{held_out['brier_base']:.3f}"),
        ("AUROC", f"{held_out['auroc']:.3f}", "0.500"),
    ]
    lines = [
        f"Learned from {verdicts['keep']:,} keep and {verdicts['drop']:,} drop",
        table(rows, ["on held-out verdicts", "model", "base rate"]),
        f"{figures['unlikely']:,} of {figures['kept']:,} kept images would rather be dropped",
        f"Wrote {request.out}: {figures['proposed']:,} images to look at next",
    ]
    result("\n".join(lines), figures, as_json)


@click.command(cls=Command)
@takes(ReviewRequest)
@manifest_argument
@data_option
@click.option("--out", metavar="FILE.html", type=PATH, help="The page to write.")
@click.option(
    "--overrule", metavar="DIR", type=PATH, help="The manifest of a person's verdicts, on a page served here."
)
@click.option("--reviewer", metavar="NAME", help="Name of the person who overrules.")
@click.option("--next", is_flag=True, help="Show only the images to decide on next, for salon curate learn.")
@click.option("--port", metavar="PORT", type=WholeRange(0, 65535), help="Port of the page. 0: any that is free.")
@click.option("--count", metavar="NIMG", type=WholeRange(1, 5000), help="Images of each section at most.")
@click.option("--size", metavar="PX", type=WholeRange(16, 512), help="Side of the thumbnails.")
@seed_option("Seed of the kept images shown.")
@json_option
def review(request: ReviewRequest, as_json: bool) -> None:
    """Show what MANIFEST removed, nearly removed, found under-covered, and kept: one page that needs nothing else.

    With --overrule a person decides on it, with the keyboard, until Ctrl-C; the verdicts that they overruled or
    confirmed become a new manifest with the person's name. When it ends in another way, the same command goes on.

    \b
    salon curate review pruned.manifest --data paintings64.zip --out review.html
    salon curate review pruned.manifest --data paintings64.zip --overrule reviewed.manifest --reviewer Ada
    """
    from curation.decide import review_page, review_server
    from curation.decide.materialize import open_to_write
    from gan.runtime.files import atomic, escaped

    out, overrule, reviewer = request.out, request.overrule, request.reviewer
    collection = open_to_write(request.data, request.manifest, *[path for path in (out, overrule) if path])
    manifest = collection.require_manifest().whole()
    person = None
    if overrule and reviewer:
        person = review_server.ReviewSession(found=manifest, reviewer=reviewer, out=overrule)
    shown = review_page.content(
        manifest,
        collection.dataset,
        count=request.count,
        size=request.size,
        seed=request.seed,
        next_alone=request.next,
    )
    figures: dict[str, Any] = {"images": len(shown["images"]), "page": str(out) if out else None}
    lines = []
    if out:
        with atomic(out) as file:
            file.write_text(escaped(review_page.html(shown)), encoding="utf-8")
        figures["bytes"] = out.stat().st_size
        lines.append(f"Wrote {out}: {figures['images']:,} images, {figures['bytes'] / 1e6:.1f} MB")
    if person:
        overruled = _serve(shown, person, collection.dataset, request.port)
        figures |= overruled
        told = f"{overruled['overruled']} overruled, {overruled['confirmed']} confirmed"
        lines.append(f"Wrote {overrule}: {told}" if overruled["hash"] else "No verdict was given")
    result("\n".join(lines), figures, as_json)


def _serve(shown: dict[str, Any], person: "ReviewSession", dataset: "ImageDataset", port: int) -> dict[str, Any]:
    from curation.decide import review_server
    from gan.runtime import web

    token = secrets.token_urlsafe(24)
    with web.listen(web.LOCAL, port, "--port must be a free port") as listening:
        say(f"Review at http://{web.LOCAL}:{listening.getsockname()[1]}/{token}/ until Ctrl-C")
        web.serve(review_server.application(shown, person, dataset, token), listening)
    digest = person.finish()
    return {"manifest": str(person.out) if digest else None, "hash": digest, **person.counts()}


def _share(counts: dict[str, Any]) -> str:
    return f"{counts['kept'] / counts['images']:.1%}" if counts["images"] else "-"


def _is_plain(value: Any) -> bool:
    # Whether a line of the log has room for a parameter, and it says something.
    return value not in (None, [], {}, "") and not isinstance(value, dict)
