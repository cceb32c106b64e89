"""The commands directions show, sheet and rename. Heavy imports wait until a command runs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Command, takes
from gan.cli.generate_options import (
    batch_option,
    check_size,
    class_indices,
    load,
    noise_option,
    precision_option,
    recipe_of,
)
from gan.cli.options import (
    PATH,
    WholeRange,
    class_option,
    device_option,
    json_option,
    marking_options,
    overwrite_option,
    psi_option,
)
from gan.runtime.console import result, table
from gan.runtime.files import refuse_existing
from gan.sampling.request import MarkingRequest, SamplingRequest

if TYPE_CHECKING:
    from gan.sampling.directions import Directions

file_argument = click.argument("file", type=PATH)


@click.command(cls=Command)
@file_argument
@json_option
def show(file: Path, as_json: bool) -> None:
    """List the directions of a FILE, and how they were found."""
    from gan.sampling.directions import Directions

    directions = Directions.open(file, parameter="file")
    result(f"{listed(directions)}\n{_origin(directions)}", figures_of(directions, file), as_json)


@click.command(cls=Command)
@takes(SamplingRequest, "sampling")
@takes(MarkingRequest, "marking")
@file_argument
@click.option("--snapshot", metavar="SNAPSHOT", type=PATH, help="Snapshot, run, or folder of runs to generate with.")
@click.option("--seeds", metavar="SEEDS", default="0", show_default=True, help="Seeds to show each direction on.")
@click.option("--count", metavar="N", type=WholeRange(1), help="Directions to show, from the first on. Default: all.")
@click.option("--out", required=True, metavar="FILE", type=PATH, help="The sheet: .png, .jpg or .webp.")
@psi_option
@noise_option
@class_option
@batch_option
@precision_option
@device_option
@marking_options
@overwrite_option
@json_option
def sheet(
    sampling: SamplingRequest,
    file: Path,
    seeds: str,
    count: int | None,
    out: Path,
    marking: MarkingRequest,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show what the directions of a FILE do: a sheet of each from -3 to +3 standard deviations."""
    from gan.data.images import check_suffix, save
    from gan.directions import sheet as library
    from gan.image_shape import ImageShape
    from gan.runtime.files import sha256
    from gan.sampling.latents import parse_numbers
    from gan.sampling.marking import Marking
    from gan.sampling.origin import of_seeds, open_directions

    seed_list = parse_numbers(seeds)
    check_suffix(out, "out")
    refuse_existing([out], overwrite)
    marks = Marking(marking)
    source, G = load(sampling)
    directions = open_directions(file, G, sha256(source.path), parameter="file")
    directions = replace(directions, entries=dict(list(directions.entries.items())[:count]))
    factor = library.enlargement(G.config.shape)
    cell = ImageShape(factor * G.config.shape.width, factor * G.config.shape.height, 3)
    rows = len(directions.entries) * len(seed_list)
    check_size(out, len(library.AMOUNTS) + 1, rows, cell, library.BAND)
    classes = class_indices(source, sampling.class_name, 1)
    origin = of_seeds(G, seed_list, classes[0] if classes else None, truncation_psi=sampling.truncation_psi)
    pixels = library.sheet(G, directions, origin, noise_mode=sampling.noise_mode, batch_size=sampling.batch_size)
    recipe = recipe_of(source, sampling, "sheet", seeds=seed_list, directions=sha256(file))
    save(pixels, out, recipe=marks.of(recipe))
    marks.sign(out, recipe)
    figures: dict[str, Any] = {"snapshot": str(source.path), "file": str(out), "seeds": seed_list}
    figures |= {"directions": list(directions.entries), "amounts": list(library.AMOUNTS)}
    result(f"A sheet of {len(directions.entries)} directions from {source.path}: {out}", figures, as_json)


@click.command(cls=Command)
@file_argument
@click.argument("old")
@click.argument("new")
@json_option
def rename(file: Path, old: str, new: str, as_json: bool) -> None:
    """Give the direction OLD of a FILE the name NEW, in the file itself.

    Pictures that were made with the name OLD are verified with the file all the same.
    """
    from gan.sampling.directions import rename as library

    directions = library(file, old, new)
    result(f"{old} is now {new}: {file}", figures_of(directions, file), as_json)


def listed(directions: "Directions") -> str:
    """A table of directions, for people."""
    accuracies = directions.about.get("accuracy")
    known = accuracies if isinstance(accuracies, dict) else {}
    rows = [
        [
            entry.name,
            entry.method,
            f"{entry.first}-{entry.last}",
            f"{entry.sigma:.3g}",
            "" if entry.explained_variance is None else f"{entry.explained_variance:.1%}",
            *([f"{known[entry.name]:.0%}" if entry.name in known else ""] if known else []),
        ]
        for entry in directions.entries.values()
    ]
    return table(rows, ["name", "method", "layers", "sigma", "share", *(["accuracy"] if known else [])])


def figures_of(directions: "Directions", file: Path) -> dict[str, Any]:
    """The same as JSON has it."""
    told = {"file": str(file), "snapshot": directions.snapshot, "num_ws": directions.num_ws}
    return {**told, "directions": entries_of(directions), "about": dict(directions.about)}


def entries_of(directions: "Directions") -> list[dict[str, Any]]:
    """Each direction without its vector."""
    names = ("name", "method", "first", "last", "sigma", "explained_variance")
    return [{name: getattr(entry, name) for name in names} for entry in directions.entries.values()]


def _origin(directions: "Directions") -> str:
    about = directions.about
    parts = [f"Found for the snapshot {directions.snapshot[:12]}" if directions.snapshot else "Of no known snapshot"]
    if isinstance(about.get("samples"), int):
        parts.append(f"{about['samples']:,} samples from seed {about.get('seed')} on")
    if about.get("class_name") is not None:
        parts.append(f"of class {about['class_name']}")
    return ", ".join(parts)
