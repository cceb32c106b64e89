"""The command generate. Heavy imports wait until a command runs."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.config import PRECISIONS
from gan.console import result
from gan.errors import RequestError
from gan.options import (
    PATH,
    FiniteRange,
    class_option,
    device_option,
    format_option,
    grid_option,
    json_option,
    overwrite_option,
    psi_option,
    refuse_existing,
)
from gan.rejection_options import given, load_choice, rejection_options

if TYPE_CHECKING:
    from gan.generator import Generator
    from gan.snapshot import Snapshot


class DefaultGroup(click.Group):
    """A group whose first word may be left out: `images` is meant then."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["images", *args]
        return super().parse_args(ctx, args)


@click.group(cls=DefaultGroup)
def generate() -> None:
    """Paint with a trained generator.

    SNAPSHOT is a snapshot file, a run, or a folder of runs (the newest is taken). Without one of the words below,
    `images` is meant.

    \b
    salon generate runs --seeds 0-15 --grid 4x4 --out grid.png
    salon generate runs --seeds 0-99,1234 --out pictures --truncation-psi 0.7
    salon generate runs --reject obrs --budget 4 --count 16 --data paintings64.zip --out best
    salon generate mix runs --rows 0-3 --columns 4-9 --layers 0-3 --out mix.png
    salon generate interpolate runs --seeds 0-5 --out loop.mp4
    salon generate timelapse runs/paintings64-tiny-1a2b3c4d --out learning.mp4
    """


snapshot_argument = click.argument("snapshot", type=PATH)
cutoff_option = click.option(
    "--truncation-cutoff", metavar="LAYERS", type=click.IntRange(0), help="Truncate only the first so many ws."
)
noise_option = click.option(
    "--noise-mode",
    type=click.Choice(["const", "random", "none"]),
    default="const",
    show_default=True,
    help="const: the stored noise. random: the seed's own. none: without.",
)
precision_option = click.option(
    "--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True, help="bf16: faster, less exact."
)
batch_option = click.option(
    "--batch-size", metavar="NIMG", type=click.IntRange(1), default=8, show_default=True, help="Images at a time."
)


def candidate_options(command: Callable[..., None]) -> Callable[..., None]:
    """What --reject needs to paint, besides rejection_options. What is not given is None."""
    options = [
        click.option("--count", metavar="NIMG", type=click.IntRange(1), help="Images to accept. Required by --reject."),
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
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


@generate.command()
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

    from gan import images as pictures
    from gan import latents, sampling, sheets
    from gan.console import progress

    rejection = given(rejection)
    _check_rejection(rejection, seeds)
    numbers = None if seeds is None else latents.parse_numbers(seeds)
    count = rejection.get("count") or len(numbers or [])
    columns, rows = sheets.parse_grid(grid, count) if grid else (0, 0)
    suffix = pictures.FORMATS[format]
    if grid:
        refuse_existing([out], overwrite)
    elif rejection:
        refuse_existing(sorted(out.glob(f"seed*{suffix}")), overwrite)
    else:
        refuse_existing([out / f"seed{seed:04d}{suffix}" for seed in numbers or []], overwrite)
    if grid and out.suffix.lower() not in pictures.SUFFIXES:
        raise RequestError(f"--out must end in one of {', '.join(pictures.SUFFIXES)} with --grid; got {out} instead")
    source, G = _load(snapshot, device, precision)
    _check_cutoff(truncation_cutoff, G.config.num_ws)
    classes = _classes(source, class_name, 1)

    start = time.perf_counter()
    paint = functools.partial(
        sampling.generate,
        G,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        noise_mode=noise_mode,
        batch_size=batch_size,
    )
    figures: dict[str, Any] = {"snapshot": str(source.path)}
    if rejection:
        sampling.class_weights(classes, G)  # refuses a class that does not fit
        one = classes and classes[0]
        numbers, figures["rejection"] = load_choice()(
            source, paint, lambda seeds: classes and classes * len(seeds), numbers, rejection, class_index=one
        )
    assert numbers is not None
    files = [out] if grid else [out / f"seed{seed:04d}{suffix}" for seed in numbers]
    painted = progress(paint(numbers, classes and classes * len(numbers)), "Painting", len(numbers))
    if grid:
        pictures.save(sheets.grid_sheet(list(painted), columns, rows), out)
    else:
        for file, pixels in zip(files, painted, strict=True):
            pictures.save(pixels, file)
    seconds = time.perf_counter() - start
    figures |= {"files": [str(f) for f in files], "images": len(numbers), "seeds": numbers, "seconds": seconds}
    of = f" of {figures['rejection']['candidates']} candidates" if rejection else ""
    result(f"{len(numbers)} images{of} in {seconds:.1f} s from {source.path}: {out}", figures, as_json)


@generate.command()
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

    from gan import images as pictures
    from gan import latents, sampling, sheets

    row_seeds, column_seeds = latents.parse_numbers(rows, "--rows"), latents.parse_numbers(columns, "--columns")
    chosen = latents.parse_numbers(layers, "--layers")
    refuse_existing([out], overwrite)
    source, G = _load(snapshot, device, precision)
    row_ws, column_ws = (
        sampling.map_seeds(G, s, _classes(source, class_name, len(s)), truncation_psi=truncation_psi)
        for s in (row_seeds, column_seeds)
    )
    table = latents.mix(row_ws.cpu().numpy(), column_ws.cpu().numpy(), chosen)
    ws = torch.cat([column_ws, row_ws, torch.from_numpy(table).to(row_ws)])
    noise_seeds = column_seeds + row_seeds + [r for r in row_seeds for _ in column_seeds]
    cells = list(sampling.synthesize(G, ws, noise_mode=noise_mode, seeds=noise_seeds))
    top, left, inner = np.split(np.stack(cells), [len(column_seeds), len(column_seeds) + len(row_seeds)])
    pictures.save(sheets.mixing_sheet(list(left), list(top), list(inner)), out)
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


@generate.command()
@snapshot_argument
@click.option("--seeds", required=True, metavar="SEEDS", help="Seeds to pass through, in order, and back to the first.")
@click.option("--frames", metavar="N", type=click.IntRange(1), default=60, show_default=True, help="From seed to seed.")
@click.option("--fps", metavar="FPS", type=FiniteRange(1, 120), default=30, show_default=True, help="Frames a second.")
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The animation: .mp4, .webp or .gif.")
@psi_option
@click.option(
    "--noise-mode",
    type=click.Choice(["const", "none"]),
    default="const",
    show_default=True,
    help="const: the stored noise. none: without.",
)
@class_option
@batch_option
@precision_option
@device_option
@overwrite_option
@json_option
def interpolate(
    snapshot: Path,
    seeds: str,
    frames: int,
    fps: float,
    out: Path,
    truncation_psi: float,
    noise_mode: str,
    class_name: str | None,
    batch_size: int,
    precision: str,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Paint a closed loop through seeds, as an animation."""
    import torch

    from gan import animation, latents, sampling
    from gan.console import progress

    numbers = latents.parse_numbers(seeds)
    animation.check_suffix(out)
    refuse_existing([out], overwrite)
    source, G = _load(snapshot, device, precision)
    keys = sampling.map_seeds(G, numbers, _classes(source, class_name, len(numbers)), truncation_psi=truncation_psi)
    ws = torch.from_numpy(latents.loop(keys.cpu().numpy(), frames)).to(keys)
    painted = sampling.synthesize(G, ws, noise_mode=noise_mode, batch_size=batch_size)
    animation.save(progress(painted, "Painting", len(ws), unit="frame"), out, fps)
    figures = {"snapshot": str(source.path), "file": str(out), "frames": len(ws), "seconds": len(ws) / fps}
    result(f"{len(ws)} frames, {len(ws) / fps:.1f} s, from {source.path}: {out}", figures, as_json)


@generate.command()
@click.argument("run", type=PATH)
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The animation: .mp4, .webp or .gif.")
@click.option("--fps", metavar="FPS", type=FiniteRange(0.1, 120), default=5, show_default=True, help="Sheets a second.")
@overwrite_option
@json_option
def timelapse(run: Path, out: Path, fps: float, overwrite: bool, as_json: bool) -> None:
    """Turn the sheets of samples of a RUN into an animation that shows the painter learn."""
    import numpy as np
    from PIL import Image

    from gan import animation
    from gan.run import Run

    animation.check_suffix(out)
    refuse_existing([out], overwrite)
    sheets = Run(run).list_grids()
    if not sheets:
        raise RequestError(f"{run} must be a run with sheets in {run / 'grids'}; there are none")
    animation.save(
        (np.asarray(Image.open(sheet).convert("RGB")) for sheet in sheets), out, fps, hold=round(2 * fps) or 1
    )
    result(f"{len(sheets)} sheets of {run}: {out}", {"run": str(run), "file": str(out), "frames": len(sheets)}, as_json)


def _check_rejection(rejection: dict[str, Any], seeds: str | None) -> None:
    if not rejection:
        if seeds is None:
            raise click.UsageError("Missing option '--seeds'; or let --reject choose them.")
    elif "count" not in rejection:
        raise RequestError("--reject needs --count, the number of images to accept")


def _load(path: Path, device: str, precision: str) -> "tuple[Snapshot, Generator]":
    from gan import device as devices
    from gan import precision as precisions
    from gan import snapshot

    target = devices.select(device)
    source = snapshot.find(path)
    precisions.apply(source.G_ema, precision)
    return source, source.G_ema.to(target)


def _classes(source: "Snapshot", class_name: str | None, count: int) -> list[int] | None:
    if class_name is None:
        return None
    if not source.config.network.num_classes:
        raise RequestError(f"--class must be left out: {source.path} was trained without classes")
    if class_name.isdecimal():
        return [int(class_name)] * count
    known = source.classes or []
    if class_name not in known:
        raise RequestError(f"--class must be an index or one of {', '.join(known) or '(no names)'}; got {class_name}")
    return [known.index(class_name)] * count


def _check_cutoff(cutoff: int | None, num_ws: int) -> None:
    if cutoff is not None and cutoff > num_ws:
        raise RequestError(f"--truncation-cutoff must be at most {num_ws}, this generator's layers; got {cutoff}")
