"""Finding a server, and the one that Salon installs."""

import subprocess
import threading
from pathlib import Path

import pytest
from conftest import HANG

from gan.errors import RequestError, SalonError
from serving.server import install as triton


def test_a_named_server_comes_first_then_path(tmp_path, monkeypatch):
    for folder in ("named", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tritonserver").write_text("#!/bin/sh\n")
        (tmp_path / folder / "tritonserver").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    named = triton.find(tmp_path / "named" / "tritonserver")
    assert named.program == tmp_path / "named" / "tritonserver" and not named.bundled
    assert triton.find().program == tmp_path / "path" / "tritonserver"
    with pytest.raises(RequestError, match=r"`tritonserver` must be an executable program; got .*missing instead"):
        triton.find(tmp_path / "missing")


def test_the_installed_environment_is_the_servers_own(installed_triton, monkeypatch, tmp_path):
    (tmp_path / "numpy.py").write_text("__version__ = '2.0'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "import numpy, onnxruntime, PIL; print(numpy.__version__, onnxruntime.get_available_providers())"
    asked = subprocess.run(
        ["python3", "-c", code], env=installed_triton.environment(), capture_output=True, text=True, check=True
    )
    assert asked.stdout.startswith("1.26.") and "CPUExecutionProvider" in asked.stdout
    assert installed_triton.bundled and installed_triton.program.is_file()


def test_what_cannot_be_downloaded_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        SalonError, match=r"could not be installed: No matching .*network once; or name a server"
    ) as error:
        triton.bundled()
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_an_interrupted_installation_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))

    def interrupted(command, message, log=None):
        Path(command[-1]).mkdir()
        (Path(command[-1]) / "half").write_text("written")
        raise KeyboardInterrupt

    monkeypatch.setattr(triton, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        triton.bundled()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_an_environment_whose_interpreter_has_gone_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    made = []

    def install(folder):
        assert not folder.exists()
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(tmp_path / "python")
        (folder / "salon.json").write_text('{"packages": "packages", "libdir": "lib"}')
        made.append(folder)

    monkeypatch.setattr(triton, "_install", install)
    (tmp_path / "python").touch()
    assert triton.bundled() == triton.bundled()
    assert len(made) == 1
    (tmp_path / "python").unlink()
    triton.bundled()
    assert len(made) == 2


def test_a_python_that_fits_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path))
    monkeypatch.setattr(triton, "PYTHONS", ("3.1", "3.0"))
    with pytest.raises(SalonError, match=r"needs Python 3.1 or 3.0, and none is on PATH: install one .*`tritonserver`"):
        triton.bundled()


def test_one_process_installs_at_a_time(tmp_path, monkeypatch):
    inside, waits, order, said = threading.Event(), threading.Event(), [], []

    def say(line):
        said.append(line)
        waits.set()

    monkeypatch.setattr(triton, "say", say)

    def second():
        inside.wait()
        with triton._alone(tmp_path / "triton"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with triton._alone(tmp_path / "triton"):
        inside.set()
        assert waits.wait(HANG) and thread.is_alive()
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and said == ["Waiting for another process that installs the Triton server"]
