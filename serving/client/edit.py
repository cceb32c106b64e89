"""Images of a served generator of seeds or of a file of ws, moved along directions: what salon query edit does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gan.data.images import Pixels
from gan.data.recipe import Recipe
from gan.errors import RequestError
from gan.runtime.console import say
from gan.runtime.files import sha256
from gan.sampling import latents
from gan.sampling.directions import Directions, parse_amounts
from gan.sampling.latents import Floats
from gan.sampling.ws_file import WsFile, told_of
from serving.client.client import Client
from serving.client.request import EditQuery
from serving.recipes import served_recipe


@dataclass(frozen=True, kw_only=True)
class Origin:
    """ws of images, and where each comes from: a seed, or a row of a file of ws."""

    ws: Floats  # [N, num_ws, w_dim]
    numbers: Sequence[int]  # seeds or rows
    names: Sequence[str]  # of each image's file, without suffix
    file: str | None = None  # SHA-256 of the file; None: `numbers` are seeds

    def fields(self, numbers: Sequence[int] | None = None) -> dict[str, Any]:
        """Fields of a recipe of all, or of those with these numbers."""
        numbers = list(self.numbers if numbers is None else numbers)
        return {"seeds": numbers} if self.file is None else {"ws": self.file, "rows": numbers}


@dataclass(frozen=True, kw_only=True)
class Edited:
    """Images as they come from the server, and how they are made."""

    origin: Origin
    recipe: Recipe  # of all of them
    images: Iterator[Pixels]  # uint8 [H, W, C] one by one

    def recipes(self) -> list[Recipe]:
        """Of each image."""
        return [replace(self.recipe, **self.origin.fields([number])) for number in self.origin.numbers]


def edited(client: Client, request: EditQuery) -> Edited:
    """The images that a request asks for; without any `direction`, they are moved nowhere.

    Says a warning where a file was made for another snapshot. Raises RequestError for files of another generator's
    shape, for names of directions that there are not, and where the server has none and the request neither.
    """
    amounts, seeds = parse_amounts(request.direction), parse_seeds(request.seeds, request.ws)
    directions, digest = directions_of(client, request.directions) if amounts else (None, None)
    for name in amounts:
        assert directions is not None
        directions[name]  # all of them, before the first request
    if request.ws is not None:
        origin = of_file(client, request.ws)
    else:
        distinct = seeds if request.grid else list(dict.fromkeys(seeds))  # one file a seed
        origin = of_seeds(client, distinct, request.truncation_psi, request.label)
    ws = origin.ws if directions is None else directions.edit(origin.ws, amounts)
    psi = None if request.ws is not None else request.truncation_psi
    made = {"truncation_psi": psi, "class_name": request.label, "edits": amounts, "directions": digest}
    recipe = served_recipe(client.about("synthesis"), "image", **origin.fields(), **made)
    return Edited(origin=origin, recipe=recipe, images=client.synthesize(ws))


def directions_of(client: Client, path: Path | None) -> tuple[Directions, str | None]:
    """Directions of a file, or those that are served, and the SHA-256 of their file. Raises as Directions.open."""
    mapping = client.about("mapping")
    if path is None:
        return client.need_directions(), mapping.directions
    directions = Directions.open(path, mapping.num_ws or 0, mapping.w_dim or 0)
    if warning := told_of("directions", path, directions.snapshot, mapping.snapshot):
        say(warning)
    return directions, sha256(path)


def parse_seeds(seeds: str | None, ws: Path | None) -> list[int]:
    """Seeds such as "0-15,42"; empty where `ws` stands in their place. Raises RequestError where neither does."""
    if seeds is None and ws is None:
        raise RequestError("`seeds` or `ws` must be given")
    return [] if seeds is None else latents.parse_numbers(seeds)


def of_seeds(client: Client, numbers: Sequence[int], truncation_psi: float, label: str | None) -> Origin:
    """ws of seeds."""
    ws = client.map_seeds(numbers, truncation_psi, label)
    return Origin(ws=ws, numbers=numbers, names=[f"seed{seed:04d}" for seed in numbers])


def of_file(client: Client, path: Path) -> Origin:
    """All rows of a file of ws. Raises as WsFile.open."""
    synthesis = client.about("synthesis")
    file = WsFile.open(path, synthesis.num_ws or 0, synthesis.w_dim or 0)
    if warning := told_of("ws", path, file.snapshot, synthesis.snapshot):
        say(warning)
    return Origin(ws=file.ws, numbers=range(len(file.ws)), names=file.names(), file=sha256(path))
