"""The command gallery. Heavy imports wait until it runs."""

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, FiniteRange, WholeRange, json_option
from gan.runtime.console import result, say
from serving.gallery.request import GalleryRequest


@click.command(cls=Command)
@takes(GalleryRequest)
@click.option(
    "--url",
    metavar="URL",
    envvar="SALON_URL",
    show_envvar=True,
    help="Address of the server: grpc://HOST:PORT or http://HOST:PORT; grpcs and https are encrypted.",
)
@click.option("--model", metavar="NAME", help="Generator to show first. Default: the first that is served.")
@click.option(
    "--token-file",
    metavar="FILE",
    type=PATH,
    help="File with the token that the server wants. Default: the variable SALON_TOKEN holds it.",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on; the default is this machine's alone.")
@click.option("--port", metavar="PORT", type=WholeRange(0, 65535), help="Port of the page; 0 is any that is free.")
@click.option("--allow-host", metavar="NAME", multiple=True, help="Host name that the gallery is reached by; repeat.")
@click.option(
    "--trust-proxy",
    metavar="ADDRESS",
    multiple=True,
    help="Reverse proxy, by address or network, that says in X-Forwarded-For whose request it hands on; repeat.",
)
@click.option(
    "--allow-origin",
    metavar="SITE",
    multiple=True,
    help="Site of one's own, such as https://me.example, whose pages may read images; repeat.",
)
@click.option("--max-images", metavar="NIMG", type=WholeRange(2, 256), help="Largest number of images in one request.")
@click.option(
    "--rate",
    metavar="N/TIME",
    help="Rate limit of each client, for images that are not cached: a request counts once for each dozen of them. "
    "TIME is s, min or h.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=FiniteRange(0.1),
    help="Time for each request to the server, with all attempts.",
)
@json_option
def gallery(request: GalleryRequest, as_json: bool) -> None:
    """Show the generators of a running server on a web page: image grids, style mixing, interpolation.

    The page loads nothing from other hosts, and the address of an image gives the same image again. Ctrl-C ends it. It
    listens to this machine alone unless --host says otherwise, and asks nobody for a password.

    \b
    salon gallery --url grpc://127.0.0.1:8001
    salon gallery --host 0.0.0.0 --allow-host gallery.example --trust-proxy 10.0.0.7 --rate 30/min
    """
    from gan.runtime import web
    from serving.client.client import Client
    from serving.gallery.access import parse_rate
    from serving.gallery.app import Gallery

    host = request.host
    page = Gallery(
        lambda name: Client(request.url, model=name, timeout=request.timeout, retries=1, token_file=request.token_file),
        model=request.model,
        max_images=request.max_images,
        rate=parse_rate(request.rate),
        hosts=(host, *request.allow_host),
        proxies=request.trust_proxy,
        origins=request.allow_origin,
    )
    listening = web.listen(host, request.port, "`host` and `port` must be an address of this machine and a free port")
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    with listening:
        if host not in ("127.0.0.1", "::1", "localhost"):
            say(f"Warning: on {host} the gallery is open to everyone who can reach it, without a password")
        page.check()
        result(f"Gallery at {address}", {"url": request.url, "address": address}, as_json)
        say("Ctrl-C ends it.")
        web.serve(page.app, listening)
    say(f"{page.backend.images_generated:,} images were generated")
