"""The group `salon curate`. Its sub-commands are named as strings and imported when they are used."""

import click

from gan.cli.groups import LazyGroup

SUBCOMMANDS = {  # in the order in which a person meets them
    "auto": "curation.auto.cli:auto",
    "check": "curation.score.cli:check",
    "score": "curation.score.cli:score",
    "prune": "curation.decide.cli:prune",
    "log": "curation.decide.cli:log",
    "diff": "curation.decide.cli:diff",
    "learn": "curation.decide.cli:learn",
    "review": "curation.decide.cli:review",
    "map": "curation.map.cli:map_images",
    "materialize": "curation.decide.cli:materialize",
    "retrain": "curation.retrain.cli:retrain",
}


@click.group(cls=LazyGroup, lazy=SUBCOMMANDS)
def curate() -> None:
    """Look at a dataset, score its images, decide what to learn from, and keep the evidence.

    Every step reads a manifest and writes a new one that names its parent; no image is ever changed or removed.

    \b
    salon curate auto paintings64.zip --out curated.manifest
    salon curate check paintings64.zip --out checked.manifest
    salon curate score paintings64.zip --manifest checked.manifest --out scored.manifest
    """
