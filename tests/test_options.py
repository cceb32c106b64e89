"""Options over all commands: what has the same name looks the same, but for exceptions, each with its reason."""

from collections import defaultdict

import click
from test_cli import COMMANDS

DIFFERENT = {
    "--budget": "one, or several to be compared",
    "--count": "of images, or of directions",
    "--data": "what a command takes: a dataset, a folder of styles, a folder of paintings",
    "--device": "retraining takes one for each arm",
    "--images": "an evaluation takes an array of them, too",
    "--keep": "of a run's files a number, of images a share",
    "--known": "what is there already: scores of images, or a dataset of which images may be copies",
    "--labels": "where to take them from, or which column to doubt",
    "--out": "what is written: a file, a folder, an archive",
    "--require": "of metrics a comparison, of a style a share",
    "--weights": "where one network alone looks, its file; else NAME=PATH",
}


def options():
    """Option -> {how its value is written: the commands}."""
    found = defaultdict(lambda: defaultdict(list))
    for path, context in COMMANDS.items():
        for option in context.command.params:
            if isinstance(option, click.Option):
                form = "flag" if option.is_flag else option.metavar or type(option.type).__name__
                found[option.opts[0]][form].append(path)
    return found


def test_an_option_is_written_alike_in_all_commands():
    differing = {name: dict(forms) for name, forms in options().items() if len(forms) > 1}
    assert set(differing) == set(DIFFERENT), differing


def test_a_value_has_a_unit_or_a_choice():
    bare = {(name, form) for name, forms in options().items() for form in forms if form.endswith(("Type", "Range"))}
    assert not bare
