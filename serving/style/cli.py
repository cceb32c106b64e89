"""The commands style train and style check. Heavy imports wait until a command runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gan.cli.command import Group, takes
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    device_option,
    json_option,
    overwrite_option,
    psi_option,
    seed_option,
)
from gan.errors import BoundError
from gan.runtime.console import result, say, table
from gan.runtime.files import refuse_existing
from serving.client.options import concurrency_option, label_option, model_option, server_options
from serving.client.request import Connection
from serving.style.request import StyleCheckRequest, StyleTrainingRequest


@click.group(cls=Group)
def style() -> None:
    """Train a classifier of painting styles, and check whether generated images are of one.

    \b
    salon style train --data wikiart --target Impressionism --out style.onnx
    salon export --snapshot runs --classifier style.onnx --out models
    salon style check --num-images 256 --target Impressionism --require 0.6
    """


@style.command()
@takes(StyleTrainingRequest)
@click.option(
    "--data",
    metavar="FOLDER|ZIP|MANIFEST",
    type=PATH,
    help="Folders named by style, a dataset of salon prepare, or its manifest.",
)
@click.option(
    "--manifest", metavar="DIR", type=PATH, help="Only images that this manifest keeps, by its styles and artists."
)
@click.option("--target", metavar="STYLE", help="Style that checks will ask for.")
@click.option("--out", metavar="FILE.onnx", type=PATH, help="File for the classifier.")
@click.option("--report", metavar="DIR", type=PATH, help="Folder for results.json and report.html.")
@click.option("--extractor", metavar="NAME", help="Network whose features the classifier learns from.")
@click.option("--weights", metavar="PATH", type=PATH, help="File of the extractor's weights.")
@click.option("--fetch", is_flag=True, help="Allow to download missing weights of the extractor.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    help="Precision of the network in the classifier; int8 is for CPUs, with efficientnet-lite0.",
)
@click.option(
    "--group-by",
    type=click.Choice(["artist", "image"]),
    help="Group that is held out as a whole. artist: all works of an artist, by the manifest or by names such as "
    "claude-monet_the-sea.jpg; an image whose artist is not known by itself.",
)
@seed_option("Seed of the folds.")
@device_option
@overwrite_option
@json_option
def train(request: StyleTrainingRequest, report: Path | None, overwrite: bool, as_json: bool) -> None:
    """Train a style classifier: a frozen network's features and a regression, in one ONNX file.

    Its error rates, on images held out with all works of their artists where these are known, are printed and stay in
    the file: `salon style check` corrects its rates by them. Prepare the images at the resolution of the generator.

    \b
    salon style train --data styles256.zip --target Impressionism --out style.onnx --report style-report
    """
    from gan.runtime.files import write_json
    from serving.style import train as training
    from serving.style.report import PAGE, RESULTS, write_training

    pages = [report / RESULTS, report / PAGE] if report else []
    refuse_existing([request.out, *pages], overwrite)
    trained = training.train(request)
    lines = [_training(trained.figures), f"Classifier: {request.out}"]
    if report:
        write_json(report / RESULTS, trained.figures)
        write_training(trained, report / PAGE)
        lines.append(f"Report: {report / PAGE}")
    result("\n".join(lines), trained.figures, as_json)


@style.command()
@takes(Connection, "connection")
@takes(StyleCheckRequest)
@click.option("--images", metavar="FOLDER|ZIP", type=PATH, help="Images to check, in place of generated ones.")
@click.option(
    "--classifier",
    metavar="FILE.onnx",
    type=PATH,
    help="Style classifier that salon style train wrote. Default: the one that is served.",
)
@click.option(
    "--num-images",
    metavar="NIMG",
    type=WholeRange(1),
    help="Number of images to check. Default: 256 generated ones, all of --images.",
)
@seed_option("Seed of the first image.")
@click.option("--target", metavar="STYLE", help="Style to ask for. Default: the one the classifier was trained for.")
@click.option(
    "--require",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    help="Least corrected rate: exit code 3 unless the lower end of its interval reaches it.",
)
@click.option(
    "--confidence",
    metavar="SHARE",
    type=FiniteRange(0.5, 1, min_open=True, max_open=True),
    help="Confidence of the intervals.",
)
@click.option("--out", metavar="DIR", type=PATH, help="Folder for results.json and report.html.")
@model_option
@psi_option
@label_option
@concurrency_option
@overwrite_option
@server_options
def check(request: StyleCheckRequest, connection: Connection, out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Estimate which share of a generator's images is of a style. With --require, a bound that must be met.

    The raw rate is the share of images whose most probable style is the target. It is wrong where the classifier is:
    the corrected rate counts in how often it missed the target, and took other styles for it, on real images that it
    had not seen (Rogan and Gladen 1978), and its interval how sure that is. --require is for the lower end of the
    corrected rate's interval. A classifier that is near to guessing cannot tell, and meets no requirement.

    \b
    salon style check --url grpc://127.0.0.1:8001 --num-images 256 --target Impressionism --require 0.6
    salon style check --images images --classifier style.onnx --out checked
    """
    from gan.runtime.files import write_json
    from serving.style import check as style_check
    from serving.style.images import classify_images
    from serving.style.report import PAGE, RESULTS, write_check

    refuse_existing([out / RESULTS, out / PAGE] if out else [], overwrite)
    classified, about, origin = classify_images(request, connection)
    figures = {
        **style_check.check(classified, about, request.target, require=request.require, confidence=request.confidence),
        **origin,
    }
    for warning in figures["warnings"]:
        say(f"Warning: {warning}")
    lines = [_check(figures)]
    if out:
        write_json(out / RESULTS, figures)
        write_check(figures, classified, out / PAGE)
        lines.append(f"Report: {out / PAGE}")
    result("\n".join(lines), figures, as_json)
    if (required := figures["requirement"]) and not required["met"]:
        low = "cannot be told" if required["bound"] is None else f"is {required['bound']:.1%}"
        raise BoundError(
            f"a corrected rate of {required['minimum']:.1%} {figures['target']} is required; "
            f"the lower end of its {request.confidence:.0%} interval {low}"
        )


def _training(figures: Mapping[str, Any]) -> str:
    held, plain = figures["held_out"], figures["plain"]
    rows = [
        _row("accuracy, held out by " + figures["group_by"], held["accuracy"]),
        _row("macro F1, held out by " + figures["group_by"], held["macro_f1"]),
        _row("calibration error", held["ece"]),
        *([_row("accuracy, plain folds", plain["accuracy"])] if figures["group_by"] == "artist" else []),
        *(_row(f"recall of {row['style']}", row["recall"]) for row in held["per_class"]),
    ]
    return f"{table(rows, ['rate', 'value', '95 % interval', 'images'])}\nHeld out: {figures['kept_apart']}"


def _check(figures: Mapping[str, Any]) -> str:
    target = figures["target"]
    rows = [
        _row(f"{target}, raw", figures["raw"]),
        _row(f"{target}, corrected", figures["corrected"]),
        _row(f"real {target}, raw", figures["yardstick"]),
        *(_row(f"most like {row['style']}", row["share"]) for row in figures["styles"] if row["images"]),
    ]
    text = table(rows, ["rate", "value", f"{figures['confidence']:.0%} interval", "images"])
    if required := figures["requirement"]:
        met = "met" if required["met"] else "not met"
        text += f"\nRequired: at least {required['minimum']:.1%} by the corrected rate's interval: {met}"
    return text


def _row(name: str, rate: Mapping[str, Any] | None) -> list[object]:
    if rate is None:
        return [name, "unknown", "", ""]
    return [name, f"{rate['value']:.1%}", f"{rate['low']:.1%} to {rate['high']:.1%}", rate["n"]]
