"""The recipe of a picture that a served generator made; see gan.data.recipe."""

from typing import Any

from gan.data.recipe import Recipe
from serving.contract import ModelMetadata


def served_recipe(metadata: ModelMetadata, kind: str, **values: Any) -> Recipe:
    """By the metadata of the generator; `values` are further fields of Recipe."""
    return Recipe(
        kind=kind,
        noise_mode="const",
        model=f"{metadata.generator} {metadata.version}" if metadata.version else metadata.generator,
        snapshot=metadata.snapshot,
        kimg=None if metadata.cur_nimg is None else metadata.cur_nimg / 1000,
        **values,
    )
