"""The command export. Heavy imports wait until it runs."""

from pathlib import Path
from typing import Any

import click

from gan.cli.command import Command
from gan.cli.options import PATH, WholeRange, json_option
from gan.errors import RequestError
from gan.runtime.console import result, table


@click.command(cls=Command)
@click.option(
    "--snapshot", required=True, metavar="SNAPSHOT", type=PATH, help="A snapshot, a run, or a folder of runs."
)
@click.option("--out", required=True, metavar="DIR", type=PATH, help="Model repository to add a version to.")
@click.option(
    "--name",
    metavar="NAME",
    default="generator",
    show_default=True,
    help="Of this generator, where a repository has several; its other models are then NAME_mapping and so on.",
)
@click.option(
    "--backend",
    type=click.Choice(["python", "onnxruntime"]),
    default="python",
    show_default=True,
    help="Of the server: python for the one that salon serve installs, onnxruntime for NVIDIA's image.",
)
@click.option("--classifier", metavar="FILE.onnx", type=PATH, help="Style classifier that salon style train wrote.")
@click.option(
    "--models",
    metavar="KINDS",
    help="Some of generator, mapping, synthesis, seed_to_png, discriminator, style_classifier, generate_and_score, "
    "generate_and_classify. Default: all that can be had.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the generator's features and convolutions; fp16 is for GPUs.",
)
@click.option(
    "--max-batch",
    metavar="NIMG",
    type=WholeRange(1, 256),
    default=16,
    show_default=True,
    help="Most images in one request.",
)
@click.option(
    "--instances",
    metavar="N",
    type=WholeRange(1, 64),
    default=1,
    show_default=True,
    help="Of each model, on each device.",
)
@click.option("--tensorrt", is_flag=True, help="Accelerate with TensorRT; for --backend onnxruntime on a GPU.")
@click.option("--response-cache", is_flag=True, help="Let a server that has a cache keep answers.")
@json_option
def export(
    snapshot: Path,
    out: Path,
    name: str,
    backend: str,
    classifier: Path | None,
    models: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Export a snapshot to a model repository for Triton, as ONNX graphs that are compared with PyTorch first.

    Every export adds a version, and older ones stay. Servers take the newest.

    \b
    salon export --snapshot runs --out models
    salon export --snapshot people.safetensors --out models --name people --classifier style.onnx
    salon export --snapshot runs --out models-gpu --backend onnxruntime --precision fp16 --tensorrt
    """
    try:
        from serving.export.export import export as add_version

        figures = add_version(
            snapshot,
            out,
            name=name,
            backend=backend,
            classifier=classifier,
            kinds=None if models is None else [kind.strip() for kind in models.split(",")],
            **options,
        )
    except ImportError as error:
        raise RequestError(f"salon export needs pip install 'salon[export]': {error}") from error
    differences = figures["difference"]
    rows = [
        [model, f"{differences[kind]:.1g}" if (kind := _kind(model, name)) in differences else ""]
        for model in figures["models"]
    ]
    text = f"Version {figures['version']} of {figures['snapshot']}: {out}"
    result(f"{table(rows, ['model', 'from PyTorch'])}\n{text}", figures, as_json)


def _kind(model: str, name: str) -> str:
    return "generator" if model == name else model.removeprefix(f"{name}_")
