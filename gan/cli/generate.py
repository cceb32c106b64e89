"""The group `salon generate`, with images and mix; the animations are in gan.cli.animate. Heavy imports wait."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gan.cli.command import Command, takes
from gan.cli.edit import Files, write
from gan.cli.generate_options import (
    batch_option,
    check_cutoff,
    check_folder,
    check_size,
    class_indices,
    cutoff_option,
    load,
    noise_option,
    parse_grid,
    parse_seeds,
    precision_option,
    recipe_of,
    snapshot_argument,
    write_images,
    ws_option,
)
from gan.cli.groups import LazyGroup
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    class_option,
    device_option,
    format_option,
    graphs_option,
    grid_option,
    json_option,
    marking_options,
    overwrite_option,
    psi_option,
    together,
)
from gan.cli.rejection_options import rejection_options
from gan.rejection.request import SelectionRequest
from gan.runtime.console import result
from gan.runtime.files import refuse_existing
from gan.sampling.request import MarkingRequest, SamplingRequest

SUBCOMMANDS = {
    "edit": "gan.cli.edit:edit",
    "images": "gan.cli.generate:images",
    "interpolate": "gan.cli.animate:interpolate",
    "mix": "gan.cli.generate:mix",
    "timelapse": "gan.cli.animate:timelapse",
}


class DefaultGroup(LazyGroup):
    """A group whose first word may be left out: `images` is meant then."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.lazy and args[0] not in ctx.help_option_names:
            args = ["images", *args]
        return super().parse_args(ctx, args)


@click.group(cls=DefaultGroup, lazy=SUBCOMMANDS)
def generate() -> None:
    """Generate images with a trained generator.

    SNAPSHOT is a snapshot file, a run, or a folder of runs (the newest is taken). Without one of the words below,
    `images` is meant.

    \b
    salon generate runs --seeds 0-15 --grid 4x4 --out grid.png
    salon generate runs --seeds 0-99,1234 --out images --truncation-psi 0.7
    salon generate runs --reject obrs --budget 4 --count 16 --data paintings64.zip --out best
    salon generate edit runs --directions directions.npz --direction pc1=2 --seeds 0-7 --out edited
    salon generate mix runs --rows 0-3 --columns 4-9 --layers 0-3 --out mix.png
    salon generate interpolate runs --seeds 0-5 --out loop.mp4
    salon generate timelapse runs/paintings64-tiny-1a2b3c4d --out learning.mp4
    """


# What --reject needs here, besides rejection_options.
candidate_options = together(
    click.option("--count", metavar="NIMG", type=WholeRange(1), help="Images to accept. Required by --reject."),
    click.option(
        "--data",
        "calibration_data",
        metavar="DATASET",
        type=PATH,
        help="Real images, to calibrate the discriminator on.",
    ),
    click.option(
        "--keep-training",
        metavar="FILE",
        type=PATH,
        help="New snapshot for the discriminator, which is first trained on with --data, and its generator.",
    ),
    click.option(
        "--keep-kimg",
        metavar="KIMG",
        type=FiniteRange(0, min_open=True),
        help="Most images to train it on; it ends before when the held-out loss stops falling.",
    ),
)


@click.command(cls=Command)
@takes(SamplingRequest, "sampling")
@takes(SelectionRequest, "selection")
@takes(MarkingRequest, "marking")
@snapshot_argument
@click.option(
    "--seeds", metavar="SEEDS", help="Seeds and ranges, such as 0-15,42. With --reject: the candidates, from 0 on."
)
@ws_option
@click.option("--out", required=True, type=PATH, help="Folder for one file a seed; with --grid, the grid's file.")
@grid_option
@format_option
@psi_option
@cutoff_option
@noise_option
@class_option
@batch_option
@precision_option
@graphs_option
@device_option
@rejection_options
@candidate_options
@marking_options
@overwrite_option
@json_option
def images(
    sampling: SamplingRequest,
    selection: SelectionRequest,
    seeds: str | None,
    ws: Path | None,
    out: Path,
    grid: str | None,
    format: str,
    marking: MarkingRequest,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Generate images from seeds: one image a seed, whatever the batch size. With --ws one for each row of a file."""
    import time

    from gan.data.images import FORMATS
    from gan.device import graphs
    from gan.rejection.select_seeds import choose
    from gan.runtime.console import progress, say
    from gan.sampling.edit import EditRequest
    from gan.sampling.generate import Sampler
    from gan.sampling.marking import Marking

    if ws is not None:
        if selection.reject:
            raise click.UsageError("--reject chooses among seeds; leave out --ws.")
        to = Files(out=out, grid=grid, format=format, overwrite=overwrite)
        write(EditRequest(seeds=parse_seeds(seeds, ws), ws=ws), sampling, to, marking, as_json)
        return
    seed_list = _parse_seeds(seeds, selection, grid)
    columns, rows = parse_grid(grid, selection.count or len(seed_list or [])) if grid else (0, 0)
    _check_out(out, seed_list, grid, FORMATS[format], selection, overwrite)
    marks = Marking(marking)
    source, G = load(sampling)
    if grid:
        check_size(out, columns, rows, G.config.shape)
    check_cutoff(sampling.truncation_cutoff, G.config.num_ws)
    classes = class_indices(source, sampling.class_name, 1)

    start = time.perf_counter()
    sampler = Sampler(
        G,
        truncation_psi=sampling.truncation_psi,
        truncation_cutoff=sampling.truncation_cutoff,
        noise_mode=sampling.noise_mode,
        batch_size=sampling.batch_size,
    )
    if sampling.cuda_graphs:
        say(graphs.describe(sampler.use_graphs()))
    figures: dict[str, Any] = {"snapshot": str(source.path)}
    if selection.reject:
        own_class = classes[0] if classes else None
        seed_list, figures["rejection"] = choose(
            source,
            sampler,
            lambda seeds: classes and classes * len(seeds),
            seed_list,
            selection,
            class_index=own_class,
        )
    assert seed_list is not None
    pixels = progress(sampler(seed_list, classes and classes * len(seed_list)), "Generating", len(seed_list))
    files = [out] if grid else [out / f"seed{seed:04d}{FORMATS[format]}" for seed in seed_list]
    one = recipe_of(source, sampling, "grid" if grid else "image", seeds=seed_list, grid=grid)
    recipes = [one] if grid else (replace(one, seeds=[seed]) for seed in seed_list)
    write_images(pixels, files, recipes, marks, (columns, rows) if grid else None)
    seconds = time.perf_counter() - start
    figures |= {"files": [str(f) for f in files], "images": len(seed_list), "seeds": seed_list, "seconds": seconds}
    of = f" of {figures['rejection']['candidates']} candidates" if selection.reject else ""
    result(f"{len(seed_list)} images{of} in {seconds:.1f} s from {source.path}: {out}", figures, as_json)


@click.command(cls=Command)
@takes(SamplingRequest, "sampling")
@takes(MarkingRequest, "marking")
@snapshot_argument
@click.option(
    "--rows",
    required=True,
    metavar="SEEDS",
    help="Seeds whose images the rows start from; or a file of ws, FILE.npz, or FILE.npz:0-3 for some of its rows.",
)
@click.option(
    "--columns",
    required=True,
    metavar="SEEDS",
    help="Seeds that lend the rows their chosen layers; or a file of ws in the same way.",
)
@click.option(
    "--layers",
    default="0-3",
    metavar="LAYERS",
    show_default=True,
    help="Layers to mix, such as 0-3: low ones decide on composition, high ones on colour.",
)
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The grid: .png, .jpg or .webp.")
@psi_option
@noise_option
@class_option
@precision_option
@device_option
@marking_options
@overwrite_option
@json_option
def mix(
    sampling: SamplingRequest,
    rows: str,
    columns: str,
    layers: str,
    out: Path,
    marking: MarkingRequest,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Mix styles: a grid whose cells are their row's image with some layers of their column's."""
    from gan.data.images import check_suffix, save
    from gan.runtime.files import sha256
    from gan.sampling import image_grid, latents, mixing, origin
    from gan.sampling.marking import Marking

    sides = {name: origin.parse_side(text, name) for name, text in (("rows", rows), ("columns", columns))}
    mixed_layers = latents.parse_numbers(layers, "layers")
    check_suffix(out, "out")
    refuse_existing([out], overwrite)
    only_ws = not any(side.seeds for side in sides.values())
    if only_ws:
        origin.refuse_for_ws(sampling)
    marks = Marking(marking)
    source, G = load(sampling)
    classes = None if only_ws else class_indices(source, sampling.class_name, 1)
    own_class, digest = classes[0] if classes else None, sha256(source.path)
    left, top = (
        side.origin(G, digest, own_class, truncation_psi=sampling.truncation_psi, parameter=name)
        for name, side in sides.items()
    )
    check_size(out, len(top.numbers) + 1, len(left.numbers) + 1, G.config.shape, image_grid.GAP)
    pixels = mixing.mix_origins(G, left, top, mixed_layers, noise_mode=sampling.noise_mode)
    named = {**left.recipe(), **mixing.columns_recipe(top), "layers": mixed_layers}
    recipe = recipe_of(source, sampling, "mix", **named)
    save(pixels, out, recipe=marks.of(recipe))
    marks.sign(out, recipe)
    figures: dict[str, Any] = {"snapshot": str(source.path), "file": str(out)}
    figures |= {"rows": list(left.numbers), "columns": list(top.numbers), "layers": mixed_layers}
    text = f"A grid of {len(left.numbers)} rows and {len(top.numbers)} columns from {source.path}: {out}"
    result(text, figures, as_json)


def _parse_seeds(seeds: str | None, selection: SelectionRequest, grid: str | None) -> list[int] | None:
    # None: --reject chooses them among all.
    from gan.sampling.latents import parse_numbers

    if seeds is None:
        if not selection.reject:
            raise click.UsageError("Missing option '--seeds'; or let --reject choose them.")
        return None
    seed_list = parse_numbers(seeds)
    return seed_list if grid else list(dict.fromkeys(seed_list))  # one file a seed


def _check_out(
    out: Path, seed_list: list[int] | None, grid: str | None, suffix: str, selection: SelectionRequest, overwrite: bool
) -> None:
    from gan.data.images import check_suffix

    if grid:
        check_suffix(out, "out", " with --grid")
        refuse_existing([out], overwrite)
        return
    check_folder(out)
    if selection.reject:  # which of them it will write is not known yet
        refuse_existing(sorted(out.glob(f"seed*{suffix}")), overwrite)
    else:
        refuse_existing([out / f"seed{seed:04d}{suffix}" for seed in seed_list or []], overwrite)
