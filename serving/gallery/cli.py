"""The command gallery. Heavy imports wait until it runs."""

import click

from gan.cli.command import Command
from gan.cli.options import FiniteRange, WholeRange, json_option
from gan.runtime.console import result, say
from serving.contract import DEFAULT_URL


@click.command(cls=Command)
@click.option(
    "--url",
    metavar="URL",
    default=DEFAULT_URL,
    show_default=True,
    envvar="SALON_URL",
    show_envvar=True,
    help="Of the running server: grpc://HOST:PORT or http://HOST:PORT; grpcs and https are encrypted.",
)
@click.option("--model", metavar="NAME", default="", help="Generator to show first. Default: the first that is served.")
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen on; this machine's."
)
@click.option(
    "--port",
    metavar="PORT",
    type=WholeRange(0, 65535),
    default=8080,
    show_default=True,
    help="Of the page; 0 is any free one.",
)
@click.option(
    "--allow-host", "names", metavar="NAME", multiple=True, help="Name that the gallery is reached by; repeat."
)
@click.option(
    "--max-images", metavar="NIMG", type=WholeRange(2, 256), default=16, show_default=True, help="In one request."
)
@click.option(
    "--rate",
    metavar="N/TIME",
    default="60/min",
    show_default=True,
    help="Requests of one client that have something painted; TIME is s, min or h.",
)
@click.option(
    "--timeout", metavar="SECONDS", type=FiniteRange(0.1), default=30.0, show_default=True, help="Of the server."
)
@json_option
def gallery(
    url: str,
    model: str,
    host: str,
    port: int,
    names: tuple[str, ...],
    max_images: int,
    rate: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Show what a server paints, on a web page: walls of pictures, mixes of two, journeys between two.

    The page needs no network but its own; every picture's address makes it again. Ctrl-C ends it. It listens to this
    machine alone unless --host says otherwise, and asks nobody for a password.

    \b
    salon gallery --url grpc://127.0.0.1:8001
    salon gallery --host 0.0.0.0 --allow-host gallery.example --rate 30/min
    """
    from gan.runtime import web
    from serving.client.client import Client
    from serving.gallery.access import check_names, parse_rate
    from serving.gallery.app import Gallery

    allowed = parse_rate(rate)
    check_names(names)
    shown = Gallery(
        lambda name: Client(url, model=name, timeout=timeout, retries=1),
        model=model,
        max_images=max_images,
        rate=allowed,
        hosts=(host, *names),
    )
    listening = web.listen(host, port, "--host and --port must be an address of this machine and a free port")
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    with listening:
        if host not in ("127.0.0.1", "::1", "localhost"):
            say(f"Warning: on {host} the gallery is open to everyone who can reach it, without a password")
        shown.check()
        result(f"Gallery at {address}", {"url": url, "address": address}, as_json)
        say("Ctrl-C ends it.")
        web.serve(shown.app, listening)
    say(f"{shown.studio.painted:,} pictures were painted")
