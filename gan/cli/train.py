"""The command train. Heavy imports wait until it runs."""

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gan.cli.command import Command, takes
from gan.cli.options import PATH, FiniteRange, WholeRange, device_option, json_option, together, workers_option
from gan.config import AUGMENTS, MAX_BATCH, MAX_SEED, PRECISIONS, PRESETS
from gan.runtime.console import result, say
from gan.training.request import DATA_ON_DEVICE, TrainingOptions, TrainingRequest

if TYPE_CHECKING:
    from gan.training.request import Training

MAX_KIMG = 10**9
FEW_IMAGES = "docs/how-to/small-dataset.md"
Function = TypeVar("Function", bound=Callable[..., Any])


def _every(name: str, what: str) -> Callable[[Function], Function]:
    return together(
        click.option(
            f"--{name}-ticks",
            metavar="TICKS",
            type=WholeRange(0),
            help=f"Ticks from one {what} to the next. 0: by minutes alone.",
        ),
        click.option(
            f"--{name}-minutes",
            metavar="MIN",
            type=FiniteRange(0),
            help=f"Minutes from one {what} to the next; the first comes after one at most. 0: by ticks alone.",
        ),
    )


@click.command(cls=Command)
@takes(TrainingRequest)
@takes(TrainingOptions, "options")
@click.option("--data", metavar="DATASET", type=PATH, help="Dataset made by salon prepare.")
@click.option("--out", metavar="RUNS", type=PATH, help="Folder of runs; this run gets a folder in it.")
@click.option(
    "--name",
    metavar="NAME",
    help="The run's folder in --out. Default: from dataset, preset and a digest of the config.",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="auto (follows the resolution); config-f, paper256, paper512 and paper1024 (as published); tiny (for a CPU). "
    "With --resume FILE or --transfer the networks are those of FILE.",
)
@click.option(
    "--total-kimg",
    metavar="KIMG",
    type=FiniteRange(0, MAX_KIMG, min_open=True),
    help="Length of the run, in thousands of images shown to the discriminator.",
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
    help="Weight of R1. Default: 0.0002 * width * height / batch size.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", *PRECISIONS]),
    help="Precision of features and convolutions. bf16 (bfloat16) is faster on GPUs and CPUs that have it, fp16 "
    "(float16, with loss scaling) on GPUs with tensor cores and without bf16, such as V100 and T4. auto: bf16 or fp16 "
    "on such GPUs, else fp32.",
)
@click.option("--mirror", is_flag=True, help="Horizontal flips of real images, with probability 1/2.")
@click.option(
    "--augment",
    type=click.Choice(["auto", *AUGMENTS]),
    help="Augmentation of the discriminator's images, for a dataset of few images. ada: adaptive; fixed: with "
    "--augment-p; diffaugment: DiffAugment; auto: ada for fewer than 30,000 images, else none.",
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
    help="ADA target for r_t = E[sign D(real)]. Higher augments less. Default: 0.6.",
)
@click.option("--conditional", is_flag=True, help="Class-conditional training, by the dataset's labels.")
@click.option("--seed", metavar="SEED", type=WholeRange(0, MAX_SEED), help="Seed of weights, order and latents.")
@click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="Any other field of the config; repeat.")
@click.option("--manifest", metavar="DIR", type=PATH, help="Manifest that selects the images to learn from.")
@click.option(
    "--resume",
    metavar="auto|never|FILE",
    help="auto: go on where the same command stopped. never: a new run. FILE: start from that checkpoint or snapshot, "
    "or from the newest checkpoint of that run.",
)
@click.option(
    "--transfer",
    metavar="FILE",
    type=PATH,
    help="Checkpoint, snapshot or run of any shape or classes to start from: weights that fit are taken, the "
    "rest is listed. Networks of other implementations: see salon import.",
)
@click.option(
    "--freeze-d",
    metavar="LAYERS",
    type=WholeRange(0),
    help="Discriminator blocks to freeze, counted from the image (FreezeD).",
)
@click.option(
    "--resume-kimg",
    metavar="KIMG",
    type=FiniteRange(0, MAX_KIMG),
    help="Count of images to start from, with --resume FILE or --transfer.",
)
@click.option(
    "--kimg-per-tick",
    metavar="KIMG",
    type=FiniteRange(0, min_open=True),
    help="Length of a tick, after which a status line is printed; a minute at most.",
)
@_every("image-snapshot", "image grid")
@_every("network-snapshot", "checkpoint with its snapshot")
@click.option(
    "--keep",
    metavar="N",
    type=WholeRange(0),
    help="Newest checkpoints and snapshots to keep; 0 keeps all.",
)
@click.option(
    "--metrics",
    metavar="NAMES",
    help="Metrics of snapshots: some of fid, kid, pr, dc, is, as salon eval measures them; in metrics.jsonl and on the "
    "boards.",
)
@click.option(
    "--metrics-budget",
    metavar="PERCENT",
    type=FiniteRange(0, 100, min_open=True, max_open=True),
    help="Most of the time that --metrics may take; how many images, and how often, follows from it. Default: 5.",
)
@click.option(
    "--metrics-weights", metavar="NAME=PATH", multiple=True, help="Weights of an extractor of --metrics; repeat."
)
@click.option(
    "--batch-gpu",
    metavar="NIMG",
    type=WholeRange(1),
    help="Most images in a forward pass, on each process; gradients add up to the batch. Default: the process's part "
    "of it.",
)
@click.option(
    "--post-hoc-ema",
    is_flag=True,
    help="Averages of the generator's weights in two more widths, and up to 16 files of both, from which salon ema "
    "makes any width after training. Memory: two more generators.",
)
@click.option(
    "--wandb", metavar="PROJECT", help="Project of Weights & Biases to log to as well; WANDB_MODE=offline works."
)
@workers_option
@click.option(
    "--data-on-device",
    type=click.Choice(DATA_ON_DEVICE),
    help="Pixels decoded once and kept in the memory of --device. auto: on a GPU where they take at most a quarter of "
    "what is free; yes: wherever they fit. The images and their order are the same.",
)
@click.option("--cache", is_flag=True, help="Decoded pixels in a file beside the dataset: faster, larger.")
@click.option(
    "--cuda-graphs/--no-cuda-graphs",
    help="CUDA graphs of an iteration's phases: less work for the host. On one GPU, without --batch-gpu. New: not yet "
    "proven on a GPU, and off by default.",
)
@click.option(
    "--deterministic",
    is_flag=True,
    help="The same weights, to the bit, in every run on the same kind of GPU; slower. On a CPU they always are.",
)
@device_option
@click.option("--dry-run", is_flag=True, help="Check the request and the data, print the config, and stop.")
@json_option
def train(request: TrainingRequest, options: TrainingOptions, device: str, dry_run: bool, as_json: bool) -> None:
    """Train StyleGAN2 on a dataset.

    The same command goes on where it stopped, exactly. Ctrl-C stops it with a checkpoint, and ends with 0: `finished`
    in --json tells. Another dataset, preset or field is another run.

    \b
    salon train --data paintings64.zip --out runs --preset tiny --total-kimg 100
    salon train --data paintings256.zip --out runs --preset paper256 --mirror --set pl_weight=0
    torchrun --nproc-per-node 8 -m gan train --data paintings256.zip --out runs --preset paper256
    """
    from gan.device.selection import select
    from gan.training.carry_out import carry_out

    make_hook = click.get_current_context().obj  # from the root: this package knows nothing of the metrics
    done = carry_out(request, options, select(device), make_hook=make_hook, tell=_tell_request, dry_run=dry_run)
    if done.summary is None:
        figures = {"run": str(done.run.path), "images": len(done.training.collection.kept)}
        figures |= {"config": done.training.config.to_dict()}
        result(f"The request is fine. The run would be {done.run.path}", figures, as_json)
        return
    result(_describe(done.summary, done.training), done.summary, as_json)


def _describe(summary: dict[str, Any], training: "Training") -> str:
    kimg = f"{summary['kimg']:.1f} kimg"
    if summary["finished"]:
        command = ["salon", "generate", summary["run"], "--seeds", "0-15", "--grid", "4x4"]
        if training.config.network.num_classes:
            dataset = training.collection.dataset
            label = dataset.label(int(training.collection.kept[0]))
            command += ["--class", dataset.classes[label] if dataset.classes else str(label)]
        text = f"Done: {kimg}. {shlex.join([*command, '--out', 'grid.png'])}"
    elif summary["checkpoint"]:
        text = f"Stopped at {kimg}, and saved. The same command goes on from here."
    else:
        text = (
            f"Stopped at {kimg}, before the first iteration: there was nothing to save. The same command starts again."
        )
    text += f"\nImage grid: {summary['sheet']}"
    return text + (f"\nSnapshot: {summary['snapshot']}" if summary["snapshot"] else "")


def _tell_request(request: TrainingRequest, training: "Training") -> None:
    import json

    from gan.data.variety import doubts
    from gan.runtime import distributed

    config, collection = training.config, training.collection
    say(json.dumps(config.to_dict(), indent=2))
    heuristic = "r1_gamma" not in request.fields() | PRESETS[request.preset]
    origin = " (from the images' size and the batch size)" if heuristic else ""
    for name, reason in training.chosen.items():
        say(f"`{name}` auto: {reason}")
    say(f"R1 gamma: {config.r1_gamma:.4g}{origin}")
    if training.start:
        say(f"Networks: as in {training.start}, with the average of the weights at its full length from the start")
    say(f"Images: {len(collection.kept)} of {len(collection.dataset)} in {request.data}")
    if note := training.class_note():
        say(note)
    if distributed.is_main() and (lines := doubts(collection.dataset, collection.kept)):
        say("\n".join(f"Note: {line}." for line in lines) + f" {FEW_IMAGES} says what helps.")
