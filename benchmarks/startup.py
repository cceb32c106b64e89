"""Seconds of processor time (user and system) until every command has printed its help, and of the shortest training,
best of a few.

python -m benchmarks.startup
"""

import resource
import subprocess
import sys
import tempfile

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


def seconds(*words: str) -> float:
    """Processor time of one call."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "gan", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def training() -> float:
    """That of one iteration of the smallest networks, nearly all of which is the start."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/images.zip"
        seconds("synthetic", f"{folder}/images", "--count", "8", "--size", "16")
        seconds("prepare", f"{folder}/images", "--out", data, "--resolution", "16")
        once = ("--total-kimg", "0.008", "--set", "batch_size=8", "--set", "channel_max=8", "--device", "cpu")
        runs = (("--out", f"{folder}/{number}", "--workers", "0") for number in range(REPEATS))
        return min(seconds("train", "--data", data, "--preset", "tiny", *once, *run) for run in runs)


if __name__ == "__main__":
    rows = [
        [" ".join(["salon", *words]), f"{min(seconds(*words, '--help') for _ in range(REPEATS)):.2f}"]
        for words in commands(salon, [])
    ]
    print(table([*rows, ["salon train, one iteration", f"{training():.2f}"]], ["command", "seconds"]))
