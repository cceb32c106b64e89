"""The group `salon query`. Its sub-commands are named as strings and imported when they are used."""

import click

from gan.cli.groups import LazyGroup

SUBCOMMANDS = {  # in the order in which a person meets them
    "status": "serving.client.cli.status:status",
    "generate": "serving.client.cli.generate:generate",
    "directions": "serving.client.cli.edit:directions",
    "edit": "serving.client.cli.edit:edit",
    "mix": "serving.client.cli.latents:mix",
    "interpolate": "serving.client.cli.latents:interpolate",
    "classify": "serving.client.cli.status:classify",
}


@click.group(cls=LazyGroup, lazy=SUBCOMMANDS)
def query() -> None:
    """Generate images with a generator that `salon serve` or another Triton server holds, and classify images.

    Nothing but numpy, Pillow and tritonclient is loaded. SALON_URL names the server once for all commands.

    \b
    salon query status
    salon query generate --seeds 0-15 --grid 4x4 --out grid.png
    salon query generate --reject obrs --budget 4 --count 16 --out best --url http://127.0.0.1:8000
    salon query edit --direction pc1=2 --seeds 0-7 --out edited
    salon query mix --rows 0-3 --columns 4-9 --layers 0-3 --out mix.png
    salon query interpolate --seeds 0-5 --out loop.mp4
    salon query classify painting.jpg
    """
