"""A generator's images with rejection beside those without: which seeds a discriminator accepts, and what it changes.

The images without rejection are the first candidates. An image that is among the accepted ones too has the same place
in both sets, so that differences are paired: what the sets share cancels.

OUT/rejection/CHOICE.json    the accepted seeds; a killed evaluation does not choose again
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.data.image_sources import DatasetSource
from eval.data.snapshot_source import SnapshotSource
from eval.metric_registry import Result
from eval.metrics.confidence_intervals import paired_difference
from eval.metrics.result_key import digest
from gan.data.dataset import ImageDataset
from gan.data.images import Pixels
from gan.rejection.request import SelectionRequest
from gan.rejection.select_seeds import choose
from gan.runtime import distributed
from gan.runtime.console import say
from gan.runtime.files import read_json, write_json
from gan.sampling.latents import MAX_SEED


class AcceptedSource:
    """The images of the accepted `seeds` of a generator; `rejection` names how they were chosen, as keys show it."""

    def __init__(self, source: SnapshotSource, seeds: Sequence[int], rejection: str, figures: dict[str, Any]) -> None:
        self._source, self._seeds, self.rejection, self.figures = source, list(seeds), rejection, figures
        self.name = source.name
        seeds_sha256 = hashlib.sha256(",".join(map(str, seeds)).encode()).hexdigest()
        self.identity = {**source.identity, "z_bank": f"accepted seeds {seeds_sha256}", "rejection": rejection}

    def __len__(self) -> int:
        return len(self._seeds)

    def pixels(self, first: int, end: int) -> Iterator[Pixels]:
        """Images first..end, each made now."""
        seeds = self._seeds[first:end]
        return self._source.generate(seeds, self._source.classes(seeds))

    def format(self, index: int) -> str:
        """Never a file's."""
        return "array"

    def label(self, index: int) -> str | None:
        """The class that was asked for."""
        return self._source.class_name(self._seeds[index])


def accept(source: SnapshotSource, real: DatasetSource, options: Mapping[str, Any], out: Path) -> AcceptedSource:
    """As many images as `source` has, of the candidates from its first seed on, that a discriminator accepts.

    `options` are those of gan.rejection.select_seeds.choose, and "calibration_data"; without it the
    reference images calibrate too. Of several processes the main one chooses. Raises RequestError for what cannot be
    done.
    """
    asked = {**options, "count": len(source)}
    path = asked.pop("calibration_data", None)
    own = path is None and (options.get("calibration") != "none" or options["reject"] == "mh")
    data = real.dataset if own else None if path is None else ImageDataset(path)
    fingerprint = None if data is None else data.fingerprint()
    file = out / "rejection" / f"{digest({**source.identity, **asked, 'data': fingerprint})}.json"
    with distributed.main_first():
        if distributed.is_main() and not file.exists():
            candidates = range(source.seed, MAX_SEED // 2)
            request = SelectionRequest(**asked, calibration_data=data)
            chosen = choose(source.snapshot, source.generate, source.classes, candidates, request)
            write_json(file, {"seeds": chosen[0], "figures": chosen[1]})
    choice = read_json(file)
    figures = {**choice["figures"], "calibrated_on_reference": fingerprint == real.identity["sha256"]}
    if figures["calibrated_on_reference"]:
        say("Note: the reference images calibrate the discriminator as well; name others with `calibration_data`")
    return AcceptedSource(source, in_place(choice["seeds"], source.seed), name(options), figures)


def name(options: Mapping[str, Any]) -> str:
    """How images were chosen, as keys show it: obrs-budget=4."""
    choice = next((key for key in ("gamma", "gamma_percentile") if options.get(key) is not None), "budget")
    return f"{options['reject']}-{choice.replace('_', '-')}={options.get(choice, 4):g}"


def in_place(accepted: Sequence[int], first: int) -> list[int]:
    """The accepted seeds, those of first, first + 1, ... that are among them each at its own place."""
    own = {seed for seed in accepted if seed - first < len(accepted)}
    others = iter([seed for seed in accepted if seed not in own])
    return [seed if seed in own else next(others) for seed in range(first, first + len(accepted))]


def side_by_side(accepted: Sequence[Result], all_samples: Sequence[Result]) -> list[dict[str, Any]]:
    """Each result without and with rejection, and their paired difference, with less without.

    The difference is None where a metric has no replicates.
    """
    rows = []
    for a, b in zip(accepted, all_samples, strict=True):
        apart = None
        if a.replicates is not None and b.replicates is not None:
            apart = asdict(paired_difference(a.replicates, b.replicates, corrected=a.id.endswith("_corrected")))
        row = {"all_samples": asdict(b.estimate), "accepted": asdict(a.estimate), "difference": apart}
        rows.append({"id": a.id, "name": a.name, "extractor": a.identity.extractor, **row})
    return rows
