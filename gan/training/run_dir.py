"""A run's folder: what training writes, and how it is found again.

RUNS/NAME/config.json   the resolved config
          start.json    the file that it began from, if any
          stats.jsonl   one line a tick
          metrics.jsonl one line a measured snapshot
          grids/        reals.jpg and image grids of samples
          snapshots/    networks for everything after training
          checkpoints/  for resuming
          averages/     of G's weights at a few times, with TrainingOptions.post_hoc_ema
"""

import dataclasses
import json
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from gan import snapshot
from gan.config import OF_DATASET, TrainingConfig
from gan.errors import RequestError
from gan.runtime.files import atomic, disk_error, read_json, remove_stale_partials, write_json
from gan.runtime.lock import Timeout, lock
from gan.training import checkpoint


class Run:
    """One run's folder, made when it is first written to."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.grids, self.snapshots, self.checkpoints = (self.path / n for n in ("grids", "snapshots", "checkpoints"))
        self.averages = self.path / "averages"
        self.config_file = self.path / "config.json"
        self.start_file = self.path / "start.json"
        self.stats, self.metrics = self.path / "stats.jsonl", self.path / "metrics.jsonl"

    @contextmanager
    def claim(self, config: TrainingConfig, start: Path | None = None) -> Iterator[None]:
        """Make the folder and hold it for this process. `start` is the file that a new run starts from.

        Raises RequestError when another process trains in it or it holds a run of another config.
        """
        with self._lock():
            for folder in (self.path, self.grids, self.snapshots, self.checkpoints, self.averages):
                remove_stale_partials(folder)
            if self.config_file.exists():
                self.require_config(config)
            else:
                self.load_newest(config)  # refuses checkpoints that were put there
                if start:
                    write_json(self.start_file, {"given": str(start), "path": str(start.resolve())})
                write_json(self.config_file, config.to_dict())
            yield

    def began_from(self, start: Path) -> bool:
        """Whether the run says that it began from the file or run `start`, which may be gone."""
        if not self.start_file.exists():
            return False
        said = read_json(self.start_file)
        return bool(str(start) == said["given"] or str(start.resolve()) == said["path"])

    def require_config(self, config: TrainingConfig) -> None:
        """Raise RequestError when the folder holds a run of another config."""
        if self.config_file.exists() and (
            differences := config.differences(TrainingConfig.from_dict(read_json(self.config_file)))
        ):
            raise RequestError(f"{self.path} holds another run: {'; '.join(differences)}. Choose another `name`")

    def load_newest(self, config: TrainingConfig) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint, as checkpoint.load_newest. Raises RequestError when it is of another config."""
        newest = checkpoint.load_newest(self.checkpoints)
        if newest and (differences := config.differences(TrainingConfig.from_dict(newest[1]["config"]))):
            raise RequestError(f"{newest[0]} is of another run: {'; '.join(differences)}. Choose another `name`")
        return newest

    def append_stats(self, row: dict[str, Any]) -> None:
        """Add a line to stats.jsonl. Raises SalonError when the disk is full."""
        _append(self.stats, row)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl. Raises SalonError when the disk is full."""
        _append(self.metrics, row)

    def read_stats(self) -> list[dict[str, Any]]:
        """The lines of stats.jsonl; a torn last line is left out."""
        return _read(self.stats)

    def rewind_stats(self, cur_nimg: int) -> None:
        """Drop the lines that were written after the checkpoint at `cur_nimg`; training writes them again."""
        for path in (self.stats, self.metrics):
            kept = [row for row in _read(path) if row["nimg"] <= cur_nimg]
            if path.exists():
                with atomic(path) as temporary:
                    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def grid_path(self, cur_nimg: int) -> Path:
        """Name of the image grid of samples after `cur_nimg` images."""
        return self.grids / f"grid-{cur_nimg:010d}.jpg"

    def list_grids(self) -> list[Path]:
        """The image grids of samples, oldest first."""
        return sorted(self.grids.glob("grid-*.jpg"))

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` checkpoints and snapshots; 0 keeps all."""
        if keep:
            olds = checkpoint.list_newest_first(self.checkpoints)[keep:]
            for path in olds + snapshot.list_newest_first(self.snapshots)[keep:]:
                path.unlink()

    def _lock(self) -> AbstractContextManager[object]:
        try:
            for folder in (self.grids, self.snapshots, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            return lock(self.path / ".lock", blocking=False)
        except Timeout as error:
            raise RequestError(f"{self.path} is being trained by another process; wait, or stop it") from error
        except OSError as error:
            raise disk_error(error, self.path) from error


def _append(path: Path, row: dict[str, Any]) -> None:
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise disk_error(error, path) from error


def _read(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def default_name(data: Path, config: TrainingConfig) -> str:
    """The same for the same command: the dataset's name, the preset, and a digest of the config."""
    return f"{data.stem}-{config.preset}-{config.digest()}"


def find(runs: Path, data: Path, config: TrainingConfig) -> Path:
    """The folder of a config's run in `runs`: that of its default name, which need not exist yet.

    Where it does not, and the config's run began while its dataset had another name, the folder of that.
    """
    path = runs / default_name(data, config)
    renamed = [] if path.exists() else runs.glob(f"*-{config.preset}-{config.digest()}")
    return next((other for other in sorted(renamed) if _holds(other, config)), path)


def held_config(path: Path) -> TrainingConfig | None:
    """The config of the run at `path`; None where there is no run with checkpoints, or one of another version."""
    run = Run(path)
    if not run.config_file.exists() or not checkpoint.list_newest_first(run.checkpoints):
        return None
    try:
        return TrainingConfig.from_dict(read_json(run.config_file))
    except RequestError:
        return None


def goes_on(held: TrainingConfig, config: TrainingConfig, asked: Collection[str]) -> bool:
    """Whether `config`, made without the file that a run of the config `held` began from, is that run's otherwise.

    Of the networks, which follow from that file, only fields that were `asked` for count, images' shape and classes.
    """
    start = {name: getattr(held, name) for name in ("resume_from", "transfer", "resume_kimg", "network")}
    if held.resume_from is None:
        start.pop("network")
    mine, its = vars(config.network), vars(held.network)
    same = all(mine[name] == its[name] for name in mine if name in {*asked, *OF_DATASET})
    return same and not dataclasses.replace(config, **start).differences(held)


def _holds(path: Path, config: TrainingConfig) -> bool:
    file = Run(path).config_file
    try:
        return file.exists() and not config.differences(TrainingConfig.from_dict(read_json(file)))
    except RequestError:
        return False


def require_run(path: Path, parameter: str) -> None:
    """Raise RequestError, which names `parameter`, unless `path` is a run's folder."""
    if Run(path).config_file.is_file():
        return
    if not path.exists():
        raise RequestError(f"`{parameter}` must be a run; {path} does not exist")
    if runs := sorted(file.parent for file in path.glob("*/config.json")):
        raise RequestError(
            f"`{parameter}` must be a run; {path} is a folder of runs: name one of them, such as {runs[-1]}"
        )
    raise RequestError(f"`{parameter}` must be a run, a folder with a config.json; got {path} instead")


def unused(path: Path, *, restarted: bool = False) -> Path:
    """`path`, or the first of path-2, path-3, ... that does not exist; `restarted`: the last that does."""
    candidates = [path]
    while candidates[-1].exists():
        candidates.append(path.with_name(f"{path.name}-{len(candidates) + 1}"))
    return candidates[-2] if restarted and len(candidates) > 1 else candidates[-1]
