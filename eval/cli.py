"""The commands eval run, compare and reference. Heavy imports wait until a command runs."""

from pathlib import Path
from typing import Any

import click

from gan.cli.command import Group
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    device_option,
    json_option,
    none_is_nothing,
    overwrite_option,
    seed_option,
    together,
)
from gan.cli.rejection_options import NAMES, given, rejection_options
from gan.errors import BoundError, RequestError
from gan.runtime.console import result, table

DEFAULT, OFFLINE = "inception-v3-compat", "efficientnet-lite0"
DEFAULT_METRICS = "fid,kid,pr,dc"


@click.group(cls=Group)
def evaluate() -> None:
    """Judge a generator against a dataset: numbers that say how sure they are, and a report.

    \b
    salon eval run --snapshot runs --data paintings64.zip --num-images 2000 --out evaluation
    salon eval run --images pictures --data paintings64.zip --metrics fid,kid --require 'kd<0.5' --out judged
    salon eval compare runs/paintings64-tiny-1a2b3c4d --data paintings64.zip --num-images 1000 --out comparison
    salon eval reference paintings64.zip
    """


# What the features come from.
extractor_options = together(
    click.option(
        "--extractor",
        "extractors",
        metavar="NAME",
        multiple=True,
        help=f"Network that sees the images; repeat for several. Default: {DEFAULT} where its weights are, "
        f"else {OFFLINE}.",
    ),
    click.option(
        "--weights",
        "files",
        metavar="NAME=PATH",
        multiple=True,
        help="File of an extractor's weights, or of lpips-vgg and lpips-linear for ppl.",
    ),
    click.option("--fetch", is_flag=True, help="Allow to download missing weights of the extractors."),
    click.option(
        "--preprocess",
        type=click.Choice(["tf1", "clean", "imagenet", "clip"]),
        help="How images come to the network's size. Default: its own way.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default="fp32",
        show_default=True,
        help="bf16: faster, where it first proves itself.",
    ),
    click.option(
        "--backend",
        type=click.Choice(["torch", "onnxruntime", "openvino"]),
        default="torch",
        show_default=True,
        help="What runs the network.",
    ),
    click.option(
        "--batch-size", metavar="NIMG", type=WholeRange(1), default=16, show_default=True, help="Images at a time."
    ),
    device_option,
    json_option,
)


# What is measured, of what and against what.
judging_options = together(
    click.option("--manifest", metavar="DIR", type=PATH, help="Judge by the images that this manifest keeps alone."),
    click.option(
        "--metrics",
        metavar="NAMES",
        default=DEFAULT_METRICS,
        show_default=True,
        help="Some of fid, kid, pr (precision, recall), dc (density, coverage), is, ppl, ls (separability).",
    ),
    click.option(
        "--num-images",
        metavar="NIMG",
        type=WholeRange(1),
        help="Images to judge. Default: 10,000 of a snapshot, all of a folder or ZIP.",
    ),
    seed_option("Of the first image."),
    click.option(
        "--truncation-psi",
        metavar="PSI",
        type=FiniteRange(-2, 2),
        default=1.0,
        show_default=True,
        help="Of snapshots. Below 1: more typical and less varied.",
    ),
    click.option(
        "--strata",
        "strata_by",
        type=click.Choice(["none", "label", "style", "genre", "artist"]),
        default="none",
        callback=none_is_nothing,
        help="Also by each style, genre or artist of the manifest, or label of the dataset.",
    ),
    click.option(
        "--ppl-space",
        type=click.Choice(["w", "z"]),
        default="w",
        show_default=True,
        help="Latent space that the paths of ppl lead through.",
    ),
    click.option(
        "--ppl-sampling",
        type=click.Choice(["end", "full"]),
        default="end",
        show_default=True,
        help="Where on its path a step is measured: at its start, or anywhere.",
    ),
    click.option("--ppl-crop", is_flag=True, help="For ppl: only where aligned portraits have the face."),
    overwrite_option,
    extractor_options,
)


@evaluate.command()
@click.option("--snapshot", metavar="SNAPSHOT", type=PATH, help="A snapshot, a run, or a folder of runs.")
@click.option("--images", metavar="FOLDER|ZIP", type=PATH, help="Images to judge, instead of a snapshot.")
@click.option("--data", required=True, metavar="DATASET", type=PATH, help="Dataset made by salon prepare.")
@click.option("--out", required=True, metavar="DIR", type=PATH, help="For results.json, report.html and the features.")
@click.option(
    "--require",
    "bounds",
    metavar="METRIC<NUMBER",
    multiple=True,
    help="End with exit code 3 unless met; repeat. With Inception's weights "
    "METRIC is fid or kid, without them fd or kd.",
)
@rejection_options
@click.option(
    "--calibration-data",
    metavar="DATASET",
    type=PATH,
    help="Real images to calibrate --reject on; best those that neither training nor --data has. Default: --data.",
)
@judging_options
def run(
    snapshot: Path | None,
    images: Path | None,
    out: Path,
    bounds: tuple[str, ...],
    data: Path,
    device: str,
    metrics: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Judge a snapshot, or a folder or ZIP of images. The same command goes on where a killed one was.

    With --reject as many images that the discriminator accepts are judged beside, and each metric is told with and
    without rejection, and what it changes. --require is of the images without.

    \b
    salon eval run --snapshot runs --data paintings64.zip --num-images 2000 --out evaluation
    salon eval run --snapshot runs --data paintings64.zip --num-images 2000 --reject obrs --budget 4 --out evaluation
    torchrun --nproc-per-node 8 -m gan eval run --snapshot runs --data paintings64.zip --out evaluation
    """
    from eval.data.image_sources import is_snapshot
    from eval.evaluate import REPORT
    from eval.evaluator import Evaluator
    from eval.report import text as tables
    from eval.request import require_folder
    from gan import device as devices
    from gan.runtime import distributed

    what = snapshot or images
    if what is None or (snapshot and images):
        raise RequestError("eval run needs either --snapshot or --images")
    if (snapshot is None) == is_snapshot(what):
        if not what.exists():
            raise RequestError(f"{'--images' if images else '--snapshot'} must be there; {what} does not exist")
        if images:
            raise RequestError(f"{what} must be given with --snapshot; --images is a folder or a ZIP of images")
        raise RequestError(
            f"--snapshot must be a snapshot, a run or a folder of runs; {what} is none. Images are given with --images"
        )
    require_folder(out)
    rejection = given({name: options.pop(name) for name in (*NAMES, "calibration_data")})
    if rejection and images:
        raise RequestError("--reject needs --snapshot, whose discriminator rejects; --images has none")
    if images and options["truncation_psi"] != 1:
        raise RequestError("--truncation-psi needs --snapshot; --images are as they are")
    target = devices.select(device)
    with distributed.joined(target):
        judge = Evaluator(data, target, metrics=metrics.split(","), bounds=bounds, rejection=rejection, **options)
        found = judge(what, out)
    if found is None:
        return
    parts = [tables.results(found.figures), *tables.rejection(found.figures), *tables.strata(found.figures)]
    result("\n".join([*parts, f"Report: {out / REPORT}"]), {"out": str(out), **found.figures}, as_json)
    if unmet := [row for row in found.figures["requirements"] if not row["met"]]:
        raise BoundError(
            "; ".join(f"{row['requirement']} is required; {row['key']} is {row['value']:.4g}" for row in unmet)
        )


@evaluate.command()
@click.argument("what", nargs=-1, required=True, type=PATH, metavar="RESULTS|RUN|SNAPSHOT...")
@click.option("--data", metavar="DATASET", type=PATH, help="Dataset to judge snapshots by.")
@click.option("--out", metavar="DIR", type=PATH, help="For comparison.json, comparison.html, and what is judged now.")
@judging_options
def compare(
    what: tuple[Path, ...],
    out: Path | None,
    data: Path | None,
    device: str,
    metrics: str,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare evaluations: a curve over training, differences with their intervals, and the best.

    RESULTS is a folder of eval run or its results.json. Snapshots, and all snapshots of a RUN, are judged first, with
    the same latents; that needs --data and --out.

    \b
    salon eval compare evaluation-a evaluation-b
    salon eval compare runs/paintings64-tiny-1a2b3c4d --data paintings64.zip --num-images 1000 --out comparison
    """
    from eval import compare as comparing
    from eval.evaluate import RESULTS
    from eval.evaluator import Evaluator
    from eval.report import text as tables
    from eval.report.html import write_comparison
    from eval.request import require_folder, require_same
    from gan import device as devices
    from gan import snapshot as snapshots
    from gan.runtime import distributed, files

    entries: list[comparing.Entry] = []
    waiting: list[Path] = []
    for path in what:
        if path.suffix == ".json" or (path / RESULTS).exists():
            entries.append(comparing.read_entry(path))
        elif path.suffix == ".safetensors":
            waiting.append(path)
        elif found := snapshots.list_newest_first(path / "snapshots") or snapshots.list_newest_first(path):
            waiting += found[::-1]
        elif found := sorted(path.glob("*/snapshots")):
            raise RequestError(f"{path} is a folder of runs; name one of them, such as {found[-1].parent}")
        elif not path.exists():
            raise RequestError(f"{path} must be results of eval run, a run, or a snapshot; it does not exist")
        else:
            raise RequestError(f"{path} must be results of eval run, a run, or a snapshot; it is none of them")
    if waiting and (data is None or out is None):
        raise RequestError("eval compare needs --data and --out to judge snapshots")
    if len(entries) + len(waiting) < 2:
        raise RequestError(f"eval compare needs 2 or more to compare; got {len(entries) + len(waiting)}")
    request = {"compared": " ".join(map(str, what))}
    if out is not None:
        require_folder(out)
        require_same(out / comparing.COMPARISON, request, overwrite)
    target = devices.select(device)
    with distributed.joined(target):
        if data is not None and out is not None and waiting:
            judge = Evaluator(data, target, metrics=metrics.split(","), overwrite=overwrite, **options)
            for path in waiting:
                folder = out / f"{path.stem}-{files.sha256(path)[:8]}"
                if judge(path, folder) is not None:
                    entries.append(comparing.read_entry(folder))
    if not distributed.is_main():
        return
    entries = comparing.in_order(entries)
    figures = {**comparing.compare(entries), "request": request}
    text = tables.comparison(figures)
    if out is not None:
        files.write_json(out / comparing.COMPARISON, figures)
        write_comparison(figures, [entry.pictures for entry in entries], out / "comparison.html")
        text += f"\nReport: {out / 'comparison.html'}"
    result(text, figures, as_json)


@evaluate.command()
@click.argument("data", type=PATH, metavar="DATASET")
@click.option("--manifest", metavar="DIR", type=PATH, help="Only the images that this manifest keeps.")
@extractor_options
def reference(data: Path, manifest: Path | None, device: str, as_json: bool, **options: Any) -> None:
    """Extract a dataset's features and statistics in advance. What is in the cache is not made again.

    \b
    salon eval reference paintings64.zip --extractor efficientnet-lite0
    """
    from eval.data.reference import pass_over
    from eval.evaluator import Evaluator
    from gan import device as devices
    from gan.runtime import distributed

    target = devices.select(device)
    with distributed.joined(target):
        judge = Evaluator(data, target, manifest=manifest, **options)
        judge.tell_network()
        references, _ = pass_over(judge.real, judge.extractors, batch_size=judge.batch_size)
        with distributed.main_first():
            for own in references if distributed.is_main() else []:
                own.prepare()
    rows = [
        {"extractor": own.extractor.key, "images": len(own), "dim": own.extractor.dim, "folder": str(own.folder)}
        for own in references
    ]
    figures = {"data": str(data), **judge.real.identity, "references": rows}
    result(table([list(row.values()) for row in rows], list(rows[0])), figures, as_json)
