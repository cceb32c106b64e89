"""Options that the commands of salon eval share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from eval.request import SAMPLINGS, SPACES
from gan.cli.options import (
    PATH,
    FiniteRange,
    WholeRange,
    column_option,
    device_option,
    graphs_option,
    json_option,
    overwrite_option,
    seed_option,
    together,
)
from gan.errors import RequestError

MOST = 1000  # numbers in steps
SUITE, OFFLINE = ("dinov2-vit-l-14", "inception-v3-compat"), "efficientnet-lite0"


class Names(click.ParamType):  # type: ignore[type-arg]  # not generic in older ones
    """Several names with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(name.strip() for name in names)


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Several numbers with commas between them, or FROM:TO:STEP, both ends counted."""

    name = "numbers"

    def __init__(self, kind: Callable[[str], float]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if not isinstance(value, str):
            return tuple(value)
        try:
            if ":" not in value:
                return tuple(self.kind(part) for part in value.split(","))
            first, last, step = (self.kind(part) for part in value.split(":"))
            count = round((last - first) / step) + 1
            if not (0 < count <= MOST and math.isclose(first + (count - 1) * step, last, abs_tol=1e-9)):
                raise ValueError
            return tuple(self.kind(f"{first + place * step:.12g}") for place in range(count))
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"{value!r} is neither numbers with commas between them nor FROM:TO:STEP.", param, ctx)


# How features are extracted.
extractor_options = together(
    click.option(
        "--extractor",
        "extractors",
        metavar="NAME",
        multiple=True,
        help=f"Feature extractor; repeat for several. Default: {' and '.join(SUITE)} where their weights are, else "
        f"{OFFLINE}.",
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
        type=click.Choice(["tf1", "clean", "pad", "imagenet", "clip", "dgm"]),
        help="Resizing of images to the network's size. pad keeps their proportions: the whole image, on a grey "
        "square. Default: the network's own.",
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


# How, and against what, whichever truncation.
measuring_options = together(
    click.option(
        "--manifest", metavar="DIR", type=PATH, help="Manifest; only the images that it keeps are the reference."
    ),
    click.option(
        "--metrics",
        metavar="NAMES",
        type=Names(),
        help="Metrics, some of fid, fid_infinity, fid_population, kid, mind, pr (precision, recall), dc (density, "
        "coverage), authenticity, is, ppl, ls (separability), or those of other packages; without --extractor by "
        f"{SUITE[1]} where its weights are. Default: fid, kid, pr, dc; where the weights of both are, these by "
        f"{SUITE[0]}, and fid by {SUITE[1]}.",
    ),
    click.option(
        "--num-images",
        metavar="NIMG",
        type=WholeRange(1),
        help="Images to evaluate. Default: 10,000 of a snapshot, all of a folder or ZIP.",
    ),
    seed_option("Seed of the first image."),
    click.option(
        "--dims",
        metavar="N",
        type=WholeRange(1),
        help="Principal components of the dataset's features to measure in; few for few images. Default: all features.",
    ),
    column_option(
        "strata", "Strata to report by as well: label of the dataset, or style, genre or artist of the manifest."
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

# What is evaluated, how, and against what.
evaluation_options = together(
    click.option(
        "--truncation-psi",
        metavar="PSI",
        type=FiniteRange(-2, 2),
        help="Truncation of snapshots. Below 1: more typical and less varied images.",
    ),
    measuring_options,
)

# At which settings one generator is evaluated.
sweep_options = together(
    click.option(
        "--psi",
        metavar="FROM:TO:STEP",
        type=Numbers(float),
        help="Truncations, in steps, or numbers with commas between them. Default: 0.5:1:0.1.",
        show_default=False,
    ),
    click.option(
        "--budget",
        metavar="NUMBERS",
        type=Numbers(int),
        help="Candidates for each accepted image, several with commas between them; 1: no rejection. Default: 1.",
        show_default=False,
    ),
)


def require_one(snapshot: Path | None, images: Path | None, truncation_psi: float) -> Path:
    """The one of --snapshot and --images that was given, which must be what its option says."""
    from eval.data.image_sources import is_snapshot

    path = snapshot or images
    if path is None or (snapshot and images):
        raise RequestError(f"eval {click.get_current_context().info_name} needs either --snapshot or --images")
    if not path.exists():
        raise RequestError(f"{'--images' if images else '--snapshot'} must be there; {path} does not exist")
    if (snapshot is None) == is_snapshot(path):
        if images:
            raise RequestError(
                f"{path} must be given with --snapshot; --images is a folder, a ZIP or an array of images"
            )
        raise RequestError(
            f"--snapshot must be a snapshot, a run or a folder of runs; {path} is none. Images are given with --images"
        )
    if images and truncation_psi != 1:
        raise RequestError("--truncation-psi needs --snapshot; --images are as they are")
    return path
