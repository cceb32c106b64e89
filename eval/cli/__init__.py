"""The group salon eval. Heavy imports wait until a command runs."""

import click

from eval.cli.blind import blind
from eval.cli.compare import compare, ema
from eval.cli.novelty import novelty
from eval.cli.reference import reference
from eval.cli.run import run
from eval.cli.sweep import sweep
from gan.cli.command import Group


@click.group(cls=Group)
def evaluate() -> None:
    """Evaluate a generator against a dataset: metrics with confidence intervals, and a report.

    \b
    salon eval run --snapshot runs --data paintings64.zip --num-images 2000 --out evaluation
    salon eval run --images pictures --data paintings64.zip --metrics fid,kid --require 'kd<0.5' --out judged
    salon eval compare runs/paintings64-tiny-1a2b3c4d --data paintings64.zip --num-images 1000 --out comparison
    salon eval ema --run runs/paintings64-tiny-1a2b3c4d --data paintings64.zip --num-images 2000 --out widths
    salon eval sweep --snapshot runs --data paintings64.zip --num-images 1000 --out sweep
    salon eval reference paintings64.zip
    """


for command in (run, compare, sweep, ema, novelty, blind, reference):
    evaluate.add_command(command)
