"""Whether a picture is what its recipe says: it is generated again, and compared level by level."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gan.data import content_credentials
from gan.data.classes import class_index
from gan.data.content_credentials import Signature
from gan.data.images import Pixels, encode, to_image
from gan.data.recipe import Provenance, Recipe, read
from gan.errors import RequestError
from gan.networks import precision
from gan.runtime.files import sha256
from gan.sampling import generate
from gan.sampling.latents import Floats
from gan.sampling.recipe_files import MOST, RecipeFiles, follow
from gan.snapshot import Snapshot

STILL = ("image", "grid", "mix")  # kinds that are generated again

Make = Callable[[Recipe], Pixels]  # recipe -> the picture, uint8 [H, W, C]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a picture says, and how far it is from the one that its recipe makes."""

    path: Path
    said: Provenance
    signature: Signature | None = None
    reason: str | None = None  # why it was not compared
    largest: int | None = None  # difference in levels, of 255; None: not compared
    mean: float | None = None

    def same(self, tolerance: int) -> bool | None:
        """Whether no level is further off than `tolerance`; None where it was not compared."""
        return None if self.largest is None else self.largest <= tolerance


def verify(
    path: Path, snapshot: str | None = None, make: Make | None = None, files: RecipeFiles | None = None
) -> Verification:
    """Read a picture's mark and recipe, and with `make`, of the snapshot with this SHA-256, compare it with its like.

    `files` are what `make` has besides the snapshot. Raises RequestError for what is no picture, for a recipe that the
    generator cannot follow, and for a signed picture where the extra that reads signatures is not installed.
    """
    said, signature = read(path), content_credentials.read(path) if content_credentials.present(path) else None
    found = Verification(path=path, said=said, signature=signature)
    recipe = said.recipe
    if make is None or snapshot is None:
        return found
    if recipe is None:
        return replace(found, reason="it has no recipe")
    if recipe.kind not in STILL:
        return replace(found, reason=f"its recipe is of {recipe.kind}, which is not compared")
    if not recipe.snapshot:
        return replace(found, reason="its recipe names no snapshot, as those of a training's image grids")
    if recipe.snapshot != snapshot:
        reason = f"it was made with the snapshot {recipe.snapshot[:12]}, not with {snapshot[:12]}"
        return replace(found, reason=reason)
    if max(len(recipe.seeds) + len(recipe.rows), 1) * max(len(recipe.columns), 1) > MOST:
        raise RequestError(f"{path} must have a recipe of at most {MOST:,} images")
    if recipe.kind == "image" and (len(recipe.seeds) + len(recipe.rows) != 1 or len(recipe.columns) > 1):
        raise RequestError(f"{path} must have a recipe of one seed or row, or of two that are mixed")
    if (lack := (files or RecipeFiles()).missing(recipe)) is not None:
        return replace(found, reason=lack)
    try:
        wanted = np.asarray(_as_file(make(recipe), said.format)).astype(int)
    except RequestError as error:
        raise RequestError(f"{path} has a recipe that the generator cannot follow: {error}") from error
    with Image.open(path) as image:
        there = np.asarray(image).astype(int)
    if there.shape != wanted.shape:
        shapes = " and ".join("x".join(map(str, one.shape[1::-1])) for one in (there, wanted))
        return replace(found, reason=f"it and what its recipe makes differ in shape: {shapes}")
    off = np.abs(there - wanted)
    return replace(found, largest=int(off.max()), mean=float(off.mean()))


def of_snapshot(source: Snapshot, device: torch.device, files: RecipeFiles | None = None) -> tuple[str, Make]:
    """The SHA-256 of a snapshot, and what makes pictures of it as recipes say, with the files that they name."""

    def make(recipe: Recipe) -> Pixels:
        G, config = source.G_ema, source.config.network
        precision.apply(G, recipe.precision or "fp32")
        G.to(device)
        psi, cutoff = (1.0 if recipe.truncation_psi is None else recipe.truncation_psi), recipe.truncation_cutoff

        def map_seeds(seeds: Sequence[int]) -> Floats:
            index = class_index(recipe.class_name, config.num_classes, source.classes)
            classes = None if index is None else [index] * len(seeds)
            ws = generate.map_seeds(G, seeds, classes, truncation_psi=psi, truncation_cutoff=cutoff)
            return ws.cpu().numpy()

        def synthesize(ws: Floats, seeds: Sequence[int]) -> Iterator[Pixels]:
            on_device, noise = torch.from_numpy(ws).to(device), recipe.noise_mode or "const"
            return generate.synthesize(G, on_device, noise_mode=noise, seeds=seeds)

        return follow(recipe, files or RecipeFiles(), config.num_ws, config.w_dim, map_seeds, synthesize)

    return sha256(source.path), make


def _as_file(pixels: Pixels, format: str) -> Image.Image:
    # As the file has it: a JPEG loses levels, and has no alpha.
    return Image.open(io.BytesIO(encode(to_image(pixels), format)))
