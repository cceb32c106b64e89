"""A request for training, from its checks to the trained run: what `salon train` does, and Python alike."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gan.runtime import distributed
from gan.runtime.console import say
from gan.training import microbatches, training_loop
from gan.training.logger import require_wandb
from gan.training.recorder import Hook
from gan.training.request import Training, TrainingOptions, TrainingRequest, resolve
from gan.training.run_dir import Run, default_name, unused
from gan.training.start import load_source, require_kimg_left

MakeHook = Callable[..., Hook]  # of eval.training_hook.hook: (collection, metrics, per cent, ...) -> hook


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a request."""

    training: Training
    run: Run
    summary: dict[str, Any] | None  # of gan.training.training_loop.train; None: a dry run


def carry_out(
    request: TrainingRequest,
    options: TrainingOptions,
    target: torch.device,
    *,
    make_hook: MakeHook | None = None,
    tell: Callable[[TrainingRequest, Training], None] | None = None,
    dry_run: bool = False,
) -> Done:
    """Check a request and its data, then train, or go on where the same request stopped; in a dry run only check.

    `make_hook` makes what measures the request's metrics, `tell` says how the request was understood. Of several
    processes all must call it. Raises RequestError for a request that cannot be carried out.
    """
    if options.wandb is not None:
        require_wandb()
    training = resolve(request, target)
    config, collection = training.config, training.collection
    microbatches.of_batch(config, options.batch_gpu)  # refuses a batch that cannot be divided
    source = load_source(training.start, config) if training.start else None
    require_kimg_left(options.total_kimg, config, source)
    with distributed.joined(target):
        distributed.require_same(config.digest(), "request and dataset")
        run = _choose_run(request, training)
        with distributed.main_first():
            collection.dataset.preflight(collection.fingerprint)
            hooks = _hooks(request, training, run, target, make_hook)
        if tell is not None:
            tell(request, training)
        if dry_run:
            return Done(training=training, run=run, summary=None)
        summary = training_loop.train(
            run,
            config,
            options,
            collection.dataset,
            collection.kept,
            target,
            source=source,
            start_file=request.transfer or (Path(request.resume) if training.start else None),
            hooks=hooks,
        )
    return Done(training=training, run=run, summary=summary)


def _choose_run(request: TrainingRequest, training: Training) -> Run:
    # The folder is the same in all processes.
    path = training.run
    if request.resume == "never":
        restarted = distributed.anyone(distributed.restarted())
        path = request.out / distributed.from_main(unused(path, restarted=restarted).name)
    elif request.name is None and path.name != (name := default_name(request.data, training.config)):
        say(f"{path} has this run's config and data, under the name that they had then; it goes on, not {name}")
    run = Run(path)
    run.require_config(training.config)
    return run


def _hooks(
    request: TrainingRequest, training: Training, run: Run, device: torch.device, make_hook: MakeHook | None
) -> list[Hook]:
    if request.metrics == "none" or make_hook is None or not distributed.is_main():
        return []
    hook = make_hook(
        training.collection,
        request.metrics,
        request.metrics_budget or 5,
        out=run.path / "metrics",
        device=device,
        weights=request.metrics_weights,
    )
    return [hook]
