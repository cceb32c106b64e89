"""A running Triton: started on a model repository, awaited until every model is ready, and stopped without a trace.

It listens on one address only, this machine's own unless another is asked for. Models are fixed once it runs, unless
reloading is asked for.
"""

import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

from gan.errors import RequestError, SalonError
from gan.runtime.console import progress, say
from serving.server import install, supervisor
from serving.server.install import Triton
from serving.server.request import SERVICES
from serving.server.server_log import PortTaken, ServerLog

Reload = Literal["explicit", "poll"]  # models are loaded and unloaded by request, or when their files change

LOOPBACK = "127.0.0.1"
ANSWER = 5.0  # seconds that it has to answer about itself
INTERVAL = 0.05  # seconds between two looks while it starts
STARTS = 3  # on free ports, which another process may take first

# Never through a proxy: the server is asked at the address where it was started.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Server:
    """A Triton that `serve` started and found ready. As a context manager it is stopped at the end.

    When this process dies, by whatever signal, the server ends too: see serving.server.supervisor.
    """

    def __init__(self, command: list[str], id: str, urls: list[str], variables: dict[str, str], log: ServerLog) -> None:
        """Start `command`, which serves HTTP, gRPC and metrics at `urls`, with the environment `variables`."""
        self.id, self._log = id, log
        self.http_url, self.grpc_url, self.metrics_url = urls
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", supervisor.__file__, id, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.file,
            env=variables,
            cwd="/",  # the interpreter of a Python model looks for modules where it is
            start_new_session=True,  # Ctrl-C at the terminal is for Salon, which stops the server in order
        )
        assert self._supervisor.stdout is not None
        first = self._supervisor.stdout.readline()
        if not first:
            self._supervisor.wait()
            lines = log.last_lines()
            self.stop()
            raise SalonError(f"{command[0]} could not be started:\n{lines}")
        self.pid = int(first)  # of tritonserver

    @property
    def ports(self) -> list[int]:
        """Of HTTP, gRPC and metrics."""
        return [int(urlsplit(url).port or 0) for url in (self.http_url, self.grpc_url, self.metrics_url)]

    def models(self) -> list[dict[str, str]]:
        """The versions of models that there are: name, version, state ("READY", or what it is instead)."""
        rows = self._ask("/v2/repository/index", b"{}")
        return [{key: row.get(key, "") for key in ("name", "version", "state")} for row in rows]

    def is_ready(self) -> bool:
        """Whether it is this server that answers, with every model ready."""
        try:
            with _OPENER.open(f"{self.http_url}/v2/health/ready", timeout=ANSWER):
                return bool(self._ask("/v2")["name"] == self.id)  # not another one, on a port that both wanted
        except (OSError, ValueError):
            return False

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._supervisor.poll() is None

    def load(self, models: list[str], timeout: float) -> Iterator[str]:
        """Names of models as they are loaded, until all are ready.

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
                raise self._end()
            if self.is_ready():
                return
            if time.monotonic() > end:
                waiting = ", ".join(sorted(set(models) - set(loaded))) or "nothing"
                raise SalonError(f"The server is not ready after {timeout:.0f} seconds; it is still loading {waiting}")
            time.sleep(INTERVAL)

    def wait(self) -> None:
        """Wait until the server ends by itself. Raises SalonError when it does, with the last lines of its log."""
        self._supervisor.wait()
        raise self._end()

    def stop(self) -> None:
        """Let it finish the requests that it is at, within some seconds; return when nothing of it is left."""
        assert self._supervisor.stdin is not None and self._supervisor.stdout is not None
        self._supervisor.stdin.close()
        self._supervisor.wait()
        self._supervisor.stdout.close()
        self._log.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end(self) -> SalonError:
        return SalonError(
            f"The server ended with code {self._supervisor.wait()}. Its last lines:\n{self._log.last_lines()}"
        )

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        with _OPENER.open(urllib.request.Request(self.http_url + path, body), timeout=ANSWER) as answer:
            return json.load(answer)


def serve(
    repository: Path,
    *,
    server: Triton | None = None,
    host: str = LOOPBACK,
    http_port: int = 0,
    grpc_port: int = 0,
    metrics_port: int = 0,
    reload: Reload | None = None,
    log: Path | None = None,
    timeout: float = 600.0,
) -> Server:
    """Start a server on a model repository and wait until all its models are ready.

    `server` None is what triton.find finds; port 0 is any free one; the server's log is appended to `log`. Raises
    RequestError when the repository is none, a model cannot be loaded, a port is taken or `host` is not for this
    server; SalonError when the server does not start, or is not ready after `timeout` seconds.
    """
    models = model_names(repository)
    server = server or install.find()
    check_host(host, server)
    asked = [http_port, grpc_port, metrics_port]
    for attempt in range(1, STARTS + 1):
        ports = _ports(host, asked)
        id = f"salon_{uuid.uuid4().hex[:12]}"
        urls = [f"http://{host}:{ports[0]}", f"grpc://{host}:{ports[1]}", f"http://{host}:{ports[2]}/metrics"]
        line = command(repository, server, id, host, ports, reload)
        started = Server(line, id, urls, server.environment(), ServerLog(log))
        with ExitStack() as stack:
            stack.callback(started.stop)
            try:
                say(f"Loading {', '.join(models)}")
                for _ in progress(started.load(models, timeout), "Loading", len(models), "model"):
                    pass
            except PortTaken:
                if attempt == STARTS or all(asked):
                    raise
                continue
            stack.pop_all()
            return started
    raise AssertionError("the last attempt returns or raises")


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
    """Raises RequestError when `host` is no IPv4 address, or reaches beyond this machine with the bundled server."""
    if not is_loopback(host) and server.bundled:
        raise RequestError(
            f"`host` must be {LOOPBACK} with the server that Salon installs; got {host} instead. Its version "
            f"{install.BUNDLED_VERSION} lacks later security fixes: for other machines, name a current server with "
            "`tritonserver`, or see the deployment that salon serve prints"
        )


def is_loopback(host: str) -> bool:
    """Whether an IPv4 address is this machine's own. Raises RequestError when `host` is none."""
    try:
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError as error:
        raise RequestError(f"`host` must be an IPv4 address, such as {LOOPBACK}; got {host} instead") from error


def command(repository: Path, server: Triton, id: str, host: str, ports: list[int], reload: Reload | None) -> list[str]:
    """The command line of a server: every service on `host`, ready when all models are, named `id`."""
    return [
        str(server.program),
        *server.options,
        f"--id={id}",
        f"--model-repository={repository.absolute()}",
        f"--model-control-mode={reload or 'none'}",
        *(["--load-model=*"] if reload == "explicit" else []),
        *(["--repository-poll-secs=1"] if reload == "poll" else []),
        *(f"--{service}-address={host}" for service in SERVICES),
        *(f"--{service}-port={port}" for service, port in zip(SERVICES, ports, strict=True)),
        "--strict-readiness=true",
        "--disable-auto-complete-config",  # salon export writes whole ones, and completing starts Python models twice
        f"--exit-timeout-secs={supervisor.GRACE * 2 // 3:.0f}",
        f"--backend-config=python,shm-region-prefix-name={id}",
    ]


def _ports(host: str, asked: list[int]) -> list[int]:
    # The ports asked for, with free ones for 0. Held together, so that they differ.
    with ExitStack() as stack:
        ports = []
        for service, port in zip(SERVICES, asked, strict=True):
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that a server left a moment ago is free
            try:
                probe.bind((host, port))
            except OSError as error:
                raise PortTaken(
                    f"`{service}_port` {port} on {host} cannot be listened on ({os.strerror(error.errno or 0)}): "
                    "choose another, or 0 for any that is free"
                ) from error
            ports.append(probe.getsockname()[1])
        return ports
