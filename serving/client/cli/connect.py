"""What the commands of `salon query` share: which generator, the client of its server, recipes. Heavy imports wait."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan.cli.options import marking_options, overwrite_option, psi_option, together
from gan.errors import RequestError
from gan.runtime.console import say
from serving.client.options import concurrency_option, label_option, model_option, server_options
from serving.client.request import Connection

if TYPE_CHECKING:
    from gan.data.recipe import Recipe
    from serving.client.client import Client

# Which generator, and how it generates.
generator_options = together(
    model_option,
    psi_option,
    label_option,
    concurrency_option,
    marking_options,
    overwrite_option,
    server_options,
)


def client_of(connection: Connection) -> "Client":
    """A client of the server, which says what it waits for."""
    from serving.client.client import Client

    return Client(**dataclasses.asdict(connection), announce=say)


def source_of(client: "Client") -> dict[str, Any]:
    """Where images come from, among a command's figures."""
    about = client.about("generator")
    source = {"url": client.url, "model": client.model, "version": about.version}
    return source | {"snapshot": about.snapshot, "cur_nimg": about.cur_nimg}


def check_suffix(out: Path, where: str = "") -> None:
    """Raise RequestError unless --out is named like an image; `where` says when that is asked."""
    from gan.data.images import SUFFIXES

    if out.suffix.lower() not in SUFFIXES:
        raise RequestError(f"--out must end in one of {', '.join(SUFFIXES)} {where}".rstrip() + f"; got {out} instead")


def recipe_of(client: "Client", request: Any, kind: str, **values: Any) -> "Recipe":
    """How the served generator made a picture, for its file."""
    from serving.recipes import served_recipe

    psi = None if values.get("ws") else request.truncation_psi  # ws are taken as they are
    values |= {"class_name": request.label, "truncation_psi": psi}
    return served_recipe(client.about("generator"), kind, **values)
