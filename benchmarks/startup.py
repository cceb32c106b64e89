"""Seconds of processor time (user and system) until every command has printed its help, best of a few.

python -m benchmarks.startup
"""

import resource
import subprocess
import sys

import click

from gan.__main__ import salon
from gan.runtime.console import table

REPEATS = 5


def commands(command: click.Command, words: list[str], parent: click.Context | None = None) -> list[list[str]]:
    """The words of a command and of all below it."""
    found = [words]
    if isinstance(command, click.Group):
        context = click.Context(command, parent=parent)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found += commands(child, [*words, name], context)
    return found


def seconds(words: list[str]) -> float:
    """Processor time of one call."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "gan", *words, "--help"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    rows = [
        [" ".join(["salon", *words]), f"{min(seconds(words) for _ in range(REPEATS)):.2f}"]
        for words in commands(salon, [])
    ]
    print(table(rows, ["command", "seconds"]))
