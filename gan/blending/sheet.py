"""A sheet of blends: a row a seed, a column each layer to blend from, or weights from 0 to 1."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from gan.blending.request import BlendRequest
from gan.blending.weights import blended
from gan.data.classes import class_index
from gan.data.images import Pixels, for_display, save, tile
from gan.data.recipe import Recipe
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.runtime.console import progress
from gan.runtime.files import sha256
from gan.sampling.generate import generate
from gan.sampling.latents import parse_numbers
from gan.sampling.marking import Marking
from gan.snapshot import Snapshot

WEIGHTS = tuple(step / 8 for step in range(9))
GAP = 2  # pixels between images
MOST = 64  # seeds
SMALLEST = 64  # pixels that an image is wide at least: smaller ones are enlarged, so that the labels fit


def draw(a: Snapshot, b: Snapshot, request: BlendRequest, path: Path, marks: Marking, device: torch.device) -> None:
    """Write the sheet of a request. Raises RequestError for seeds and classes that are none."""
    seeds = parse_numbers(request.seeds)
    if len(seeds) > MOST:
        raise RequestError(f"`seeds` must be at most {MOST}; got {len(seeds)} instead")
    names = b.classes if request.mapping == "b" else a.classes
    index = class_index(request.class_name, a.config.network.num_classes, names)
    choices = columns(request, a.config.network.num_ws)
    made = [
        _images(a, b, request, choice, seeds, index, device)
        for choice in progress(choices, "Blending", len(choices), unit="column")
    ]
    recipe = Recipe(
        kind="blend",
        seeds=seeds,
        class_name=request.class_name,
        truncation_psi=request.truncation_psi,
        snapshot=sha256(a.path),
        other=sha256(b.path),
    )
    title = "weight of B" if request.over_weights else "layers from this one on are B's"
    labels = [f"{weight:g}" if request.over_weights else str(layer) for layer, weight in choices]
    save(laid_out(made, labels, title), path, recipe=marks.of(recipe))
    marks.sign(path, recipe)


def columns(request: BlendRequest, num_ws: int) -> list[tuple[int | None, float]]:
    """from_layer and weight of each column."""
    if request.over_weights:
        return [(None, weight) for weight in WEIGHTS]
    return [(layer, 1.0 if request.weight is None else request.weight) for layer in range(num_ws + 1)]


def laid_out(made: list[list[Pixels]], labels: list[str], title: str) -> Pixels:
    """Columns of images with a label above each and a title above all -> uint8 [H, W, 3]."""
    scale = -(-SMALLEST // made[0][0].shape[1])
    rows = [[for_display(column[row]) for column in made] for row in range(len(made[0]))]
    cells = np.stack([image.repeat(scale, 0).repeat(scale, 1) for row in rows for image in row])
    grid = tile(cells, len(made), gap=GAP)
    font = ImageFont.load_default(size=14)
    head = Image.new("RGB", (grid.shape[1], 44), "white")
    pen = ImageDraw.Draw(head)
    pen.text((4, 2), title, "black", font=font)
    for position, label in enumerate(labels):
        centre = position * (cells.shape[2] + GAP) + cells.shape[2] / 2
        pen.text((centre, 24), label, "black", font=font, anchor="ma")
    return np.concatenate([np.asarray(head), grid])


def _images(
    a: Snapshot,
    b: Snapshot,
    request: BlendRequest,
    choice: tuple[int | None, float],
    seeds: list[int],
    index: int | None,
    device: torch.device,
) -> list[Pixels]:
    config, (layer, weight) = a.config.network, choice
    G = Generator(config).eval().requires_grad_(False)
    weights = (a.G_ema.state_dict(), b.G_ema.state_dict())
    G.load_state_dict(blended(*weights, config, from_layer=layer, weight=weight, mapping=request.mapping))
    classes = None if index is None else [index] * len(seeds)
    return list(generate(G.to(device), seeds, classes, truncation_psi=request.truncation_psi))
