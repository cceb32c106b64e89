"""The commands synthetic, doctor and train. Heavy imports wait until a command runs."""

from pathlib import Path
from typing import Any

import click

from gan.config import AUGMENTS, PRECISIONS
from gan.console import result, say, table
from gan.errors import BoundError, RequestError
from gan.options import PATH, FiniteRange, device_option, json_option


@click.command()
@click.argument("folder", type=PATH)
@click.option(
    "--count", metavar="NIMG", type=click.IntRange(1), default=200, show_default=True, help="Pictures to make."
)
@click.option("--size", metavar="PX", type=click.IntRange(16), default=96, show_default=True, help="Longer side.")
@click.option(
    "--seed",
    metavar="SEED",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The same seed, the same pictures.",
)
@click.option(
    "--genres",
    metavar="LIST",
    default="landscape",
    show_default=True,
    help="landscape, still_life and portrait, which take turns.",
)
@click.option(
    "--styles",
    metavar="LIST",
    default="impressionism",
    show_default=True,
    help="impressionism, pointillism, cubism and woodblock, which take turns; a folder each.",
)
@click.option(
    "--outliers",
    metavar="NIMG",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How many of them are no paintings: text, charts, colour bars, noise.",
)
@json_option
def synthetic(
    folder: Path, count: int, size: int, seed: int, genres: str, styles: str, outliers: int, as_json: bool
) -> None:
    """Make a folder of pictures to try Salon on, without any data of your own.

    Pictures that are already there are left as they are. paintings.csv tells the style and genre of each, and which of
    them are outliers.

    \b
    salon synthetic paintings --count 200
    salon synthetic mixed --count 600 --genres landscape,portrait --styles impressionism,cubism --outliers 30
    """
    from gan.synthetic import GENRES, LIST, write_paintings
    from gan.synthetic_styles import STYLES

    chosen = []
    for option, text, known in (("--genres", genres, GENRES), ("--styles", styles, STYLES)):
        names = [name.strip() for name in text.split(",")]
        if bad := [name for name in names if name not in known]:
            raise RequestError(f"{option} must be a list of {', '.join(known)}; got {bad[0]!r} instead")
        chosen.append(names)
    if outliers > count:
        raise RequestError(f"--outliers must be at most --count, {count}; got {outliers} instead")
    made = write_paintings(folder, count, size, seed, chosen[0], chosen[1], outliers)
    figures = {"folder": str(folder), "count": count, "made": made, "outliers": outliers, "list": str(folder / LIST)}
    result(f"{folder} holds {count} pictures, {made} of them new", figures, as_json)


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say whether this machine is ready: versions, GPU, compilers, op implementations, weights, server, disk.

    Ends with exit code 3 when something that Salon needs is missing.

    \b
    salon doctor
    salon doctor --json
    """
    from gan.doctor import FAILED, examine

    findings = examine()
    rows = [(f.status, f.name, f.found) for f in findings]
    remedies = [f"{f.name}: {f.remedy}" for f in findings if f.remedy]
    text = table(rows) + ("\n\nRemedies\n" + "\n".join(remedies) if remedies else "")
    result(text, {"findings": [vars(f) for f in findings]}, as_json)
    if failed := [f.name for f in findings if f.status == FAILED]:
        raise BoundError(f"not ready: {', '.join(failed)}")


@click.command()
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
@click.option("--total-kimg", metavar="KIMG", type=FiniteRange(0, min_open=True), default=25_000, show_default=True)
@click.option(
    "--batch-size", metavar="NIMG", type=click.IntRange(1), help="Images an iteration. Default: the preset's."
)
@click.option(
    "--gamma", metavar="GAMMA", type=FiniteRange(0), help="Weight of R1. Default: 0.0002 * resolution^2 / batch size."
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
@click.option(
    "--seed",
    metavar="SEED",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of weights, order and latents.",
)
@click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="Any other field of the config; repeat.")
@click.option("--manifest", metavar="DIR", type=PATH, help="Learn only from the images that this manifest keeps.")
@click.option(
    "--resume",
    default="auto",
    show_default=True,
    metavar="auto|never|FILE",
    help="auto: go on where the same command stopped. never: a new run. FILE: start from that checkpoint or snapshot.",
)
@click.option(
    "--transfer",
    "transfer_from",
    metavar="FILE",
    type=PATH,
    help="Start from a checkpoint or snapshot of any resolution or classes: what fits is taken, the rest is listed.",
)
@click.option(
    "--freeze-d", metavar="LAYERS", type=click.IntRange(0), help="So many blocks of D, from the image on, do not learn."
)
@click.option(
    "--resume-kimg", metavar="KIMG", type=FiniteRange(0), help="With --resume FILE or --transfer: count from here."
)
@click.option(
    "--kimg-per-tick",
    metavar="KIMG",
    type=FiniteRange(0, min_open=True),
    default=4,
    show_default=True,
    help="A tick, with its status line, ends after so many images, or after a minute.",
)
@click.option(
    "--image-snapshot-ticks", metavar="TICKS", type=click.IntRange(0), default=0, help="Sheet of samples every."
)
@click.option(
    "--image-snapshot-minutes",
    metavar="MIN",
    type=FiniteRange(0),
    default=5,
    show_default=True,
    help="Or every so many minutes; the first after one. 0: by ticks alone.",
)
@click.option(
    "--network-snapshot-ticks",
    metavar="TICKS",
    type=click.IntRange(0),
    default=0,
    help="Checkpoint and snapshot every.",
)
@click.option(
    "--network-snapshot-minutes",
    metavar="MIN",
    type=FiniteRange(0),
    default=15,
    show_default=True,
    help="Or every so many minutes; the first after one. 0: by ticks alone.",
)
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(0),
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
    default=5,
    show_default=True,
    help="With --metrics: most of the time that they may take; how many images, and how often, follows from it.",
)
@click.option(
    "--metrics-weights", metavar="NAME=PATH", multiple=True, help="With --metrics: weights of an extractor; repeat."
)
@click.option(
    "--batch-gpu",
    metavar="NIMG",
    type=click.IntRange(1),
    help="Most images in a forward pass, on each process; gradients add up to the batch. Default: all of its share.",
)
@click.option(
    "--wandb", metavar="PROJECT", help="Log to this project of Weights & Biases too; WANDB_MODE=offline works."
)
@click.option(
    "--workers", metavar="N", type=click.IntRange(0), default=1, show_default=True, help="Processes that load images."
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
    batch_size: int | None,
    gamma: float | None,
    precision: str | None,
    mirror: bool,
    augment: str | None,
    augment_p: float | None,
    ada_target: float | None,
    conditional: bool,
    seed: int,
    overrides: tuple[str, ...],
    manifest: Path | None,
    resume: str,
    transfer_from: Path | None,
    freeze_d: int | None,
    resume_kimg: float | None,
    metrics: str,
    metrics_budget: float,
    metrics_weights: tuple[str, ...],
    batch_gpu: int | None,
    wandb: str | None,
    device: str,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train StyleGAN2 on a dataset.

    The same command goes on where it stopped, exactly; Ctrl-C stops it with a checkpoint. Another dataset, preset or
    field is another run.

    \b
    salon train --data paintings64.zip --out runs --preset tiny --total-kimg 100
    salon train --data paintings256.zip --out runs --preset paper256 --mirror --set pl_weight=0
    torchrun --nproc-per-node 8 -m gan train --data paintings256.zip --out runs --preset paper256
    """
    import importlib
    import json

    from gan import device as devices
    from gan import distributed, files, shares
    from gan import manifest as manifests
    from gan.config import make_config, parse_override
    from gan.dataset import ImageDataset
    from gan.run import Run, default_name, unused
    from gan.run_log import require_wandb
    from gan.trainer import TrainingOptions, load_source, train

    start_from = None if resume in ("auto", "never") else _start_file(Path(resume), "--resume")
    if transfer_from is not None:
        if start_from is not None:
            raise RequestError("--transfer and --resume FILE exclude each other")
        start_from = _start_file(transfer_from, "--transfer")
    if resume_kimg is not None and start_from is None:
        raise RequestError("--resume-kimg needs --resume FILE or --transfer FILE")
    if wandb is not None:
        require_wandb()
    target = devices.select(device)
    dataset = ImageDataset(data)
    if conditional and dataset.labels is None:
        raise RequestError(f"--conditional needs labels; {data} has none: prepare it with --labels")
    fingerprint = dataset.fingerprint()
    if not conditional:
        dataset.labels, dataset.classes, dataset.num_classes = None, None, 0
    given: dict[str, Any] = {
        "seed": seed,
        "mirror": mirror,
        "batch_size": batch_size,
        "r1_gamma": gamma,
        "precision": precision,
        "freeze_d": freeze_d,
    }
    given |= {"augment": augment, "augment_p": augment_p, "ada_target": ada_target}
    chosen = manifests.read(manifest) if manifest else None
    config = make_config(
        preset=preset,
        resolution=dataset.resolution,
        num_classes=dataset.num_classes,
        dataset=fingerprint,
        overrides={k: v for k, v in given.items() if v is not None} | dict(parse_override(o) for o in overrides),
        manifest=chosen.header["hash"] if chosen else None,
        resume_from=files.sha256(start_from) if start_from else None,
        transfer=transfer_from is not None,
        resume_kimg=resume_kimg,
    )
    if name is not None and (name in ("", ".", "..") or Path(name).name != name):
        raise RequestError(f"--name must be the name of one folder in --out; got {name!r} instead")
    if ada_target is not None and config.augment != "ada":
        raise RequestError("--ada-target needs --augment ada")
    indices = _select(dataset.names, dataset.path, fingerprint, chosen)
    shares.of_batch(config, batch_gpu)  # refuses what cannot be shared out
    source = load_source(start_from, config) if start_from else None
    with distributed.joined(target):
        distributed.require_same(config.digest(), "request and dataset")
        path = out / (name or default_name(data, config))
        if resume == "never":
            path = Path(distributed.from_main(str(unused(path, restarted=distributed.anyone(distributed.restarted())))))
        run = Run(path)
        hooks = []
        with distributed.main_first():
            dataset.preflight(fingerprint)
            if metrics != "none" and distributed.is_main():
                # By name: this package knows nothing of the metrics.
                make_hook = importlib.import_module("eval.training").hook
                where = {"out": run.path / "metrics", "device": target, "weights": metrics_weights}
                hooks.append(make_hook(data, metrics, metrics_budget, manifest=manifest, **where))
        say(json.dumps(config.to_dict(), indent=2))
        say(f"R1 gamma: {config.r1_gamma:.4g}" + ("" if gamma is not None else " (from resolution and batch size)"))
        say(f"Images: {len(indices)} of {len(dataset)} in {data}")
        if dry_run:
            figures = {"run": str(run.path), "images": len(indices), "config": config.to_dict()}
            result(f"The request is fine. The run would be {run.path}", figures, as_json)
            return
        how = TrainingOptions(batch_gpu=batch_gpu, wandb=wandb, **options)
        summary = train(run, config, how, dataset, indices, target, source=source, hooks=hooks)
    if summary["finished"]:
        text = (
            f"Done: {summary['kimg']:.1f} kimg. salon generate {summary['run']} --seeds 0-15 --grid 4x4 --out grid.png"
        )
    else:
        text = f"Stopped at {summary['kimg']:.1f} kimg, and saved. The same command goes on from here."
    result(f"{text}\nSheet: {summary['sheet']}\nSnapshot: {summary['snapshot']}", summary, as_json)


def _start_file(path: Path, option: str) -> Path:
    from gan import checkpoint

    if path.is_dir():
        found = checkpoint.list_newest_first(path / "checkpoints") or checkpoint.list_newest_first(path)
        if not found:
            raise RequestError(f"{option} {path} must hold checkpoints; it has none")
        return found[0]
    if not path.exists():
        also = "auto, never, or " if option == "--resume" else ""
        raise RequestError(f"{option} must be {also}an existing checkpoint or snapshot; got {path} instead")
    return path


def _select(names: list[str], data: Path, fingerprint: str, manifest: Any) -> Any:
    # -> indices of the images to learn from
    import numpy as np

    if manifest is None:
        return np.arange(len(names))
    if manifest.dataset != fingerprint:
        raise RequestError(f"--manifest {manifest.path} must be of the dataset {data}; it is of another")
    kept = manifest.kept()
    indices = np.array([i for i, name in enumerate(names) if name in kept], np.int64)
    if not len(indices):
        raise RequestError(f"--manifest {manifest.path} keeps no image of {data}")
    return indices
