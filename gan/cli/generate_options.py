"""What the commands below `salon generate` share: which generator paints, and how. Heavy imports wait."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan.cli.options import PATH, WholeRange
from gan.config import PRECISIONS
from gan.errors import RequestError

if TYPE_CHECKING:
    from gan.networks.generator import Generator
    from gan.snapshot import Snapshot

snapshot_argument = click.argument("snapshot", type=PATH)
cutoff_option = click.option(
    "--truncation-cutoff", metavar="LAYERS", type=WholeRange(0), help="Truncate only the first so many ws."
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
    "--batch-size", metavar="NIMG", type=WholeRange(1), default=8, show_default=True, help="Images at a time."
)


def load(path: Path, device: str, precision: str) -> "tuple[Snapshot, Generator]":
    """The snapshot that SNAPSHOT names, and its generator on the device. Raises RequestError where there is none."""
    from gan import device as devices
    from gan import snapshot
    from gan.networks import precision as precisions

    target = devices.select(device)
    source = snapshot.find(path)
    precisions.apply(source.G_ema, precision)
    return source, source.G_ema.to(target)


def class_indices(source: "Snapshot", class_name: str | None, count: int) -> list[int] | None:
    """--class as an index for each of `count` images. Raises RequestError for a class that is not known."""
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


def check_cutoff(cutoff: int | None, num_ws: int) -> None:
    """Raise RequestError when --truncation-cutoff is beyond the generator's layers."""
    if cutoff is not None and cutoff > num_ws:
        raise RequestError(f"--truncation-cutoff must be at most {num_ws}, this generator's layers; got {cutoff}")
