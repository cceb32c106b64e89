"""The training loop."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan import snapshot
from gan.config import TrainingConfig
from gan.data import device_images
from gan.data.dataset import ImageDataset
from gan.data.device_images import DeviceImages
from gan.data.loader import DrawSequence, TrainingImages, batches, workers_that_keep_up
from gan.device import graphs
from gan.device.determinism import deterministic
from gan.device.selection import describe
from gan.networks import precision
from gan.runtime import distributed
from gan.runtime.console import say
from gan.training import checkpoint, power_averages, start
from gan.training.learner import Learner, NonFiniteError
from gan.training.recorder import Hook, Recorder
from gan.training.request import TrainingOptions
from gan.training.run_dir import Run
from gan.training.sample_grids import SampleGrids
from gan.training.schedule import StopRequest


def train(
    run: Run,
    config: TrainingConfig,
    options: TrainingOptions,
    dataset: ImageDataset,
    indices: NDArray[np.int64],
    device: torch.device,
    *,
    source: dict[str, Any] | None = None,
    start_file: Path | None = None,
    hooks: Sequence[Hook] = (),
) -> dict[str, Any]:
    """Train until options.total_kimg, from the run's newest checkpoint, else `source` (see gan.training.start).

    `start_file` is what a person named for `source`; the run remembers it.

    `indices`, int64 [K], are the dataset's images to learn from; its labels count where `config` has classes. Returns a
    summary of figures. Of several processes (see gan.runtime.distributed) each computes its microbatches; the main one
    writes and calls hooks. Raises NonFiniteError when training diverges, SalonError when the disk is full.
    """
    main = distributed.is_main()
    with ExitStack() as claim, StopRequest() as stop:
        if options.deterministic:
            claim.enter_context(deterministic(strict=True))
        with distributed.main_first():
            if main:
                claim.enter_context(run.claim(config, start_file))
        conditional = config.network.num_classes > 0
        labels = dataset.labels[indices] if conditional and dataset.labels is not None else None
        learner = Learner(config, device, labels, batch_gpu=options.batch_gpu, post_hoc_ema=options.post_hoc_ema)
        say(f"Run: {run.path}\nDevice: {describe(device)}{distributed.describe()}")
        say(f"Precision: {precision.describe(device, config.precision)}")
        if options.cuda_graphs:
            say(graphs.describe(learner.use_graphs()))
        tick, seconds_before = start.resume(run, learner, source)
        with distributed.main_first():
            if main:
                run.rewind_stats(learner.cur_nimg)
                if learner.averages:
                    power_averages.rewind(run.averages, learner.averages, learner.cur_nimg)
            on_device = device_images.wanted(options.data_on_device, len(indices), dataset.shape.nbytes, device)
            cache = dataset.cache(config.dataset) if options.cache and not on_device else None

        began = time.monotonic() - seconds_before
        # Of several processes, one that is left alone with a batch would wait for the others' gradients.
        stopped = (lambda: stop.wanted) if distributed.world_size() == 1 else None
        stream = _batches(learner, TrainingImages(dataset, cache), indices, options.workers, on_device, stopped)
        recorder = None
        if main:
            grids = SampleGrids(run, learner, dataset, indices)
            class_names = dataset.classes if conditional else None
            recorder = Recorder(run, learner, options, grids, hooks, tick=tick, began=began, class_names=class_names)
        try:
            # Here the processes agree on stopping, and the others wait for what the main one wrote.
            while learner.cur_nimg < options.total_nimg and not distributed.anyone(stop.wanted):
                batch = next(stream, None)
                if batch is None:  # stopped while it waited
                    break
                stats = learner.step(*batch)
                if recorder:
                    recorder.after_iteration(stats)
            if recorder:
                recorder.finish()
        except NonFiniteError as error:
            raise NonFiniteError(f"{error} ({learner.cur_nimg / 1000:.1f} kimg); {_remedy(run)}") from error
        finally:
            stream.close()
            if recorder:
                recorder.close()
        return {
            "run": str(run.path),
            "finished": learner.cur_nimg >= options.total_nimg,
            "kimg": learner.cur_nimg / 1000,
            "seconds": time.monotonic() - began,
            "sheet": str(run.grid_path(learner.cur_nimg)),
            "snapshot": _written(snapshot.path_for(run.snapshots, learner.cur_nimg)),
            "checkpoint": _written(checkpoint.path_for(run.checkpoints, learner.cur_nimg)),
            "stats": recorder.row if recorder else {},
        }


def _batches(
    learner: Learner,
    images: TrainingImages,
    indices: NDArray[np.int64],
    workers: int | None,
    on_device: bool,
    stopped: Callable[[], bool] | None,
) -> Generator[tuple[torch.Tensor, torch.Tensor]]:
    # This process's real images, from the learner's position in the order of the config's seed.
    config, device = learner.config, learner.device
    draws = DrawSequence(
        indices,
        config.batch_size,
        seed=config.seed,
        mirror=config.mirror,
        position=learner.iteration * config.batch_size,
        members=learner.members,
    )
    nbytes = images.dataset.shape.nbytes
    if on_device:
        say(f"Data: {len(indices)} images on the device, {len(indices) * nbytes / 1e9:.2f} GB")
        return DeviceImages.upload(images, indices, device).batches(draws)
    if workers is None:
        workers = workers_that_keep_up(device, len(draws.members) * nbytes, distributed.local_world_size())
    say(f"Data: {len(indices)} images, workers: {workers}")
    return batches(images, draws, workers=workers, pin_memory=device.type == "cuda", stopped=stopped)


def _written(path: Path) -> str | None:
    # A training that is stopped before its first iteration writes none.
    return str(path) if path.exists() else None


def _remedy(run: Run) -> str:
    checkpoints = checkpoint.list_newest_first(run.checkpoints)
    last = f"the last good checkpoint is {checkpoints[0]}" if checkpoints else "no checkpoint had been written yet"
    return f"{last}. A lower `learning_rate` or a higher `r1_gamma` usually helps"
