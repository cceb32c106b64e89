"""Options that the commands share which talk to a server. Their defaults are those of serving.client.request."""

import click

from gan.cli.options import PATH, FiniteRange, WholeRange, json_option, together

model_option = together(
    click.option(
        "--model", metavar="NAME", help="Generator that is asked; `salon query status` lists those that are served."
    ),
    click.option(
        "--model-version",
        metavar="N",
        type=WholeRange(1),
        help="Version of its models. Default: the newest; `salon query status` lists those that are served.",
    ),
)
ws_option = click.option(
    "--ws", metavar="FILE", type=PATH, help="File of ws, .npz, to generate from in the place of seeds: all its rows."
)
label_option = click.option("--class", "label", metavar="CLASS", help="Class to generate: its name or its index.")
concurrency_option = click.option(
    "--concurrency",
    metavar="N",
    type=WholeRange(1, 64),
    help="Requests at a time. The images do not depend on it.",
)


# Which server, and how long it may take.
server_options = together(
    click.option(
        "--url",
        metavar="URL",
        envvar="SALON_URL",
        show_envvar=True,
        help="Address of the server: grpc://HOST:PORT or http://HOST:PORT; grpcs and https are encrypted.",
    ),
    click.option(
        "--timeout",
        metavar="SECONDS",
        type=FiniteRange(0, min_open=True),
        help="Time for each request, with all attempts.",
    ),
    click.option(
        "--retries",
        metavar="N",
        type=WholeRange(0),
        help="Attempts after the first one, while the server is not available.",
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        type=PATH,
        help="File with the token that the server wants. Default: the variable SALON_TOKEN holds it.",
    ),
    json_option,
)
