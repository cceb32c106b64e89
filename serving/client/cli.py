"""The command query. Heavy imports wait until a command runs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Group, takes
from gan.cli.generate_options import parse_grid
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    format_option,
    grid_option,
    marking_options,
    overwrite_option,
    psi_option,
    together,
)
from gan.errors import BoundError, RequestError
from gan.runtime.console import progress, result, say, table
from gan.runtime.files import atomic, refuse_existing
from gan.sampling.request import MarkingRequest
from serving.client.options import concurrency_option, label_option, model_option, server_options, ws_option
from serving.client.request import Connection, EditQuery, GenerateQuery, InterpolateQuery, MixQuery

if TYPE_CHECKING:
    from gan.data.recipe import Recipe
    from serving.client.client import Client


_BUDGET = 4


@click.group(cls=Group)
def query() -> None:
    """Generate images with a generator that `salon serve` or another Triton server holds, and classify images.

    Nothing but numpy, Pillow and tritonclient is loaded. SALON_URL names the server once for all commands.

    \b
    salon query status
    salon query generate --seeds 0-15 --grid 4x4 --out grid.png
    salon query generate --reject obrs --budget 4 --count 16 --out best --url http://127.0.0.1:8000
    salon query edit --direction pc1=2 --seeds 0-7 --out edited
    salon query mix --rows 0-3 --columns 4-9 --layers 0-3 --out mix.png
    salon query interpolate --seeds 0-5 --out loop.mp4
    salon query classify painting.jpg
    """


# Which generator, and how it generates.
generator_options = together(
    model_option,
    psi_option,
    label_option,
    concurrency_option,
    marking_options,
    overwrite_option,
    server_options,
)


@query.command()
@takes(Connection, "connection")
@takes(GenerateQuery)
@takes(MarkingRequest, "marking")
@click.option(
    "--seeds", metavar="SEEDS", help="Seeds and ranges, such as 0-15,42. With --reject: the candidates, from 0 on."
)
@ws_option
@click.option("--out", type=PATH, help="Folder for one file a seed; with --grid, the grid's file.")
@grid_option
@format_option
@click.option(
    "--reject",
    type=click.Choice(["obrs"]),
    help="Rejection sampling by the served discriminator, with an exact budget (Verine et al. 2024).",
)
@click.option("--count", metavar="NIMG", type=WholeRange(1), help="Images to accept. Required by --reject.")
@click.option(
    "--budget", metavar="K", type=WholeRange(1), help=f"Candidates for each accepted image. Default: {_BUDGET}."
)
@generator_options
def generate(request: GenerateQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    """Generate images of seeds: one image a seed, the same that `salon generate` gives. With --ws one for each row."""
    import time

    from gan.data import images
    from gan.sampling import image_grid
    from gan.sampling.marking import Marking

    if request.ws is not None:
        to = {name: getattr(request, name) for name in ("out", "ws", "grid", "format", "overwrite")}
        _write_edited(EditQuery(direction=(), **to), connection, marking, as_json)
        return
    if request.reject is None and request.seeds is None:
        raise click.UsageError("Missing option '--seeds'; or let --reject choose them.")
    out, seeds = request.out, _seeds(request)
    columns, rows = parse_grid(request.grid, request.count or len(seeds or [])) if request.grid else (0, 0)
    marks = Marking(marking)
    start = time.perf_counter()
    with _client(connection) as client:
        figures = _source(client)
        if request.reject:
            seeds, figures["rejection"] = _accepted(client, request, seeds)
        assert seeds is not None
        files = [out] if request.grid else _files(request, seeds)
        generated = progress(client.generate(seeds, request.truncation_psi, request.label), "Generating", len(seeds))
        kind, grid = ("grid" if request.grid else "image"), request.grid
        recipe = _recipe(client, request, kind, seeds=seeds, grid=grid)
        recipes = [recipe] if grid else (dataclasses.replace(recipe, seeds=[seed]) for seed in seeds)
        made = [image_grid.grid(list(generated), columns, rows)] if grid else generated
        for file, own, pixels in zip(files, recipes, made, strict=True):
            images.save(pixels, file, recipe=marks.of(own))
            marks.sign(file, own)
    seconds = time.perf_counter() - start
    figures |= {"files": [str(f) for f in files], "images": len(seeds), "seeds": seeds, "seconds": seconds}
    of = f" of {figures['rejection']['candidates']} candidates" if request.reject else ""
    result(f"{len(seeds)} images{of} in {seconds:.1f} s from {client.url}: {out}", figures, as_json)


def _recipe(client: "Client", request: Any, kind: str, **values: Any) -> "Recipe":
    # How the served generator made a picture, for its file.
    from serving.recipes import served_recipe

    psi = None if values.get("ws") else request.truncation_psi  # ws are taken as they are
    values |= {"class_name": request.label, "truncation_psi": psi}
    return served_recipe(client.about("generator"), kind, **values)


def _seeds(request: GenerateQuery) -> list[int] | None:
    # The seeds, after a look at what would be replaced; None: rejection sampling chooses them.
    from gan.data import images
    from gan.sampling import latents

    seeds = None if request.seeds is None else latents.parse_numbers(request.seeds)
    if request.grid:
        _check_suffix(request.out, "with --grid")
        existing = [request.out]
    elif request.reject:
        existing = sorted(request.out.glob(f"seed*{images.FORMATS[request.format]}"))
    else:
        existing = _files(request, seeds or [])
    refuse_existing(existing, request.overwrite)
    return seeds


def _files(request: GenerateQuery, seeds: Sequence[int]) -> list[Path]:
    from gan.data import images

    return [request.out / f"seed{seed:04d}{images.FORMATS[request.format]}" for seed in seeds]


def _accepted(
    client: "Client", request: GenerateQuery, candidates: list[int] | None
) -> tuple[list[int], dict[str, Any]]:
    from serving.client.rejection import choose

    assert request.count is not None
    budget = request.budget or _BUDGET
    return choose(client, candidates, request.count, budget, request.truncation_psi, request.label)


@query.command()
@takes(Connection, "connection")
@takes(EditQuery)
@takes(MarkingRequest, "marking")
@click.option(
    "--direction",
    metavar="NAME=AMOUNT",
    multiple=True,
    required=True,
    help="Direction and how far to move along it, in standard deviations; repeat for several.",
)
@click.option(
    "--directions",
    metavar="FILE",
    type=PATH,
    help="File of salon directions find. Default: the directions that are served with the generator.",
)
@click.option("--seeds", metavar="SEEDS", help="Seeds and ranges, such as 0-15,42.")
@ws_option
@click.option("--out", type=PATH, help="Folder for one file a seed; with --grid, the grid's file.")
@grid_option
@format_option
@generator_options
def edit(request: EditQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    """Edit images along directions: those of seeds, or of a file of ws.

    `salon query directions` lists the directions that are served.

    \b
    salon query edit --direction pc1=2 --direction pc3=-1 --seeds 0-7 --out edited
    """
    _write_edited(request, connection, marking, as_json)


def _write_edited(request: EditQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    import time

    from gan.data import images
    from gan.sampling import image_grid
    from gan.sampling.marking import Marking
    from serving.client.edit import edited

    if request.grid:
        _check_suffix(request.out, "with --grid")
    marks = Marking(marking)
    start = time.perf_counter()
    with _client(connection) as client:
        made = edited(client, request)
        figures = _source(client)
        count, suffix = len(made.origin.names), images.FORMATS[request.format]
        columns, rows = parse_grid(request.grid, count) if request.grid else (0, 0)
        files = [request.out] if request.grid else [request.out / f"{name}{suffix}" for name in made.origin.names]
        refuse_existing(files, request.overwrite)
        generated = progress(made.images, "Generating", count)
        pictures = [image_grid.grid(list(generated), columns, rows)] if request.grid else generated
        recipes = [dataclasses.replace(made.recipe, kind="grid", grid=request.grid)] if request.grid else made.recipes()
        for file, recipe, pixels in zip(files, recipes, pictures, strict=True):
            images.save(pixels, file, recipe=marks.of(recipe))
            marks.sign(file, recipe)
    seconds = time.perf_counter() - start
    figures |= {"files": [str(f) for f in files], "images": count, "seconds": seconds, **made.origin.fields()}
    figures |= {"edits": made.recipe.edits, "directions": made.recipe.directions}
    result(f"{count} images in {seconds:.1f} s from {client.url}: {request.out}", figures, as_json)


@query.command()
@takes(Connection, "connection")
@click.option("--out", metavar="FILE", type=PATH, help="File to write the directions to, .npz.")
@model_option
@overwrite_option
@server_options
def directions(out: Path | None, overwrite: bool, connection: Connection, as_json: bool) -> None:
    """List the directions that are served with a generator; with --out, write them to a file."""
    if out is not None:
        refuse_existing([out], overwrite)
    with _client(connection) as client:
        figures, served = _source(client), client.need_directions()
        content, digest = client.directions_file(), client.about("mapping").directions
        if out is not None and content is not None:
            with atomic(out) as temporary:
                temporary.write_bytes(content)
    rows, listed = [], []
    for entry in served.entries.values():
        told = {name: getattr(entry, name) for name in ("name", "first", "last", "method", "explained_variance")}
        listed.append(told | {"sigma": entry.sigma})
        share = "" if entry.explained_variance is None else f"{entry.explained_variance:.1%}"
        rows.append([entry.name, f"{entry.first}-{entry.last}", entry.method, share, f"{entry.sigma:.3g}"])
    text = table(rows, ["direction", "layers", "method", "variance", "sigma"])
    figures |= {"sha256": digest, "directions": listed, "file": None if out is None else str(out)}
    result(f"{text}\nOf {client.url}{'' if out is None else f': {out}'}", figures, as_json)


@query.command()
@takes(Connection, "connection")
@takes(MixQuery)
@takes(MarkingRequest, "marking")
@click.option("--rows", metavar="SEEDS", help="Seeds whose images the rows start from.")
@click.option("--columns", metavar="SEEDS", help="Seeds that give the rows their chosen layers.")
@click.option("--layers", metavar="LAYERS", help="Layers to take from the columns. Low: composition. High: colour.")
@click.option("--out", metavar="FILE", type=PATH, help="File of the grid: .png, .jpg or .webp.")
@generator_options
def mix(request: MixQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    """Generate a grid of style mixing: each cell is its row's image with some layers of its column's."""
    import numpy as np

    from gan.data import images
    from gan.sampling import image_grid, latents
    from gan.sampling.marking import Marking

    rows, columns, layers = (
        latents.parse_numbers(getattr(request, name), name) for name in ("rows", "columns", "layers")
    )
    _check_suffix(request.out)
    refuse_existing([request.out], request.overwrite)
    marks = Marking(marking)
    with _client(connection) as client:
        figures = _source(client)
        ws = client.map_seeds(rows + columns, request.truncation_psi, request.label)
        row_ws, column_ws = np.split(ws, [len(rows)])
        ws = np.concatenate([ws, latents.mix(row_ws, column_ws, layers)])
        generated = list(progress(client.synthesize(ws), "Generating", len(ws)))
        seeds = {"seeds": rows, "columns": columns, "layers": layers}
        recipe = _recipe(client, request, "mix", **seeds)
    ends = len(rows), len(rows) + len(columns)
    grid = image_grid.mixing_grid(generated[: ends[0]], generated[ends[0] : ends[1]], generated[ends[1] :])
    images.save(grid, request.out, recipe=marks.of(recipe))
    marks.sign(request.out, recipe)
    figures |= {"file": str(request.out), "rows": rows, "columns": columns, "layers": layers}
    text = f"A grid of {len(rows)} rows and {len(columns)} columns from {client.url}: {request.out}"
    result(text, figures, as_json)


@query.command()
@takes(Connection, "connection")
@takes(InterpolateQuery)
@takes(MarkingRequest, "marking")
@click.option("--seeds", metavar="SEEDS", help="Seeds to pass through, in order, and back to the first.")
@ws_option
@click.option("--frames", metavar="N", type=WholeRange(1), help="Frames from one seed to the next.")
@click.option("--fps", metavar="FPS", type=FiniteRange(1, 120), help="Frames a second.")
@click.option("--out", metavar="FILE", type=PATH, help="File of the animation: .mp4, .webp or .gif.")
@generator_options
def interpolate(request: InterpolateQuery, connection: Connection, marking: MarkingRequest, as_json: bool) -> None:
    """Generate a closed path through seeds, or rows of a file of ws, as an animation."""
    from gan.data.images import for_display
    from gan.sampling import animation, latents
    from gan.sampling.marking import Marking
    from serving.client.edit import of_file, of_seeds, parse_seeds

    seeds, out, fps = parse_seeds(request.seeds, request.ws), request.out, request.fps
    animation.check_suffix(out, "out")
    refuse_existing([out], request.overwrite)
    marks = Marking(marking)
    with _client(connection) as client:
        figures = _source(client)
        if request.ws is not None:
            keys = of_file(client, request.ws)
        else:
            keys = of_seeds(client, seeds, request.truncation_psi, request.label)
        ws = latents.loop(keys.ws, request.frames)
        frames = map(for_display, client.synthesize(ws))
        recipe = _recipe(client, request, "interpolation", **keys.fields(), frames=request.frames)
        animation.save(progress(frames, "Generating", len(ws), unit="frame"), out, fps, recipe=marks.of(recipe))
    marks.sign(out, recipe)
    figures |= {"file": str(out), "frames": len(ws), "seconds": len(ws) / fps}
    result(f"{len(ws)} frames, {len(ws) / fps:.1f} s, from {client.url}: {out}", figures, as_json)


@query.command()
@takes(Connection, "connection")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
@click.option("--top", metavar="K", type=WholeRange(1), default=3, show_default=True, help="Styles to print.")
@server_options
def classify(files: tuple[Path, ...], top: int, connection: Connection, as_json: bool) -> None:
    """Classify images by style with the served classifier, with probabilities."""
    from serving.contract import CLASSIFIER

    for file in files:  # all of them, before the first is sent
        if not file.is_file():
            fault = "is a folder" if file.is_dir() else "does not exist"
            raise RequestError(f"FILE must be an image; {file} {fault}")
    with _client(connection) as client:
        about = client.about(CLASSIFIER)
        opened = (_open(file) for file in progress(files, "Classifying"))
        probabilities = client.classify(opened)
    classified, lines = [], []
    for file, row in zip(files, probabilities, strict=True):
        ranked = sorted(zip(about.styles, row.tolist(), strict=True), key=lambda pair: -pair[1])
        classified.append({"file": str(file), "style": ranked[0][0], "probabilities": dict(ranked)})
        lines.append([str(file), *(f"{style} {probability:.1%}" for style, probability in ranked[:top])])
    result(table(lines), {"url": client.url, "classifier": dataclasses.asdict(about), "images": classified}, as_json)


@query.command()
@takes(Connection, "connection")
@server_options
def status(connection: Connection, as_json: bool) -> None:
    """Tell what the server holds and how it fares: models, versions, counts, mean times. Exit code 3: not ready."""
    with _client(connection) as client:
        figures = client.status()
    header = ["model", "version", "state", "kind", "snapshot", "pixels", "requests", "failed", "images", "queue ms"]
    header += ["compute ms", "total ms"]
    rows = []
    for model in figures["models"]:
        about = model["about"] or {}
        times = ["" if model[key] is None else f"{model[key]:.2f}" for key in ("queue_ms", "compute_ms", "total_ms")]
        state = f"{model['state']} {model['reason']}".strip()
        kind, pixels = about.get("kind", ""), model["pixels"] or ""
        counts = [model["succeeded"], model["failed"], model["images"]]
        snapshot = (about.get("snapshot") or "")[:8]
        rows.append([model["name"], model["version"], state, kind, snapshot, pixels, *counts, *times])
    ready = "ready" if figures["ready"] else "not ready"
    first = f"Triton {figures['version']} at {figures['url']}: {ready}"
    result("\n".join([first, "", table(rows, header) if rows else "No models."]), figures, as_json)
    if not figures["ready"]:
        raise BoundError(f"{figures['url']} is not ready")


def _client(connection: Connection) -> "Client":
    from serving.client.client import Client

    return Client(**dataclasses.asdict(connection), announce=say)


def _source(client: "Client") -> dict[str, Any]:
    about = client.about("generator")
    source = {"url": client.url, "model": client.model, "version": about.version}
    return source | {"snapshot": about.snapshot, "cur_nimg": about.cur_nimg}


def _check_suffix(out: Path, where: str = "") -> None:
    from gan.data.images import SUFFIXES

    if out.suffix.lower() not in SUFFIXES:
        raise RequestError(f"--out must end in one of {', '.join(SUFFIXES)} {where}".rstrip() + f"; got {out} instead")


def _open(file: Path) -> Any:
    import numpy as np

    from gan.data import decode
    from gan.errors import ImageError

    try:
        return np.asarray(decode.decode(file).image)
    except ImageError as error:
        raise RequestError(f"{file} must be an image; {error}") from error
