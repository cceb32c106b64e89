"""The command serve. What it needs waits until it runs."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gan.cli.command import Command
from gan.cli.options import PATH, WholeRange, json_option
from gan.errors import RequestError, SalonError
from gan.runtime.console import result, say, table

if TYPE_CHECKING:
    from serving.server.server import Server

PORT = WholeRange(0, 65535)
STEADY = 10.0  # seconds after which a server that dies is started again; one that dies earlier would die for ever


@click.command(cls=Command)
@click.argument("repository", metavar="MODEL_REPOSITORY", type=PATH)
@click.option("--http-port", metavar="PORT", type=PORT, default=8000, show_default=True, help="0: any that is free.")
@click.option("--grpc-port", metavar="PORT", type=PORT, default=8001, show_default=True, help="0: any that is free.")
@click.option("--metrics-port", metavar="PORT", type=PORT, default=8002, show_default=True, help="For Prometheus.")
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen on; others reach it."
)
@click.option(
    "--tritonserver",
    metavar="PROGRAM",
    type=PATH,
    help="The server to run. Default: tritonserver on PATH, or else one that Salon installs once, for CPUs.",
)
@click.option(
    "--reload",
    type=click.Choice(["explicit", "poll"]),
    help="Load models while it runs: by request, or when a new version appears. Default: never.",
)
@click.option("--log", metavar="FILE", type=PATH, help="Append the server's log to this file.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=WholeRange(1),
    default=600,
    show_default=True,
    help="Give up when the models are not ready by then.",
)
@click.option(
    "--print-command",
    type=click.Choice(["docker", "helm"]),
    help="Print what serves the repository in production, and start nothing.",
)
@json_option
def serve(
    repository: Path,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    host: str,
    tritonserver: Path | None,
    reload: str | None,
    log: Path | None,
    timeout: int,
    print_command: str | None,
    as_json: bool,
) -> None:
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

    ports = [http_port, grpc_port, metrics_port]
    named = dict(zip(servers.SERVICES, ports, strict=True))
    if same := [f"--{service}-port" for service, port in named.items() if port and ports.count(port) > 1]:
        raise RequestError(f"{' and '.join(same)} must differ; got {ports} instead")
    local = servers.is_loopback(host)
    if print_command is not None:
        text = deployment.render(print_command, repository, host, ports)  # type: ignore[arg-type]  # click's choices
        result(text.rstrip(), {"kind": print_command, "text": text, "run_here": False}, as_json)
        return
    if not local and reload == "explicit":
        raise RequestError(f"--reload explicit lets clients load models: it needs --host 127.0.0.1, not {host}")
    servers.model_names(repository)  # before a server is installed for it
    found = install.find(tritonserver)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as service managers stop what they run
    if not local:
        say(f"Whoever reaches {host} may use this server, without a password: keep it behind a gateway.")
    figures = None
    try:
        while True:
            http_port, grpc_port, metrics_port = ports
            with servers.serve(
                repository,
                server=found,
                host=host,
                http_port=http_port,
                grpc_port=grpc_port,
                metrics_port=metrics_port,
                reload=reload,  # type: ignore[arg-type]
                log=log,
                timeout=timeout,
            ) as server:
                if figures is None:
                    figures = _announce(server, found.program, as_json)
                began, ports = time.monotonic(), server.ports
                try:
                    server.wait()
                except SalonError as error:
                    if time.monotonic() - began < STEADY:
                        raise
                    say(f"{error}\nStarting it again at the same addresses.")
    except KeyboardInterrupt:
        say("Stopping: requests in flight are finished first.")


def _announce(server: "Server", program: Path, as_json: bool) -> dict[str, Any]:
    models = server.models()
    urls = {"http": server.http_url, "grpc": server.grpc_url, "metrics": server.metrics_url}
    text = "\n".join([table([list(row.values()) for row in models], list(models[0])), "", table(urls.items())])
    figures = {**urls, "pid": server.pid, "tritonserver": str(program), "models": models}
    result(text, figures, as_json)
    say("Ctrl-C stops it.")
    return figures
