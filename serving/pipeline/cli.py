"""The commands run and demo. Heavy imports wait until a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Command
from gan.cli.options import PATH, json_option
from gan.errors import BoundError, RequestError
from gan.runtime.console import result, say, table

if TYPE_CHECKING:
    from serving.pipeline.config import PipelineFile

PAGE = "index.html"


@click.command(cls=Command)
@click.argument("file", metavar="FILE.toml", type=PATH)
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--dry-run", is_flag=True, help="Check the file and every option in it, and run nothing.")
@json_option
@click.pass_context
def run(context: click.Context, file: Path, until: str | None, dry_run: bool, as_json: bool) -> None:
    """Run the pipeline that a file describes: dataset, training, evaluation, curation, export, checks.

    Each table of FILE.toml is a stage, and its keys are the options of that stage's command:

    \b
    folder = "monet"                     # where everything is written
    images = "paintings"                 # or a table [synthetic]
    [prepare]                            # salon prepare
    resolution = 64
    [train]                              # salon train
    preset = "tiny"
    total-kimg = 40
    [evaluate]                           # salon eval run
    num-images = 500
    require = ["kd<0.5"]                 # ends with exit code 3 when it is not met

    The others are [check], [score], [prune] and [retrain] (salon curate ...), [style] (salon style train), [export],
    and [query] and [style-check], for which a server of what was exported runs meanwhile. A stage is skipped when
    nothing that it depends on has changed; after Ctrl-C the same command goes on. FOLDER/index.html shows it all.
    With out = "models" in [export], several files put their generators into one model repository; see examples/.

    \b
    salon run monet.toml --dry-run
    salon run monet.toml
    """
    from serving.pipeline import config

    read = config.read(file)
    _run(read, context, until, dry_run, as_json)


@click.command(cls=Command)
@click.option("--out", metavar="DIR", type=PATH, default="demo", show_default=True, help="Folder for everything.")
@click.option("--data", metavar="FOLDER", type=PATH, help="Your own paintings, in place of made-up ones.")
@click.option("--shape", metavar="WxH|A:B|auto", help="Shape of the images, as of salon prepare. Default: square.")
@json_option
@click.pass_context
def demo(context: click.Context, out: Path, data: Path | None, shape: str | None, as_json: bool) -> None:
    """Run the whole pipeline on made-up paintings, or on your own: minutes, on two cores, without a GPU.

    Writes demo.toml, a file for salon run, and runs it: makes images with a few that do not belong, trains on them,
    evaluates the generator, finds the outliers, trains on with and without them, and serves and checks the result. The
    figures of so short a training mean little; a long one goes the same way.

    \b
    salon demo
    salon demo --data paintings --out my-demo
    salon demo --data landscapes --shape 3:2 --out wide
    """
    from serving.pipeline import config
    from serving.pipeline import demo as demo_file

    file = demo_file.write(out, data, shape)
    _run(config.read(file), context, None, False, as_json)


def _run(file: Any, context: click.Context, until: str | None, dry_run: bool, as_json: bool) -> None:

    if until is not None and until not in file.tables:
        raise RequestError(f"--until must be one of the file's stages, {', '.join(file.tables)}; got {until} instead")
    top = context.find_root()
    assert isinstance(top.command, click.Group)
    check(file, top.command, top)
    if dry_run:
        result(f"{file.path} is sound: {', '.join(file.tables)}", {"stages": list(file.tables)}, as_json)
        return
    from serving.pipeline import report
    from serving.pipeline.runner import UNCHANGED, UNMET, Pipeline

    pipeline = Pipeline(file)
    page = file.folder / PAGE
    for record in pipeline.run(until=until):
        say(f"      {'unchanged: ' if record.outcome == UNCHANGED else ''}{report.headline(record)}")
        report.write(file, pipeline.records, page)
    rows = report.summary(pipeline.records)
    figures = {"page": str(page), "stages": {r.stage: vars(r) for r in pipeline.records.values()}}
    result(f"{table(rows, ['stage', 'outcome', 'time', 'result'])}\n\n{page} shows it all.", figures, as_json)
    if unmet := [r for r in pipeline.records.values() if r.outcome == UNMET]:
        raise BoundError(f"[{unmet[0].stage}] did not meet a bound that {file.path} requires")


def check(file: "PipelineFile", root: click.Group, context: click.Context) -> None:
    """Let every stage's command read its options before any of them runs. Raises RequestError naming the table."""
    from serving.pipeline.config import words
    from serving.pipeline.stages import STAGES, Inputs

    paths = {name: str(file.folder / name) for name in STAGES}
    figures: dict[str, dict[str, Any]] = {}
    inputs = Inputs(images=file.images or [paths["synthetic"]], paths=paths, figures=figures)
    for name, settings in file.tables.items():
        line = words(name, settings, inputs, paths[name])
        command, parent = root, context
        for word in STAGES[name].command.split():
            assert isinstance(command, click.Group)
            subcommand = command.get_command(parent, word)
            assert subcommand is not None
            parent, command = click.Context(command, parent=parent, info_name=word), subcommand  # type: ignore[assignment]
        depth = len(STAGES[name].command.split())
        try:
            command.make_context(name, line[depth:], parent=parent)
        except click.ClickException as error:
            raise RequestError(f"{file.path}: [{name}]: {error.format_message()}") from error
