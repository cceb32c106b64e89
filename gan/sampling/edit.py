"""Images of seeds, or of a file of ws, that are moved along directions: what generate edit and generate images do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gan.data.images import Pixels
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.runtime.files import sha256
from gan.sampling.generate import synthesize
from gan.sampling.origin import Origin, edit, of_file, of_seeds, open_directions, refuse_for_ws
from gan.sampling.request import SamplingRequest


@dataclass(frozen=True, kw_only=True)
class EditRequest:
    """Which images to edit, and how. Raises RequestError where they are both seeds and ws, or neither."""

    seeds: Sequence[int] = ()
    ws: Path | None = None  # file of ws, in the place of seeds
    directions: Path | None = None  # file of directions; None: no edits
    edits: Mapping[str, float] = field(default_factory=dict)  # direction -> amount, in standard deviations

    def __post_init__(self) -> None:
        if bool(self.seeds) == (self.ws is not None):
            raise RequestError(f"`seeds` or `ws` must be given, one of the two; got {'both' if self.ws else 'neither'}")
        if self.edits and self.directions is None:
            raise RequestError("`directions` must name the file of the directions to move along")


@dataclass(frozen=True, kw_only=True)
class Edited:
    """ws that were moved, and how recipes say it."""

    origin: Origin
    ws: torch.Tensor  # [N, num_ws, w_dim]
    fields: Mapping[str, Any]  # of the recipe, that all images share

    def recipe(self, place: int | None = None) -> dict[str, Any]:
        """Fields of the recipe of all images, or of the one at a place."""
        return {**self.origin.recipe(place), **self.fields}

    def images(self, G: Generator, sampling: SamplingRequest) -> Iterator[Pixels]:
        """uint8 [H, W, C] one by one."""
        numbers, noise = self.origin.numbers, sampling.noise_mode
        return synthesize(G, self.ws, noise_mode=noise, seeds=numbers, batch_size=sampling.batch_size)


def edited(
    G: Generator,
    request: EditRequest,
    sampling: SamplingRequest,
    class_index: int | None = None,
    snapshot: str | None = None,
) -> Edited:
    """The ws that a request asks for. `class_index` is that of `sampling`, `snapshot` the SHA-256 of G's file.

    Raises RequestError for files of another generator's shape, names of directions that there are not, and what has no
    meaning beside ws.
    """
    if request.ws is not None:
        refuse_for_ws(sampling)
        origin = of_file(G, request.ws, snapshot)
    else:
        psi, cutoff = sampling.truncation_psi, sampling.truncation_cutoff
        origin = of_seeds(G, request.seeds, class_index, truncation_psi=psi, truncation_cutoff=cutoff)
    if request.directions is None:
        return Edited(origin=origin, ws=origin.ws, fields={})
    moved = edit(origin.ws, open_directions(request.directions, G, snapshot), request.edits)
    fields = {"edits": dict(request.edits), "directions": sha256(request.directions)}
    return Edited(origin=origin, ws=moved, fields=fields)
