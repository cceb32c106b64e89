"""What images are made from: seeds, or rows of a file of ws, and how their recipes say it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.runtime.console import say
from gan.runtime.files import sha256
from gan.sampling.directions import Directions
from gan.sampling.generate import map_seeds
from gan.sampling.latents import parse_numbers
from gan.sampling.request import SamplingRequest
from gan.sampling.ws_file import WsFile, told_of


@dataclass(frozen=True, kw_only=True)
class Origin:
    """ws of images, and where each comes from: a seed, or a row of a file of ws."""

    ws: torch.Tensor  # [N, num_ws, w_dim]
    numbers: Sequence[int]  # seeds or rows; noise that is random is drawn by them
    file: str | None = None  # SHA-256 of the file; None: `numbers` are seeds
    names: Sequence[str] = ()  # of each image's file, without suffix

    def recipe(self, place: int | None = None) -> dict[str, Any]:
        """Fields of the recipe of all, or of the one at a place."""
        numbers = list(self.numbers) if place is None else [self.numbers[place]]
        return {"seeds": numbers} if self.file is None else {"ws": self.file, "rows": numbers}


def edit(ws: torch.Tensor, directions: Directions, amounts: Mapping[str, float]) -> torch.Tensor:
    """ws [N, num_ws, w_dim] -> the same moved; see Directions.edit. On the CPU, so that all devices do it alike."""
    return torch.from_numpy(directions.edit(ws.cpu().numpy(), amounts)).to(ws)


def of_seeds(
    G: Generator,
    seeds: Sequence[int],
    class_index: int | None = None,
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
) -> Origin:
    """ws of seeds. Raises RequestError where the class does not fit the generator."""
    classes = None if class_index is None else [class_index] * len(seeds)
    ws = map_seeds(G, seeds, classes, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
    return Origin(ws=ws, numbers=list(seeds), names=[f"seed{seed:04d}" for seed in seeds])


def of_file(
    G: Generator, path: Path, snapshot: str | None = None, rows: Sequence[int] | None = None, *, parameter: str = "ws"
) -> Origin:
    """Rows of a file of ws, all by default. `snapshot` is the SHA-256 of the generator's file.

    Says a warning where the ws were found for another snapshot. Raises RequestError, which names `parameter`, for ws of
    another shape, and for rows that there are not.
    """
    config = G.config
    file = WsFile.open(path, config.num_ws, config.w_dim, parameter)
    if warning := told_of("ws", path, file.snapshot, snapshot):
        say(warning)
    chosen = list(range(len(file.ws))) if rows is None else list(rows)
    if bad := [row for row in chosen if row >= len(file.ws)]:
        raise RequestError(f"`{parameter}` must have the row {bad[0]}; {path} has {len(file.ws)}, from 0 on")
    ws = torch.from_numpy(file.ws[chosen]).to(next(G.parameters()).device)
    names = file.names()
    return Origin(ws=ws, numbers=chosen, file=sha256(path), names=[names[row] for row in chosen])


def open_directions(
    path: Path, G: Generator, snapshot: str | None = None, *, parameter: str = "directions"
) -> Directions:
    """The directions in a file. Says a warning where they are of another snapshot. Raises as Directions.open."""
    directions = Directions.open(path, G.config.num_ws, G.config.w_dim, parameter)
    if warning := told_of("directions", path, directions.snapshot, snapshot):
        say(warning)
    return directions


def refuse_for_ws(sampling: SamplingRequest) -> None:
    """Raise RequestError for what decides how seeds become ws, where ws are given as they are."""
    for name, needless in (
        ("truncation_psi", sampling.truncation_psi != 1),
        ("truncation_cutoff", sampling.truncation_cutoff is not None),
        ("class_name", sampling.class_name is not None),
        ("cuda_graphs", sampling.cuda_graphs),
    ):
        if needless:
            raise RequestError(f"`{name}` must be left out with `ws`, which are taken as they are")


@dataclass(frozen=True, kw_only=True)
class Side:
    """Rows or columns of a mix as they are asked for: seeds, or a file of ws and which of its rows."""

    seeds: Sequence[int] = ()
    file: Path | None = None
    rows: Sequence[int] | None = None  # None: all of the file

    def origin(
        self, G: Generator, snapshot: str | None, class_index: int | None, *, truncation_psi: float, parameter: str
    ) -> Origin:
        """Their ws. Raises RequestError, which names `parameter`, as of_file and of_seeds."""
        if self.file is not None:
            return of_file(G, self.file, snapshot, self.rows, parameter=parameter)
        return of_seeds(G, self.seeds, class_index, truncation_psi=truncation_psi)


def parse_side(text: str, parameter: str) -> Side:
    """ "0-3,8" -> seeds; "found.npz" -> a file of ws; "found.npz:0-3" -> some rows of it.

    Raises RequestError, which names `parameter`, for anything else.
    """
    path, colon, rows = text.rpartition(":")
    if colon and path.lower().endswith(".npz"):
        return Side(file=Path(path), rows=parse_numbers(rows, parameter))
    if text.lower().endswith(".npz"):
        return Side(file=Path(text))
    return Side(seeds=parse_numbers(text, parameter))
