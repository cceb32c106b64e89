"""The command query. Heavy imports wait until a command runs."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Group
from gan.cli.generate_options import parse_grid
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    class_option,
    format_option,
    grid_option,
    overwrite_option,
    psi_option,
    together,
)
from gan.errors import BoundError, RequestError
from gan.runtime.console import progress, result, say, table
from gan.runtime.files import refuse_existing
from serving.client.options import concurrency_option, model_option, server_options

if TYPE_CHECKING:
    from serving.client.client import Client


_BUDGET = 4


@click.group(cls=Group)
def query() -> None:
    """Paint with a generator that `salon serve` or another Triton server holds, and ask what it thinks of pictures.

    Nothing but numpy, Pillow and tritonclient is loaded. SALON_URL names the server once for all commands.

    \b
    salon query status
    salon query generate --seeds 0-15 --grid 4x4 --out grid.png
    salon query generate --reject obrs --budget 4 --count 16 --out best --url http://127.0.0.1:8000
    salon query mix --rows 0-3 --columns 4-9 --layers 0-3 --out mix.png
    salon query interpolate --seeds 0-5 --out loop.mp4
    salon query classify painting.jpg
    """


# Which generator, and how it paints.
painting_options = together(
    model_option,
    psi_option,
    class_option,
    concurrency_option,
    overwrite_option,
    server_options,
)


@query.command()
@click.option(
    "--seeds", metavar="SEEDS", help="Seeds and ranges, such as 0-15,42. With --reject: the candidates, from 0 on."
)
@click.option("--out", required=True, type=PATH, help="Folder for one file a seed; with --grid, the sheet's file.")
@grid_option
@format_option
@click.option(
    "--reject",
    type=click.Choice(["obrs"]),
    help="Paint only candidates that the served discriminator accepts, with an exact budget (Verine et al. 2024).",
)
@click.option("--count", metavar="NIMG", type=WholeRange(1), help="Images to accept. Required by --reject.")
@click.option(
    "--budget",
    metavar="K",
    type=WholeRange(1),
    help=f"Candidates for each accepted image. Default: {_BUDGET}.",
)
@painting_options
def generate(
    seeds: str | None,
    out: Path,
    grid: str | None,
    format: str,
    reject: str | None,
    count: int | None,
    budget: int | None,
    truncation_psi: float,
    class_name: str | None,
    overwrite: bool,
    as_json: bool,
    **connection: Any,
) -> None:
    """Paint seeds: one image a seed, the same that `salon generate` paints."""
    import time

    from gan.data import images
    from gan.sampling import image_grid, latents

    _check_rejection(reject, count, budget, seeds)
    numbers = None if seeds is None else latents.parse_numbers(seeds)
    columns, rows = parse_grid(grid, count or len(numbers or [])) if grid else (0, 0)
    suffix = images.FORMATS[format]
    if grid:
        _check_picture(out, "with --grid")
        refuse_existing([out], overwrite)
    elif reject:
        refuse_existing(sorted(out.glob(f"seed*{suffix}")), overwrite)
    else:
        refuse_existing([out / f"seed{seed:04d}{suffix}" for seed in numbers or []], overwrite)
    start = time.perf_counter()
    with _client(**connection) as client:
        figures = _source(client)
        if reject:
            from serving.client.rejection import choose

            assert count is not None
            numbers, figures["rejection"] = choose(
                client, numbers, count, budget or _BUDGET, truncation_psi, class_name
            )
        assert numbers is not None
        files = [out] if grid else [out / f"seed{seed:04d}{suffix}" for seed in numbers]
        painted = progress(client.generate(numbers, truncation_psi, class_name), "Painting", len(numbers))
        if grid:
            images.save(image_grid.grid(list(painted), columns, rows), out)
        else:
            for file, pixels in zip(files, painted, strict=True):
                images.save(pixels, file)
    seconds = time.perf_counter() - start
    figures |= {"files": [str(f) for f in files], "images": len(numbers), "seeds": numbers, "seconds": seconds}
    of = f" of {figures['rejection']['candidates']} candidates" if reject else ""
    result(f"{len(numbers)} images{of} in {seconds:.1f} s from {client.url}: {out}", figures, as_json)


@query.command()
@click.option("--rows", required=True, metavar="SEEDS", help="Seeds whose images the rows start from.")
@click.option("--columns", required=True, metavar="SEEDS", help="Seeds that lend the rows their chosen layers.")
@click.option("--layers", default="0-3", metavar="LAYERS", show_default=True, help="Low: composition. High: colour.")
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The table: .png, .jpg or .webp.")
@painting_options
def mix(
    rows: str,
    columns: str,
    layers: str,
    out: Path,
    truncation_psi: float,
    class_name: str | None,
    overwrite: bool,
    as_json: bool,
    **connection: Any,
) -> None:
    """Paint a table of style mixing: each cell is its row's image with some layers of its column's."""
    import numpy as np

    from gan.data import images
    from gan.sampling import image_grid, latents

    row_seeds, column_seeds = latents.parse_numbers(rows, "rows"), latents.parse_numbers(columns, "columns")
    chosen = latents.parse_numbers(layers, "layers")
    _check_picture(out)
    refuse_existing([out], overwrite)
    with _client(**connection) as client:
        figures = _source(client)
        ws = client.map_seeds(row_seeds + column_seeds, truncation_psi, class_name)
        row_ws, column_ws = np.split(ws, [len(row_seeds)])
        ws = np.concatenate([ws, latents.mix(row_ws, column_ws, chosen)])
        painted = list(progress(client.synthesize(ws), "Painting", len(ws)))
    heads = len(row_seeds), len(row_seeds) + len(column_seeds)
    sheet = image_grid.mixing_grid(painted[: heads[0]], painted[heads[0] : heads[1]], painted[heads[1] :])
    images.save(sheet, out)
    figures |= {"file": str(out), "rows": row_seeds, "columns": column_seeds, "layers": chosen}
    text = f"A table of {len(row_seeds)} rows and {len(column_seeds)} columns from {client.url}: {out}"
    result(text, figures, as_json)


@query.command()
@click.option("--seeds", required=True, metavar="SEEDS", help="Seeds to pass through, in order, and back to the first.")
@click.option("--frames", metavar="N", type=WholeRange(1), default=60, show_default=True, help="From seed to seed.")
@click.option("--fps", metavar="FPS", type=FiniteRange(1, 120), default=30, show_default=True, help="Frames a second.")
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The animation: .mp4, .webp or .gif.")
@painting_options
def interpolate(
    seeds: str,
    frames: int,
    fps: float,
    out: Path,
    truncation_psi: float,
    class_name: str | None,
    overwrite: bool,
    as_json: bool,
    **connection: Any,
) -> None:
    """Paint a closed loop through seeds, as an animation."""
    from gan.sampling import animation, latents

    numbers = latents.parse_numbers(seeds)
    animation.check_suffix(out, "out")
    refuse_existing([out], overwrite)
    with _client(**connection) as client:
        figures = _source(client)
        ws = latents.loop(client.map_seeds(numbers, truncation_psi, class_name), frames)
        animation.save(progress(client.synthesize(ws), "Painting", len(ws), unit="frame"), out, fps)
    figures |= {"file": str(out), "frames": len(ws), "seconds": len(ws) / fps}
    result(f"{len(ws)} frames, {len(ws) / fps:.1f} s, from {client.url}: {out}", figures, as_json)


@query.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
@click.option("--top", metavar="K", type=WholeRange(1), default=3, show_default=True, help="Styles to print.")
@server_options
def classify(files: tuple[Path, ...], top: int, as_json: bool, **connection: Any) -> None:
    """Say which styles the served classifier sees in pictures, with their probabilities."""
    from serving.contract import CLASSIFIER

    for file in files:  # all of them, before the first is sent
        if not file.is_file():
            found = "is a folder" if file.is_dir() else "does not exist"
            raise RequestError(f"FILE must be a picture; {file} {found}")
    with _client(**connection) as client:
        about = client.about(CLASSIFIER)
        opened = (_open(file) for file in progress(files, "Classifying"))
        probabilities = client.classify(opened)
    judged, lines = [], []
    for file, row in zip(files, probabilities, strict=True):
        ranked = sorted(zip(about.styles, row.tolist(), strict=True), key=lambda pair: -pair[1])
        judged.append({"file": str(file), "style": ranked[0][0], "probabilities": dict(ranked)})
        lines.append([str(file), *(f"{style} {probability:.1%}" for style, probability in ranked[:top])])
    result(table(lines), {"url": client.url, "classifier": dataclasses.asdict(about), "images": judged}, as_json)


@query.command()
@server_options
def status(as_json: bool, **connection: Any) -> None:
    """Tell what the server holds and how it fares: models, versions, counts, mean times. Exit code 3: not ready."""
    with _client(**connection) as client:
        figures = client.status()
    header = ["model", "version", "state", "kind", "pixels", "requests", "failed", "images", "queue ms"]
    header += ["compute ms", "total ms"]
    rows = []
    for model in figures["models"]:
        about = model["about"] or {}
        times = ["" if model[key] is None else f"{model[key]:.2f}" for key in ("queue_ms", "compute_ms", "total_ms")]
        state = f"{model['state']} {model['reason']}".strip()
        kind, pixels = about.get("kind", ""), about.get("resolution") or ""
        counts = [model["succeeded"], model["failed"], model["images"]]
        rows.append([model["name"], model["version"], state, kind, pixels, *counts, *times])
    ready = "ready" if figures["ready"] else "not ready"
    first = f"Triton {figures['version']} at {figures['url']}: {ready}"
    result("\n".join([first, "", table(rows, header) if rows else "No models."]), figures, as_json)
    if not figures["ready"]:
        raise BoundError(f"{figures['url']} is not ready")


def _client(**connection: Any) -> "Client":
    from serving.client.client import Client

    return Client(**connection, announce=say)


def _source(client: "Client") -> dict[str, Any]:
    about = client.about("generator")
    return {"url": client.url, "model": client.model, "snapshot": about.snapshot, "cur_nimg": about.cur_nimg}


def _check_picture(out: Path, where: str = "") -> None:
    from gan.data.images import SUFFIXES

    if out.suffix.lower() not in SUFFIXES:
        raise RequestError(f"--out must end in one of {', '.join(SUFFIXES)} {where}".rstrip() + f"; got {out} instead")


def _check_rejection(reject: str | None, count: int | None, budget: int | None, seeds: str | None) -> None:
    if not reject:
        if count or budget:
            raise RequestError(f"--{'count' if count else 'budget'} needs --reject obrs")
        if seeds is None:
            raise click.UsageError("Missing option '--seeds'; or let --reject choose them.")
    elif count is None:
        raise RequestError("--reject needs --count, the number of images to accept")


def _open(file: Path) -> Any:
    import numpy as np

    from gan.data import decode
    from gan.errors import ImageError

    try:
        return np.asarray(decode.decode(file).image)
    except ImageError as error:
        raise RequestError(f"{file} must be a picture; {error}") from error
