"""The group `salon curate`. Its sub-commands are named as strings and imported when they are used."""

import click

from gan.lazy_group import LazyGroup

SUBCOMMANDS = {  # in the order in which a person meets them
    "check": "curation.score_cli:check",
    "score": "curation.score_cli:score",
    "prune": "curation.verdict_cli:prune",
    "log": "curation.verdict_cli:log",
    "diff": "curation.verdict_cli:diff",
    "review": "curation.verdict_cli:review",
    "materialize": "curation.verdict_cli:materialize",
    "retrain": "curation.retrain_cli:retrain",
}


@click.group(cls=LazyGroup, lazy=SUBCOMMANDS)
def curate() -> None:
    """Look at a dataset, score its images, decide what to learn from, and keep the evidence.

    Every step reads a manifest and writes a new one that names its parent; no image is ever changed or removed.

    \b
    salon curate check paintings64.zip --out checked.manifest
    salon curate score paintings64.zip --manifest checked.manifest --out scored.manifest
    """
