"""The command doctor: says what the machine has and lacks, and on request carries the remedies out."""

import shlex
import subprocess
import sys
from collections.abc import Sequence

import click

from gan.cli.command import Command
from gan.cli.examine import FAILED, NOTE, OK, Finding, examine
from gan.cli.options import json_option
from gan.errors import BoundError, RequestError
from gan.runtime.console import result, say, table


@click.command(cls=Command)
@click.option(
    "--fix", is_flag=True, help="Remedies that are commands: show each, and run it where you consent; then look again."
)
@click.option("--yes", is_flag=True, help="Consent to all remedies of --fix, for scripts.")
@json_option
def doctor(fix: bool, yes: bool, as_json: bool) -> None:
    """Say whether this machine is ready: versions, GPU, compilers, op implementations, weights, server, disk.

    Ends with exit code 3 when something that Salon needs is missing. --fix installs nothing without your consent, and
    nothing outside this Python's environment but a compiler, where your system has apt.

    \b
    salon doctor
    salon doctor --json
    salon doctor --fix
    """
    if yes and not fix:
        raise RequestError("--yes consents to the remedies of --fix; add --fix")
    findings = examine()
    if fix:
        if as_json and not yes:
            raise RequestError("--json asks nothing; consent to --fix by --yes")
        if not as_json:
            result(_described(findings), {}, as_json)
        if _carry_out(findings, yes):
            command = [sys.executable, "-m", "gan", "doctor", *(["--json"] if as_json else [])]
            sys.exit(subprocess.run(command).returncode)  # anew: this process has imported what was there before
    if not fix or as_json:
        result(_described(findings), {"findings": [vars(f) for f in findings]}, as_json)
    if failed := [f.name for f in findings if f.status == FAILED]:
        raise BoundError(f"not ready: {', '.join(failed)}")


def _described(findings: Sequence[Finding]) -> str:
    rows = [(f.status, f.name, f.found) for f in findings]
    remedies = [f"{f.name}: {f.remedy}" for f in findings if f.remedy]
    return table(rows) + ("\n\nRemedies\n" + "\n".join(remedies) if remedies else "")


def _carry_out(findings: Sequence[Finding], yes: bool) -> bool:
    """Whether any command was run: of what fails first, each after consent. One that fails ends its own remedy only."""
    remedies = [f for status in (FAILED, NOTE) for f in findings if f.status == status and f.commands]
    by_hand = [f.name for f in findings if f.status != OK and not f.commands]
    if not remedies:
        say("No remedy here is a command." + (f" By hand, as above: {', '.join(by_hand)}" if by_hand else ""))
        return False
    ran = False
    for finding in remedies:
        lines = "\n".join(f"    {shlex.join(command)}" for command in finding.commands)
        say(f"\n{finding.name}: {finding.found}. {finding.remedy}\n{lines}")
        if not (yes or _consents(needed=finding.status == FAILED)):
            continue
        ran = True
        for command in finding.commands:
            if code := subprocess.run(command, stdout=sys.stderr).returncode:
                say(f"{shlex.join(command)} ended with {code}; {finding.name} stays as it is")
                break
    return ran


def _consents(needed: bool) -> bool:
    if not sys.stdin.isatty():
        say("Not run: nobody is there to consent; --yes does")
        return False
    return click.confirm("Run this?", default=needed, err=True)
