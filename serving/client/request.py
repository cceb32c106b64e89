"""What the commands of `salon query` take, and which server they ask. `--help` loads it: nothing heavy here."""

import os
from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError
from serving import contract
from serving.client.retry import CONCURRENCY, RETRIES, TIMEOUT
from serving.contract import DEFAULT_NAME, DEFAULT_URL


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A server, a generator on it, and how requests are sent: the parameters of serving.client.client.Client."""

    url: str = DEFAULT_URL  # grpc://HOST:PORT or http://HOST:PORT; grpcs and https are encrypted
    model: str = DEFAULT_NAME  # name of the generator
    model_version: int | None = None  # of its models; None: the newest
    timeout: float = TIMEOUT  # seconds, for each request with all of its attempts
    retries: int = RETRIES  # attempts after the first one, while the server is not available
    concurrency: int = CONCURRENCY  # requests at a time
    token_file: Path | None = None  # with the token that the server wants; None: the variable SALON_TOKEN, or none


def read_token(file: Path | None) -> str | None:
    """The token in a file, or where there is none in the variable SALON_TOKEN; None: in neither.

    Raises RequestError when it is none, without a word of what it is.
    """
    if file is not None:
        return contract.read_token(file)
    token = os.environ.get("SALON_TOKEN", "")
    return contract.check_token(token, "SALON_TOKEN") if token else None


@dataclass(frozen=True, kw_only=True)
class GenerateQuery:
    """Images of seeds from a served generator."""

    out: Path  # a folder for one file a seed; with `grid`, the grid's file
    seeds: str | None = None  # such as "0-15,42"; None: with `ws`, or with `reject`, candidates from 0 on
    ws: Path | None = None  # file of ws, all of whose rows are generated in the place of seeds
    grid: str | None = None  # columns x rows such as "4x4"; None: one file a seed
    format: str = "png"  # of one file a seed: png, jpeg or webp
    reject: str | None = None  # obrs: only candidates that the discriminator accepts; None: every seed
    count: int | None = None  # images to accept, with `reject`
    budget: int | None = None  # candidates for each accepted image; None: 4
    truncation_psi: float = 1.0
    label: str | None = None  # class, by name or index; None: for a generator without classes
    overwrite: bool = False

    def __post_init__(self) -> None:
        _check_ws(self.ws, self.seeds, self.truncation_psi, self.label)
        if self.ws is not None and self.reject is not None:
            raise RequestError("`reject` chooses among seeds; leave out `ws`")
        if self.reject is None:
            for name in ("count", "budget"):
                if getattr(self, name):
                    raise RequestError(f"`{name}` needs `reject` obrs")
        elif self.count is None:
            raise RequestError("`reject` needs `count`, the number of images to accept")


@dataclass(frozen=True, kw_only=True)
class MixQuery:
    """A grid of style mixing from a served generator: each row's image with some layers of each column's."""

    rows: str  # seeds
    columns: str  # seeds
    out: Path
    layers: str = "0-3"  # that the columns give
    truncation_psi: float = 1.0
    label: str | None = None  # class, by name or index
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class InterpolateQuery:
    """A closed path through seeds, or ws, from a served generator, as an animation."""

    out: Path
    seeds: str | None = None
    ws: Path | None = None  # file of ws, through all of whose rows the path goes, in the place of seeds
    frames: int = 60  # from one seed to the next
    fps: float = 30  # frames a second
    truncation_psi: float = 1.0
    label: str | None = None  # class, by name or index
    overwrite: bool = False

    def __post_init__(self) -> None:
        _check_ws(self.ws, self.seeds, self.truncation_psi, self.label)


@dataclass(frozen=True, kw_only=True)
class EditQuery:
    """Images of seeds, or of ws, from a served generator, moved along directions."""

    out: Path  # a folder for one file an image; with `grid`, the grid's file
    direction: tuple[str, ...]  # such as "sky=1.5": a direction, and how far to move, in standard deviations
    directions: Path | None = None  # file of directions; None: those that are served with the generator
    seeds: str | None = None  # such as "0-15,42"
    ws: Path | None = None  # file of ws, all of whose rows are edited in the place of seeds
    grid: str | None = None  # columns x rows such as "4x4"; None: one file an image
    format: str = "png"  # of one file an image: png, jpeg or webp
    truncation_psi: float = 1.0
    label: str | None = None  # class, by name or index; None: for a generator without classes
    overwrite: bool = False

    def __post_init__(self) -> None:
        _check_ws(self.ws, self.seeds, self.truncation_psi, self.label)


def _check_ws(ws: Path | None, seeds: str | None, truncation_psi: float, label: str | None) -> None:
    needless = {"seeds": seeds is not None, "truncation_psi": truncation_psi != 1, "label": label is not None}
    for name, given in needless.items():
        if ws is not None and given:
            raise RequestError(f"`{name}` must be left out with `ws`, which are taken as they are")
