"""The command serve. What it needs waits until it runs."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, WholeRange, json_option
from gan.errors import RequestError, SalonError
from gan.runtime.console import result, say, table
from serving.server.request import ServeRequest

if TYPE_CHECKING:
    from serving.server.install import Triton
    from serving.server.server import Server

PORT = WholeRange(0, 65535)
STEADY = 10.0  # seconds after which a server that dies is started again; one that dies earlier would die for ever


@click.command(cls=Command)
@takes(ServeRequest)
@click.argument("repository", metavar="MODEL_REPOSITORY", type=PATH)
@click.option("--http-port", metavar="PORT", type=PORT, help="Port for HTTP. 0: any that is free.")
@click.option("--grpc-port", metavar="PORT", type=PORT, help="Port for gRPC. 0: any that is free.")
@click.option("--metrics-port", metavar="PORT", type=PORT, help="Port for Prometheus. 0: any that is free.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on; the default is reached from this machine alone.")
@click.option(
    "--tritonserver",
    metavar="PROGRAM",
    type=PATH,
    help="Server program. Default: tritonserver on PATH, or else one that Salon installs once, for CPUs.",
)
@click.option(
    "--reload",
    type=click.Choice(["explicit", "poll"]),
    help="Loading of models while the server runs: by request, or when a new version appears. Default: never.",
)
@click.option("--log", metavar="FILE", type=PATH, help="File that the server's log is appended to.")
@click.option(
    "--timeout", metavar="SECONDS", type=WholeRange(1), help="Time for the models to become ready, then it is given up."
)
@click.option(
    "--print-command",
    type=click.Choice(["docker", "helm"]),
    help="Print what serves the repository in production, and start nothing.",
)
@json_option
def serve(request: ServeRequest, print_command: str | None, as_json: bool) -> None:
    """Serve a model repository with NVIDIA Triton, until Ctrl-C.

    MODEL_REPOSITORY is what salon export writes. Once all its models are ready, their versions and the addresses for
    clients are printed. Only this machine reaches them, unless --host says otherwise, and models stay as they are. A
    server that dies is started again.

    \b
    salon export --snapshot runs --out models
    salon serve models
    salon serve models --print-command docker
    """
    from serving.server import deployment, install
    from serving.server import server as servers

    local = servers.is_loopback(request.host)
    if print_command is not None:
        ports = list(request.ports.values())
        text = deployment.render(print_command, request.repository, request.host, ports)  # type: ignore[arg-type]
        result(text.rstrip(), {"kind": print_command, "text": text, "run_here": False}, as_json)
        return
    if not local and request.reload == "explicit":
        raise RequestError(f"--reload explicit lets clients load models: it needs --host 127.0.0.1, not {request.host}")
    servers.model_names(request.repository)  # before a server is installed for it
    program = install.find(request.tritonserver)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as service managers stop what they run
    if not local:
        say(f"Whoever reaches {request.host} may use this server, without a password: keep it behind a gateway.")
    try:
        _keep_serving(request, program, as_json)
    except KeyboardInterrupt:
        say("Stopping: requests in flight are finished first.")


def _keep_serving(request: ServeRequest, program: "Triton", as_json: bool) -> None:
    # Until Ctrl-C: a server that dies is started again at the same addresses.
    from serving.server import server as servers

    ports, announced = list(request.ports.values()), False
    while True:
        http_port, grpc_port, metrics_port = ports
        with servers.serve(
            request.repository,
            server=program,
            host=request.host,
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            reload=request.reload,  # type: ignore[arg-type]
            log=request.log,
            timeout=request.timeout,
        ) as server:
            if not announced:
                _announce(server, program.program, as_json)
                announced = True
            began, ports = time.monotonic(), server.ports
            try:
                server.wait()
            except SalonError as error:
                if time.monotonic() - began < STEADY:
                    raise
                say(f"{error}\nStarting it again at the same addresses.")


def _announce(server: "Server", program: Path, as_json: bool) -> None:
    models = server.models()
    urls = {"http": server.http_url, "grpc": server.grpc_url, "metrics": server.metrics_url}
    text = "\n".join([table([list(row.values()) for row in models], list(models[0])), "", table(urls.items())])
    figures = {**urls, "pid": server.pid, "tritonserver": str(program), "models": models}
    result(text, figures, as_json)
    say("Ctrl-C stops it.")
