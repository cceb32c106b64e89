"""Files that recipes name by their SHA-256: of ws and of directions. And how a recipe that needs them is followed.

Without torch, as clients of a server need it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gan.data.images import Pixels
from gan.data.recipe import Recipe
from gan.errors import RequestError
from gan.runtime.files import sha256
from gan.sampling import image_grid, latents
from gan.sampling.directions import Directions
from gan.sampling.latents import Floats
from gan.sampling.ws_file import WsFile

MOST = 4096  # images that a recipe is followed for

MapSeeds = Callable[[Sequence[int]], Floats]  # seeds -> ws [N, num_ws, w_dim], by class and truncation of a recipe
Synthesize = Callable[[Floats, Sequence[int]], Iterable[Pixels]]  # ws, and what random noise is of -> images [H, W, C]


@dataclass(frozen=True, kw_only=True)
class RecipeFiles:
    """Files that were given, by SHA-256."""

    ws: Mapping[str, Path] = field(default_factory=dict)
    directions: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, ws: Iterable[Path], directions: Iterable[Path]) -> "RecipeFiles":
        """By their paths. Raises RequestError for a path that is no file, or no file of directions."""
        paths, files = {"ws": list(ws), "directions": list(directions)}, dict[str, dict[str, Path]]()
        for name, own in paths.items():
            if absent := [path for path in own if not path.is_file()]:
                raise RequestError(f"`{name}` must be a file; {absent[0]} is none")
            files[name] = {sha256(path): path for path in own}
        for path in files["directions"].values():
            Directions.open(path)
        return cls(**files)

    def with_directions(self, path: Path) -> "RecipeFiles":
        """And one more file of directions."""
        return replace(self, directions={**self.directions, sha256(path): path})

    def missing(self, recipe: Recipe) -> str | None:
        """Why a recipe of a still picture cannot be followed with these files; None where it can."""
        if (recipe.seeds and recipe.rows) or (recipe.edits and recipe.kind == "mix"):
            return "its recipe is of seeds and rows at once, or of an edited mix, which are not followed"
        if (recipe.rows and not recipe.ws) or (recipe.edits and not recipe.directions):
            return "its recipe does not name the file of its ws, or of its directions"
        for name, digest in (("ws", recipe.ws), ("ws", recipe.columns_ws)):
            if digest is not None and digest not in self.ws:
                return f"it was made of a file of {name} that was not given, of the SHA-256 {digest}"
        if recipe.edits and recipe.directions is not None and self._opened(recipe.directions) is None:
            return f"it was made with a file of directions that was not given, of the SHA-256 {recipe.directions}"
        return None

    def rows(self, digest: str, rows: Sequence[int], num_ws: int, w_dim: int) -> Floats:
        """Rows of a file of ws, [N, num_ws, w_dim]. Raises RequestError for another shape, and rows that are not."""
        file = WsFile.open(self.ws[digest], num_ws, w_dim)
        if bad := [row for row in rows if row >= len(file.ws)]:
            raise RequestError(f"`ws` has {len(file.ws)} rows; the recipe is of row {bad[0]}")
        return file.ws[list(rows)]

    def edited(self, recipe: Recipe, ws: Floats) -> Floats:
        """ws [N, num_ws, w_dim], moved as the recipe says. Raises RequestError for directions that there are not."""
        if not recipe.edits or recipe.directions is None:
            return ws
        directions = self._opened(recipe.directions, ws.shape[1], ws.shape[2])
        assert directions is not None  # see missing
        return directions.edit(ws, recipe.edits)

    def _opened(self, digest: str, num_ws: int | None = None, w_dim: int | None = None) -> Directions | None:
        # Of the file with this SHA-256, or of one that had it before a direction got another name.
        if digest in self.directions:
            return Directions.open(self.directions[digest], num_ws, w_dim)
        for path in self.directions.values():
            if (earlier := Directions.open(path).as_of(digest)) is not None:
                Directions.open(path, num_ws, w_dim)  # its shape
                return earlier
        return None


def follow(
    recipe: Recipe, files: RecipeFiles, num_ws: int, w_dim: int, map_seeds: MapSeeds, synthesize: Synthesize
) -> Pixels:
    """The still picture that a recipe describes, whose files are there. Raises RequestError for what does not fit."""

    def side(numbers: Sequence[int], digest: str | None) -> Floats:
        return map_seeds(numbers) if digest is None else files.rows(digest, numbers, num_ws, w_dim)

    numbers = list(recipe.rows if recipe.ws else recipe.seeds)
    ws = side(numbers, recipe.ws)
    if not recipe.columns:
        return arranged(recipe, list(synthesize(files.edited(recipe, ws), numbers)))
    columns = side(recipe.columns, recipe.columns_ws)
    mixed = latents.mix(ws, columns, recipe.layers)
    if recipe.kind != "mix":
        return arranged(recipe, list(synthesize(files.edited(recipe, mixed), numbers)))
    noise = [row for row in numbers for _ in recipe.columns]
    left, top, inner = (
        list(synthesize(own, seeds)) for own, seeds in ((ws, numbers), (columns, recipe.columns), (mixed, noise))
    )
    return image_grid.mixing_grid(left, top, inner)


def arranged(recipe: Recipe, images: Sequence[Pixels]) -> Pixels:
    """The images of a recipe as it shows them. Raises RequestError where it names a grid that is none."""
    if recipe.kind == "image":
        (image,) = images
        return image
    columns, _, rows = (recipe.grid or "").partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and len(images) <= int(columns) * int(rows) <= MOST):
        raise RequestError(f"the recipe must have a grid for {len(images)} images; got {recipe.grid} instead")
    return image_grid.grid(images, int(columns), int(rows))
