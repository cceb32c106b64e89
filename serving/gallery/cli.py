"""The command gallery. Heavy imports wait until it runs."""

from dataclasses import fields
from pathlib import Path

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, FiniteRange, WholeRange, json_option
from gan.errors import RequestError
from gan.runtime.console import result, say
from serving.gallery.request import GalleryRequest
from serving.gallery.static.request import StaticGalleryRequest


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
@click.option(
    "--static", metavar="DIR", type=PATH, help="Folder to write, of a gallery without a server: the browser generates."
)
@click.option("--snapshot", metavar="SNAPSHOT", type=PATH, help="Snapshot, run, or folder of runs; with --static.")
@click.option(
    "--directions", metavar="FILE", type=PATH, help="Directions in w, each of which gets a slider; with --static."
)
@click.option(
    "--runtime",
    metavar="DIR",
    type=PATH,
    help="Package onnxruntime-web of npm, unpacked; with --static. Default: downloaded once, into Salon's cache.",
)
@click.option("--overwrite", is_flag=True, help="Replace the gallery that --static already holds.")
@json_option
@click.pass_context
def gallery(
    context: click.Context,
    request: GalleryRequest,
    static: Path | None,
    snapshot: Path | None,
    directions: Path | None,
    runtime: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show the generators of a running server on a web page: image grids, style mixing, interpolation.

    The page loads nothing from other hosts, and the address of an image gives the same image again. Ctrl-C ends it. It
    listens to this machine alone unless --host says otherwise, and asks nobody for a password.

    With --static it serves nothing, and writes a folder for any host of static pages: a page that generates a
    snapshot's images in the visitor's browser.

    \b
    salon gallery --url grpc://127.0.0.1:8001
    salon gallery --host 0.0.0.0 --allow-host gallery.example --trust-proxy 10.0.0.7 --rate 30/min
    salon gallery --static site --snapshot runs
    """
    options = {"snapshot": snapshot, "directions": directions, "runtime": runtime, "overwrite": overwrite or None}
    if static is None:
        if given := [name for name, value in options.items() if value is not None]:
            raise RequestError(f"`{given[0]}` needs `static`")
        _serve(request, as_json)
        return
    commandline = click.core.ParameterSource.COMMANDLINE
    for name in (field.name for field in fields(GalleryRequest)):
        if context.get_parameter_source(name) is commandline:
            raise RequestError(f"`{name}` is for a server's generators: leave it out with `static`")
    if snapshot is None:
        raise RequestError("`static` needs `snapshot`")
    _write(
        StaticGalleryRequest(
            static=static, snapshot=snapshot, directions=directions, runtime=runtime, overwrite=overwrite
        ),
        as_json,
    )


def _write(request: StaticGalleryRequest, as_json: bool) -> None:
    try:
        from serving.gallery.static.site import write

        figures = write(request)
    except ImportError as error:
        raise RequestError(f"salon gallery --static needs pip install 'salon[export]': {error}") from error
    size = figures["bytes"] / 1e6
    result(f"Gallery in {request.static}, {size:.1f} MB, weights in {figures['weights']}", figures, as_json)
    say(f"To look at it: python3 -m http.server --bind 127.0.0.1 --directory {request.static}")


def _serve(request: GalleryRequest, as_json: bool) -> None:
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
