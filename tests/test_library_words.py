"""A library's messages name parameters; options are for the command line alone."""

import ast
import re

import click
import pytest
from test_cli import COMMANDS
from test_imports import FILES, of_command_line

OPTIONS = {
    option
    for context in COMMANDS.values()
    for parameter in context.command.params
    if isinstance(parameter, click.Option)
    for option in parameter.opts
    if option.startswith("--")
}
# Modules that write command lines, for other programs or for Salon's own: their strings may hold options.
WRITERS = {
    "gan.ops.native": "runs compilers",
    "serving.hub.training_command": "writes the command that trains",
    "serving.pipeline.runner": "runs commands of Salon",
    "serving.pipeline.stages": "runs commands of Salon",
    "serving.pipeline.config": "runs commands of Salon",
    "serving.server.deployment": "runs tritonserver in a container",
    "serving.server.install": "runs pip",
    "serving.server.process": "runs tritonserver",
}


def texts(module):
    """The strings of a module, docstrings too, and its comments."""
    source = FILES[module].read_text(encoding="utf-8")
    yield from (
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    for number, line in enumerate(source.splitlines(), 1):
        if "#" in line:
            yield number, line.partition("#")[2]


@pytest.mark.parametrize("module", [name for name in FILES if not of_command_line(name) and name not in WRITERS])
def test_no_option_is_named_outside_the_command_line(module):
    wrong = [(line, option) for line, text in texts(module) for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)]
    assert not [pair for pair in wrong if pair[1] in OPTIONS]


def test_the_options_are_seen():
    assert {"--seeds", "--data", "--out", "--overwrite"} <= OPTIONS
    assert set(WRITERS) <= set(FILES)
