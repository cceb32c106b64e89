"""A process of Triton: started on a model repository, awaited until every model is ready, stopped without a trace.

It listens on a socket in a folder of this user's alone, over gRPC; who may reach it is up to serving.server.front.
"""

import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from gan.errors import SalonError
from serving.server import supervisor
from serving.server.install import Triton
from serving.server.server_log import ServerLog

Reload = Literal["poll"]  # models are loaded when new versions appear

INTERVAL = 0.05  # seconds between two looks while it starts
SOCKET = "triton"
REGIONS = "triton_python_backend_shm_region_"  # how names of shared memory begin that newer servers let no client use
# Triton listens at ADDRESS:PORT, which is a name of a file here; the port has to be a number.
_PORT = 1


class Process:
    """A running Triton. When this process dies, by whatever signal, it ends too: see serving.server.supervisor."""

    def __init__(self, repository: Path, program: Triton, folder: Path, reload: Reload | None, log: ServerLog) -> None:
        """Start it; `folder` is made, for its socket, and removed with it. Raises SalonError when it cannot start."""
        self.id, self._log = f"salon_{uuid.uuid4().hex[:12]}", log
        self.regions = REGIONS + self.id
        folder.mkdir(mode=0o700)
        line = command(repository, program, self.id, folder, reload, self.regions)
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", supervisor.__file__, self.regions, str(folder), *line],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.file,
            env=program.environment(),
            cwd="/",  # the interpreter of a Python model looks for modules where it is
            start_new_session=True,  # Ctrl-C at the terminal is for Salon, which stops the server in order
        )
        self._folder = folder
        assert self._supervisor.stdout is not None
        first = self._supervisor.stdout.readline()
        if not first:
            self._supervisor.wait()
            self.stop()
            raise SalonError(f"{line[0]} could not be started:\n{log.last_lines()}")
        self.pid = int(first)  # of tritonserver

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._supervisor.poll() is None

    def load(self, models: list[str], is_ready: Callable[[], bool], timeout: float) -> Iterator[str]:
        """Names of models as they are loaded, until `is_ready` says that all are.

        Raises what is wrong when the server ends, when its log says that it never will be ready, or after `timeout`
        seconds.
        """
        end, told = time.monotonic() + timeout, 0
        while True:
            running = self.is_running()  # looked at before the log, which is then whole
            loaded = self._log.loaded()
            yield from loaded[told:]
            told = len(loaded)
            if fault := self._log.fault():
                raise fault
            if not running:
                raise self.end()
            if is_ready():
                return
            if time.monotonic() > end:
                waiting = ", ".join(sorted(set(models) - set(loaded))) or "nothing"
                raise SalonError(f"The server is not ready after {timeout:.0f} seconds; it is still loading {waiting}")
            time.sleep(INTERVAL)

    def wait(self, seconds: float) -> bool:
        """Wait until it ends by itself, for so many seconds at most -> whether it did."""
        assert self._supervisor.stdout is not None
        select.select([self._supervisor.stdout], [], [], seconds)  # whose end is the supervisor's
        return not self.is_running()

    def end(self) -> SalonError:
        """Why it ended: its code, and the last lines of its log."""
        code = self._supervisor.wait()
        return SalonError(f"The server ended with code {code}. Its last lines:\n{self._log.last_lines()}")

    def tidy(self) -> None:
        """While it runs, let nobody else read the memory that it shares with the processes of its models.

        Where it ended together with its supervisor, remove what it left.
        """
        if not self.is_running():
            supervisor.clean(self.regions, self._folder)
        for region in supervisor.SHARED_MEMORY.glob(f"{self.regions}*"):
            with suppress(OSError):  # it vanished
                region.chmod(0o600)

    def kill(self) -> None:
        """End it at once: one that holds a dead model waits for it in vain."""
        with suppress(ProcessLookupError):
            if self.is_running():  # its number is its own as long as its supervisor is there
                os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Let it finish the requests that it is at, within some seconds; return when nothing of it is left."""
        assert self._supervisor.stdin is not None and self._supervisor.stdout is not None
        with suppress(BrokenPipeError):
            self._supervisor.stdin.close()
        self._supervisor.wait()
        self._supervisor.stdout.close()
        supervisor.clean(self.regions, self._folder)  # where the supervisor was killed itself


def target(folder: Path) -> str:
    """The gRPC target of a server that has this folder."""
    return f"unix:{folder / SOCKET}:{_PORT}"


def command(repository: Path, program: Triton, id: str, folder: Path, reload: Reload | None, regions: str) -> list[str]:
    """The command line of a server: gRPC on a socket in `folder` alone, ready when all models are, named `id`."""
    return [
        str(program.program),
        *program.options,
        f"--id={id}",
        f"--model-repository={repository.absolute()}",
        f"--model-control-mode={reload or 'none'}",
        *(["--repository-poll-secs=1"] if reload == "poll" else []),
        "--allow-http=false",
        "--allow-metrics=false",
        f"--grpc-address=unix:{folder / SOCKET}",
        f"--grpc-port={_PORT}",
        "--strict-readiness=true",
        "--disable-auto-complete-config",  # salon export writes whole ones, and completing starts Python models twice
        f"--exit-timeout-secs={supervisor.GRACE * 2 // 3:.0f}",
        f"--backend-config=python,shm-region-prefix-name={regions}",
    ]
