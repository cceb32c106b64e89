"""The command `salon verify`. Heavy imports wait until it runs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, WholeRange, device_option
from gan.errors import RequestError
from gan.runtime.console import progress, result
from serving.client.options import model_option, server_options
from serving.client.request import Connection

if TYPE_CHECKING:
    from gan.sampling.recipe_files import RecipeFiles
    from gan.sampling.verify import Make, Verification

TOLERANCE = 2  # levels: another processor or library rounds otherwise


@click.command(cls=Command)
@takes(Connection, "connection")
@click.argument("pictures", metavar="PICTURE...", nargs=-1, required=True, type=PATH)
@click.option("--snapshot", metavar="SNAPSHOT", type=PATH, help="Snapshot, run, or folder of runs to compare with.")
@click.option(
    "--ws",
    metavar="FILE",
    type=PATH,
    multiple=True,
    help="File of ws that pictures were made from, which recipes name by its SHA-256; repeat for several.",
)
@click.option(
    "--directions",
    metavar="FILE",
    type=PATH,
    multiple=True,
    help="File of directions that pictures were edited with; repeat for several.",
)
@click.option(
    "--tolerance",
    metavar="LEVELS",
    type=WholeRange(0, 255),
    default=TOLERANCE,
    show_default=True,
    help="Most levels, of 255, that a picture may be off; 0 on the machine that made it.",
)
@device_option
@model_option
@server_options
@click.pass_context
def verify(
    context: click.Context,
    pictures: tuple[Path, ...],
    snapshot: Path | None,
    ws: tuple[Path, ...],
    directions: tuple[Path, ...],
    tolerance: int,
    device: str,
    connection: Connection,
    as_json: bool,
) -> int:
    """Read where a PICTURE says that it comes from; with --snapshot or --url, generate it again and compare.

    Read are PNG, JPEG, WebP, GIF and MP4. Exit code 3: some picture is not what its recipe makes, could not be
    compared, or was changed after it was signed. A picture without a mark may be generated all the same: marks are
    lost where a program writes a picture anew.

    \b
    salon verify images/seed0003.png
    salon verify images/*.png --snapshot runs
    salon verify edited/*.png --snapshot runs --directions directions.npz
    salon verify downloaded.webp --url grpc://127.0.0.1:8001
    """
    from gan.sampling import verify as library
    from gan.sampling.recipe_files import RecipeFiles

    asked = context.get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE  # not by the variable alone
    if asked and snapshot is not None:
        raise RequestError("`snapshot` and `url` exclude each other")
    compared = snapshot is not None or asked
    if (ws or directions) and not compared:
        raise RequestError("`ws` and `directions` need `snapshot` or `url`, to make pictures again with them")
    given, found = RecipeFiles.of(ws, directions), list[library.Verification]()
    with _generator(snapshot, device, connection if asked else None, given) as (digest, make, files):
        for picture in progress(pictures, "Verifying", len(pictures)):
            found.append(library.verify(picture, digest, make, files))
    good = [each.same(tolerance) for each in found]
    figures = {"pictures": [_figures(each, tolerance) for each in found], "verified": sum(map(bool, good))}
    lines = [line for each in found for line in _lines(each, tolerance)]
    if compared and len(found) > 1:
        lines.append(f"{figures['verified']} of {len(found)} pictures are what their recipes make")
    result("\n".join(lines), figures, as_json)
    broken = any(each.signature and not each.signature.unchanged for each in found)
    return 3 if broken or (compared and not all(good)) else 0


@contextmanager
def _generator(
    snapshot: Path | None, device: str, connection: Connection | None, files: "RecipeFiles"
) -> "Iterator[tuple[str | None, Make | None, RecipeFiles]]":
    # The SHA-256 of what pictures are compared with, and what makes them; None: nothing. And all files for that.
    if snapshot is not None:
        from gan import snapshot as snapshots
        from gan.device.selection import select
        from gan.sampling.verify import of_snapshot

        yield *of_snapshot(snapshots.find(snapshot), select(device), files), files
    elif connection is not None:
        from serving.client.client import Client
        from serving.verify.served import of_server

        with Client(**asdict(connection)) as client, tempfile.TemporaryDirectory() as folder:
            if (content := client.directions_file()) is not None:
                served = Path(folder) / "directions.npz"
                served.write_bytes(content)
                files = files.with_directions(served)
            yield *of_server(client, files), files
    else:
        yield None, None, files


def _figures(found: "Verification", tolerance: int) -> dict[str, Any]:
    recipe = found.said.recipe
    return {
        "file": str(found.path),
        "format": found.said.format,
        "marked": found.said.marked,
        "signature": None if found.signature is None else asdict(found.signature),
        "recipe": None if recipe is None else recipe.to_dict(),
        "same": found.same(tolerance),
        "largest_difference": found.largest,
        "mean_difference": found.mean,
        "reason": found.reason,
    }


def _lines(found: "Verification", tolerance: int) -> "Iterator[str]":
    recipe, marked = found.said.recipe, found.said.marked
    if recipe is not None:
        yield f"{found.path}: {recipe.sentence()}"
    else:
        yield f"{found.path}: {'marked as made by a trained model, without a recipe' if marked else 'no mark'}"
    if recipe is not None and not marked:
        yield "  The mark for machines is missing"
    if signature := found.signature:
        state = "unchanged since" if signature.unchanged else "CHANGED SINCE, or not signed rightly"
        reasons = f" ({', '.join(signature.reasons)})" if signature.reasons else ""
        yield f"  Signed by {signature.by}, {state}{reasons}"
    if found.reason:
        yield f"  Not compared: {found.reason}"
    elif found.largest is not None:
        off = f"at most {found.largest} level{'s' if found.largest > 1 else ''} off, {found.mean:.2g} on average"
        verdict = "What its recipe makes" if found.same(tolerance) else "NOT what its recipe makes"
        yield f"  {verdict}: {'the same to the level' if not found.largest else off}"
