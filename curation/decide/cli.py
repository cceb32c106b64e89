"""The commands of `salon curate` that decide, and those that show what was decided. Heavy imports wait."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Command
from gan.cli.options import PATH, FiniteRange, WholeRange, json_option, none_is_nothing, seed_option
from gan.errors import RequestError
from gan.runtime.console import result, say, table
from gan.runtime.files import refuse_existing

if TYPE_CHECKING:
    from curation.decide.review_server import ReviewSession


manifest_argument = click.argument("manifest", type=PATH)
data_option = click.option(
    "--data", required=True, metavar="DATASET", type=PATH, help="The dataset that MANIFEST judges."
)


def _strata_option(what: str) -> Callable[[Any], Any]:
    kinds = click.Choice(["none", "label", "style", "genre", "artist"])
    return click.option("--strata", type=kinds, default="none", callback=none_is_nothing, help=what)


METHODS = ["density", "knn", "d-low", "d-core", "d-cross"]


@click.command(cls=Command)
@manifest_argument
@click.option("--out", metavar="DIR", type=PATH, help="The manifest to write: a new folder.")
@click.option(
    "--keep", metavar="SHARE", type=FiniteRange(0, 1), default=0.95, show_default=True, help="Share to keep of all."
)
@_strata_option("Count, and keep quotas, by this.")
@click.option(
    "--floor",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    help="Share of each stratum that stays at least. Default: a stratum may lose twice the share that all lose.",
)
@click.option("--cap", metavar="NIMG", type=WholeRange(1), help="Keep at most so many of a stratum.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(METHODS),
    help="Scores to rank by; repeat. Default: density and knn, where they are. d-low is the rule of a lowest logit, "
    "for comparison: it drops what the generator has learned best.",
)
@click.option(
    "--fuse",
    type=click.Choice(["mean", "min"]),
    default="mean",
    show_default=True,
    help="One rank of several: their mean, or the lowest.",
)
@click.option(
    "--protect", metavar="FILE", type=PATH, help="List of images to keep: name, source or SHA-256, one a line."
)
@click.option("--drop", metavar="FILE", type=PATH, help="List of images to drop first, whatever the floor.")
@click.option("--drop-flag", "drop_flags", metavar="CODE", multiple=True, help="Drop what check flagged so; repeat.")
@click.option(
    "--tail",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    default=0.05,
    show_default=True,
    help="Report so many of the highest discriminator scores as under-covered.",
)
@click.option("--dry-run", is_flag=True, help="Print the table and write nothing.")
@json_option
def prune(manifest: Path, out: Path | None, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Drop the least typical images of a scored MANIFEST, in a new manifest that says why.

    Images are ranked among all, and the lowest go, in quotas by stratum. What a person decided stands, and images with
    a high discriminator score are only reported: the generator lacks them. No image is changed, moved or removed; to
    undo it, train with the parent.

    \b
    salon curate prune scored.manifest --keep 0.95 --strata genre --floor 0.9 --dry-run
    salon curate prune scored.manifest --keep 0.95 --strata genre --floor 0.9 --out pruned.manifest
    """
    from curation.decide import prune as pruning

    if out is None and not dry_run:
        raise RequestError("--out must name the manifest to write, such as --out pruned.manifest; or add --dry-run")
    figures = pruning.prune(pruning.Request(manifest=manifest, out=None if dry_run else out, **options))
    reasons = [code for code in (pruning.LISTED, pruning.FLAGGED, pruning.LOW, pruning.CAP) if code in figures]
    header = ["images", "kept", *reasons, "under-covered", "without a score"]
    rows = [
        (name, *(f"{counts[key]:,}" for key in header), _share(counts)) for name, counts in figures["strata"].items()
    ]
    rows.append(("all", *(f"{figures[key]:,}" for key in header), _share(figures)))
    text = table(rows, [options["strata"] or "", *header, "share kept"])
    result(f"{text}\n{f'Wrote {out}' if not dry_run else 'Dry run: nothing was written'}", figures, as_json)


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
    for found in figures["manifests"]:
        verdicts = ", ".join(f"{name} {count:,}" for name, count in found["verdicts"].items())
        lines += [f"{found['hash'][:12]}  {found['path']}", f"              {found['command'] or '-'}: {verdicts}"]
        lines += [
            f"              {name}: {value}" for name, value in (found["parameters"] or {}).items() if _told(value)
        ]
    if figures["missing"]:
        lines.append(f"{figures['missing'][:12]}  its parent lies neither where it was nor beside it")
    result("\n".join(lines), figures, as_json)


@click.command(cls=Command)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@_strata_option("Count by this as well.")
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
@manifest_argument
@data_option
@click.option("--out", metavar="FILE.html", type=PATH, help="Write the gallery to this file.")
@click.option("--overrule", metavar="DIR", type=PATH, help="Serve it on this machine; verdicts become this manifest.")
@click.option("--reviewer", metavar="NAME", help="Who overrules.")
@click.option(
    "--port", metavar="PORT", type=WholeRange(0, 65535), default=0, help="Of the page. Default: any that is free."
)
@click.option(
    "--count", metavar="NIMG", type=WholeRange(1, 5000), default=48, show_default=True, help="Images of each kind."
)
@click.option(
    "--size", metavar="PX", type=WholeRange(16, 512), default=128, show_default=True, help="Side of thumbnails."
)
@seed_option("Of the kept images shown.")
@json_option
def review(
    manifest: Path,
    data: Path,
    out: Path | None,
    overrule: Path | None,
    reviewer: str | None,
    port: int,
    as_json: bool,
    **look: int,
) -> None:
    """Show what MANIFEST removed, nearly removed, found under-covered, and kept: one page that needs nothing else.

    With --overrule a person decides otherwise on it, with the keyboard, until Ctrl-C; the verdicts become a new
    manifest with the person's name. When it ends in another way, the same command goes on.

    \b
    salon curate review pruned.manifest --data paintings64.zip --out review.html
    salon curate review pruned.manifest --data paintings64.zip --overrule reviewed.manifest --reviewer Ada
    """
    from curation.decide import review_page, review_server
    from curation.decide.materialize import open_pair
    from gan.runtime.files import atomic

    place = out or overrule
    if place is None:
        raise RequestError("--out must name the page to write, such as --out review.html; or --overrule a new manifest")
    if reviewer and not overrule:
        raise RequestError("--reviewer needs --overrule DIR, the manifest of what the reviewer decides")
    if overrule and not reviewer:
        raise RequestError("--overrule needs --reviewer NAME: the manifest says who decided")
    if out and out.suffix != ".html":
        raise RequestError(f"--out must end in .html; got {out} instead")
    refuse_existing([out] if out else [])
    dataset, found = open_pair(manifest, data, place)
    person = (
        review_server.ReviewSession(found=found, reviewer=reviewer, out=overrule) if overrule and reviewer else None
    )
    shown = review_page.content(found, dataset, **look)
    figures: dict[str, Any] = {"images": len(shown["images"]), "page": str(out) if out else None}
    lines = []
    if out:
        with atomic(out) as file:
            file.write_text(review_page.html(shown), encoding="utf-8")
        figures["bytes"] = out.stat().st_size
        lines.append(f"Wrote {out}: {figures['images']:,} images, {figures['bytes'] / 1e6:.1f} MB")
    if person:
        overruled = _serve(shown, person, port)
        figures |= overruled
        lines.append(f"Wrote {overrule}: {overruled['overruled']} overruled" if overruled["hash"] else "None overruled")
    result("\n".join(lines), figures, as_json)


def _serve(shown: dict[str, Any], person: "ReviewSession", port: int) -> dict[str, Any]:
    from curation.decide import review_server
    from gan.runtime import web

    token = secrets.token_urlsafe(24)
    with web.listen(web.LOCAL, port, "--port must be a free port") as listening:
        say(f"Review at http://{web.LOCAL}:{listening.getsockname()[1]}/{token}/ until Ctrl-C")
        web.serve(review_server.application(shown, person, token), listening)
    digest = person.finish()
    return {"manifest": str(person.out) if digest else None, "hash": digest, "overruled": len(person.verdicts)}


def _share(counts: dict[str, Any]) -> str:
    return f"{counts['kept'] / counts['images']:.1%}" if counts["images"] else "-"


def _told(value: Any) -> bool:
    return value not in (None, [], {}, "") and not isinstance(value, dict)
