"""What makes pictures again by a served generator, as gan.sampling.verify makes them of a snapshot."""

from gan.data.images import Pixels
from gan.data.recipe import Recipe
from gan.errors import RequestError
from gan.sampling import image_grid, latents
from gan.sampling.verify import Make, arranged
from serving.client.client import Client


def of_server(client: Client) -> tuple[str, Make]:
    """The SHA-256 of the snapshot that is served, and what makes pictures of it as recipes say."""

    def make(recipe: Recipe) -> Pixels:
        if recipe.truncation_cutoff is not None or recipe.noise_mode not in (None, "const"):
            raise RequestError("a served generator truncates all layers, and has const noise: verify with `snapshot`")
        psi, label = (1.0 if recipe.truncation_psi is None else recipe.truncation_psi), recipe.class_name
        if recipe.kind == "grid" or not recipe.columns:
            return arranged(recipe, list(client.generate(recipe.seeds, psi, label)))
        if recipe.kind == "image" and recipe.columns:
            ws = client.map_seeds([*recipe.seeds, *recipe.columns], psi, label)
            (image,) = client.synthesize(latents.mix(ws[:1], ws[1:], recipe.layers))
            return image
        rows, columns = (client.map_seeds(seeds, psi, label) for seeds in (recipe.seeds, recipe.columns))
        cells = latents.mix(rows, columns, recipe.layers)
        left, top, inner = (list(client.synthesize(ws)) for ws in (rows, columns, cells))
        return image_grid.mixing_grid(left, top, inner)

    return client.about("generator").snapshot or "", make
