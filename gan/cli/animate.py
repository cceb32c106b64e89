"""The commands generate interpolate and timelapse. Heavy imports wait until a command runs."""

from pathlib import Path

import click

from gan.cli.command import Command
from gan.cli.generate_options import batch_option, class_indices, load, precision_option, snapshot_argument
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    class_option,
    device_option,
    json_option,
    overwrite_option,
    psi_option,
)
from gan.errors import RequestError
from gan.runtime.console import result
from gan.runtime.files import refuse_existing


@click.command(cls=Command)
@snapshot_argument
@click.option("--seeds", required=True, metavar="SEEDS", help="Seeds to pass through, in order, and back to the first.")
@click.option("--frames", metavar="N", type=WholeRange(1), default=60, show_default=True, help="From seed to seed.")
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

    from gan.runtime.console import progress
    from gan.sampling import animation, generate, latents

    numbers = latents.parse_numbers(seeds)
    animation.check_suffix(out)
    refuse_existing([out], overwrite)
    source, G = load(snapshot, device, precision)
    keys = generate.map_seeds(
        G, numbers, class_indices(source, class_name, len(numbers)), truncation_psi=truncation_psi
    )
    ws = torch.from_numpy(latents.loop(keys.cpu().numpy(), frames)).to(keys)
    painted = generate.synthesize(G, ws, noise_mode=noise_mode, batch_size=batch_size)
    animation.save(progress(painted, "Painting", len(ws), unit="frame"), out, fps)
    figures = {"snapshot": str(source.path), "file": str(out), "frames": len(ws), "seconds": len(ws) / fps}
    result(f"{len(ws)} frames, {len(ws) / fps:.1f} s, from {source.path}: {out}", figures, as_json)


@click.command(cls=Command)
@click.argument("run", type=PATH)
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The animation: .mp4, .webp or .gif.")
@click.option("--fps", metavar="FPS", type=FiniteRange(0.1, 120), default=5, show_default=True, help="Sheets a second.")
@overwrite_option
@json_option
def timelapse(run: Path, out: Path, fps: float, overwrite: bool, as_json: bool) -> None:
    """Turn the sheets of samples of a RUN into an animation that shows the painter learn."""
    import numpy as np
    from PIL import Image

    from gan.sampling import animation
    from gan.training.run_dir import Run, require_run

    animation.check_suffix(out)
    refuse_existing([out], overwrite)
    require_run(run, "RUN")
    sheets = Run(run).list_grids()
    if not sheets:
        raise RequestError(f"RUN must be a run with sheets in {run / 'grids'}; there are none")
    animation.save(
        (np.asarray(Image.open(sheet).convert("RGB")) for sheet in sheets), out, fps, hold=round(2 * fps) or 1
    )
    result(f"{len(sheets)} sheets of {run}: {out}", {"run": str(run), "file": str(out), "frames": len(sheets)}, as_json)
