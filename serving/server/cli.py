"""The command serve. What it needs waits until it runs."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, WholeRange, json_option
from gan.errors import RequestError
from gan.runtime.console import result, say, table
from serving.contract import read_token
from serving.server.request import ServeRequest

if TYPE_CHECKING:
    from serving.server.server import Server

PORT = WholeRange(0, 65535)


@click.command(cls=Command)
@takes(ServeRequest)
@click.argument("repository", metavar="MODEL_REPOSITORY", type=PATH)
@click.option("--http-port", metavar="PORT", type=PORT, help="Port for HTTP. 0: any that is free.")
@click.option("--grpc-port", metavar="PORT", type=PORT, help="Port for gRPC. 0: any that is free.")
@click.option("--metrics-port", metavar="PORT", type=PORT, help="Port for Prometheus. 0: any that is free.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on; the default is reached from this machine alone.")
@click.option("--allow-host", metavar="NAME", multiple=True, help="Host name that the server is reached by; repeat.")
@click.option(
    "--allow-origin",
    metavar="SITE",
    multiple=True,
    help="Web site whose pages may ask, as https://NAME; repeat.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=PATH,
    help="Secret that every request must bring, in a file: salon query and gallery take the same option.",
)
@click.option(
    "--tritonserver",
    metavar="PROGRAM",
    type=PATH,
    help="Server program. Default: tritonserver on PATH, or else one that Salon installs once, for CPUs.",
)
@click.option(
    "--reload",
    type=click.Choice(["poll"]),
    help="Loading of models while the server runs: poll loads new versions as they appear. Default: never.",
)
@click.option("--log", metavar="FILE", type=PATH, help="Log file that the server appends to; kept below 32 MiB.")
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
    server that dies, or a model in it, is started again.

    Requests pass a front that checks them: only those that infer and those that look reach Triton.

    \b
    salon export --snapshot runs --out models
    salon serve models
    salon serve models --print-command docker
    """
    try:
        from serving.export import family
        from serving.server import deployment, install
        from serving.server import server as servers
        from serving.server.front.access import Access
    except ImportError as error:
        raise RequestError(f"salon serve needs pip install 'salon[serve]': {error}") from error

    local = servers.is_loopback(request.host)
    if print_command is not None:
        ports = list(request.ports.values())
        text = deployment.render(print_command, request.repository, request.host, ports)  # type: ignore[arg-type]
        result(text.rstrip(), {"kind": print_command, "text": text, "run_here": False}, as_json)
        return
    servers.model_names(request.repository)  # before a server is installed for it
    family.check(request.repository)
    program = install.find(request.tritonserver)
    access = Access(
        token=None if request.token_file is None else read_token(request.token_file),
        hosts=(request.host, *request.allow_host),
        origins=request.allow_origin,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as service managers stop what they run
    if not local and access.token is None:
        say(f"Whoever reaches {request.host} may use this server: --token-file lets in those who know a secret.")
    elif not local:
        say("Requests, and the token in them, are not encrypted: put a proxy with TLS before it.")
    try:
        with servers.serve(
            request.repository,
            server=program,
            host=request.host,
            **{f"{service}_port": port for service, port in request.ports.items()},
            access=access,
            reload=request.reload,  # type: ignore[arg-type]
            log=request.log,
            timeout=request.timeout,
        ) as server:
            _announce(server, program.program, as_json)
            server.keep()
    except KeyboardInterrupt:
        say("Stopping: requests in flight are finished first.")


def _announce(server: "Server", program: Path, as_json: bool) -> None:
    models = server.models()
    urls = {"http": server.http_url, "grpc": server.grpc_url, "metrics": server.metrics_url}
    text = "\n".join([table([list(row.values()) for row in models], list(models[0])), "", table(urls.items())])
    figures = {**urls, "pid": server.pid, "tritonserver": str(program), "models": models}
    result(text, figures, as_json)
    say("Ctrl-C stops it.")
