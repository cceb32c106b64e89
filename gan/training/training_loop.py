"""The training loop."""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from gan import snapshot
from gan.augment.ada import LeakWarning
from gan.config import TrainingConfig
from gan.data import images
from gan.data.dataset import ImageDataset
from gan.data.loader import DrawSequence, TrainingImages, batches
from gan.device import describe, peak_memory
from gan.errors import RequestError
from gan.networks import precision
from gan.runtime import distributed
from gan.runtime.console import say
from gan.sampling import generate
from gan.training import checkpoint, transfer
from gan.training.learner import Learner, NonFiniteError
from gan.training.logger import Means, RunLog
from gan.training.run_dir import Run


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a run is carried out; nothing here changes its weights."""

    total_kimg: float = 25_000  # length of the run, thousands of real images shown to D
    kimg_per_tick: float = 4  # a tick ends after so many, or after a minute
    image_snapshot_ticks: int = 0  # ticks between sheets of samples; 0: by minutes alone
    image_snapshot_minutes: float = 5  # 0: by ticks alone
    network_snapshot_ticks: int = 0  # ticks between checkpoints with their snapshots; 0: by minutes alone
    network_snapshot_minutes: float = 15  # 0: by ticks alone
    keep: int = 3  # newest checkpoints and snapshots to keep; 0: all
    batch_gpu: int | None = None  # most images in a forward pass, on each process; None: its share of the batch
    workers: int = 1  # processes that load images; 0: none
    wandb: str | None = None  # project of W&B to log to; None: not there
    cache: bool = False  # keep decoded pixels in a memory map


class Hook(Protocol):
    """What the trainer calls; how metrics run during training without the trainer knowing them."""

    def on_tick(self, row: dict[str, Any]) -> None:
        """After a tick, with its line of stats.jsonl."""

    def on_snapshot(self, path: Path) -> dict[str, float] | None:
        """After a snapshot was written -> figures to record in metrics.jsonl and on the boards, if any."""


class Schedule:
    """Due every so many ticks or minutes, whichever comes first; the first time after a minute at most."""

    def __init__(self, ticks: int, minutes: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.ticks, self.seconds = ticks, minutes * 60
        self._clock = clock  # tells the seconds
        self._next = clock() + min(self.seconds, 60)

    def due(self, tick: int, ended: bool) -> bool:
        """`tick` has just `ended`, or is going on."""
        by_time = bool(self.seconds) and self._clock() >= self._next
        if by_time or (ended and bool(self.ticks) and tick % self.ticks == 0):
            self._next = self._clock() + self.seconds
            return True
        return False


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a wish to stop; a second one stops at once.

    Of several processes each gets Ctrl-C from the terminal and again from torchrun, which gives them half a minute.
    """

    def __enter__(self) -> "StopRequest":
        self.wanted = False
        self._before = {number: signal.signal(number, self._wish) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _wish(self, _number: int, _frame: FrameType | None) -> None:
        self.wanted = True
        if distributed.world_size() > 1:
            say("Stopping after this iteration.")
        else:
            say("Stopping after this iteration; once more stops at once.")
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def train(
    run: Run,
    config: TrainingConfig,
    options: TrainingOptions,
    dataset: ImageDataset,
    indices: NDArray[np.int64],
    device: torch.device,
    *,
    source: dict[str, Any] | None = None,
    hooks: Sequence[Hook] = (),
) -> dict[str, Any]:
    """Train until options.total_kimg, from the run's newest checkpoint, else `source` (see load_source), else anew.

    `indices` are the dataset's images to learn from. Returns a summary of figures.
    Of several processes (see gan.runtime.distributed) each computes its share; the main one writes and calls hooks.
    Raises NonFiniteError when training diverges, SalonError when the disk is full.
    """
    main = distributed.is_main()
    with ExitStack() as claim, StopRequest() as stop:
        with distributed.main_first():
            if main:
                claim.enter_context(run.claim(config))
        labels = None if dataset.labels is None else dataset.labels[indices]
        learner = Learner(config, device, labels, batch_gpu=options.batch_gpu)
        say(f"Run: {run.path}\nDevice: {describe(device)}{distributed.describe()}")
        say(f"Precision: {precision.describe(device, config.precision)}")
        tick, seconds_before = _resume(run, learner, source)
        with distributed.main_first():
            if main:
                run.rewind_stats(learner.cur_nimg)
            cache = dataset.cache(config.dataset) if options.cache else None
        draws = DrawSequence(
            indices,
            config.batch_size,
            seed=config.seed,
            mirror=config.mirror,
            position=learner.iteration * config.batch_size,
            members=learner.members,
        )
        stream = batches(
            TrainingImages(dataset, cache), draws, workers=options.workers, pin_memory=device.type == "cuda"
        )

        total_nimg = int(options.total_kimg * 1000)
        start_nimg, start_time = learner.cur_nimg, time.monotonic()
        elapsed: Callable[[], float] = lambda: seconds_before + time.monotonic() - start_time  # noqa: E731
        grids = Schedule(options.image_snapshot_ticks, options.image_snapshot_minutes)
        networks = Schedule(options.network_snapshot_ticks, options.network_snapshot_minutes)
        sheet = Sheet(run, learner, dataset, indices)
        if main:
            sheet.reals()
            if learner.cur_nimg == start_nimg == 0:
                sheet.samples()
        means, tick_nimg, tick_time = Means(), learner.cur_nimg, time.monotonic()
        saved_nimg = -1
        row: dict[str, Any] = {}
        log = RunLog(run, options.wandb) if main else None
        leaks = LeakWarning()
        bar = progress_bar(total_nimg, learner.cur_nimg)
        try:
            # Here the processes agree on stopping, and the others wait for what the main one wrote.
            while learner.cur_nimg < total_nimg and not distributed.anyone(stop.wanted):
                pixels, classes = next(stream)
                stats = learner.step(pixels, classes)
                if log is None:
                    continue
                means.add(stats)
                bar.update(config.batch_size)

                now = time.monotonic()
                ended = (
                    learner.cur_nimg - tick_nimg >= options.kimg_per_tick * 1000
                    or now - tick_time >= 60
                    or learner.cur_nimg >= total_nimg
                )
                if ended:
                    tick += 1
                    row = {
                        "tick": tick,
                        "nimg": learner.cur_nimg,
                        "kimg": learner.cur_nimg / 1000,
                        "seconds": round(elapsed(), 3),
                        "sec_per_kimg": (now - tick_time) / (learner.cur_nimg - tick_nimg) * 1000,
                        "memory_gb": peak_memory(device),
                        **means.take(),
                    }
                    seconds_left = (
                        (total_nimg - learner.cur_nimg) * (now - start_time) / (learner.cur_nimg - start_nimg)
                    )
                    log.tick(row, seconds_left)
                    leaks.tick(learner.augment.p)
                    for hook in hooks:
                        hook.on_tick(row)
                    tick_nimg, tick_time = learner.cur_nimg, now
                if grids.due(tick, ended):
                    log.sheet(sheet.samples(), learner.cur_nimg)
                if networks.due(tick, ended):
                    saved_nimg = _save(run, learner, tick, elapsed(), dataset.classes, options.keep, hooks, log)
            if log and saved_nimg != learner.cur_nimg and learner.cur_nimg > start_nimg:
                _save(run, learner, tick, elapsed(), dataset.classes, options.keep, hooks, log)
        except NonFiniteError as error:
            good = next(iter(checkpoint.list_newest_first(run.checkpoints)), None)
            advice = f"the last good checkpoint is {good}" if good else "no checkpoint had been written yet"
            raise NonFiniteError(
                f"{error} ({learner.cur_nimg / 1000:.1f} kimg); {advice}. A lower --set learning_rate or a higher "
                "--gamma usually helps"
            ) from error
        finally:
            bar.close()
            if log:
                log.close()

        finished = learner.cur_nimg >= total_nimg
        return {
            "run": str(run.path),
            "finished": finished,
            "kimg": learner.cur_nimg / 1000,
            "seconds": elapsed(),
            "sheet": str(sheet.samples() if main else run.grid_path(learner.cur_nimg)),
            "snapshot": str(snapshot.path_for(run.snapshots, learner.cur_nimg)),
            "checkpoint": str(checkpoint.path_for(run.checkpoints, learner.cur_nimg)),
            "stats": row,
        }


def progress_bar(total_nimg: int, cur_nimg: int) -> "tqdm[None]":
    """A bar over the images of a run, where standard error is a terminal."""
    hidden = None if distributed.is_main() else True  # None: where standard error is no terminal
    start = min(cur_nimg, total_nimg)
    return tqdm(total=total_nimg, initial=start, unit=" img", disable=hidden, dynamic_ncols=True)


class Sheet:
    """The sheets of real images and of samples from fixed seeds, up to 8 by 4."""

    COLUMNS, ROWS = 8, 4

    def __init__(self, run: Run, learner: Learner, dataset: ImageDataset, indices: NDArray[np.int64]) -> None:
        self.run, self.learner, self.dataset = run, learner, dataset
        count = self.COLUMNS * self.ROWS
        self.indices = np.random.default_rng(learner.config.seed).choice(
            indices, min(count, len(indices)), replace=False
        )
        number = learner.config.network.num_classes
        self.seeds = list(range(count))
        # With classes, a column shows one class.
        self.classes = [seed % self.COLUMNS % number for seed in self.seeds] if number else None

    def reals(self) -> None:
        """Write grids/reals.jpg once."""
        path = self.run.grids / "reals.jpg"
        if not path.exists():
            pixels = np.stack([self.dataset.image(int(i)) for i in self.indices])  # NHWC
            images.save(images.tile(pixels, self.COLUMNS), path)

    def samples(self) -> Path:
        """Write the sheet of G_ema as it is now -> its path."""
        path = self.run.grid_path(self.learner.cur_nimg)
        if not path.exists():
            pixels = np.stack(list(generate.generate(self.learner.G_ema, self.seeds, self.classes)))
            images.save(images.tile(pixels, self.COLUMNS), path)
        return path


def load_source(path: Path, config: TrainingConfig) -> dict[str, Any]:
    """What --resume FILE starts from: a checkpoint's learner state, or a snapshot's weights for G, D and G_ema.

    With config.transfer, the weights of either.
    Raises RequestError when the file is damaged, or of another architecture than `config` without config.transfer.
    """
    option = "--transfer" if config.transfer else "--resume"
    if path.suffix == ".safetensors":
        found = snapshot.load(path)
        if found.D is None:
            raise RequestError(f"{option} {path} must hold a discriminator; it was imported from a file without one")
        other, G, D = found.config, found.G_ema.state_dict(), found.D.state_dict()
        source = {"G": G, "G_ema": G, "D": D}
    else:
        try:
            state = checkpoint.load(path)
        except RequestError as error:
            raise RequestError(f"{option} {error}") from error
        other, source = TrainingConfig.from_dict(state["config"]), state["learner"]
    if config.transfer:
        return {name: source[name] for name in ("G", "G_ema", "D")}
    if config.network != other.network:
        mine, theirs = vars(config.network), vars(other.network)
        differing = [
            f"{name} is {theirs[name]} there, {mine[name]} here" for name in mine if mine[name] != theirs[name]
        ]
        raise RequestError(
            f"--resume {path} must have this run's architecture; {'; '.join(differing)}. --transfer takes what fits"
        )
    return source


def _resume(run: Run, learner: Learner, source: dict[str, Any] | None) -> tuple[int, float]:
    # -> ticks and seconds of training so far
    if found := checkpoint.load_newest(run.checkpoints):
        path, state = found
        learner.load_state_dict(state["learner"])
        if state["threads"] != torch.get_num_threads():
            say(f"This run had {state['threads']} threads, now {torch.get_num_threads()}: results may round otherwise.")
        say(f"Resuming from {path} at {learner.cur_nimg / 1000:.1f} kimg")
        return int(state["tick"]), float(state["seconds"])
    if source is not None:
        if learner.config.transfer:
            outcomes = {part: transfer.load_matching(getattr(learner, part), source[part]) for part in source}
            say(transfer.describe({f"{part}.{name}": how for part in "GD" for name, how in outcomes[part].items()}))
        elif "iteration" in source:
            learner.load_state_dict(source)
        else:
            for name, weights in source.items():
                getattr(learner, name).load_state_dict(weights)
        if learner.config.resume_kimg is not None:
            learner.cur_nimg = int(learner.config.resume_kimg * 1000)
        say(f"Starting from the given weights at {learner.cur_nimg / 1000:.1f} kimg")
    return 0, 0.0


def _save(
    run: Run,
    learner: Learner,
    tick: int,
    seconds: float,
    classes: list[str] | None,
    keep: int,
    hooks: Sequence[Hook],
    log: RunLog,
) -> int:
    # -> the count of images that was saved
    state = {
        "learner": learner.state_dict(),
        "config": learner.config.to_dict(),
        "tick": tick,
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # a plain string, so that it loads with weights_only
    }
    checkpoint.save(checkpoint.path_for(run.checkpoints, learner.cur_nimg), state)
    path = snapshot.path_for(run.snapshots, learner.cur_nimg)
    snapshot.save(path, learner.G_ema, learner.D, learner.config, learner.cur_nimg, classes)
    run.prune(keep)
    for hook in hooks:
        if figures := hook.on_snapshot(path):
            log.metrics(figures, learner.cur_nimg)
    return learner.cur_nimg
