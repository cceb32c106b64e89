"""A running server: Triton on a model repository, and the front before it, which clients reach.

It listens on one address only, this machine's own unless another is asked for. Models are fixed once it runs, unless
reloading is asked for.
"""

import ipaddress
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from gan.errors import RequestError, SalonError
from gan.runtime.console import progress, say
from serving.export import family
from serving.server import install, process
from serving.server.front.access import Access
from serving.server.front.front import Front
from serving.server.front.refused import Refused
from serving.server.install import Triton
from serving.server.process import Process, Reload
from serving.server.request import SERVICES
from serving.server.server_log import ServerLog

LOOPBACK = "127.0.0.1"
LOOK = 1.0  # seconds between two looks whether its models answer
PAUSES = (1.0, 60.0)  # seconds before it is started again: the first pause, and the longest; each is twice the last
STEADY = 60.0  # seconds after which pauses begin anew


class Server:
    """A Triton that `serve` started and found ready. As a context manager it is stopped at the end.

    When this process dies, by whatever signal, the server ends too: see serving.server.supervisor.
    """

    def __init__(
        self,
        repository: Path,
        program: Triton,
        *,
        host: str,
        ports: Mapping[str, int],
        access: Access,
        reload: Reload | None,
        log: ServerLog,
        timeout: float,
    ) -> None:
        """Start it. `ports`: service -> port. Raises what `serve` raises."""
        self._repository, self._program, self._reload = repository, program, reload
        self._log, self._timeout = log, timeout
        self._process: Process | None = None
        self._place = Path(tempfile.mkdtemp(prefix="salon-"))
        with ExitStack() as stack:
            stack.callback(self.stop)
            self._front: Front | None = None
            self._front = Front(host, dict(ports), process.target(self.folder), access, self._tick)
            self._start()
            stack.pop_all()
        http, grpc, metrics = self.ports
        name = f"[{host}]" if ":" in host else host
        self.http_url, self.grpc_url = f"http://{name}:{http}", f"grpc://{name}:{grpc}"
        self.metrics_url = f"http://{name}:{metrics}/metrics"

    @property
    def id(self) -> str:
        """Name of the Triton that runs."""
        return self._running.id

    @property
    def pid(self) -> int:
        """Process id of the Triton that runs."""
        return self._running.pid

    @property
    def ports(self) -> list[int]:
        """Of HTTP, gRPC and metrics."""
        assert self._front is not None
        return self._front.ports

    @property
    def folder(self) -> Path:
        """Where the Triton that runs listens: nobody else may look into it."""
        return self._place / "socket"

    def models(self) -> list[dict[str, str]]:
        """The versions of models that there are: name, version, state ("READY", or what it is instead)."""
        assert self._front is not None
        rows = self._front.ask("RepositoryIndex").models
        return [{key: getattr(row, key) for key in ("name", "version", "state")} for row in rows]

    def is_ready(self) -> bool:
        """Whether it answers, with every model ready."""
        return self.is_running() and self._front is not None and self._front.ready

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.is_running()

    def wait(self) -> NoReturn:
        """Wait until the server ends by itself, or a model does not answer any more. Raises SalonError then: why."""
        assert self._front is not None
        while not self._running.wait(LOOK):
            if dead := self._front.dead:
                raise SalonError(f"Models do not answer any more. {_named(dead)}")
        self._front.shut()
        raise self._running.end()

    def keep(self) -> NoReturn:
        """Start it again, at the same addresses, whenever it ends or a model does not answer; for ever.

        The pauses before that grow while it does not stay, and are told.
        """
        pause, longest = PAUSES
        while True:
            began = time.monotonic()
            try:
                self.wait()
            except SalonError as error:
                fault = error
            if time.monotonic() - began > STEADY:
                pause = PAUSES[0]
            while True:
                say(f"{fault}\nStarting it again at the same addresses, in {pause:g} s.")
                wait, pause = pause, min(2 * pause, longest)
                try:
                    self.restart(wait)
                    break
                except SalonError as error:
                    fault = error

    def restart(self, pause: float) -> None:
        """End what is left of it, and start it again after `pause` seconds. Raises what a start raises."""
        assert self._front is not None
        self._front.shut()
        self._front.drain()
        if self._process is not None:
            self._process.kill()
            self._process.stop()
            self._process = None  # nobody tidies up after it any more: the next one has the same folder
        time.sleep(pause)
        self._start()

    def stop(self) -> None:
        """Let it finish the requests that it is at, within some seconds; return when nothing of it is left."""
        if self._front is not None:
            self._front.shut()
            self._front.stop()
        if self._process is not None:
            self._process.stop()
        shutil.rmtree(self._place, ignore_errors=True)
        self._log.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _running(self) -> Process:
        assert self._process is not None
        return self._process

    def _start(self) -> None:
        models = model_names(self._repository)
        family.check(self._repository)
        assert self._front is not None
        self._log.begin()
        self._process = Process(self._repository, self._program, self.folder, self._reload, self._log)
        try:
            say(f"Loading {', '.join(models)}")
            loading = self._process.load(models, self._answers, self._timeout)
            for _ in progress(loading, "Loading", len(models), "model"):
                pass
            self._process.tidy()
            if silent := self._front.open():
                say(f"Warning: models answer a first request with an error. {_named(silent)}")
        except BaseException:
            self._process.stop()
            raise

    def _answers(self) -> bool:
        assert self._front is not None
        try:
            return bool(self._front.ask("ServerReady").ready)
        except Refused:
            return False

    def _tick(self) -> None:
        self._log.cap()
        if (running := self._process) is not None:
            running.tidy()


def serve(
    repository: Path,
    *,
    server: Triton | None = None,
    host: str = LOOPBACK,
    http_port: int = 0,
    grpc_port: int = 0,
    metrics_port: int = 0,
    access: Access | None = None,
    reload: Reload | None = None,
    log: Path | None = None,
    timeout: float = 600.0,
) -> Server:
    """Start a server on a model repository and wait until all its models are ready.

    `server` None is what triton.find finds; port 0 is any free one; the server's log is appended to `log`; `access`
    None is for whoever reaches it. Raises RequestError when the repository is none, a model cannot be loaded, a port is
    taken or `host` is not for this server; SalonError when the server does not start, or is not ready after `timeout`
    seconds.
    """
    model_names(repository)
    family.check(repository)
    server = server or install.find()
    check_host(host, server)
    ports = dict(zip(SERVICES, (http_port, grpc_port, metrics_port), strict=True))
    access = access or Access()
    return Server(
        repository, server, host=host, ports=ports, access=access, reload=reload, log=ServerLog(log), timeout=timeout
    )


def model_names(repository: Path) -> list[str]:
    """Names of the models in a repository, sorted. Raises RequestError when it is no model repository."""
    if not repository.is_dir():
        raise RequestError(f"{repository} must be a model repository; it is no folder. salon export writes one")
    names = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    if not names:
        raise RequestError(
            f"{repository} must be a model repository, with a folder and a config.pbtxt in it for each model; it has "
            "none. salon export writes one"
        )
    return names


def check_host(host: str, server: Triton) -> None:
    """Raises RequestError when `host` is no IP address, or reaches beyond this machine with the bundled server."""
    if not is_loopback(host) and server.bundled:
        raise RequestError(
            f"`host` must be {LOOPBACK} with the server that Salon installs; got {host} instead. Its version "
            f"{install.BUNDLED_VERSION} lacks later security fixes: for other machines, name a current server with "
            "`tritonserver`, or see the deployment that salon serve prints"
        )


def is_loopback(host: str) -> bool:
    """Whether an IP address is this machine's own. Raises RequestError when `host` is none."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise RequestError(f"`host` must be an IP address, such as {LOOPBACK} or ::1; got {host} instead") from error


def _named(faults: Mapping[str, str]) -> str:
    return "; ".join(f"{model}: {reason}" for model, reason in sorted(faults.items()))
