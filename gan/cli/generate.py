"""The group `salon generate`. Its sub-commands are named as strings and imported when they are used."""

import click

from gan.cli.groups import LazyGroup

SUBCOMMANDS = {
    "images": "gan.cli.generate_images:images",
    "interpolate": "gan.cli.animate:interpolate",
    "mix": "gan.cli.generate_images:mix",
    "timelapse": "gan.cli.animate:timelapse",
}


class DefaultGroup(LazyGroup):
    """A group whose first word may be left out: `images` is meant then."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.lazy and args[0] not in ctx.help_option_names:
            args = ["images", *args]
        return super().parse_args(ctx, args)


@click.group(cls=DefaultGroup, lazy=SUBCOMMANDS)
def generate() -> None:
    """Paint with a trained generator.

    SNAPSHOT is a snapshot file, a run, or a folder of runs (the newest is taken). Without one of the words below,
    `images` is meant.

    \b
    salon generate runs --seeds 0-15 --grid 4x4 --out grid.png
    salon generate runs --seeds 0-99,1234 --out pictures --truncation-psi 0.7
    salon generate runs --reject obrs --budget 4 --count 16 --data paintings64.zip --out best
    salon generate mix runs --rows 0-3 --columns 4-9 --layers 0-3 --out mix.png
    salon generate interpolate runs --seeds 0-5 --out loop.mp4
    salon generate timelapse runs/paintings64-tiny-1a2b3c4d --out learning.mp4
    """
