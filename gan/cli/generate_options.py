"""What the commands below `salon generate` share: options, the checks of them, the generator. Heavy imports wait."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.options import PATH, WholeRange
from gan.config import PRECISIONS
from gan.errors import RequestError
from gan.image_shape import ImageShape

if TYPE_CHECKING:
    from gan.data.images import Pixels
    from gan.data.recipe import Recipe
    from gan.networks.generator import Generator
    from gan.sampling.marking import Marking
    from gan.sampling.request import SamplingRequest
    from gan.snapshot import Snapshot

MAX_PIXELS = 500_000_000  # of an image grid, which is laid out in memory
MAX_SIDE = {"jpeg": 65_500, "png": MAX_PIXELS, "webp": 16_383}  # pixels that a file format can hold

snapshot_argument = click.argument("snapshot", type=PATH)
cutoff_option = click.option(
    "--truncation-cutoff", metavar="LAYERS", type=WholeRange(0), help="Layers to truncate, from the first on."
)
noise_option = click.option(
    "--noise-mode",
    type=click.Choice(["const", "random", "none"]),
    help="Noise inputs. const: the stored noise. random: the seed's own. none: without.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Precision of the generator. bf16: faster, less exact; fp16: for GPUs without bf16.",
)
ws_option = click.option(
    "--ws", metavar="FILE", type=PATH, help="File of ws, .npz, to generate from in the place of seeds: all its rows."
)
batch_option = click.option("--batch-size", metavar="NIMG", type=WholeRange(1), help="Images at a time.")


def load(sampling: "SamplingRequest") -> "tuple[Snapshot, Generator]":
    """The snapshot that SNAPSHOT names, and its generator on the device. Raises RequestError where there is none."""
    from gan import snapshot
    from gan.device.selection import select
    from gan.networks import precision

    target = select(sampling.device)
    source = snapshot.find(sampling.snapshot)
    precision.apply(source.G_ema, sampling.precision)
    return source, source.G_ema.to(target)


def parse_seeds(seeds: str | None, ws: Path | None) -> list[int]:
    """--seeds as numbers; empty where --ws stands in their place. Raises UsageError for neither, or both."""
    from gan.sampling.latents import parse_numbers

    if seeds is None and ws is None:
        raise click.UsageError("Missing option '--seeds', or '--ws'.")
    if seeds is not None and ws is not None:
        raise click.UsageError("--seeds and --ws exclude each other.")
    return [] if seeds is None else parse_numbers(seeds)


def class_of(source: "Snapshot", sampling: "SamplingRequest", ws: Path | None) -> int | None:
    """The index of --class; None where ws are given, which have it in them. Raises as class_index."""
    indices = None if ws is not None else class_indices(source, sampling.class_name, 1)
    return indices[0] if indices else None


def recipe_of(source: "Snapshot", sampling: "SamplingRequest", kind: str, **values: Any) -> "Recipe":
    """How pictures of a snapshot are made, for their files. `values` are further fields of Recipe."""
    from gan.data.recipe import Recipe
    from gan.runtime.files import sha256

    return Recipe(
        kind=kind,
        class_name=sampling.class_name,
        truncation_psi=sampling.truncation_psi,
        truncation_cutoff=sampling.truncation_cutoff,
        noise_mode=sampling.noise_mode,
        precision=sampling.precision,
        snapshot=sha256(source.path),
        dataset=source.config.dataset,
        kimg=source.cur_nimg / 1000,
        **values,
    )


def write_images(
    pixels: "Iterable[Pixels]",
    files: Sequence[Path],
    recipes: "Iterable[Recipe]",
    marks: "Marking",
    grid: tuple[int, int] | None = None,
) -> None:
    """Write images, marked as their recipes say: one file each, or with `grid`, columns and rows, one of all."""
    from gan.data.images import save
    from gan.sampling import image_grid

    made = pixels if grid is None else [image_grid.grid(list(pixels), *grid)]
    for file, image, recipe in zip(files, made, recipes, strict=True):
        save(image, file, recipe=marks.of(recipe))
        marks.sign(file, recipe)


def class_indices(source: "Snapshot", class_name: str | None, count: int) -> list[int] | None:
    """--class as an index for each of `count` images; None for a generator without classes. Raises as class_index."""
    from gan.data.classes import class_index

    index = class_index(class_name, source.config.network.num_classes, source.classes)
    return None if index is None else [index] * count


def check_cutoff(cutoff: int | None, num_ws: int) -> None:
    """Raise RequestError when --truncation-cutoff is beyond the generator's layers."""
    if cutoff is not None and cutoff > num_ws:
        raise RequestError(f"--truncation-cutoff must be at most {num_ws}, this generator's layers; got {cutoff}")


def parse_grid(grid: str, count: int) -> tuple[int, int]:
    """ "4x3" -> 4 columns, 3 rows. Raises RequestError for anything else, or when `count` images do not fit."""
    columns, _, rows = grid.lower().partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
        raise RequestError(f"--grid must be columns x rows such as 4x4; got {grid} instead")
    cells = int(columns) * int(rows)
    if count > cells:
        raise RequestError(f"--grid {grid} has {cells} cells; there are {count} images to generate")
    return int(columns), int(rows)


def check_size(out: Path, columns: int, rows: int, shape: ImageShape, gap: int = 0) -> None:
    """Raise RequestError when a grid of so many images, `gap` pixels apart, is too large for memory or its file."""
    from gan.data.images import check_suffix

    width, height = columns * (shape.width + gap), rows * (shape.height + gap)
    most = MAX_SIDE[check_suffix(out, "out")]
    if width * height > MAX_PIXELS or max(width, height) > most:
        raise RequestError(
            f"--out {out} must be a grid of at most {MAX_PIXELS:,} pixels, and {most:,} a side; {columns}x{rows} "
            f"images make {width:,}x{height:,}"
        )


def check_folder(out: Path) -> None:
    """Raise RequestError when --out, a folder for one file a seed, is named like an image."""
    from gan.data.images import SUFFIXES

    if out.suffix.lower() in SUFFIXES and not out.is_dir():
        raise RequestError(f"--out must be a folder, for one file a seed; got {out} instead: for one grid add --grid")
