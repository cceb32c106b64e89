"""What the main process does between iterations: ticks, image grids, checkpoints with snapshots, calls of hooks."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from gan import snapshot
from gan.augment.ada import LeakWarning
from gan.device.determinism import tf32_in_use
from gan.device.memory import peak_memory
from gan.training import checkpoint, power_averages
from gan.training.learner import Learner
from gan.training.logger import Means, RunLog
from gan.training.request import TrainingOptions
from gan.training.run_dir import Run
from gan.training.sample_grids import SampleGrids
from gan.training.schedule import Schedule, progress_bar


class Hook(Protocol):
    """What the training loop calls; how metrics run during training without its knowing them."""

    def on_tick(self, row: dict[str, Any]) -> None:
        """After a tick, with its line of stats.jsonl."""

    def on_snapshot(self, path: Path) -> dict[str, float] | None:
        """After a snapshot was written -> figures to record in metrics.jsonl and on the boards, if any."""


class Recorder:
    """Records what a learner does in its run's folder, on the boards and at the terminal.

    `tick` is the number of ticks so far; `began` is when the run had begun, had it never been interrupted, on the clock
    of time.monotonic. `class_names` go into the snapshots.
    """

    def __init__(
        self,
        run: Run,
        learner: Learner,
        options: TrainingOptions,
        grids: SampleGrids,
        hooks: Sequence[Hook],
        *,
        tick: int,
        began: float,
        class_names: list[str] | None,
    ) -> None:
        self.run, self.learner, self.options, self.grids, self.hooks = run, learner, options, grids, hooks
        self.tick, self.began, self.class_names = tick, began, class_names
        self.row: dict[str, Any] = {}  # the last tick's, as in stats.jsonl
        self._start_nimg = self._tick_nimg = learner.cur_nimg
        self._start_time = self._tick_time = time.monotonic()
        self._saved_nimg = -1
        self._means, self._leaks = Means(), LeakWarning()
        self._grid_schedule = Schedule(options.image_snapshot_ticks, options.image_snapshot_minutes)
        self._checkpoint_schedule = Schedule(options.network_snapshot_ticks, options.network_snapshot_minutes)
        grids.write_reals()
        if learner.cur_nimg == 0:
            grids.write_samples()
        self._log = RunLog(run, options.wandb)
        self._bar = progress_bar(options.total_nimg, learner.cur_nimg)

    def after_iteration(self, stats: dict[str, torch.Tensor]) -> None:
        """Add an iteration's scalars, and do all that is due.

        Raises NonFiniteError when a tick ends, or before anything is saved, if training is not finite any more.
        """
        self._means.add(stats)
        self._bar.update(self.learner.config.batch_size)
        now, cur_nimg = time.monotonic(), self.learner.cur_nimg
        ended = (
            cur_nimg - self._tick_nimg >= self.options.kimg_per_tick * 1000
            or now - self._tick_time >= 60
            or cur_nimg >= self.options.total_nimg
        )
        if ended:
            self._end_tick(now)
        if averages := self.learner.averages:
            power_averages.keep(self.run.averages, averages, self.learner.config.batch_size, cur_nimg)
        if self._grid_schedule.due(self.tick, ended):
            self._log.grid(self.grids.write_samples(), cur_nimg)
        if self._checkpoint_schedule.due(self.tick, ended):
            self._save()

    def finish(self) -> None:
        """Save what training has done since the last checkpoint, and write the last grid."""
        if self.learner.cur_nimg not in (self._saved_nimg, self._start_nimg):
            self._save()
        self.grids.write_samples()

    def close(self) -> None:
        """Close the bar and the boards."""
        self._bar.close()
        self._log.close()

    def _end_tick(self, now: float) -> None:
        self.learner.require_finite()
        cur_nimg = self.learner.cur_nimg
        self.tick += 1
        self.row = {
            "tick": self.tick,
            "nimg": cur_nimg,
            "kimg": cur_nimg / 1000,
            "seconds": round(now - self.began, 3),
            "sec_per_kimg": (now - self._tick_time) / (cur_nimg - self._tick_nimg) * 1000,
            "memory_gb": peak_memory(self.learner.device),
            **self._means.take(),
        }
        sec_per_image = (now - self._start_time) / (cur_nimg - self._start_nimg)
        self._log.tick(self.row, (self.options.total_nimg - cur_nimg) * sec_per_image)
        self._leaks.tick(self.learner.augment.p)
        for hook in self.hooks:
            hook.on_tick(self.row)
        self._tick_nimg, self._tick_time = cur_nimg, now

    def _save(self) -> None:
        learner = self.learner
        learner.require_finite()
        state = {
            "learner": learner.state_dict(),
            "config": learner.config.to_dict(),
            "tick": self.tick,
            "seconds": time.monotonic() - self.began,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),  # a plain string, so that it loads with weights_only
            "tf32": tf32_in_use(),
        }
        checkpoint.save(checkpoint.path_for(self.run.checkpoints, learner.cur_nimg), state)
        path = snapshot.path_for(self.run.snapshots, learner.cur_nimg)
        snapshot.save(path, learner.G_ema, learner.D, learner.config, learner.cur_nimg, self.class_names)
        self.run.prune(self.options.keep)
        for hook in self.hooks:
            if figures := hook.on_snapshot(path):
                self._log.metrics(figures, learner.cur_nimg)
        self._saved_nimg = learner.cur_nimg
