"""For MkDocs: the reference of commands, made from the commands themselves."""

import inspect
from collections.abc import Iterator
from typing import Any

import click

from gan.__main__ import salon

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the reference in the place of MARK."""
    return markdown.replace(MARK, "\n\n".join(reference(salon, "salon", None))) if MARK in markdown else markdown


def reference(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    """Markdown of a command and of all below it, in the order of its `--help`."""
    context = click.Context(command, info_name=name, parent=parent)
    yield f"{'#' * (context.command_path.count(' ') + 2)} {context.command_path}"
    yield from description(command.help or "")
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            below = command.get_command(context, child)
            assert below is not None
            yield from reference(below, child, context)
        return
    yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
    yield "\n".join(["| option | what it does |", "| --- | --- |", *options(command, context)])


def description(text: str) -> Iterator[str]:
    """Paragraphs of a help text; those that are marked to stay as they are become blocks of code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        literal = paragraph.startswith("\b\n")
        yield f"```sh\n{paragraph[2:]}\n```" if literal else " ".join(paragraph.split())


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Rows of a table: an option with its value, and what it does, as `--help` has them."""
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            names, meaning = (" ".join(part.split()).replace("|", "\\|") for part in record)
            yield f"| `{names}` | {meaning.replace('<', '&lt;').replace('*', '&#42;')} |"
