"""The commands query status and classify. Heavy imports wait until a command runs."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, WholeRange
from gan.errors import BoundError, RequestError
from gan.runtime.console import progress, result, table
from serving.client.cli.connect import client_of
from serving.client.options import server_options
from serving.client.request import Connection


@click.command(cls=Command)
@takes(Connection, "connection")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
@click.option("--top", metavar="K", type=WholeRange(1), default=3, show_default=True, help="Styles to print.")
@server_options
def classify(files: tuple[Path, ...], top: int, connection: Connection, as_json: bool) -> None:
    """Classify images by style with the served classifier, with probabilities."""
    from serving.contract import CLASSIFIER

    for file in files:  # all of them, before the first is sent
        if not file.is_file():
            fault = "is a folder" if file.is_dir() else "does not exist"
            raise RequestError(f"FILE must be an image; {file} {fault}")
    with client_of(connection) as client:
        about = client.about(CLASSIFIER)
        opened = (_open(file) for file in progress(files, "Classifying"))
        probabilities = client.classify(opened)
    classified, lines = [], []
    for file, row in zip(files, probabilities, strict=True):
        ranked = sorted(zip(about.styles, row.tolist(), strict=True), key=lambda pair: -pair[1])
        classified.append({"file": str(file), "style": ranked[0][0], "probabilities": dict(ranked)})
        lines.append([str(file), *(f"{style} {probability:.1%}" for style, probability in ranked[:top])])
    result(table(lines), {"url": client.url, "classifier": dataclasses.asdict(about), "images": classified}, as_json)


@click.command(cls=Command)
@takes(Connection, "connection")
@server_options
def status(connection: Connection, as_json: bool) -> None:
    """Tell what the server holds and how it fares: models, versions, counts, mean times. Exit code 3: not ready."""
    with client_of(connection) as client:
        figures = client.status()
    header = ["model", "version", "state", "kind", "snapshot", "pixels", "requests", "failed", "images", "queue ms"]
    header += ["compute ms", "total ms"]
    rows = []
    for model in figures["models"]:
        about = model["about"] or {}
        times = ["" if model[key] is None else f"{model[key]:.2f}" for key in ("queue_ms", "compute_ms", "total_ms")]
        state = f"{model['state']} {model['reason']}".strip()
        kind, pixels = about.get("kind", ""), model["pixels"] or ""
        counts = [model["succeeded"], model["failed"], model["images"]]
        snapshot = (about.get("snapshot") or "")[:8]
        rows.append([model["name"], model["version"], state, kind, snapshot, pixels, *counts, *times])
    ready = "ready" if figures["ready"] else "not ready"
    first = f"Triton {figures['version']} at {figures['url']}: {ready}"
    result("\n".join([first, "", table(rows, header) if rows else "No models."]), figures, as_json)
    if not figures["ready"]:
        raise BoundError(f"{figures['url']} is not ready")


def _open(file: Path) -> Any:
    import numpy as np

    from gan.data import decode
    from gan.errors import ImageError

    try:
        return np.asarray(decode.decode(file).image)
    except ImageError as error:
        raise RequestError(f"{file} must be an image; {error}") from error
