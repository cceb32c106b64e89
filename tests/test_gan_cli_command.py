"""What the class of commands does: options in the place of parameters, and options from a dataclass."""

from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from test_cli import COMMANDS

from gan.cli.command import Command, Group, takes
from gan.errors import RequestError, SalonError
from gan.runtime.console import in_options, say


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a command takes."""

    data: Path
    seeds: str = "0-3"
    files: tuple[str, ...] = ()
    kimg: float | None = None
    mirror: bool = False


@click.command(cls=Command)
@takes(Request)
@click.argument("data", metavar="DATASET", type=click.Path(path_type=Path))
@click.option("--seeds", metavar="SEEDS")
@click.option("--weights", "files", multiple=True)
@click.option("--kimg", type=float)
@click.option("--mirror", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
def command(request: Request, as_json: bool) -> None:
    """Echo, or fail as a library does."""
    if request.seeds == "bad":
        raise RequestError("`seeds` of `data` must fit `weights`, `files`, `kimg` and `no_option`; got `a b` instead")
    if request.seeds == "worse":
        raise SalonError("`seeds` failed")
    say("`seeds` are fine")
    click.echo(f"{request} {as_json}")


def run(*arguments):
    return CliRunner().invoke(command, arguments, standalone_mode=False)


def test_defaults_are_those_of_the_dataclass():
    outcome = run("set.zip")
    assert outcome.stdout.strip() == f"{Request(data=Path('set.zip'))} False"
    outcome = run("set.zip", "--seeds", "7", "--weights", "a", "--weights", "b", "--kimg", "2", "--mirror", "--json")
    expected = Request(data=Path("set.zip"), seeds="7", files=("a", "b"), kimg=2.0, mirror=True)
    assert outcome.stdout.strip() == f"{expected} True"
    assert isinstance(run().exception, click.MissingParameter)


def test_help_shows_the_defaults():
    text = run("--help").stdout
    assert "[default: 0-3]" in text and text.count("default") == 1


def test_a_message_names_the_options():
    error = run("set.zip", "--seeds", "bad").exception
    assert isinstance(error, ValueError)
    assert str(error) == "--seeds of DATASET must fit --weights, --weights, --kimg and no_option; got `a b` instead"
    error = run("set.zip", "--seeds", "worse").exception
    assert type(error) is SalonError and str(error) == "--seeds failed"
    assert run("set.zip").stderr == "--seeds are fine\n"


def test_outside_of_a_command_a_message_names_the_parameters(capsys):
    run("set.zip", "--seeds", "bad")
    assert in_options("`seeds` must fit") == "`seeds` must fit"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_of_this_class(path):
    assert isinstance(COMMANDS[path].command, Command | Group)
