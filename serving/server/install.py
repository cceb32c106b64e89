"""A Triton server to run: one that the machine has, or the one that the package nvidia-pytriton carries.

The carried one (tritonserver 2.51, with the Python backend only) gets an environment of its own in Salon's cache,
because it needs numpy below 2 and an interpreter of Python 3.11 or 3.12. It predates later security fixes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError, SalonError
from gan.runtime.console import say
from gan.runtime.files import atomic, cache_folder, remove_stale_partials
from gan.runtime.lock import Timeout, lock

BUNDLED_VERSION = "2.51"
REQUIREMENTS = Path(__file__).with_name("triton_requirements.txt")
PYTHONS = ("3.12", "3.11")  # for which all the requirements have wheels
REMEDY = "name a server with `tritonserver` PROGRAM"
_INTERPRETER = "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], sysconfig.get_config_var('LIBDIR'))"
_DESCRIPTION = "salon.json"  # in the environment


@dataclass(frozen=True, kw_only=True)
class Triton:
    """A server that can be started: its program, and what this program needs around it."""

    program: Path
    options: tuple[str, ...] = ()  # before all others
    variables: Mapping[str, str | None]  # of its environment; None: to be unset
    bundled: bool  # the one that Salon installed, for this machine only

    def environment(self) -> dict[str, str]:
        """This process's environment, with the server's own variables."""
        merged = {**os.environ, **self.variables}
        return {name: value for name, value in merged.items() if value is not None}


def find(program: Path | None = None) -> Triton:
    """The server `program`, else tritonserver on PATH, else the bundled one, which is installed at the first call.

    Raises RequestError when `program` is not executable, SalonError when the bundled one cannot be installed.
    """
    if program is not None:
        named = shutil.which(program)
        if named is None:
            raise RequestError(f"`tritonserver` must be an executable program; got {program} instead")
        return Triton(program=Path(named).absolute(), variables={}, bundled=False)
    if on_path := shutil.which("tritonserver"):
        return Triton(program=Path(on_path).absolute(), variables={}, bundled=False)
    return bundled()


def bundled() -> Triton:
    """The server that nvidia-pytriton carries, on CPUs. Installed where it is not, by one process at a time.

    Raises SalonError when it cannot be installed, with the remedy.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]
    folder = cache_folder() / f"triton-{BUNDLED_VERSION}-{digest}"
    with _alone(folder):
        if not (folder / "bin" / "python").exists():  # nor where the interpreter that it links to has gone
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder)
    description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
    packages = folder / description["packages"]
    libraries = [description["libdir"], str(packages / "nvidia_pytriton.libs"), os.environ.get("LD_LIBRARY_PATH", "")]
    server = packages / "pytriton" / "tritonserver"
    return Triton(
        program=server / "bin" / "tritonserver",
        options=(f"--backend-directory={server / 'backends'}",),
        variables={
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),  # the interpreter's own libpython first
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", os.defpath)]),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONNOUSERSITE": "1",
            "PYTHONPATH": None,  # may lead to numpy 2, with which the server gives empty tensors without an error
            "PYTHONHOME": None,
        },
        bundled=True,
    )


def _install(folder: Path) -> None:
    # The environment is renamed when it is complete. Its scripts, which name their interpreter, do not survive that;
    # its interpreter and packages do, and nothing else of it is used.
    if sys.platform != "linux":
        raise SalonError("Triton runs on Linux only: salon serve prints a command for Docker")
    python, version, libdir = _interpreter()
    say(f"Installing the Triton server of nvidia-pytriton into {folder}: some minutes and 350 MB, once")
    remove_stale_partials(folder.parent)
    with atomic(folder) as temporary:
        # -I: what PYTHONPATH leads to would count as installed already.
        _run(
            [python, "-I", "-m", "venv", str(temporary)],
            f"{python} could not make an environment: {{}}. It needs its module venv (apt install "
            f"python{version}-venv); or {REMEDY}",
        )
        log = temporary / "pip.log"
        pip = [str(temporary / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check", "--log", str(log)]
        _run(
            [*pip, "install", "--no-deps", "--only-binary", ":all:", "--requirement", str(REQUIREMENTS)],
            f"The Triton server could not be installed: {{}}. It needs the network once; or {REMEDY}",
            log,
        )
        packages = Path("lib") / f"python{version}" / "site-packages"
        server = temporary / packages / "pytriton" / "tritonserver"
        stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
        shutil.copy2(stub, server / "backends" / "python" / stub.name)  # where the backend looks for it
        description = {"packages": str(packages), "libdir": libdir}
        (temporary / _DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def _run(command: list[str], message: str, log: Path | None = None) -> None:
    # Its own progress is shown where a person looks on. Raises SalonError with the last error for {} in `message`.
    output = 2 if sys.stderr.isatty() else subprocess.PIPE
    ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE if log is None else output, text=True)
    if ended.returncode:
        text = log.read_text(encoding="utf-8", errors="replace") if log and log.exists() else ended.stderr or ""
        errors = [line.split("ERROR: ")[1] for line in text.splitlines() if "ERROR: " in line]
        last = [*errors, *(text.strip().splitlines() if not errors else [])][-1:] or [f"exit code {ended.returncode}"]
        raise SalonError(message.format(last[0].rstrip(".")))


def _interpreter() -> tuple[str, str, str]:
    # A Python that can run the server: its path, its version, and the folder of its shared library.
    for python in filter(None, [sys.executable, *(shutil.which(f"python{version}") for version in PYTHONS)]):
        asked = subprocess.run([python, "-c", _INTERPRETER], capture_output=True, text=True)
        version, _, libdir = asked.stdout.strip().partition(" ")
        if asked.returncode == 0 and version in PYTHONS:
            return python, version, libdir
    raise SalonError(
        f"The Triton server that Salon installs needs Python {' or '.join(PYTHONS)}, and none is on PATH: "
        f"install one beside this Python {sys.version_info[0]}.{sys.version_info[1]}, or {REMEDY}"
    )


def _alone(folder: Path) -> AbstractContextManager[object]:
    # One process at a time.
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_name(f".{folder.name}.lock")
    try:
        return lock(file, blocking=False)
    except Timeout:
        say("Waiting for another process that installs the Triton server")
        return lock(file)
