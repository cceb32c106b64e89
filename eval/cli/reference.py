"""The command eval reference. Heavy imports wait until a command runs."""

from pathlib import Path

import click

from eval.cli.options import extractor_options
from eval.request import FeatureRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH
from gan.runtime.console import result, table


@click.command(cls=Command)
@takes(FeatureRequest)
@click.argument("data", type=PATH, metavar="DATASET")
@click.option("--manifest", metavar="DIR", type=PATH, help="Manifest; only the images that it keeps are the reference.")
@extractor_options
def reference(data: Path, manifest: Path | None, device: str, as_json: bool, request: FeatureRequest) -> None:
    """Extract a dataset's features and statistics in advance. What is in the cache is not made again.

    \b
    salon eval reference paintings64.zip --extractor efficientnet-lite0
    """
    from eval import suite
    from eval.data.image_sources import DatasetSource
    from eval.data.reference import open_references
    from eval.evaluator import open_extractors
    from gan.data.collection import Collection
    from gan.device.selection import select
    from gan.runtime import distributed

    target = select(device)
    with distributed.joined(target):
        real = DatasetSource(Collection.open(data, manifest))
        extractors = open_extractors(request, real, target)
        if not request.extractors:
            suite.tell_missing([extractor.name for extractor in extractors], list(suite.SUITE))
        references, _ = open_references(real, extractors, batch_size=request.batch_size)
        with distributed.main_first():
            for own in references if distributed.is_main() else []:
                own.prepare()
    rows = [
        {"extractor": own.extractor.key, "images": len(own), "dim": own.extractor.dim, "folder": str(own.folder)}
        for own in references
    ]
    figures = {"data": str(data), **real.identity, "references": rows}
    result(table([list(row.values()) for row in rows], list(rows[0])), figures, as_json)
