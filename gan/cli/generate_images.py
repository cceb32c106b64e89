"""The commands generate images and mix. Heavy imports wait until a command runs."""

import functools
from pathlib import Path
from typing import Any

import click

from gan.cli.command import Command
from gan.cli.generate_options import (
    batch_option,
    check_cutoff,
    class_indices,
    cutoff_option,
    load,
    noise_option,
    precision_option,
    snapshot_argument,
)
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    class_option,
    device_option,
    format_option,
    grid_option,
    json_option,
    overwrite_option,
    psi_option,
    together,
)
from gan.cli.rejection_options import given, rejection_options
from gan.errors import RequestError
from gan.runtime.console import result
from gan.runtime.files import refuse_existing

# What --reject needs to paint, besides rejection_options. What is not given is None.
candidate_options = together(
    click.option("--count", metavar="NIMG", type=WholeRange(1), help="Images to accept. Required by --reject."),
    click.option("--data", metavar="DATASET", type=PATH, help="Real images, to calibrate the discriminator on."),
    click.option(
        "--keep-training",
        metavar="FILE",
        type=PATH,
        help="First train the discriminator on, with --data, and write it with its generator to this new snapshot.",
    ),
    click.option(
        "--keep-kimg",
        metavar="KIMG",
        type=FiniteRange(0, min_open=True),
        help="Most images to train it on; it ends before when the held-out loss stops falling. Default: 20.",
    ),
)


@click.command(cls=Command)
@snapshot_argument
@click.option(
    "--seeds", metavar="SEEDS", help="Seeds and ranges, such as 0-15,42. With --reject: the candidates, from 0 on."
)
@click.option("--out", required=True, type=PATH, help="Folder for one file a seed; with --grid, the sheet's file.")
@grid_option
@format_option
@psi_option
@cutoff_option
@noise_option
@class_option
@batch_option
@precision_option
@device_option
@rejection_options
@candidate_options
@overwrite_option
@json_option
def images(
    snapshot: Path,
    seeds: str | None,
    out: Path,
    grid: str | None,
    format: str,
    truncation_psi: float,
    truncation_cutoff: int | None,
    noise_mode: str,
    class_name: str | None,
    batch_size: int,
    precision: str,
    device: str,
    overwrite: bool,
    as_json: bool,
    **rejection: Any,
) -> None:
    """Paint seeds: one image a seed, whatever the batch size."""
    import time

    from gan.data import images as pictures
    from gan.rejection.select_seeds import choose
    from gan.runtime.console import progress
    from gan.sampling import generate, image_grid, latents

    rejection = given(rejection)
    _check_rejection(rejection, seeds)
    numbers = None if seeds is None else latents.parse_numbers(seeds)
    if numbers and not grid:
        numbers = list(dict.fromkeys(numbers))  # one file a seed
    count = rejection.get("count") or len(numbers or [])
    columns, rows = image_grid.parse_grid(grid, count) if grid else (0, 0)
    suffix = pictures.FORMATS[format]
    if grid:
        pictures.check_suffix(out, "--out", " with --grid")
        refuse_existing([out], overwrite)
    else:
        image_grid.check_folder(out)
        own = out.glob(f"seed*{suffix}") if rejection else (out / f"seed{seed:04d}{suffix}" for seed in numbers or [])
        refuse_existing(sorted(own), overwrite)
    source, G = load(snapshot, device, precision)
    if grid:
        image_grid.check_size(out, columns, rows, G.config.resolution)
    check_cutoff(truncation_cutoff, G.config.num_ws)
    classes = class_indices(source, class_name, 1)

    start = time.perf_counter()
    paint = functools.partial(
        generate.generate,
        G,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        noise_mode=noise_mode,
        batch_size=batch_size,
    )
    figures: dict[str, Any] = {"snapshot": str(source.path)}
    if rejection:
        generate.class_weights(classes, G)  # refuses a class that does not fit
        one = classes[0] if classes else None
        numbers, figures["rejection"] = choose(
            source, paint, lambda seeds: classes and classes * len(seeds), numbers, rejection, class_index=one
        )
    assert numbers is not None
    files = [out] if grid else [out / f"seed{seed:04d}{suffix}" for seed in numbers]
    painted = progress(paint(numbers, classes and classes * len(numbers)), "Painting", len(numbers))
    if grid:
        pictures.save(image_grid.grid_sheet(list(painted), columns, rows), out)
    else:
        for file, pixels in zip(files, painted, strict=True):
            pictures.save(pixels, file)
    seconds = time.perf_counter() - start
    figures |= {"files": [str(f) for f in files], "images": len(numbers), "seeds": numbers, "seconds": seconds}
    of = f" of {figures['rejection']['candidates']} candidates" if rejection else ""
    result(f"{len(numbers)} images{of} in {seconds:.1f} s from {source.path}: {out}", figures, as_json)


@click.command(cls=Command)
@snapshot_argument
@click.option("--rows", required=True, metavar="SEEDS", help="Seeds whose images the rows start from.")
@click.option("--columns", required=True, metavar="SEEDS", help="Seeds that lend the rows their chosen layers.")
@click.option("--layers", default="0-3", metavar="LAYERS", show_default=True, help="Low: composition. High: colour.")
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The table: .png, .jpg or .webp.")
@psi_option
@noise_option
@class_option
@precision_option
@device_option
@overwrite_option
@json_option
def mix(
    snapshot: Path,
    rows: str,
    columns: str,
    layers: str,
    out: Path,
    truncation_psi: float,
    noise_mode: str,
    class_name: str | None,
    precision: str,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Paint a table of style mixing: each cell is its row's image with some layers of its column's."""
    import numpy as np
    import torch

    from gan.data import images as pictures
    from gan.sampling import generate, image_grid, latents

    row_seeds, column_seeds = latents.parse_numbers(rows, "--rows"), latents.parse_numbers(columns, "--columns")
    chosen = latents.parse_numbers(layers, "--layers")
    pictures.check_suffix(out, "--out")
    refuse_existing([out], overwrite)
    source, G = load(snapshot, device, precision)
    image_grid.check_size(out, len(column_seeds) + 1, len(row_seeds) + 1, G.config.resolution + image_grid.GAP)
    row_ws, column_ws = (
        generate.map_seeds(G, s, class_indices(source, class_name, len(s)), truncation_psi=truncation_psi)
        for s in (row_seeds, column_seeds)
    )
    table = latents.mix(row_ws.cpu().numpy(), column_ws.cpu().numpy(), chosen)
    ws = torch.cat([column_ws, row_ws, torch.from_numpy(table).to(row_ws)])
    noise_seeds = column_seeds + row_seeds + [r for r in row_seeds for _ in column_seeds]
    cells = list(generate.synthesize(G, ws, noise_mode=noise_mode, seeds=noise_seeds))
    top, left, inner = np.split(np.stack(cells), [len(column_seeds), len(column_seeds) + len(row_seeds)])
    pictures.save(image_grid.mixing_sheet(list(left), list(top), list(inner)), out)
    figures = {
        "snapshot": str(source.path),
        "file": str(out),
        "rows": row_seeds,
        "columns": column_seeds,
        "layers": chosen,
    }
    result(
        f"A table of {len(row_seeds)} rows and {len(column_seeds)} columns from {source.path}: {out}", figures, as_json
    )


def _check_rejection(rejection: dict[str, Any], seeds: str | None) -> None:
    if not rejection:
        if seeds is None:
            raise click.UsageError("Missing option '--seeds'; or let --reject choose them.")
    elif "count" not in rejection:
        raise RequestError("--reject needs --count, the number of images to accept")
