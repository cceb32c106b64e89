"""The `salon` command: a group whose sub-commands are named as strings and imported when they are used."""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan import __version__
from gan.cli.groups import LazyGroup
from gan.errors import SalonError
from gan.runtime.console import is_main

if TYPE_CHECKING:
    import torch

    from gan.data.collection import Collection
    from gan.training.metrics_budget import BudgetedMetrics

COMMANDS = {  # in the order in which a person meets them
    "doctor": "gan.cli.doctor:doctor",
    "synthetic": "gan.cli.synthetic:synthetic",
    "prepare": "curation.prepare.cli:prepare",
    "dataset": "curation.prepare.cli:dataset",
    "train": "gan.cli.train:train",
    "ema": "gan.cli.ema:ema",
    "blend": "gan.cli.blend:blend",
    "import": "gan.cli.import_weights:import_weights",
    "generate": "gan.cli.generate:generate",
    "directions": "serving.directions.cli:directions",
    "project": "serving.project.cli:project",
    "verify": "serving.verify.cli:verify",
    "eval": "eval.cli:evaluate",
    "curate": "curation.cli:curate",
    "style": "serving.style.cli:style",
    "export": "serving.export.cli:export",
    "serve": "serving.server.cli:serve",
    "query": "serving.client.cli:query",
    "gallery": "serving.gallery.cli:gallery",
    "card": "serving.hub.cli:card",
    "push": "serving.hub.cli:push",
    "pull": "serving.hub.cli:pull",
    "run": "serving.pipeline.cli:run",
    "demo": "serving.pipeline.cli:demo",
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="salon")
@click.pass_context
def salon(context: click.Context) -> None:
    """Train StyleGAN2 on a folder of images, evaluate it, curate its dataset, and serve it.

    \b
    salon prepare paintings/ --out paintings64.zip --resolution 64
    salon train --data paintings64.zip --out runs --preset tiny
    salon generate runs --seeds 0-15 --grid 4x4 --out grid.png
    """
    context.obj = metrics_hook


def metrics_hook(
    collection: "Collection",
    metrics: str,
    percent: float,
    *,
    out: Path,
    device: "torch.device",
    weights: Sequence[str] = (),
) -> "BudgetedMetrics":
    """What measures snapshots during training: eval.training_hook.hook, which this package does not know elsewhere."""
    from eval.training_hook import hook

    return hook(collection, metrics, percent, out=out, device=device, weights=weights)


def main(args: list[str] | None = None) -> None:
    """Run `salon` and leave with its exit code: 0 done, 1 a fault of ours, 2 of the request, 3 a bound not met.

    Of several processes the main one alone tells of a fault in the request, which all of them find.
    """
    try:
        code = salon.main(args, prog_name="salon", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        if is_main():
            error.show()
        sys.exit(2)
    except SalonError as error:
        if is_main() or error.exit_code != 2:
            click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. Nothing was left half-written.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception:
        traceback.print_exc()
        click.echo("Error: this is a fault of Salon, not of your request; the lines above say where.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
