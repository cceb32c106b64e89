"""A snapshot whose generator is averaged in any width, from what a run has stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gan import snapshot
from gan.config import TrainingConfig
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.training import checkpoint, power_averages
from gan.training.power_averages import WIDTHS
from gan.training.power_function import Combination, combine, gamma_of
from gan.training.run_dir import Run, require_run

DOUBTFUL = 0.05  # error of a profile, as a share of its norm


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a run has stored: the newest averages in its checkpoint, and older ones in files."""

    run: Run
    learner: dict[str, Any]  # of the checkpoint
    config: TrainingConfig
    files: list[tuple[int, Path]]  # images, file; older than the checkpoint

    @property
    def cur_nimg(self) -> int:
        """Images of the checkpoint."""
        return int(self.learner["cur_nimg"])

    @property
    def seen(self) -> int:
        """Images that the averages are of."""
        return self.cur_nimg - int(self.learner["averages"]["start_nimg"])

    def combination(self, width: float) -> Combination:
        """How the stored averages add up to that of a width, in the order of files and WIDTHS, the checkpoint last."""
        start = self.cur_nimg - self.seen
        times = [nimg - start for nimg, _ in self.files] + [self.seen]
        every = [(time, gamma_of(own)) for time in times for own in WIDTHS]
        return combine([time for time, _ in every], [gamma for _, gamma in every], self.seen, gamma_of(width))


def doubt(width: float, error: float) -> str | None:
    """What to say of a width that the stored averages meet with such an error; None where it is small."""
    if error <= DOUBTFUL:
        return None
    return f"the stored averages meet `width` {width:g} within {error:.0%} only; 0.04 to 0.15 they meet well"


def open_stored(path: Path) -> Stored:
    """What the run at `path` has stored. Raises RequestError where it is no run, or has no averages."""
    require_run(path, "run")
    run = Run(path)
    newest = checkpoint.load_newest(run.checkpoints)
    averages = newest and newest[1]["learner"].get("averages")
    if newest is None or not averages:
        raise RequestError(f"`run` {path} must have been trained with `post_hoc_ema`; it has stored no averages")
    learner, start = newest[1]["learner"], averages["start_nimg"]
    files = [
        (nimg, file)
        for nimg, file in power_averages.list_oldest_first(run.averages)
        if nimg < learner["cur_nimg"] and power_averages.start_of(file) == start
    ]
    return Stored(run=run, learner=learner, config=TrainingConfig.from_dict(newest[1]["config"]), files=files)


def reconstruct(stored: Stored, width: float, out: Path) -> Combination:
    """Write a snapshot of the newest checkpoint whose G_ema has averages of `width`; buffers are those of its G_ema.

    Raises RequestError for a width out of range, SalonError when the disk is full.
    """
    combination = stored.combination(width)
    weights = iter(combination.weights.tolist())
    sums: dict[str, torch.Tensor] = {}
    for values in [*(_by_width(path) for _, path in stored.files), stored.learner["averages"]]:
        for own in WIDTHS:
            weight = next(weights)
            for name, value in values[f"{own:g}"].items():
                part = value.double() * weight
                sums[name] = sums[name].add_(part) if name in sums else part
    network = stored.config.network
    G_ema, D = Generator(network), Discriminator(network)
    G_ema.load_state_dict({**stored.learner["G_ema"], **{name: value.float() for name, value in sums.items()}})
    D.load_state_dict(stored.learner["D"])
    classes = _classes(stored.run)
    snapshot.save(out, G_ema, D, stored.config, stored.cur_nimg, classes, ema_width=width)
    return combination


def _by_width(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    values: dict[str, dict[str, torch.Tensor]] = {f"{width:g}": {} for width in WIDTHS}
    for width, name, value in power_averages.read(path):
        values[f"{width:g}"][name] = value
    return values


def _classes(run: Run) -> list[str] | None:
    # Names of the classes, which checkpoints do not have.
    paths = snapshot.list_newest_first(run.snapshots)
    return snapshot.load(paths[0]).classes if paths else None
