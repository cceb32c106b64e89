"""Parts of results.json beside the metrics: strata, notable images, warnings, and what was evaluated with what."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval import metric_registry
from eval.data.files_source import FilesSource
from eval.data.image_sources import Source
from eval.data.reference import Reference, StatisticsSource
from eval.data.snapshot_source import SnapshotSource
from eval.data.thumbnails import Thumbnails
from eval.features.preprocess import differences
from eval.metric_registry import Result
from eval.metrics.confidence_intervals import linear_jackknife, wilson
from eval.metrics.feature_stats import Features
from eval.metrics.frechet import IMAGES_A_DIMENSION
from eval.metrics.precision_recall import Comparison
from eval.metrics.strata import strata_table
from gan import __version__

COPY = 1e-3  # of the distance to a real image's next neighbour: below it an image is that one
NOTABLE = 12  # images shown as best, worst, and closest to real ones


def strata_rows(
    strata: Sequence[str | None],
    reference: Reference,
    gen: Features,
    source: Source,
    comparison: Comparison | None,
) -> list[dict[str, Any]]:
    """A row for each of the `strata` [M] of the real images.

    Generated images belong to the one that they are labelled with; without labels, to none.
    """
    labels = [source.label(index) for index in range(len(source))]
    known = np.array([index for index, name in enumerate(strata) if name is not None], np.int64)
    labelled = set(labels) & set(strata) - {None}
    table = strata_table(
        reference.features.subset(known),
        [str(strata[index]) for index in known],
        gen,
        [str(label) for label in labels] if labelled else None,
    )
    rows = []
    for row in table:
        members = [index for index in known if strata[index] == row.name]
        covers = {} if comparison is None else {"coverage": comparison.coverage, "recall": comparison.recalled}
        compared = np.isin(reference.compared, members) if covers else np.zeros(0, np.bool_)
        covers = covers if compared.sum() >= 2 else {}  # as few as of strata without a row
        covered = {name: _proportion(cover.counts[compared] > 0) for name, cover in covers.items()}
        rows.append({**asdict(row), "labelled": bool(labelled), "coverage": None, "recall": None, **covered})
    return rows


def notable(comparison: Comparison | None, reference: Reference) -> dict[str, Any]:
    """Indices of the most and the least real images, and of those that are closest to a real one: copies, perhaps.

    "compared" is there where not all real images are: the number of those that are.
    """
    if comparison is None:
        return {"best": [], "worst": [], "closest": []}
    order = np.argsort(-comparison.realism, kind="stable")
    ratio = metric_registry.ratios_to_real(comparison, reference)
    nearest = reference.compared[comparison.nearest]
    realism, shares = (  # infinite of a copy, and of images next to a real one that is there twice
        [None if np.isinf(value) else float(value) for value in values] for values in (comparison.realism, ratio)
    )
    return {
        **({} if reference.compares_all else {"compared": len(reference.compared)}),
        "best": [{"index": int(index), "realism": realism[index]} for index in order[:NOTABLE]],
        "worst": [{"index": int(index), "realism": realism[index]} for index in order[::-1][:NOTABLE]],
        "closest": [
            {"index": int(index), "real": int(nearest[index]), "ratio": shares[index]}
            for index in np.argsort(ratio, kind="stable")[:NOTABLE]
        ],
        "closer_than_real": int((ratio < 1).sum()),
    }


def warnings(
    asked: Sequence[Sequence[str]],
    source: Source,
    thumbnails: Thumbnails,
    real_thumbnails: Thumbnails | None,
    references: Sequence[Reference],
) -> list[str]:
    """What makes the numbers less than they look: files that are left out, other file formats or sizes than the
    dataset's, too few images, or too many to compare all. `asked` are the metrics of each reference.
    """
    note = source.note() if isinstance(source, FilesSource) else None
    lines = [note] if note else []
    if real_thumbnails is not None:
        lines += differences(thumbnails.traits(len(source)), real_thumbnails.traits(len(references[0])))
    in_pairs = [name for name in metric_registry.OF_PAIRS if any(name in metrics for metrics in asked)]
    if in_pairs and not references[0].compares_all:  # which depends on the images and the device alone
        lines.append(
            f"{', '.join(in_pairs)} and the nearest real images are of {len(references[0].compared):,} of the "
            f"{len(references[0]):,} real images, drawn at random but always the same, as there is no GPU to compare "
            "all. Copies of the others are not found, and results of another number of real images, which their keys "
            "have, cannot be compared"
        )
    for metrics, reference in zip(asked, references, strict=True):
        dim, n = reference.dim, min(len(source), len(reference) or len(source))
        if isinstance(reference.source, StatisticsSource):
            lines.append(
                f"{reference.source.name} does not say what its statistics are of: they must be of "
                f"{reference.extractor.key}, and of images like those that are meant; there is no noise floor"
            )
        if {"fid", "fid_infinity", "fid_population"} & set(metrics) and n < IMAGES_A_DIMENSION * dim:
            name = metric_registry.NAMES[metric_registry.result_ids("fid", reference.extractor.is_inception)[0]]
            lines.append(
                f"{name} by {reference.extractor.name} has {dim} dimensions and wants {IMAGES_A_DIMENSION * dim:,} "
                f"images on either side; got {n:,}: read it beside its noise floor, or read the kernel distance. The "
                "correction removes the bias of the evaluated images alone, not that of the dataset"
            )
    return lines


def hints(
    results: Sequence[Result],
    comparison: Comparison | None,
    reference: Reference,
    source: Source,
    strata: Sequence[str | None] | None,
) -> list[str]:
    """What the results themselves say against reading them: a bias beyond the interval, images of the dataset among
    those that are evaluated, images and strata that no row of the table has.
    """
    lines = []
    for result in results:
        estimate = result.estimate
        if result.bias is not None and abs(result.bias) > (estimate.high - estimate.low) / 4:
            lines.append(
                f"{result.name} by {result.identity.extractor} is too low by about {abs(result.bias):.2g} for want of "
                "images, which its interval does not hold: compare it at this number of images alone"
            )
    if comparison is not None:
        copies = int((metric_registry.ratios_to_real(comparison, reference) <= COPY).sum())
        if copies:
            lines.append(
                f"{copies:,} of {len(source):,} evaluated images are images of the dataset: the metrics take them for "
                "perfect, so evaluate others"
            )
    return lines + ([] if strata is None else _without_row(source, strata))


def _without_row(source: Source, strata: Sequence[str | None]) -> list[str]:
    # Labels that are no stratum, and strata that have too few images.
    real = Counter(name for name in strata if name is not None)
    gen = Counter(label for index in range(len(source)) if (label := source.label(index)) is not None)
    if not gen:
        return []
    if not set(gen) & set(real):
        return ["no label of the evaluated images is a stratum of the dataset: all are compared with each stratum"]
    lines = []
    if strange := [f"{name} ({count:,} images)" for name, count in sorted(gen.items()) if name not in real]:
        lines.append(f"labels that are no stratum of the dataset are in no row by stratum: {', '.join(strange)}")
    if empty := [f"{n} ({gen[n]} and {count} images)" for n, count in sorted(real.items()) if min(gen[n], count) < 2]:
        lines.append(f"strata with fewer than 2 evaluated or real images have no row: {', '.join(empty)}")
    return lines


def describe(source: Source) -> dict[str, Any]:
    """A source's name, size and identity; of a snapshot also how far it was trained, of files what is left out."""
    described = {"name": source.name, "images": len(source), **source.identity}
    if isinstance(source, SnapshotSource):
        described |= {"cur_nimg": source.snapshot.cur_nimg, "seed": source.seed}
    if isinstance(source, FilesSource):
        described |= {"left_out": source.left_out, "damaged": source.damaged}
    return described


def versions() -> dict[str, str]:
    """Of what computes."""
    return {
        "salon": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def _proportion(hit: NDArray[np.bool_]) -> dict[str, Any]:
    # With replicates over the real images [m], so that two evaluations of one stratum can be compared in pairs.
    estimate = wilson(int(hit.sum()), len(hit))
    replicates = linear_jackknife(estimate.value, hit.astype(np.float64), metric_registry.BLOCKS)
    return {**asdict(estimate), "replicates": replicates.to_dict()}
