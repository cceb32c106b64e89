"""What makes pictures again by a served generator, as gan.sampling.verify makes them of a snapshot."""

from collections.abc import Iterator, Sequence

from gan.data.images import Pixels
from gan.data.recipe import Recipe
from gan.errors import RequestError
from gan.sampling.latents import Floats
from gan.sampling.recipe_files import RecipeFiles, arranged, follow
from gan.sampling.verify import Make
from serving.client.client import Client


def of_server(client: Client, files: RecipeFiles | None = None) -> tuple[str, Make]:
    """The SHA-256 of the snapshot that is served, and what makes pictures of it as recipes say.

    `files` are those that recipes name.
    """

    def make(recipe: Recipe) -> Pixels:
        if recipe.truncation_cutoff is not None or recipe.noise_mode not in (None, "const"):
            raise RequestError("a served generator truncates all layers, and has const noise: verify with `snapshot`")
        psi, label = (1.0 if recipe.truncation_psi is None else recipe.truncation_psi), recipe.class_name
        if not (recipe.columns or recipe.ws or recipe.edits):
            return arranged(recipe, list(client.generate(recipe.seeds, psi, label)))
        about = client.about("synthesis")

        def map_seeds(seeds: Sequence[int]) -> Floats:
            return client.map_seeds(seeds, psi, label)

        def synthesize(ws: Floats, seeds: Sequence[int]) -> Iterator[Pixels]:
            return client.synthesize(ws)

        return follow(recipe, files or RecipeFiles(), about.num_ws or 0, about.w_dim or 0, map_seeds, synthesize)

    return client.about("generator").snapshot or "", make
