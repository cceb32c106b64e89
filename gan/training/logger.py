"""What is recorded while training: the status line, stats.jsonl, TensorBoard where it is installed, W&B on request."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gan.errors import RequestError
from gan.runtime.console import duration, say
from gan.runtime.files import read_json
from gan.training.run_dir import Run


class Means:
    """Means of named scalars, summed where they are computed so that nothing waits for a GPU.

    Values that are not finite do not count: a step of float16 that overflowed was skipped.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}  # name -> the sum and the number of values, float64 [2]

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Add one iteration's scalars."""
        stacked = torch.stack([value.detach() for value in values.values()]).double()
        finite = stacked.isfinite()
        counted = torch.stack([torch.where(finite, stacked, 0.0), finite], dim=1)
        fresh = dict(zip(values, counted.unbind(), strict=True))
        known = [name for name in fresh if name in self._sums]
        if known:
            torch._foreach_add_([self._sums[name] for name in known], [fresh[name] for name in known])
        for name, value in fresh.items():
            self._sums.setdefault(name, value)

    def take(self) -> dict[str, float]:
        """The means since the last call, of what had a value."""
        totals = torch.stack(list(self._sums.values())).tolist() if self._sums else []
        means = {name: total / count for name, (total, count) in zip(self._sums, totals, strict=True) if count}
        self._sums.clear()
        return means


class RunLog:
    """Writes each tick's figures, the image grids and the metrics to wherever people look at them."""

    def __init__(self, run: Run, wandb: str | None = None) -> None:
        self._run = run
        self._boards: list[_TensorBoard | _Wandb] = []
        if importlib.util.find_spec("tensorboard"):
            try:
                self._boards.append(_TensorBoard(run))
            except (OSError, UnicodeError) as error:  # it takes names in UTF-8 alone
                say(f"No log for TensorBoard: {error}")
        if wandb:
            self._boards.append(_Wandb(run, wandb))

    def tick(self, row: dict[str, Any], seconds_left: float) -> None:
        """Print the status line, append to stats.jsonl, feed the boards."""
        say(
            f"tick {row['tick']:<5d} kimg {row['kimg']:<8.1f} time {duration(row['seconds']):<11s} "
            f"sec/kimg {row['sec_per_kimg']:<7.1f} memory {row['memory_gb']:.1f} GB  ETA {duration(seconds_left):<11s} "
            f"loss G {row['loss/G']:.2f} D {row['loss/D']:.2f}"
            + (f"  augment p {row['augment/p']:.3f} r_t {row['augment/rt']:.2f}" if "augment/p" in row else "")
        )
        self._run.append_stats(row)
        figures = {name: value for name, value in row.items() if name not in ("tick", "nimg", "kimg")}
        self._show(lambda board: board.scalars(figures, row["nimg"]))

    def metrics(self, figures: dict[str, float], cur_nimg: int) -> None:
        """Append a snapshot's metrics to metrics.jsonl, feed the boards."""
        self._run.append_metrics({"nimg": cur_nimg, "kimg": cur_nimg / 1000, **figures})
        named = {f"metrics/{name}": value for name, value in figures.items()}
        self._show(lambda board: board.scalars(named, cur_nimg))

    def grid(self, path: Path, cur_nimg: int) -> None:
        """Show an image grid on the boards."""
        self._show(lambda board: board.grid(path, cur_nimg))

    def close(self) -> None:
        """Flush what is buffered."""
        self._show(lambda board: board.close())

    def _show(self, on: Callable[["_TensorBoard | _Wandb"], None]) -> None:
        # What a board cannot write is no reason to stop a training.
        for board in list(self._boards):
            try:
                on(board)
            except OSError as error:
                say(f"{board.NAME}'s log ends here: {error}")
                self._boards.remove(board)


class _TensorBoard:
    NAME = "TensorBoard"

    def __init__(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run.path / "tensorboard"))

    def scalars(self, figures: dict[str, float], cur_nimg: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, global_step=cur_nimg)

    def grid(self, path: Path, cur_nimg: int) -> None:
        with Image.open(path) as image:
            self._writer.add_image("samples", np.asarray(image), global_step=cur_nimg, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    NAME = "W&B"

    def __init__(self, run: Run, project: str) -> None:
        import wandb

        # One run of W&B for one of ours, however often it is resumed. Its axis is nimg: its steps cannot go back.
        name = run.path.resolve().name
        config = read_json(run.path / "config.json")
        self._image = wandb.Image
        try:
            self._log: Any = wandb.init(
                project=project, name=name, id=name, resume="allow", config=config, dir=str(run.path)
            )
        except wandb.Error as error:
            raise RequestError(f"`wandb` {project} was refused: {error}") from error
        self._log.define_metric("*", step_metric="nimg")

    def scalars(self, figures: dict[str, float], cur_nimg: int) -> None:
        self._log.log({**figures, "nimg": cur_nimg})

    def grid(self, path: Path, cur_nimg: int) -> None:
        self._log.log({"samples": self._image(str(path)), "nimg": cur_nimg})

    def close(self) -> None:
        self._log.finish()


def require_wandb() -> None:
    """Raise RequestError when W&B is not installed."""
    if not importlib.util.find_spec("wandb"):
        raise RequestError("`wandb` needs the package wandb: pip install wandb")
