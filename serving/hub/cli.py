"""The commands `salon card`, `salon push` and `salon pull`. Heavy imports wait until they run."""

from typing import Any

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, class_option, device_option, json_option, overwrite_option, psi_option
from gan.runtime.console import result, say
from serving.hub.request import UNKNOWN, CardRequest, PullRequest, PushRequest

source_argument = click.argument("source", type=PATH)
repo_argument = click.argument("repo")


@click.command(cls=Command)
@takes(CardRequest)
@source_argument
@click.option("--out", metavar="DIR", type=PATH, help="Folder of the card, which `salon push --card` takes.")
@click.option(
    "--license", metavar="ID", help="License of what is published, by the hub's identifiers, such as cc0-1.0 or mit."
)
@click.option("--creator", metavar="TEXT", help="Name of who made it.")
@click.option("--repo", metavar="REPO", help="Repository where it will be, OWNER/NAME: for the card's commands.")
@click.option(
    "--evaluation", metavar="DIR", type=PATH, help="Folder of an evaluation of the snapshot (salon eval run): figures."
)
@click.option(
    "--data", metavar="DATASET", type=PATH, help="Dataset that the generator learned from: number of images, reasons."
)
@click.option(
    "--manifest",
    metavar="DIR",
    type=PATH,
    help="Manifest that selected images of it. Of a dataset's card, the default is the one beside the dataset.",
)
@click.option("--data-repo", metavar="REPO", help="Repository of that dataset, where it has one.")
@click.option("--seeds", metavar="SEEDS", help="Seeds and ranges of the samples, such as 0-15,42.")
@class_option
@psi_option
@device_option
@overwrite_option
@json_option
def card(request: CardRequest, as_json: bool) -> None:
    """Write the card of a generator or of a dataset: what it is, what it learned from, what was measured, its limits.

    SOURCE is a snapshot, a run, a folder of runs, or a dataset's ZIP. The card is README.md as Hugging Face's hub
    reads it, with card.json for machines and samples; of a dataset with Croissant metadata as well. What is not known
    is said to be unknown.

    \b
    salon card runs --license cc0-1.0 --evaluation evaluation --data paintings64.zip --out card
    salon card paintings64.zip --license cc0-1.0 --repo me/paintings64 --out data-card
    """
    from serving.hub.card import write

    figures = write(request)
    if request.license == UNKNOWN:
        say("The card says that the license is unknown: `license` names it")
    names = ", ".join(figures["files"])
    result(f"The card of a {figures['kind']}: {names} in {request.out}", figures, as_json)


@click.command(cls=Command)
@takes(PushRequest)
@source_argument
@repo_argument
@click.option("--card", metavar="DIR", type=PATH, help="Folder that salon card wrote of SOURCE, to send along.")
@click.option("--private", is_flag=True, help="Repository for its owner alone, where it is new.")
@click.option("--message", metavar="TEXT", help="Message of the commit. Default: names what is sent.")
@click.option(
    "--overwrite", is_flag=True, help="Files of the same names in an existing REPO are replaced, in a new commit."
)
@json_option
def push(request: PushRequest, as_json: bool) -> None:
    """Send a generator or a dataset with its card to a Hugging Face hub.

    SOURCE is a snapshot, a run, a folder of runs (the newest snapshot is sent), or a dataset's ZIP; REPO is OWNER/NAME.
    Only safetensors, JSON, README.md and images are sent, of a dataset the ZIP, and nothing else of a run's folder.
    The token is that of `hf auth login`, or HF_TOKEN's; HF_ENDPOINT names another hub. Needs the extra hub.

    \b
    salon push runs me/paintings64-gan --card card
    salon push paintings64.zip me/paintings64 --card data-card --private
    """
    from serving.hub.push import push as send

    figures = send(request)
    result(f"Sent to {figures['url']}, commit {figures['commit'][:12]}. {_pull_line(figures)}", figures, as_json)


@click.command(cls=Command)
@takes(PullRequest)
@repo_argument
@click.option("--revision", metavar="REVISION", help="Branch, tag or commit. Default: the newest of main.")
@click.option("--out", metavar="DIR", type=PATH, help="New folder for the files; nothing is kept elsewhere.")
@json_option
def pull(request: PullRequest, as_json: bool) -> None:
    """Fetch a generator or a dataset from a Hugging Face hub.

    REPO is OWNER/NAME, of a dataset datasets/OWNER/NAME. Only safetensors, JSON, README.md and images are taken, of a
    dataset the ZIP; each is checked by its SHA-256, and nothing is executed. A pull that was stopped goes on where it
    stopped; --out is there when all is. HF_ENDPOINT names another hub. Needs the extra hub.

    \b
    salon pull me/paintings64-gan --out gan
    salon generate gan --seeds 0-15 --grid 4x4 --out grid.png
    salon pull datasets/me/paintings64 --revision main --out data
    """
    from serving.hub.pull import pull as fetch

    figures = fetch(request)
    result(f"{len(figures['files'])} files of {figures['repo']} in {request.out}", figures, as_json)


def _pull_line(figures: dict[str, Any]) -> str:
    return f"salon pull {figures['repo']} --out DIR"
