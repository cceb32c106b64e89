"""Whether a generator copies: its images and held-out real ones, by how near they are to the training images.

OUT/novelty.json    every number beside its control, with its interval, and the most suspicious pairs
    novelty.html    the same for people, with the pairs as pictures
    features/       what a stopped run goes on from
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval import figures, suite
from eval.data.feature_cache import cached
from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetSource, Source, open_files
from eval.data.snapshot_source import SnapshotSource
from eval.data.views import VIEWS, agreement, cached_views
from eval.evaluate import Clock, Extracted, extract
from eval.evaluator import open_extractors, require_same
from eval.features.extractor import Extractor
from eval.metrics import novelty
from eval.metrics.confidence_intervals import Vector, wilson
from eval.metrics.feature_stats import Features
from eval.metrics.novelty import Controlled, Nearest
from eval.report.html import write_page
from eval.request import NoveltyRequest
from gan.data.collection import Collection
from gan.data.images import Pixels, encode, for_display
from gan.device.selection import select
from gan.errors import RequestError
from gan.runtime import distributed
from gan.runtime.console import say
from gan.runtime.files import write_json

FORMAT = "salon-novelty-1"
RESULTS, REPORT = "novelty.json", "novelty.html"
LEAST_HELD_OUT = 19  # images, of which 5 % is one at least
AGREE = 0.9  # correlation of pixels from which two images are one
SHOWN = 192  # pixels of a picture of a pair
NAMES = {
    "authenticity": "Authenticity",
    "copied": "Nearer than 95 % of held-out",
    "copying_test": "C_T",
}
ALONE = (
    "Without held-out images only authenticity can be told, and its control is missing: real images that no training "
    "saw are not always authentic either, and how many are not is unknown"
)
LIMITS = (
    "This test compares whole images by the features of one network. It cannot tell copies of parts, of a composition "
    "or of a style, nor copies that are turned, recoloured or cropped further, nor what these features are blind to; "
    "and {count:,} images hardly show copies that are rarer than one in {rare:,}. Nor can it tell copies from what a "
    "generator makes that has learned little, or shows few kinds of images: these lie near few training images, too "
    "(Stein et al. 2023). Look at the pairs."
)


@dataclass(frozen=True, kw_only=True)
class Distances:
    """By one extractor: the nearest training image of generated and held-out images, and the training images' own."""

    spacing: Vector  # [M]; NaN of those that are nearest to no image
    gen: Nearest
    held_out: Nearest | None
    gen_cells: Any  # [N]; empty without held-out images
    held_out_cells: Any

    @property
    def ratios(self) -> Vector:
        """Of the generated images [N]."""
        return self.gen.ratios(self.spacing)

    @property
    def held_out_ratios(self) -> Vector | None:
        """Of the held-out images [m]."""
        return None if self.held_out is None else self.held_out.ratios(self.spacing)


class NoveltyTest:
    """A test of generated images against the training images that a collection keeps.

    `held_out` are real images that no training saw: a folder, ZIP or array, or a manifest of the same dataset that
    keeps them; None: there are none. Raises RequestError for a request that cannot be carried out.
    """

    def __init__(
        self, training: Collection, held_out: Path | None, request: NoveltyRequest, device: str = "auto"
    ) -> None:
        self.request, self.target = request, select(device)
        self.real = DatasetSource(training)
        if len(self.real) < 2:
            raise RequestError(f"`data` must have at least 2 training images; {self.real.name} has {len(self.real)}")
        self.held_out = None if held_out is None else open_held_out(held_out, training)
        if self.held_out is not None and len(self.held_out) < LEAST_HELD_OUT:
            raise RequestError(f"`held_out` must be at least {LEAST_HELD_OUT} images; got {len(self.held_out)}")
        self.strata: list[str | None] | None = None
        if request.strata is not None:
            names = training.stratum_names(request.strata)
            self.strata = [names[index] for index in self.real.indices]
        self.extractors = open_extractors(request, self.real, self.target)

    def __call__(self, source: Source, out: Path) -> dict[str, Any] | None:
        """Compare the images of a source, and write results and report to `out` -> what novelty.json has.

        Of several processes all must call it; the main one gets the figures. Raises RequestError when `out` holds
        results of another request.
        """
        record = self._record(source)
        require_same(out / RESULTS, record, self.request.overwrite)
        if not self.request.extractors:
            suite.tell_missing([extractor.name for extractor in self.extractors], list(suite.SUITE))
        clock, batch_size, views = Clock(), self.request.batch_size, VIEWS[self.request.views]
        with clock.phase("training images"):
            training, _ = cached_views(self.real, self.extractors, views, batch_size=batch_size)
        held_out: Sequence[Features | None] = [None] * len(self.extractors)
        if self.held_out is not None:
            with clock.phase("held-out images"):
                held_out, _ = cached(
                    self.held_out, self.extractors, batch_size=batch_size, description="Held-out images"
                )
        with clock.phase("images and features"):
            generated, made = extract(source, self.extractors, out, batch_size, "Images and features")
        with distributed.main_first():
            if not distributed.is_main():
                return None
            with clock.phase("distances"):
                distances = [
                    _distances(own, training[number], generated.features(number), held_out[number])
                    for number, own in enumerate(self.extractors)
                ]
            document = self._document(generated, distances, views) | {"request": record, "images_made": made}
            document |= {"seconds": clock.seconds, "versions": figures.versions()}
            document["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            write_json(out / RESULTS, document)
            _write_report(document, generated.source, self.real, out / REPORT)
            return document
        return None

    def _record(self, source: Source) -> dict[str, Any]:
        held_out = self.held_out
        return {
            "extractors": ", ".join(" ".join(extractor.identity.values()) for extractor in self.extractors),
            "views": self.request.views,
            "strata": self.request.strata,
            **{f"training images' {key}": value for key, value in self.real.identity.items()},
            **({f"held-out images' {key}": value for key, value in held_out.identity.items()} if held_out else {}),
            "images": len(source),
            **{f"generator's {key}": value for key, value in source.identity.items()},
        }

    def _document(self, generated: Extracted, distances: list[Distances], views: Sequence[str]) -> dict[str, Any]:
        source, first = generated.source, distances[0]
        rows = [row for own, each in zip(self.extractors, distances, strict=True) for row in _results(own, each)]
        warnings = self._warnings(source, first)
        for warning in warnings:
            say(f"Warning: {warning}")
        n, pairs = len(source), self._pairs(source, first, views)
        return {
            "format": FORMAT,
            "generator": figures.describe(source),
            "training": {"path": self.real.name, "images": len(self.real), **self.real.identity, "views": len(views)},
            "held_out": self.held_out
            and {"path": self.held_out.name, "images": len(self.held_out), **self.held_out.identity},
            "results": rows,
            "findings": _findings(rows, pairs),
            "limits": LIMITS.format(count=n, rare=max(1, n // 3)),
            "strata": [] if self.strata is None else _strata(self.strata, first),
            "pairs": pairs,
            "warnings": warnings,
        }

    def _warnings(self, source: Source, distances: Distances) -> list[str]:
        lines = []
        note = source.note() if isinstance(source, FilesSource) else None
        lines += [note] if note else []
        if isinstance(source, SnapshotSource):
            config, identity = source.snapshot.config, self.real.identity
            if (config.dataset, config.manifest) != (identity["sha256"], identity["manifest"]):
                lines.append(
                    f"{source.name} was not trained on just these images, by the dataset and manifest that it names: "
                    "it can have copied others"
                )
        spacing = distances.spacing[~np.isnan(distances.spacing)]
        if copies := int((spacing <= figures.COPY * np.median(spacing)).sum()):
            lines.append(
                f"{copies:,} of the {len(spacing):,} training images that others are nearest to are in the dataset "
                "twice: copies of these seem authentic. `salon curate check` finds them"
            )
        ratios = distances.held_out_ratios
        if ratios is not None and (same := int((ratios <= figures.COPY).sum())):
            lines.append(
                f"{same:,} of {len(ratios):,} held-out images are training images: the controls say too little"
            )
        return lines

    def _pairs(self, source: Source, distances: Distances, views: Sequence[str]) -> list[dict[str, Any]]:
        # The most suspicious first.
        ratios, held_out = distances.ratios, distances.held_out_ratios
        rows = []
        for index in np.argsort(ratios, kind="stable")[: self.request.num_pairs].tolist():
            real = int(distances.gen.indices[index])
            pixels = _pixels(source, index), _pixels(self.real, real)
            correlation, view = agreement(*pixels, views)
            rows.append(
                {
                    "index": index,
                    "real": real,
                    "real_name": self.real.dataset.names[int(self.real.indices[real])],
                    "ratio": float(ratios[index]) if np.isfinite(ratios[index]) else None,  # as JSON has it
                    "p": None if held_out is None else float(novelty.p_values(ratios[[index]], held_out)[0]),
                    "view": views[int(distances.gen.views[index])],
                    "pixels": {"correlation": correlation, "view": view},
                }
            )
        return rows


def open_held_out(path: Path, training: Collection) -> Source:
    """Held-out images: a folder, ZIP or array of them, or a manifest of the training images' dataset that keeps them.

    Raises RequestError for anything else, and for a manifest that keeps a training image.
    """
    if (path / "manifest.json").is_file():
        held_out = DatasetSource(training.selecting(path))
        both = np.intersect1d(held_out.indices, training.kept)
        if len(both):
            raise RequestError(
                f"`held_out` must be images that no training saw; {len(both):,} of the {len(held_out):,} that {path} "
                "keeps are training images: name the manifest of the training, too"
            )
        return held_out
    if not path.exists():
        raise RequestError(f"`held_out` must be a folder, ZIP or array of images, or a manifest; {path} does not exist")
    return open_files(path)


def _distances(extractor: Extractor, training: list[Features], gen: Features, held_out: Features | None) -> Distances:
    gpu = extractor.gpu
    nearest = novelty.nearest_training(gen, training, device=gpu)
    if held_out is None:
        spacing = novelty.training_spacing(training, nearest.indices, device=gpu)
        return Distances(spacing=spacing, gen=nearest, held_out=None, gen_cells=(), held_out_cells=())
    others = novelty.nearest_training(held_out, training, device=gpu)
    centres = novelty.partition(training[0], novelty.cell_count(len(gen), len(held_out), len(training[0])))
    return Distances(
        spacing=novelty.training_spacing(training, np.r_[nearest.indices, others.indices], device=gpu),
        gen=nearest,
        held_out=others,
        gen_cells=novelty.cells_of(gen, centres),
        held_out_cells=novelty.cells_of(held_out, centres),
    )


def _results(extractor: Extractor, distances: Distances) -> list[dict[str, Any]]:
    ratios, held_out = distances.ratios, distances.held_out_ratios
    measured: dict[str, Controlled | None] = {"authenticity": novelty.controlled_authenticity(ratios, held_out)}
    if held_out is not None and distances.held_out is not None:
        measured["copied"] = novelty.controlled_copies(ratios, held_out)
        measured["copying_test"] = novelty.controlled_test(
            distances.gen.distances, distances.held_out.distances, distances.gen_cells, distances.held_out_cells
        )
    return [
        {
            "id": id,
            "name": NAMES[id],
            "extractor": extractor.key,
            **asdict(each.value),
            "control": each.control and asdict(each.control),
            "difference": each.difference and asdict(each.difference),
        }
        for id, each in measured.items()
        if each is not None
    ]


def _strata(strata: Sequence[str | None], distances: Distances) -> list[dict[str, Any]]:
    # A row for each stratum of the training images: of the generated and the held-out images that are nearest to it.
    names = np.array(strata, object)
    ratios, held_out = distances.ratios, distances.held_out_ratios
    gen_names = names[distances.gen.indices]
    held_out_names = None if distances.held_out is None else names[distances.held_out.indices]
    near = None if held_out is None else novelty.p_values(ratios, held_out) <= novelty.LEVEL
    rows = []
    for name in sorted({name for name in strata if name is not None}):
        own = gen_names == name
        if not own.any():
            continue
        theirs = held_out[held_out_names == name] if held_out is not None else None
        controlled = novelty.controlled_authenticity(
            ratios[own], theirs if theirs is not None and len(theirs) else None
        )
        rows.append(
            {
                "name": name,
                "n_training": int((names == name).sum()),
                "n_gen": int(own.sum()),
                "n_held_out": 0 if theirs is None else len(theirs),
                "authenticity": asdict(controlled.value),
                "control": controlled.control and asdict(controlled.control),
                "copied": None if near is None else asdict(wilson(int(near[own].sum()), int(own.sum()))),
            }
        )
    return rows


def _findings(rows: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    # What the first extractor's intervals, and the pixels of the most suspicious pairs, allow to say.
    by_id = {row["id"]: row for row in reversed(rows)}
    copied, test = by_id.get("copied"), by_id.get("copying_test")
    if copied is None:
        return [{"text": ALONE, "kind": ""}]
    share = f"{copied['value']:.1%} ({copied['low']:.1%} to {copied['high']:.1%})"
    control = "{value:.1%} ({low:.1%} to {high:.1%}) would be so by chance alone".format(**copied["control"])
    above, agree = copied["difference"]["low"] > 0, sum(row["pixels"]["correlation"] >= AGREE for row in pairs)
    head = ("Copies" if agree else "Copies, or little learned") if above else "No sign of copies"
    text = f"{head}: {share} of the generated images are nearer to a training image than 95 % of the held-out ones are"
    text += f"; {control}."
    if above:
        text += f" Of the {len(pairs):,} closest pairs {agree:,} agree in their pixels. Different training images in "
        text += f"them: {len({row['real'] for row in pairs}):,}."
    found = [{"text": text, "kind": "bad" if above else "good"}]
    if test is not None and (test["high"] < 0 or test["low"] > 0):
        nearer = test["high"] < 0
        found.append(
            {
                "text": f"As a whole they are {'nearer to' if nearer else 'farther from'} the training images than "
                f"held-out ones: C_T is {test['value']:.1f} ({test['low']:.1f} to {test['high']:.1f})"
                + f", as of {'one that copies, or shows few kinds' if nearer else 'one that has learned too little'}.",
                "kind": "bad" if nearer else "",
            }
        )
    return found


def _write_report(document: dict[str, Any], source: Source, real: DatasetSource, path: Path) -> None:
    pairs = [
        (_jpeg(_pixels(source, row["index"])), _jpeg(_pixels(real, row["real"])), row) for row in document["pairs"]
    ]
    write_page("novelty.html.j2", path, figures=document, pairs=pairs)


def _pixels(source: Source, index: int) -> Pixels:
    (pixels,) = source.pixels(index, index + 1)
    assert pixels is not None  # it has been extracted
    return pixels


def _jpeg(pixels: Pixels) -> bytes:
    image = Image.fromarray(for_display(pixels))
    image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return encode(image, "jpeg", 85)
