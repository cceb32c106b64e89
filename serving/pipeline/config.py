"""A pipeline's file: TOML, a table for each stage whose keys are the options of its command."""

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan.errors import RequestError
from serving.pipeline.stages import STAGES, Inputs, Options


@dataclass(frozen=True, kw_only=True)
class PipelineFile:
    """What a file says. Its paths are relative to the folder that it lies in."""

    path: Path
    folder: Path  # where everything is written
    images: list[str]  # folders and ZIPs; empty where [synthetic] makes them
    tables: dict[str, Options]  # in the order of STAGES


def load(path: Path) -> dict[str, Any]:
    """What a TOML file holds. Raises RequestError when it is missing, or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{path} must be a readable TOML file; got {reason} instead") from error


def read(path: Path) -> PipelineFile:
    """Read a pipeline's file. Raises RequestError when it is missing, is no TOML, or holds what it must not."""
    content = load(path)
    folder, images = content.pop("folder", path.stem), content.pop("images", [])
    if not isinstance(folder, str) or not folder:
        raise RequestError(f"{path}: folder must be a path; got {folder!r} instead")
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise RequestError(f"{path}: images must be a folder, a ZIP or a list of them; got {images!r} instead")
    for name, table in content.items():
        if name not in STAGES:
            close = difflib.get_close_matches(name, STAGES, 1)
            known = f"did you mean [{close[0]}]?" if close else f"known are {', '.join(STAGES)}"
            raise RequestError(f"{path}: there is no stage [{name}]; {known}")
        if not isinstance(table, dict):
            raise RequestError(f"{path}: {name} must be a table, [{name}]; got {table!r} instead")
    if not content:
        raise RequestError(f"{path} must have a table for each stage to run, such as [prepare] and [train]")
    if ("synthetic" in content) == bool(images):
        raise RequestError(f"{path} must have either images = FOLDER or a table [synthetic]")
    for name in content:
        if missing := [need for need in STAGES[name].needs if need not in content]:
            raise RequestError(f"{path}: [{name}] needs [{missing[0]}]")
    if content.get("prepare", {}).get("buckets"):
        raise RequestError(f"{path}: [prepare] must make one dataset; buckets makes several: choose a shape instead")
    base = path.parent
    place = next(p for p in [base / folder, *(base / folder).parents] if p.exists())
    if not place.is_dir():
        raise RequestError(f"{path}: folder must be a place for folders; {place} is a file")
    if lost := [image for image in images if not (base / image).exists()]:
        raise RequestError(f"{path}: images {lost[0]} do not exist in {base.resolve()}")
    tables = {name: content[name] for name in STAGES if name in content}
    return PipelineFile(path=path, folder=base / folder, images=images, tables=tables)


def words(stage: str, table: Options, inputs: Inputs, out: str) -> list[str]:
    """A stage's command line, without the program: its command, arguments, and options of pipeline and file."""
    wiring = STAGES[stage].wiring(inputs, out)
    line = [*STAGES[stage].command.split(), *wiring.arguments]
    for name, value in (wiring.options | {key.replace("_", "-"): value for key, value in table.items()}).items():
        for each in value if isinstance(value, list) else [value]:
            if each is True:
                line.append(f"--{name}")
            elif each is not False:
                line += [f"--{name}", str(each)]
    return line
