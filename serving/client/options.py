"""Options that the commands share which talk to a server."""

import click

from gan.cli.options import FiniteRange, WholeRange, json_option, together
from serving.client.retry import CONCURRENCY, RETRIES, TIMEOUT
from serving.contract import DEFAULT_NAME, DEFAULT_URL

model_option = click.option(
    "--model",
    metavar="NAME",
    default=DEFAULT_NAME,
    show_default=True,
    help="Generator to paint with; `salon query status` lists them.",
)
concurrency_option = click.option(
    "--concurrency",
    metavar="N",
    type=WholeRange(1, 64),
    default=CONCURRENCY,
    show_default=True,
    help="Requests at a time. The pictures are the same.",
)


# Which server, and how patiently.
server_options = together(
    click.option(
        "--url",
        metavar="URL",
        envvar="SALON_URL",
        show_envvar=True,
        default=DEFAULT_URL,
        show_default=True,
        help="grpc://HOST:PORT or http://HOST:PORT; grpcs and https are encrypted.",
    ),
    click.option(
        "--timeout",
        metavar="SECONDS",
        type=FiniteRange(0, min_open=True),
        default=TIMEOUT,
        show_default=True,
        help="For each request, with all attempts.",
    ),
    click.option(
        "--retries",
        metavar="N",
        type=WholeRange(0),
        default=RETRIES,
        show_default=True,
        help="Attempts after the first one, while the server is not available.",
    ),
    json_option,
)
