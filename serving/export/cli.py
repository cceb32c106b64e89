"""The command export. Heavy imports wait until it runs."""

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, WholeRange, json_option, overwrite_option
from gan.errors import RequestError
from gan.runtime.console import result, table
from serving.export.request import FILES, OLDEST_OPSET, OPSET, TRITON, ExportRequest

READERS = {  # format -> what reads the file
    "stylegan3-pkl": "legacy.load_network_pkl of stylegan3 and stylegan2-ada-pytorch",
    "rosinality": "rosinality/stylegan2-pytorch",
}


@click.command(cls=Command)
@takes(ExportRequest)
@click.option("--snapshot", metavar="SNAPSHOT", type=PATH, help="Snapshot, run, or folder of runs to export.")
@click.option(
    "--out", metavar="DIR|FILE", type=PATH, help="Model repository to add a version to, or with --format the file."
)
@click.option(
    "--format",
    type=click.Choice([TRITON, *FILES]),
    help="Form of the export: models for Triton, or weights for other StyleGAN2 code. stylegan3-pkl: .pkl, for the "
    "loaders of stylegan3 and stylegan2-ada-pytorch. rosinality: .pt.",
)
@click.option("--list", "list_versions", is_flag=True, help="Print the versions in --out, and export nothing.")
@click.option(
    "--rollback", metavar="N", type=WholeRange(1), help="Version to publish again, as the newest, and export nothing."
)
@click.option(
    "--name",
    metavar="NAME",
    help="Name of this generator, where a repository has several; its other models are then NAME_mapping and so on.",
)
@click.option(
    "--backend",
    type=click.Choice(["python", "onnxruntime"]),
    help="Backend of the server: python for the one that salon serve installs, onnxruntime for NVIDIA's image.",
)
@click.option("--classifier", metavar="FILE.onnx", type=PATH, help="Style classifier that salon style train wrote.")
@click.option(
    "--directions",
    metavar="FILE",
    type=PATH,
    help="Directions of the generator, which salon directions wrote: clients and the gallery then edit along them.",
)
@click.option(
    "--models",
    metavar="KINDS",
    help="Models to export: some of generator, mapping, synthesis, seed_to_png, discriminator, style_classifier, "
    "generate_and_score, generate_and_classify. Default: all that can be had.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    help="Precision of the generator's features and convolutions; fp16 is for GPUs.",
)
@click.option("--max-batch", metavar="NIMG", type=WholeRange(1, 256), help="Largest batch: images in one request.")
@click.option("--instances", metavar="N", type=WholeRange(1, 64), help="Instances of each model, on each device.")
@click.option(
    "--opset",
    metavar="N",
    type=WholeRange(OLDEST_OPSET, OPSET),
    help="Opset of ONNX that the graphs are written in: a lower one for older runtimes.",
)
@click.option("--tensorrt", is_flag=True, help="TensorRT for acceleration; with --backend onnxruntime on a GPU.")
@click.option("--response-cache", is_flag=True, help="Cache for answers, where the server has one.")
@overwrite_option
@json_option
def export(request: ExportRequest, as_json: bool) -> None:
    """Export a snapshot to a model repository for Triton, as ONNX graphs that are compared with PyTorch first.

    Every export adds a version, whole or not at all, and older ones stay. Servers take the newest, and go on with the
    one before for clients that began with it.

    With --format the weights are written for other StyleGAN2 code instead: names, numbers and arrays in one file, which
    is read back and compared first.

    \b
    salon export --snapshot runs --out models
    salon export --snapshot runs --out models --directions directions.npz
    salon export --list --out models
    salon export --rollback 2 --out models
    salon export --snapshot people.safetensors --out models --name people --classifier style.onnx
    salon export --snapshot runs --out models-gpu --backend onnxruntime --precision fp16 --tensorrt
    salon export --snapshot runs --format stylegan3-pkl --out network.pkl
    """
    if request.format != TRITON:
        _write_file(request, as_json)
        return
    if request.list_versions:
        _list(request, as_json)
        return
    if request.rollback is not None:
        from serving.export.rollback import roll_back

        figures = roll_back(request.out, request.rollback)
        result(f"Version {figures['version']} is version {figures['rollback']} again: {request.out}", figures, as_json)
        return
    try:
        from serving.export.export import export as add_version

        figures = add_version(request)
    except ImportError as error:
        raise RequestError(f"salon export needs pip install 'salon[export]': {error}") from error
    differences = figures["difference"]
    rows = [
        [model, f"{differences[kind]:.1g}" if (kind := _kind(model, request.name)) in differences else ""]
        for model in figures["models"]
    ]
    text = f"Version {figures['version']} of {figures['snapshot']}: {request.out}"
    result(f"{table(rows, ['model', 'from PyTorch'])}\n{text}", figures, as_json)


def _write_file(request: ExportRequest, as_json: bool) -> None:
    from serving.export.weights_file import write

    figures = write(request)
    text = f"{figures['snapshot']} is now {request.out}, for {READERS[request.format]}\n"
    if not figures["discriminator"]:
        untrained = request.format == "stylegan3-pkl"
        text += (
            f"The snapshot has no discriminator: the file {'has a new, untrained one' if untrained else 'has none'}\n"
        )
    if figures["channel_multiplier"]:
        text += f"Its channel_multiplier is {figures['channel_multiplier']}\n"
    result(f"{text}Read back, images differ by {figures['difference']:.1g} of their range", figures, as_json)


def _list(request: ExportRequest, as_json: bool) -> None:
    from serving.export.family import list_versions

    rows = []
    versions = list_versions(request.out)
    for row in versions:
        kimg = "" if row["cur_nimg"] is None else f"{row['cur_nimg'] / 1000:.1f}"
        state = f"{row['state']}, version {row['rollback']} again" if row["rollback"] else row["state"]
        rows.append([row["version"], row["name"], (row["snapshot"] or "")[:12], kimg, row["date"] or "", state])
    header = ["version", "name", "snapshot", "kimg", "date", "state"]
    text = table(rows, header) if rows else f"No versions in {request.out}."
    result(text, {"out": str(request.out), "versions": versions}, as_json)


def _kind(model: str, name: str) -> str:
    return "generator" if model == name else model.removeprefix(f"{name}_")
