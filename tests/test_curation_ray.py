"""--engine ray on a cluster of two nodes, and alone: hash for hash what this machine gives, whatever dies meanwhile."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_salon
from ray_cases import base as base
from ray_cases import prepared

CASES = Path(__file__).with_name("ray_cases.py")
NAMES = [
    node.name
    for node in ast.parse(CASES.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@pytest.mark.parametrize("name", NAMES)
def test_in_a_process_of_its_own(name):
    command = sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"{CASES}::{name}"
    ended = subprocess.run(command, capture_output=True, text=True, cwd=CASES.parents[1])
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine", "ray", "--address", "127.0.0.1:1"), "--address must be HOST:PORT of a Ray cluster"),
        (("--engine", "ray", "--address", "nonsense"), "got nonsense: there is no port"),
        (("--address", "auto"), "--address is that of --engine ray; got auto for local"),
    ],
)
def test_what_is_no_cluster_is_told_at_once(base, options, said):
    assert said in prepared(base, "none.zip", *options, code=2).err


def test_without_ray_one_line_says_what_to_install(base, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'salon[ray]'" in prepared(base, "none.zip", "--engine", "ray", code=2).err


def test_a_gpu_is_not_asked_of_a_cluster_of_cpus(base):
    outcome = run_salon(
        *("curate", "check", base / "local.zip", "--out", base / "none", "--engine", "ray", "--device", "cuda")
    )
    assert outcome.code == 2 and "--device must be cpu or auto; got cuda" in outcome.err
