"""The commands synthetic, train, generate and doctor. Heavy imports wait until a command runs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.console import json_option, result, say, table
from gan.errors import RequestError

if TYPE_CHECKING:
    from gan.generator import Generator
    from gan.images import Pixels
    from gan.snapshot import Snapshot

PATH = click.Path(path_type=Path)


class FiniteRange(click.FloatRange):
    """A number in a range, without NaN and infinity, which every comparison of click's lets pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


device_option = click.option(
    "--device", metavar="NAME", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what --out already holds.")


@click.command()
@click.argument("folder", type=PATH)
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="Pictures to make.")
@click.option("--size", metavar="PX", type=click.IntRange(16), default=96, show_default=True, help="Longer side.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same pictures.")
@json_option
def synthetic(folder: Path, count: int, size: int, seed: int, as_json: bool) -> None:
    """Make a folder of landscapes to try Salon on, without any data of your own.

    Pictures that are already there are left as they are.

    \b
    salon synthetic paintings --count 200
    """
    from gan.synthetic import write_landscapes

    made = write_landscapes(folder, count, size, seed)
    figures = {"folder": str(folder), "count": count, "made": made}
    result(f"{folder} holds {count} pictures, {made} of them new", figures, as_json)


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say whether this machine is ready: versions, GPU, compilers, op implementations, weights, server, disk.

    Ends with exit code 3 when something that Salon needs is missing.

    \b
    salon doctor
    salon doctor --json
    """
    from gan.doctor import FAILED, examine
    from gan.errors import BoundError

    findings = examine()
    rows = [(f.status, f.name, f.found) for f in findings]
    remedies = [f"{f.name}: {f.remedy}" for f in findings if f.remedy]
    text = table(rows) + ("\n\nRemedies\n" + "\n".join(remedies) if remedies else "")
    result(text, {"findings": [vars(f) for f in findings]}, as_json)
    if failed := [f.name for f in findings if f.status == FAILED]:
        raise BoundError(f"not ready: {', '.join(failed)}")


@click.command()
@click.option("--data", required=True, metavar="DATASET", type=PATH, help="Dataset made by salon prepare.")
@click.option("--out", required=True, metavar="RUNS", type=PATH, help="Folder of runs; this run gets a folder in it.")
@click.option("--name", help="The run's folder in --out. Default: from dataset, preset and a digest of the config.")
@click.option(
    "--preset",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto (follows the resolution), config-f (the large network), paper256 (half its channels), tiny (for a CPU).",
)
@click.option("--total-kimg", metavar="KIMG", type=FiniteRange(0, min_open=True), default=25_000, show_default=True)
@click.option(
    "--batch-size", metavar="NIMG", type=click.IntRange(1), help="Images an iteration. Default: the preset's."
)
@click.option("--gamma", type=FiniteRange(0), help="Weight of R1. Default: 0.0002 * resolution^2 / batch size.")
@click.option("--mirror", is_flag=True, help="Flip real images horizontally half of the time.")
@click.option("--conditional", is_flag=True, help="Learn the dataset's classes, and paint by class.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and latents.")
@click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="Any other field of the config; repeat.")
@click.option("--manifest", metavar="DIR", type=PATH, help="Learn only from the images that this manifest keeps.")
@click.option(
    "--resume",
    default="auto",
    show_default=True,
    metavar="auto|never|FILE",
    help="auto: go on where the same command stopped. never: a new run. FILE: start from that checkpoint or snapshot.",
)
@click.option("--resume-kimg", metavar="KIMG", type=FiniteRange(0), help="With --resume FILE: count from here.")
@click.option(
    "--kimg-per-tick",
    metavar="KIMG",
    type=FiniteRange(0, min_open=True),
    default=4,
    show_default=True,
    help="A tick, with its status line, ends after so many images, or after a minute.",
)
@click.option(
    "--image-snapshot-ticks", metavar="TICKS", type=click.IntRange(0), default=0, help="Sheet of samples every."
)
@click.option(
    "--image-snapshot-minutes",
    metavar="MIN",
    type=FiniteRange(0),
    default=5,
    show_default=True,
    help="Or every so many minutes; the first after one. 0: by ticks alone.",
)
@click.option(
    "--network-snapshot-ticks",
    metavar="TICKS",
    type=click.IntRange(0),
    default=0,
    help="Checkpoint and snapshot every.",
)
@click.option(
    "--network-snapshot-minutes",
    metavar="MIN",
    type=FiniteRange(0),
    default=15,
    show_default=True,
    help="Or every so many minutes; the first after one. 0: by ticks alone.",
)
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Newest checkpoints and snapshots to keep; 0 keeps all.",
)
@click.option(
    "--metrics", type=click.Choice(["none"]), default="none", help="Metrics at each snapshot. None exist yet."
)
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="Processes that load images.")
@click.option("--cache", is_flag=True, help="Keep decoded pixels in a file beside the dataset: faster, larger.")
@device_option
@click.option("--dry-run", is_flag=True, help="Check the request and the data, print the config, and stop.")
@json_option
def train(
    data: Path,
    out: Path,
    name: str | None,
    preset: str,
    batch_size: int | None,
    gamma: float | None,
    mirror: bool,
    conditional: bool,
    seed: int,
    overrides: tuple[str, ...],
    manifest: Path | None,
    resume: str,
    resume_kimg: float | None,
    metrics: str,
    device: str,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train StyleGAN2 on a dataset.

    The same command goes on where it stopped, exactly; Ctrl-C stops it with a checkpoint. Another dataset, preset or
    field is another run.

    \b
    salon train --data paintings64.zip --out runs --preset tiny --total-kimg 100
    salon train --data paintings256.zip --out runs --preset paper256 --mirror --set pl_weight=0
    """
    import json

    from gan import device as devices
    from gan import files
    from gan import manifest as manifests
    from gan.config import make_config, parse_override
    from gan.dataset import ImageDataset
    from gan.run import Run, default_name, unused
    from gan.trainer import TrainingOptions, train

    start_from = None if resume in ("auto", "never") else _resume_file(Path(resume))
    if resume_kimg is not None and start_from is None:
        raise RequestError("--resume-kimg needs --resume FILE")
    target = devices.select(device)
    dataset = ImageDataset(data)
    if conditional and dataset.labels is None:
        raise RequestError(f"--conditional needs labels; {data} has none: prepare it with --labels")
    fingerprint = dataset.fingerprint()
    if not conditional:
        dataset.labels, dataset.classes, dataset.num_classes = None, None, 0
    given = {"seed": seed, "mirror": mirror, "batch_size": batch_size, "r1_gamma": gamma}
    chosen = manifests.read(manifest) if manifest else None
    config = make_config(
        preset=preset,
        resolution=dataset.resolution,
        num_classes=dataset.num_classes,
        dataset=fingerprint,
        overrides={k: v for k, v in given.items() if v is not None} | dict(parse_override(o) for o in overrides),
        manifest=chosen.header["hash"] if chosen else None,
        resume_from=files.sha256(start_from) if start_from else None,
        resume_kimg=resume_kimg,
    )
    indices = _select(dataset.names, dataset.path, fingerprint, chosen)
    dataset.preflight(fingerprint)
    run = Run(out / (name or default_name(data, config)))
    if resume == "never":
        run = Run(unused(run.path))
    say(json.dumps(config.to_dict(), indent=2))
    say(f"R1 gamma: {config.r1_gamma:.4g}" + ("" if gamma is not None else " (from resolution and batch size)"))
    say(f"Images: {len(indices)} of {len(dataset)} in {data}")
    if dry_run:
        figures = {"run": str(run.path), "images": len(indices), "config": config.to_dict()}
        result(f"The request is fine. The run would be {run.path}", figures, as_json)
        return
    summary = train(run, config, TrainingOptions(**options), dataset, indices, target, start_from=start_from)
    if summary["finished"]:
        text = (
            f"Done: {summary['kimg']:.1f} kimg. salon generate {summary['run']} --seeds 0-15 --grid 4x4 --out grid.png"
        )
    else:
        text = f"Stopped at {summary['kimg']:.1f} kimg, and saved. The same command goes on from here."
    result(f"{text}\nSheet: {summary['sheet']}\nSnapshot: {summary['snapshot']}", summary, as_json)


def _resume_file(path: Path) -> Path:
    from gan import checkpoint

    if path.is_dir():
        found = checkpoint.list_newest_first(path / "checkpoints") or checkpoint.list_newest_first(path)
        if not found:
            raise RequestError(f"--resume {path} must hold checkpoints; it has none")
        return found[0]
    if not path.exists():
        raise RequestError(f"--resume must be auto, never, or an existing checkpoint or snapshot; got {path} instead")
    return path


def _select(names: list[str], data: Path, fingerprint: str, manifest: Any) -> Any:
    # -> indices of the images to learn from
    import numpy as np

    if manifest is None:
        return np.arange(len(names))
    if manifest.dataset != fingerprint:
        raise RequestError(f"--manifest {manifest.path} must be of the dataset {data}; it is of another")
    kept = manifest.kept()
    indices = np.array([i for i, name in enumerate(names) if name in kept], np.int64)
    if not len(indices):
        raise RequestError(f"--manifest {manifest.path} keeps no image of {data}")
    return indices


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
    salon generate mix runs --rows 0-3 --columns 4-9 --layers 0-3 --out mix.png
    salon generate interpolate runs --seeds 0-5 --out loop.mp4
    salon generate timelapse runs/paintings64-tiny-1a2b3c4d --out learning.mp4
    """


snapshot_argument = click.argument("snapshot", type=PATH)
psi_option = click.option(
    "--truncation-psi",
    metavar="PSI",
    type=FiniteRange(),
    default=1.0,
    show_default=True,
    help="Below 1: more typical and less varied, 0: the average.",
)
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
class_option = click.option("--class", "class_name", metavar="CLASS", help="Class to paint: its index or its name.")
batch_option = click.option(
    "--batch-size", metavar="NIMG", type=click.IntRange(1), default=8, show_default=True, help="Images at a time."
)


@generate.command()
@snapshot_argument
@click.option("--seeds", required=True, metavar="SEEDS", help="Seeds and ranges, such as 0-15,42.")
@click.option("--out", required=True, type=PATH, help="Folder for one file a seed; with --grid, the sheet's file.")
@click.option("--grid", metavar="CxR", help="One sheet of C columns and R rows instead of one file a seed.")
@click.option(
    "--format",
    type=click.Choice(["png", "jpeg", "webp"]),
    default="png",
    show_default=True,
    help="Of one file a seed; a sheet's format follows from --out.",
)
@psi_option
@cutoff_option
@noise_option
@class_option
@batch_option
@device_option
@overwrite_option
@json_option
def images(
    snapshot: Path,
    seeds: str,
    out: Path,
    grid: str | None,
    format: str,
    truncation_psi: float,
    truncation_cutoff: int | None,
    noise_mode: str,
    class_name: str | None,
    batch_size: int,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Paint seeds: one image a seed, whatever the batch size."""
    import time

    import numpy as np

    from gan import images as pictures
    from gan import sampling
    from gan.console import progress

    numbers = sampling.parse_numbers(seeds)
    columns, cells = _parse_grid(grid, len(numbers)) if grid else (0, 0)
    files = [out] if grid else [out / f"seed{seed:04d}{pictures.FORMATS[format]}" for seed in numbers]
    _refuse_existing(files, overwrite)
    if grid and out.suffix.lower() not in pictures.SUFFIXES:
        raise RequestError(f"--out must end in one of {', '.join(pictures.SUFFIXES)} with --grid; got {out} instead")
    source, G = _load(snapshot, device)
    classes = _classes(source, class_name, len(numbers))
    start = time.perf_counter()
    painted = progress(
        sampling.generate(
            G,
            numbers,
            classes,
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            noise_mode=noise_mode,
            batch_size=batch_size,
        ),
        "Painting",
        len(numbers),
    )
    if grid:
        sheet = list(painted)
        blank = [np.full_like(sheet[0], 255)] * (cells - len(sheet))
        pictures.save(pictures.tile(np.stack(sheet + blank), columns), out)
    else:
        for file, pixels in zip(files, painted, strict=True):
            pictures.save(pixels, file)
    seconds = time.perf_counter() - start
    figures = {
        "snapshot": str(source.path),
        "files": [str(f) for f in files],
        "images": len(numbers),
        "seconds": seconds,
    }
    result(f"{len(numbers)} images in {seconds:.1f} s from {source.path}: {out}", figures, as_json)


@generate.command()
@snapshot_argument
@click.option("--rows", required=True, metavar="SEEDS", help="Seeds whose images the rows start from.")
@click.option("--columns", required=True, metavar="SEEDS", help="Seeds that lend the rows their chosen layers.")
@click.option("--layers", default="0-3", metavar="LAYERS", show_default=True, help="Low: composition. High: colour.")
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The table: .png, .jpg or .webp.")
@psi_option
@noise_option
@class_option
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
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Paint a table of style mixing: each cell is its row's image with some layers of its column's."""
    import numpy as np
    import torch

    from gan import images as pictures
    from gan import sampling

    row_seeds, column_seeds = sampling.parse_numbers(rows, "--rows"), sampling.parse_numbers(columns, "--columns")
    chosen = sampling.parse_numbers(layers, "--layers")
    _refuse_existing([out], overwrite)
    source, G = _load(snapshot, device)
    row_ws, column_ws = (
        sampling.map_seeds(G, s, _classes(source, class_name, len(s)), truncation_psi=truncation_psi)
        for s in (row_seeds, column_seeds)
    )
    ws = torch.cat([column_ws, row_ws, sampling.mix(G, row_ws, column_ws, chosen)])
    noise_seeds = column_seeds + row_seeds + [r for r in row_seeds for _ in column_seeds]
    cells = list(sampling.synthesize(G, ws, noise_mode=noise_mode, seeds=noise_seeds))
    top, left, inner = (
        cells[: len(column_seeds)],
        cells[len(column_seeds) :][: len(row_seeds)],
        cells[-len(row_seeds) * len(column_seeds) :],
    )
    table_rows: list[Pixels] = [np.full_like(cells[0], 255), *top]
    for index, head in enumerate(left):
        table_rows += [head, *inner[index * len(column_seeds) :][: len(column_seeds)]]
    pictures.save(pictures.tile(np.stack(table_rows), len(column_seeds) + 1, gap=2), out)
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
@click.option("--fps", type=FiniteRange(1, 120), default=30, show_default=True, help="Frames a second.")
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
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Paint a closed loop through seeds, as an animation."""
    from gan import animation, sampling
    from gan.console import progress

    numbers = sampling.parse_numbers(seeds)
    animation.check_suffix(out)
    _refuse_existing([out], overwrite)
    source, G = _load(snapshot, device)
    keys = sampling.map_seeds(G, numbers, _classes(source, class_name, len(numbers)), truncation_psi=truncation_psi)
    ws = sampling.loop(keys, frames)
    painted = sampling.synthesize(G, ws, noise_mode=noise_mode, batch_size=batch_size)
    animation.save(progress(painted, "Painting", len(ws), unit="frame"), out, fps)
    figures = {"snapshot": str(source.path), "file": str(out), "frames": len(ws), "seconds": len(ws) / fps}
    result(f"{len(ws)} frames, {len(ws) / fps:.1f} s, from {source.path}: {out}", figures, as_json)


@generate.command()
@click.argument("run", type=PATH)
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The animation: .mp4, .webp or .gif.")
@click.option("--fps", type=FiniteRange(0.1, 120), default=5, show_default=True, help="Sheets a second.")
@overwrite_option
@json_option
def timelapse(run: Path, out: Path, fps: float, overwrite: bool, as_json: bool) -> None:
    """Turn the sheets of samples of a RUN into an animation that shows the painter learn."""
    import numpy as np
    from PIL import Image

    from gan import animation
    from gan.run import Run

    animation.check_suffix(out)
    _refuse_existing([out], overwrite)
    sheets = Run(run).list_grids()
    if not sheets:
        raise RequestError(f"{run} must be a run with sheets in {run / 'grids'}; there are none")
    animation.save(
        (np.asarray(Image.open(sheet).convert("RGB")) for sheet in sheets), out, fps, hold=round(2 * fps) or 1
    )
    result(f"{len(sheets)} sheets of {run}: {out}", {"run": str(run), "file": str(out), "frames": len(sheets)}, as_json)


def _load(path: Path, device: str) -> "tuple[Snapshot, Generator]":
    from gan import device as devices
    from gan import snapshot

    target = devices.select(device)
    source = snapshot.find(path)
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


def _parse_grid(grid: str, count: int) -> tuple[int, int]:
    # -> columns, cells
    columns, _, rows = grid.lower().partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
        raise RequestError(f"--grid must be columns x rows such as 4x4; got {grid} instead")
    cells = int(columns) * int(rows)
    if count > cells:
        raise RequestError(f"--grid {grid} has {cells} cells; --seeds names {count} images")
    return int(columns), cells


def _refuse_existing(files: Sequence[Path], overwrite: bool) -> None:
    if not overwrite and (existing := [file for file in files if file.exists()]):
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise RequestError(f"--out would replace {existing[0]}{more}; choose another, or add --overwrite")
