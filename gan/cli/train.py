"""The command train. Heavy imports wait until it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gan.cli.command import Command
from gan.cli.options import PATH, FiniteRange, WholeRange, device_option, json_option, seed_option, together
from gan.config import AUGMENTS, MAX_BATCH, PRECISIONS
from gan.errors import RequestError
from gan.runtime.console import result, say

# The options that are fields of the config under the same name.
MAX_KIMG = 10**9
FIELDS = ("seed", "mirror", "batch_size", "r1_gamma", "precision", "freeze_d", "augment", "augment_p", "ada_target")
Function = TypeVar("Function", bound=Callable[..., Any])


def _every(name: str, what: str, minutes: float) -> Callable[[Function], Function]:
    return together(
        click.option(
            f"--{name}-ticks",
            metavar="TICKS",
            type=WholeRange(0),
            default=0,
            help=f"{what} every so many ticks. 0: by minutes alone.",
        ),
        click.option(
            f"--{name}-minutes",
            metavar="MIN",
            type=FiniteRange(0),
            default=minutes,
            show_default=True,
            help="Or every so many minutes; the first after one. 0: by ticks alone.",
        ),
    )


@click.command(cls=Command)
@click.option("--data", required=True, metavar="DATASET", type=PATH, help="Dataset made by salon prepare.")
@click.option("--out", required=True, metavar="RUNS", type=PATH, help="Folder of runs; this run gets a folder in it.")
@click.option(
    "--name",
    metavar="NAME",
    help="The run's folder in --out. Default: from dataset, preset and a digest of the config.",
)
@click.option(
    "--preset",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto (follows the resolution), config-f (the large network), paper256 (half its channels), tiny (for a CPU).",
)
@click.option(
    "--total-kimg",
    metavar="KIMG",
    type=FiniteRange(0, MAX_KIMG, min_open=True),
    default=25_000,
    show_default=True,
    help="Length of the run, in thousands of images shown.",
)
@click.option(
    "--batch-size",
    metavar="NIMG",
    type=WholeRange(1, MAX_BATCH),
    help="Images an iteration, over all processes together. Default: the preset's.",
)
@click.option(
    "--gamma",
    "r1_gamma",
    metavar="GAMMA",
    type=FiniteRange(0),
    help="Weight of R1. Default: 0.0002 * resolution^2 / batch size.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="bf16: features and convolutions in bfloat16, faster on GPUs and on CPUs that have it. Default: fp32.",
)
@click.option("--mirror", is_flag=True, help="Flip real images horizontally half of the time.")
@click.option(
    "--augment",
    type=click.Choice(AUGMENTS),
    help="Augment what the discriminator sees, for a dataset of few images. ada: as much as it takes; fixed: with "
    "--augment-p; diffaugment: a simple set, always. Default: none.",
)
@click.option(
    "--augment-p",
    metavar="P",
    type=FiniteRange(0, 1),
    help="Probability of each augmentation: with fixed always, with ada at the start.",
)
@click.option(
    "--ada-target",
    metavar="R",
    type=FiniteRange(-1, 1),
    help="With ada: mean sign of the discriminator's verdicts on real images to hold. Higher augments less. "
    "Default: 0.6.",
)
@click.option("--conditional", is_flag=True, help="Learn the dataset's classes, and paint by class.")
@seed_option("Of weights, order and latents.")
@click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="Any other field of the config; repeat.")
@click.option("--manifest", metavar="DIR", type=PATH, help="Learn only from the images that this manifest keeps.")
@click.option(
    "--resume",
    default="auto",
    show_default=True,
    metavar="auto|never|FILE",
    help="auto: go on where the same command stopped. never: a new run. FILE: start from that checkpoint or snapshot, "
    "or from the newest checkpoint of that run.",
)
@click.option(
    "--transfer",
    metavar="FILE",
    type=PATH,
    help="Start from a checkpoint, snapshot or run of any resolution or classes: what fits is taken, the rest is "
    "listed.",
)
@click.option(
    "--freeze-d", metavar="LAYERS", type=WholeRange(0), help="So many blocks of D, from the image on, do not learn."
)
@click.option(
    "--resume-kimg",
    metavar="KIMG",
    type=FiniteRange(0, MAX_KIMG),
    help="With --resume FILE or --transfer: count from here.",
)
@click.option(
    "--kimg-per-tick",
    metavar="KIMG",
    type=FiniteRange(0, min_open=True),
    default=4,
    show_default=True,
    help="A tick, with its status line, ends after so many images, or after a minute.",
)
@_every("image-snapshot", "Sheet of samples", 5)
@_every("network-snapshot", "Checkpoint and snapshot", 15)
@click.option(
    "--keep",
    metavar="N",
    type=WholeRange(0),
    default=3,
    show_default=True,
    help="Newest checkpoints and snapshots to keep; 0 keeps all.",
)
@click.option(
    "--metrics",
    metavar="NAMES",
    default="none",
    show_default=True,
    help="Judge snapshots: some of fid, kid, pr, dc, is, as salon eval does; in metrics.jsonl and on the boards.",
)
@click.option(
    "--metrics-budget",
    metavar="PERCENT",
    type=FiniteRange(0, 100, min_open=True, max_open=True),
    help="With --metrics: most of the time that they may take; how many images, and how often, follows from it. "
    "Default: 5.",
)
@click.option(
    "--metrics-weights", metavar="NAME=PATH", multiple=True, help="With --metrics: weights of an extractor; repeat."
)
@click.option(
    "--batch-gpu",
    metavar="NIMG",
    type=WholeRange(1),
    help="Most images in a forward pass, on each process; gradients add up to the batch. Default: all of its share.",
)
@click.option(
    "--wandb", metavar="PROJECT", help="Log to this project of Weights & Biases too; WANDB_MODE=offline works."
)
@click.option(
    "--workers",
    metavar="N",
    type=WholeRange(0, 256),
    default=1,
    show_default=True,
    help="Processes that load images.",
)
@click.option("--cache", is_flag=True, help="Keep decoded pixels in a file beside the dataset: faster, larger.")
@device_option
@click.option("--dry-run", is_flag=True, help="Check the request and the data, print the config, and stop.")
@json_option
def train(
    data: Path,
    out: Path,
    name: str | None,
    preset: str,
    conditional: bool,
    overrides: tuple[str, ...],
    manifest: Path | None,
    resume: str,
    transfer: Path | None,
    resume_kimg: float | None,
    metrics: str,
    metrics_budget: float | None,
    metrics_weights: tuple[str, ...],
    wandb: str | None,
    device: str,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train StyleGAN2 on a dataset.

    The same command goes on where it stopped, exactly. Ctrl-C stops it with a checkpoint, and ends with 0: `finished`
    in --json tells. Another dataset, preset or field is another run.

    \b
    salon train --data paintings64.zip --out runs --preset tiny --total-kimg 100
    salon train --data paintings256.zip --out runs --preset paper256 --mirror --set pl_weight=0
    torchrun --nproc-per-node 8 -m gan train --data paintings256.zip --out runs --preset paper256
    """
    import json

    from gan import device as devices
    from gan.config import parse_override
    from gan.data.collection import Collection
    from gan.runtime import distributed
    from gan.training import microbatches
    from gan.training.logger import require_wandb
    from gan.training.request import require_kimg_left, resolve
    from gan.training.run_dir import Run, default_name, unused
    from gan.training.training_loop import TrainingOptions, load_source
    from gan.training.training_loop import train as carry_out

    if name is not None and (name in ("", ".", "..") or Path(name).name != name):
        raise RequestError(f"--name must be the name of one folder in --out; got {name!r} instead")
    if out.exists() and not out.is_dir():
        raise RequestError(f"--out must be a folder of runs; got {out} instead, which is a file")
    if metrics == "none" and (metrics_budget or metrics_weights):
        raise RequestError(f"--metrics-{'budget' if metrics_budget else 'weights'} needs --metrics")
    if wandb is not None:
        require_wandb()
    target = devices.select(device)
    fields = {field: value for field in FIELDS if (value := options.pop(field)) is not None}
    fields |= dict(map(parse_override, overrides))
    training = resolve(
        data,
        preset=preset,
        fields=fields,
        conditional=conditional,
        manifest=manifest,
        resume=resume,
        transfer=transfer,
        resume_kimg=resume_kimg,
    )
    config, dataset = training.config, training.dataset
    if "ada_target" in fields and config.augment != "ada":
        raise RequestError("--ada-target needs --augment ada")
    microbatches.of_batch(config, options["batch_gpu"])  # refuses what cannot be shared out
    source = load_source(training.start, config) if training.start else None
    require_kimg_left(options["total_kimg"], config, source)
    with distributed.joined(target):
        distributed.require_same(config.digest(), "request and dataset")
        path = out / (name or default_name(data, config))
        if resume == "never":
            path = Path(distributed.from_main(str(unused(path, restarted=distributed.anyone(distributed.restarted())))))
        run = Run(path)
        run.require_config(config)
        hooks = []
        with distributed.main_first():
            dataset.preflight(training.fingerprint)
            if metrics != "none" and distributed.is_main():
                make_hook = click.get_current_context().obj  # from the root: this package knows nothing of the metrics
                where = {"out": run.path / "metrics", "device": target, "weights": metrics_weights}
                hooks.append(make_hook(Collection.open(data, manifest), metrics, metrics_budget or 5, **where))
        say(json.dumps(config.to_dict(), indent=2))
        say(f"R1 gamma: {config.r1_gamma:.4g}" + ("" if "r1_gamma" in fields else " (from resolution and batch size)"))
        say(f"Images: {len(training.indices)} of {len(dataset)} in {data}")
        if dry_run:
            figures = {"run": str(run.path), "images": len(training.indices), "config": config.to_dict()}
            result(f"The request is fine. The run would be {run.path}", figures, as_json)
            return
        how = TrainingOptions(wandb=wandb, **options)
        summary = carry_out(run, config, how, dataset, training.indices, target, source=source, hooks=hooks)
    if summary["finished"]:
        text = (
            f"Done: {summary['kimg']:.1f} kimg. salon generate {summary['run']} --seeds 0-15 --grid 4x4 --out grid.png"
        )
    else:
        text = f"Stopped at {summary['kimg']:.1f} kimg, and saved. The same command goes on from here."
    result(f"{text}\nSheet: {summary['sheet']}\nSnapshot: {summary['snapshot']}", summary, as_json)
