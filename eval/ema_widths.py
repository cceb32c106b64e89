"""Which width of a run's averaged generator is best: each is reconstructed, and evaluated by the same latents."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.compare import Entry, read_entry
from eval.evaluator import Evaluator
from gan import snapshot
from gan.runtime import distributed, files
from gan.runtime.console import say
from gan.training.power_function import gamma_of
from gan.training.reconstruct import Stored, doubt, reconstruct


@dataclass(frozen=True, kw_only=True)
class WidthEntry(Entry):
    """An evaluation of one width."""

    width: float | None  # None: G_ema as it was trained


def evaluate_widths(stored: Stored, widths: Sequence[float], evaluator: Evaluator, out: Path) -> list[WidthEntry]:
    """Reconstruct and evaluate each width, and the run's own G_ema where its snapshot is there, in folders of `out`.

    What is there already is not made again. Of several processes all must call it; the main one gets the entries.
    """
    for wanted in widths:
        gamma_of(wanted)  # refuses a width before anything is written
    paths: dict[float | None, Path] = {}
    for wanted in sorted(widths):
        paths[wanted] = out / f"width-{wanted:g}-{_digest(stored)}.safetensors"
        with distributed.main_first():
            if distributed.is_main():
                _make(stored, wanted, paths[wanted])
    own = snapshot.path_for(stored.run.snapshots, stored.cur_nimg)
    if own.exists():
        paths[None] = own
    entries = []
    for width, path in paths.items():
        folder = out / (path.stem if width else f"G_ema-{files.sha256(path)[:8]}")
        if evaluator(path, folder) is not None:
            label = f"width {width:g}" if width else "G_ema as trained"
            entry = replace(read_entry(folder), label=label, kimg=None)
            entries.append(WidthEntry(**vars(entry), width=width))
    return entries


def _make(stored: Stored, width: float, path: Path) -> None:
    if note := doubt(width, stored.combination(width).error):
        say(f"Warning: {note}")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        reconstruct(stored, width, path)


def _digest(stored: Stored) -> str:
    # Of what the widths are made of.
    text = repr((stored.run.path.resolve(), stored.cur_nimg, stored.seen, [nimg for nimg, _ in stored.files]))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
