"""Options that the commands of salon eval share."""

from typing import Any

import click

from eval.request import SAMPLINGS, SPACES
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    device_option,
    graphs_option,
    json_option,
    none_is_nothing,
    overwrite_option,
    seed_option,
    together,
)

DEFAULT, OFFLINE = "inception-v3-compat", "efficientnet-lite0"


class Names(click.ParamType):  # type: ignore[type-arg]  # not generic in older ones
    """Several names with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(name.strip() for name in names)


class Numbers(Names):
    """Several numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return tuple(float(number) for number in super().convert(value, param, ctx))
        except ValueError:
            self.fail(f"{value} is no list of numbers.", param, ctx)


# How features are extracted.
extractor_options = together(
    click.option(
        "--extractor",
        "extractors",
        metavar="NAME",
        multiple=True,
        help=f"Feature extractor; repeat for several. Default: {DEFAULT} where its weights are, else {OFFLINE}.",
    ),
    click.option(
        "--weights",
        metavar="NAME=PATH",
        multiple=True,
        help="File of an extractor's weights, or of lpips-vgg and lpips-linear for ppl; repeat.",
    ),
    click.option("--fetch", is_flag=True, help="Download of missing weights of the extractors is allowed."),
    click.option(
        "--preprocess",
        type=click.Choice(["tf1", "clean", "imagenet", "clip"]),
        help="Resizing of images to the network's size. Default: the network's own.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "tf32", "bf16"]),
        help="Extractor precision. tf32 (GPUs only) and bf16, which are faster, are used only after they agree with "
        "fp32 on images of the dataset.",
    ),
    click.option(
        "--backend",
        type=click.Choice(["torch", "onnxruntime", "openvino"]),
        help="Runtime of the extractor; all but torch need --device cpu.",
    ),
    click.option("--batch-size", metavar="NIMG", type=WholeRange(1), help="Images at a time."),
    device_option,
    json_option,
)


# What is evaluated, how, and against what.
evaluation_options = together(
    click.option(
        "--manifest", metavar="DIR", type=PATH, help="Manifest; only the images that it keeps are the reference."
    ),
    click.option(
        "--metrics",
        metavar="NAMES",
        type=Names(),
        help="Metrics, some of fid, kid, pr (precision, recall), dc (density, coverage), is, ppl, ls (separability).",
    ),
    click.option(
        "--num-images",
        metavar="NIMG",
        type=WholeRange(1),
        help="Images to evaluate. Default: 10,000 of a snapshot, all of a folder or ZIP.",
    ),
    seed_option("Seed of the first image."),
    click.option(
        "--truncation-psi",
        metavar="PSI",
        type=FiniteRange(-2, 2),
        help="Truncation of snapshots. Below 1: more typical and less varied images.",
    ),
    click.option(
        "--dims",
        metavar="N",
        type=WholeRange(1),
        help="Principal components of the dataset's features to measure in; few for few images. Default: all features.",
    ),
    click.option(
        "--strata",
        type=click.Choice(["none", "label", "style", "genre", "artist"]),
        default="none",
        callback=none_is_nothing,
        help="Strata to report by as well: label of the dataset, or style, genre or artist of the manifest.",
    ),
    click.option("--ppl-space", type=click.Choice(SPACES), help="Latent space of perceptual path length (ppl)."),
    click.option(
        "--ppl-sampling",
        type=click.Choice(SAMPLINGS),
        help="Place of a step of ppl on its path: at its start, or anywhere.",
    ),
    click.option("--ppl-crop", is_flag=True, help="Crop of ppl to where aligned portraits have the face."),
    graphs_option,
    overwrite_option,
    extractor_options,
)
