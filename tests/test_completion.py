"""Completion at the shell's prompt, by click's own scripts; the README says how to switch it on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def shell(tmp_path):
    """complete(line) -> what bash offers for the last word of `line`."""
    program = tmp_path / "salon"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gan "$@"\n')
    program.chmod(0o755)
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def complete(line):
        words = " ".join(f"'{word}'" for word in line.split(" "))
        script = f"""eval "$(_SALON_COMPLETE=bash_source salon)"
            complete -p salon > /dev/null || exit 1
            COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _salon_completion salon
            printf '%s\\n' "${{COMPREPLY[@]}}" """
        ended = subprocess.run(["bash", "-c", script], env=os.environ | path, capture_output=True, text=True)
        assert ended.returncode == 0 and ended.stderr == ""
        return ended.stdout.split()

    return complete


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_options_and_choices(shell):
    assert shell("salon ev") == ["eval"]
    assert shell("salon curate re") == ["review", "retrain"]
    assert shell("salon train --resume-") == ["--resume-kimg"]
    assert shell("salon prepare --fit ") == ["stretch", "crop", "pad"]
    assert shell("salon nothing") == []


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_readme_says_how(name):
    assert f"_SALON_COMPLETE={name}_source salon" in (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
