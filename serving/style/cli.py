"""The commands style train and style check. Heavy imports wait until a command runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gan.cli.command import Group
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    class_option,
    device_option,
    json_option,
    overwrite_option,
    psi_option,
    seed_option,
)
from gan.errors import BoundError, RequestError
from gan.runtime.console import result, table
from gan.runtime.files import refuse_existing
from serving.client.options import concurrency_option, model_option, server_options


@click.group(cls=Group)
def style() -> None:
    """Learn to tell styles of painting, and check whether what a painter paints is of one.

    \b
    salon style train --data wikiart --target Impressionism --out style.onnx
    salon export --snapshot runs --classifier style.onnx --out models
    salon style check --num-images 256 --target Impressionism --require 0.6
    """


@style.command()
@click.option(
    "--data",
    required=True,
    metavar="FOLDER|ZIP|MANIFEST",
    type=PATH,
    help="Folders named by style, a dataset of salon prepare, or its manifest.",
)
@click.option(
    "--manifest", metavar="DIR", type=PATH, help="Only images that this manifest keeps, by its styles and artists."
)
@click.option("--target", required=True, metavar="STYLE", help="Style that checks will ask for.")
@click.option("--out", required=True, metavar="FILE.onnx", type=PATH, help="File for the classifier.")
@click.option("--report", metavar="DIR", type=PATH, help="For results.json and report.html.")
@click.option(
    "--extractor", metavar="NAME", default="efficientnet-lite0", show_default=True, help="Network that sees the images."
)
@click.option("--weights", metavar="PATH", type=PATH, help="File of the extractor's weights.")
@click.option("--fetch", is_flag=True, help="Allow to download missing weights of the extractor.")
@click.option(
    "--group-by",
    type=click.Choice(["artist", "image"]),
    default="artist",
    show_default=True,
    help="What is kept apart when images are held out. artist: all works of a painter, by the manifest or by names "
    "such as claude-monet_the-sea.jpg.",
)
@seed_option("Of the folds.")
@device_option
@overwrite_option
@json_option
def train(out: Path, report: Path | None, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Train a style classifier: a frozen network's features and a regression, in one ONNX file.

    Its error rates, on images held out with all works of their painters, are printed and stay in the file: `salon style
    check` corrects its rates by them. Prepare the images at the size at which the painter paints.

    \b
    salon style train --data styles256.zip --target Impressionism --out style.onnx --report style-report
    """
    from gan.runtime.files import write_json
    from serving.style import train as training
    from serving.style.report import PAGE, RESULTS, write_training

    if out.suffix != ".onnx":
        raise RequestError(f"--out must end in .onnx; got {out} instead")
    pages = [report / RESULTS, report / PAGE] if report else []
    refuse_existing([out, *pages], overwrite)
    trained = training.train(out=out, **options)
    lines = [_training(trained.figures), f"Classifier: {out}"]
    if report:
        write_json(report / RESULTS, trained.figures)
        write_training(trained, report / PAGE)
        lines.append(f"Report: {report / PAGE}")
    result("\n".join(lines), trained.figures, as_json)


@style.command()
@click.option("--images", metavar="FOLDER|ZIP", type=PATH, help="Check these images; nothing is painted.")
@click.option(
    "--classifier", metavar="FILE.onnx", type=PATH, help="Of salon style train. Default: the one that is served."
)
@click.option("--num-images", metavar="NIMG", type=WholeRange(1), help="Default: 256 to paint, all of --images.")
@seed_option("Of the first image.")
@click.option("--target", metavar="STYLE", help="Style to ask for. Default: the one the classifier was trained for.")
@click.option(
    "--require",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    help="End with exit code 3 unless the corrected rate is surely as large: the lower end of its interval counts.",
)
@click.option(
    "--confidence",
    metavar="SHARE",
    type=FiniteRange(0.5, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@click.option("--out", metavar="DIR", type=PATH, help="For results.json and report.html.")
@model_option
@psi_option
@class_option
@concurrency_option
@overwrite_option
@server_options
def check(
    out: Path | None,
    require: float | None,
    confidence: float,
    target: str | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Which share of a painter's pictures is of a style? With --require, a bound that must be met.

    The raw rate is the share of pictures whose most probable style is the target. It is wrong where the classifier is:
    the corrected rate counts in how often it missed the target, and took other styles for it, on real images that it
    had not seen (Rogan and Gladen 1978), and its interval how sure that is. --require is for the lower end of the
    corrected rate's interval. A classifier that is near to guessing cannot tell, and meets no requirement.

    \b
    salon style check --url grpc://127.0.0.1:8001 --num-images 256 --target Impressionism --require 0.6
    salon style check --images pictures --classifier style.onnx --out checked
    """
    from gan.runtime.files import write_json
    from serving.style import check as style_check
    from serving.style.images import look
    from serving.style.report import PAGE, RESULTS, write_check

    refuse_existing([out / RESULTS, out / PAGE] if out else [], overwrite)
    seen, about, origin = look(target=target, **options)
    figures = {**style_check.check(seen, about, target, require=require, confidence=confidence), **origin}
    lines = [*figures["warnings"], _check(figures)]
    if out:
        write_json(out / RESULTS, figures)
        write_check(figures, seen, out / PAGE)
        lines.append(f"Report: {out / PAGE}")
    result("\n".join(lines), figures, as_json)
    if (required := figures["requirement"]) and not required["met"]:
        low = "cannot be told" if required["bound"] is None else f"is {required['bound']:.1%}"
        raise BoundError(
            f"a corrected rate of {require:.1%} {figures['target']} is required; "
            f"the lower end of its {confidence:.0%} interval {low}"
        )


def _training(figures: Mapping[str, Any]) -> str:
    held, plain = figures["held_out"], figures["plain"]
    rows = [
        _row("accuracy, held out by " + figures["group_by"], held["accuracy"]),
        _row("macro F1, held out by " + figures["group_by"], held["macro_f1"]),
        _row("calibration error", held["ece"]),
        _row("accuracy, plain folds", plain["accuracy"]),
        *(_row(f"recall of {row['style']}", row["recall"]) for row in held["per_class"]),
    ]
    return table(rows, ["rate", "value", "95 % interval", "images"])


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
