"""The sdist and the wheel: built, installed where the sources are not, and used from another folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import HANG

ROOT = Path(__file__).parent.parent
PACKAGES = ("gan", "eval", "curation", "serving", "salon")
BUILD = "import sys, setuptools.build_meta as backend; getattr(backend, sys.argv[1])(sys.argv[2])"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    # setuptools writes beside what it builds: a copy.
    source = folder / "source"
    source.mkdir()
    ignored = {".git", ".venv", ".venv-floor", "build", "demo", "runs", "datasets", "site"}
    for entry in ROOT.iterdir():
        if entry.name not in ignored and not entry.name.endswith((".egg-info", "_cache")):
            subprocess.run(["cp", "-r", entry, source], check=True)
    subprocess.run([sys.executable, "-c", BUILD, "build_sdist", folder], cwd=source, check=True, capture_output=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path.parent for path in folder.glob("*/PKG-INFO"))


@pytest.fixture(scope="module")
def wheel(sdist):
    """The wheel that the source distribution gives."""
    command = [sys.executable, "-c", BUILD, "build_wheel", sdist.parent]
    subprocess.run(command, cwd=sdist, check=True, capture_output=True)
    return next(sdist.parent.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """run(*command) in a fresh environment that has the wheel, and sees what it depends on; away from the sources."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    # The path alone: the link to the sources that an editable install has there is not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--force-reinstall", wheel], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "SALON_CACHE": str(folder / "cache")}
    if compiler := next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None):
        (folder / "c++").write_text(f'#!/bin/sh\nexec {compiler} "$@" -O1\n')  # in a third of the time
        (folder / "c++").chmod(0o755)
        environment["CXX"] = str(folder / "c++")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()

    def run(*command):
        words = [str(word) for word in command]
        ended = subprocess.run(words, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=HANG)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    run.folder = elsewhere
    found = run(python, "-c", "import gan; print(gan.__file__)")
    assert Path(found.strip()) == site / "gan" / "__init__.py"
    return run


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    expected = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert found == expected
    assert "License-Expression: Apache-2.0" in metadata and "License-File: LICENSE" in metadata


def test_the_sdist_holds_what_its_tests_need(sdist):
    for folder in ("tests", "benchmarks"):
        tracked = {
            str(file.relative_to(ROOT))
            for file in (ROOT / folder).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        assert tracked == {str(file.relative_to(sdist)) for file in (sdist / folder).rglob("*") if file.is_file()}
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt", "constraints-floor.txt"):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes()


def test_commands_run_where_the_sources_are_not(installed):
    assert installed("salon", "--help").startswith("Usage: salon")
    installed("salon", "synthetic", "paintings", "--count", 2, "--size", 16)
    assert len(list(installed.folder.rglob("*.jpg"))) == 2


def test_native_code_is_compiled_from_what_was_installed(installed):
    # Without the sources there is no reason but theirs: the doctor would name a missing compiler.
    code = "from gan.ops import native; print(native.CPU_SOURCES[0]); print(native.status())"
    source, status = installed("python", "-c", code).splitlines()
    assert not Path(source).is_relative_to(ROOT)
    assert status.startswith("native on the CPU") or "no C++ compiler" in status


def test_a_painter_is_exported_and_served_by_what_was_installed(installed, tiny_run):
    installed("salon", "export", "--snapshot", tiny_run, "--out", "models", "--models", "generator,seed_to_png")
    assert (installed.folder / "models" / "seed_to_png" / "1" / "model.py").is_file()
    assert "nvcr" in installed("salon", "serve", "models", "--print-command", "docker")
    assert "kind: Deployment" in installed("salon", "serve", "models", "--print-command", "helm")


def test_the_gallery_finds_its_page(installed):
    code = """
from starlette.testclient import TestClient
from serving.gallery.app import Gallery
visitor = TestClient(Gallery(lambda name: None, hosts=("testserver",)).app)
for name in ("", "page.js", "page.css", "gallery.js", "gallery_controls.js", "gallery.css", "gallery.svg"):
    answer = visitor.get("/" + name)
    print(name, answer.status_code, len(answer.content) > 200)
"""
    answers = installed("python", "-c", code).splitlines()
    assert len(answers) == 7 and all(answer.endswith("200 True") for answer in answers)
