"""What is recorded while training: the status line, stats.jsonl, and TensorBoard where it is installed."""

import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gan.console import say
from gan.run import Run


class Means:
    """Means of named scalars, summed where they are computed so that nothing waits for a GPU."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: defaultdict[str, int] = defaultdict(int)

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Add one iteration's scalars."""
        for name, value in values.items():
            value = value.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] += 1

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: total.item() / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means


class RunLog:
    """Writes each tick's figures and each sheet to wherever people look at them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._board: Any = None
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run.path / "tensorboard"))

    def tick(self, row: dict[str, Any], seconds_left: float) -> None:
        """Print the status line, append to stats.jsonl, feed TensorBoard."""
        say(
            f"tick {row['tick']:<5d} kimg {row['kimg']:<8.1f} time {duration(row['seconds']):<8s} "
            f"sec/kimg {row['sec_per_kimg']:<7.1f} memory {row['memory_gb']:.1f} GB  ETA {duration(seconds_left):<8s} "
            f"loss G {row['loss/G']:.2f} D {row['loss/D']:.2f}"
            + (f"  augment p {row['augment/p']:.3f} r_t {row['augment/rt']:.2f}" if "augment/p" in row else "")
        )
        self._run.append_stats(row)
        with self._tensorboard() as board:
            for name, value in row.items():
                if name not in ("tick", "nimg", "kimg"):
                    board.add_scalar(name, value, global_step=row["nimg"])

    def sheet(self, path: Path, cur_nimg: int) -> None:
        """Show a sheet of samples in TensorBoard."""
        with self._tensorboard() as board, Image.open(path) as image:
            board.add_image("samples", np.asarray(image), global_step=cur_nimg, dataformats="HWC")

    def close(self) -> None:
        """Flush what is buffered."""
        with self._tensorboard() as board:
            board.close()

    @contextmanager
    def _tensorboard(self) -> Iterator[Any]:
        # What TensorBoard cannot write is no reason to stop a training.
        try:
            yield self._board or _Nothing()
        except OSError as error:
            say(f"TensorBoard's log ends here: {error}")
            self._board = None


class _Nothing:
    """Stands in for TensorBoard's writer where there is none."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_options: None


def duration(seconds: float) -> str:
    """Seconds in two units, such as "3h 07m"."""
    for size, unit, smaller, size_smaller in ((86400, "d", "h", 3600), (3600, "h", "m", 60), (60, "m", "s", 1)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit} {int(seconds % size // size_smaller):02d}{smaller}"
    return f"{seconds:.0f}s"
