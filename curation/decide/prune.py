"""Verdicts: from a scored manifest to a new one that drops the least typical images, each with its reason.

Images leave for what they are ranked among all, in quotas by stratum. What a person decided stands. The images that a
discriminator finds far more real than generated ones are what the generator lacks: they are reported, and only that.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import columns
from curation.child_manifest import relative
from curation.decide import copies, fusion_weights, quotas
from curation.decide.copies import Mask
from curation.decide.request import PruneRequest
from curation.score import image_checks
from curation.score.methods import DISCRIMINATOR_PREFIX, LEARNED, RANKING, score_column
from gan import __version__
from gan.data import manifest
from gan.data.manifest import Manifest
from gan.errors import RequestError

REVIEWER = "salon curate prune"
UNDER_COVERED = "under-covered"
COPIES = (image_checks.EXACT, image_checks.NEAR)  # flags of an image of which a better copy is kept
LOW, CAP, LISTED, FLAGGED = "low rank", "cap", "listed", "flagged"  # codes of reasons


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of each row; masks [N] do not overlap, save `under_covered`."""

    rank: NDArray[np.float64]  # fused, NaN where there is no score
    reasons: dict[str, NDArray[np.bool_]]  # code -> the rows dropped for it
    restored: NDArray[np.bool_]  # protected, and dropped before
    under_covered: NDArray[np.bool_]
    spared: NDArray[np.bool_]  # last kept copies, which a flag or a low rank would have dropped


def prune(request: PruneRequest) -> dict[str, Any]:
    """Decide, and write the new manifest unless it is a dry run -> the figures, by stratum and by reason.

    Raises RequestError when a score is missing, a list names unknown images, or the two lists the same image.
    """
    present = manifest.header_schema(manifest.read_header(request.manifest)).names
    methods = _methods(request, present)
    scores = [score_column(method) for method in methods]
    logits = [name for name in columns.score_columns(present) if name.startswith(DISCRIMINATOR_PREFIX)]
    needed = {"name", "verdict", "reviewer", "width", "height", *scores, *logits}
    needed |= set(columns.NAMES) if request.protect or request.drop else set()
    optional = (request.strata, "flags", "embedding_group", "check_pixels")
    needed |= {name for name in optional if name is not None and name in present}
    before = manifest.read(request.manifest, sorted(needed))
    choice = None if request.fuse_by is None else _choice(request.fuse_by, before.rows, methods)
    decision = _decide(request, before.rows, scores, logits, None if choice is None else _weights(choice, methods))
    figures = _figures(request, before.rows, decision)
    if not figures["kept"]:
        raise RequestError(f"`keep` {request.keep:g} leaves no image of {request.manifest}; choose a larger share")
    parameters = {
        "keep": request.keep,
        "strata": request.strata,
        "floor": request.quota(),
        "cap": request.cap,
        "methods": list(methods),
        "fuse": request.fuse,
        **({} if request.fuse_by is None else {"fuse_by": request.fuse_by.name}),
        **({} if choice is None else {"weights": asdict(choice)}),
        "drop_flags": list(request.drop_flags),
        "tail": request.tail,
        "protected": _names(before.rows, request.protect, "protect"),
        "listed": _names(before.rows, request.drop, "drop"),
    }
    before = replace(before, rows=before.rows.select([]))  # they are read again, part by part, as they are written
    out = None if request.dry_run else request.out
    digest = None
    if out is not None:
        tables = _tables(request, decision, methods)
        digest = _write(out, tables, before, parameters=parameters, strata=figures["strata"])
    written = {"out": str(out) if out else None, "hash": digest, "parent": before.hash}
    return {**written, **figures, "parameters": parameters}


def _write(out: Path, tables: Iterator[pa.Table], parent: Manifest, **details: Any) -> str:
    return manifest.write_tables(
        out,
        tables,
        dataset=parent.dataset,
        parent=parent.hash,
        parent_at=relative(parent.path, out),
        command=REVIEWER,
        versions={"salon": __version__, "numpy": np.__version__},
        **details,
    )


def _methods(request: PruneRequest, present: list[str]) -> tuple[str, ...]:
    # The methods to rank by, all of which the manifest has scores of.
    methods = request.methods or tuple(method for method in RANKING if score_column(method) in present)
    if missing := [method for method in methods if score_column(method) not in present]:
        has = ", ".join(columns.score_columns(present)) or "no scores"
        raise RequestError(
            f"`methods` {missing[0]} needs the scores of that method; {request.manifest} has {has}: "
            f"make them with salon curate {'learn' if missing[0] == LEARNED else 'score'}"
        )
    if not methods and request.keep < 1:
        raise RequestError(f"{request.manifest} must have scores; make them with salon curate score, or say `keep` 1")
    return methods


def _choice(file: Path, rows: pa.Table, methods: tuple[str, ...]) -> fusion_weights.Choice:
    # Of weights, by labelled images; their ranks are among all images that have scores, dropped ones too.
    sides = [[method for method in methods if method in of] for of in fusion_weights.SIDES.values()]
    if not all(sides) or len(methods) > sum(map(len, sides)):
        known = ", ".join(RANKING)
        raise RequestError(
            f"`fuse_by` weighs content against style: `methods` must be of both, among {known}; got "
            f"{', '.join(methods) or 'none'} instead; salon curate score makes them with `features` both"
        )
    content, style = (quotas.fuse([columns.floats(rows, score_column(method)) for method in side]) for side in sides)
    places, outlier = fusion_weights.labelled(rows, file)
    ranked = ~np.isnan(content[places] + style[places])
    places, outlier = places[ranked], outlier[ranked]
    return fusion_weights.choose(content[places], style[places], outlier)


def _weights(choice: fusion_weights.Choice, methods: tuple[str, ...]) -> list[float]:
    # Of each method: those of one side share its weight.
    side_of = {method: side for side, of in fusion_weights.SIDES.items() for method in of if method in methods}
    count = Counter(side_of.values())
    return [choice.weights[side_of[method]] / count[side_of[method]] for method in methods]


def _decide(
    request: PruneRequest, rows: pa.Table, scores: list[str], logits: list[str], weights: list[float] | None = None
) -> Decision:
    # `scores` are the columns to rank by, `logits` those of scores by discriminators.
    kept = np.asarray(manifest.is_kept(rows))
    protect, drop = _lists(request, rows)
    restored = protect & ~kept
    kept |= restored
    fixed = protect | columns.by_person(rows)
    listed = drop & kept
    order = np.asarray(pc.sort_indices(pc.fill_null(rows.column("name"), "")), np.int64)
    group = _groups(rows)
    last, flagged = _copies(rows, group, request.drop_flags, kept & ~listed, fixed, order)
    spared = _flagged(rows, request.drop_flags) & last
    gone = listed | flagged
    candidates = kept & ~fixed & ~gone

    strata, names = columns.strata(rows, request.strata)
    if request.strata and names == [columns.NONE]:
        raise RequestError(f"`strata` {request.strata} needs a {request.strata} for some image; the manifest has none")
    room = np.array([quotas.at_most(request.quota(), n) for n in _count(strata, kept, names)], np.int64)
    room -= _count(strata, gone, names)
    rank = _fused(rows, scores, kept, request.fuse, weights)
    budget = quotas.at_most(request.keep, int(kept.sum())) - int(gone.sum())
    while True:  # each time, what would lose its last copy stays and others go instead
        low = quotas.drop_lowest(rank, order, strata, candidates & ~spared, room, budget)
        lost = last & low & ~copies.any_copy(group, kept & ~gone & ~low)
        if not lost.any():
            break
        spared |= lost
    reasons = {LISTED: listed, FLAGGED: flagged, LOW: low}
    if request.cap is not None:
        left = kept & ~gone & ~low
        excess = _count(strata, left, names) - request.cap
        rank_or_last = np.nan_to_num(rank, nan=1.0) + last  # last copies go only where others are not enough
        reasons[CAP] = quotas.drop_lowest(rank_or_last, order, strata, candidates & left, excess, len(rows))
    under_covered = quotas.highest(_fused(rows, logits, kept), kept, request.tail)
    return Decision(rank=rank, reasons=reasons, restored=restored, under_covered=under_covered, spared=spared)


def _groups(rows: pa.Table) -> NDArray[np.int64]:
    # Groups of copies [N], -1 for an image alone.
    if "embedding_group" not in rows.column_names:
        return np.full(len(rows), -1)
    return np.asarray(pc.fill_null(rows.column("embedding_group"), -1), np.int64)


def _copies(
    rows: pa.Table,
    group: NDArray[np.int64],
    codes: tuple[str, ...],
    kept: Mask,
    fixed: Mask,
    order: NDArray[np.int64],
) -> tuple[Mask, Mask]:
    # The last copies of pictures, and what the flags drop: two masks [N] of `kept` rows.
    fault = _flagged(rows, tuple(code for code in codes if code not in COPIES))
    copy = _flagged(rows, tuple(code for code in codes if code in COPIES))
    pixels = columns.floats(rows, "width") * columns.floats(rows, "height")
    if "check_pixels" in rows.column_names:  # without borders and frames
        pixels = columns.floats(rows, "check_pixels")
    last = copies.last_copies(group, kept, fixed, fault, np.nan_to_num(pixels), order)
    if image_checks.NEAR in codes:  # where the last copy was taken for one of another, the other goes
        copy |= (group >= 0) & copies.any_copy(group, last & copy)
    return last, (fault | copy) & kept & ~fixed & ~last


def _lists(request: PruneRequest, rows: pa.Table) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    # Masks [N] of the images to protect, and to drop.
    nothing = np.zeros(len(rows), bool)
    protect = columns.listed(rows, request.protect, "protect") if request.protect else nothing
    drop = columns.listed(rows, request.drop, "drop") if request.drop else nothing
    named = np.asarray(pc.is_valid(rows.column("name")))
    for wrong, message in (
        (protect & drop, "`protect` and `drop` must not name the same image"),
        (protect & ~named, "`protect` must name images of the dataset, and this one never entered it"),
    ):
        if wrong.any():
            raise RequestError(f"{message}: {rows.column('source')[int(np.argmax(wrong))].as_py()}")
    return protect, drop


def _count(strata: NDArray[np.int64], mask: NDArray[np.bool_], names: list[str]) -> NDArray[np.int64]:
    # Rows of the mask in each stratum.
    return np.bincount(strata[mask], minlength=len(names))


def _fused(
    rows: pa.Table, names: list[str], kept: Mask, fuse: str = "mean", weights: list[float] | None = None
) -> NDArray[np.float64]:
    # One rank [N] among the kept rows, by all columns of these names; NaN where there is no score.
    scores = [np.where(kept, columns.floats(rows, name), np.nan) for name in names]
    return quotas.fuse(scores, fuse, weights) if scores else np.full(len(rows), np.nan)


def _flagged(rows: pa.Table, codes: tuple[str, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(len(rows), bool)
    if codes and "flags" not in rows.column_names:
        raise RequestError("`drop_flags` needs a manifest with flags; make one with salon curate check")
    known = (*image_checks.CODES, *image_checks.OF_THE_SET, UNDER_COVERED)
    if unknown := [code for code in codes if code not in known]:
        raise RequestError(f"`drop_flags` must be one of {', '.join(known)}; got {unknown[0]} instead")
    for code in codes:
        around = pc.binary_join_element_wise("", pc.fill_null(rows.column("flags"), ""), "", ",")
        mask |= np.asarray(pc.match_substring(around, f",{code},"))
    return mask


def _names(rows: pa.Table, file: Path | None, parameter: str) -> list[str]:
    if file is None:
        return []
    listed = rows.filter(columns.listed(rows, file, parameter))
    return sorted(pc.coalesce(listed.column("name"), listed.column("source")).to_pylist())


def _figures(request: PruneRequest, rows: pa.Table, decision: Decision) -> dict[str, Any]:
    strata, names = columns.strata(rows, request.strata)
    dropped = np.zeros(len(rows), bool)
    for mask in decision.reasons.values():
        dropped |= mask
    kept = np.asarray(manifest.is_kept(rows)) | decision.restored
    masks = {"images": kept, "kept": kept & ~dropped, **decision.reasons, UNDER_COVERED: decision.under_covered}
    masks["spared"] = decision.spared & ~dropped
    masks["without a score"] = kept & np.isnan(decision.rank)
    counts = {key: np.bincount(strata[mask], minlength=len(names)).tolist() for key, mask in masks.items()}
    return {
        **{key: sum(values) for key, values in counts.items()},
        "restored": int(decision.restored.sum()),
        "strata": {name: {key: values[i] for key, values in counts.items()} for i, name in enumerate(names)},
    }


def _tables(request: PruneRequest, decision: Decision, methods: tuple[str, ...]) -> Iterator[pa.Table]:
    start = 0
    for part in manifest.parts(request.manifest):
        here = slice(start, start + len(part))
        start += len(part)
        verdict, reason, reviewer = (part.column(name).to_pylist() for name in ("verdict", "reason", "reviewer"))
        rank = decision.rank[here]
        for code, mask in decision.reasons.items():
            for i in np.flatnonzero(mask[here]).tolist():
                verdict[i], reason[i], reviewer[i] = manifest.DROP, _reason(code, rank[i], methods, request), REVIEWER
        for i in np.flatnonzero(decision.restored[here]).tolist():
            verdict[i], reason[i], reviewer[i] = manifest.KEEP, None, REVIEWER
        under_covered = decision.under_covered[here].tolist()
        flags = part.column("flags").to_pylist() if "flags" in part.column_names else [None] * len(part)
        codes = [
            ",".join([*columns.without(flag, UNDER_COVERED), *([UNDER_COVERED] if under else [])]) or (flag and "")
            for flag, under in zip(flags, under_covered, strict=True)
        ]
        texts = {"verdict": verdict, "reason": reason, "reviewer": reviewer, "flags": codes}
        arrays = {name: pa.array(values, pa.string()) for name, values in texts.items()}
        yield with_columns(part, arrays | {"fused_rank": pa.array(rank, mask=np.isnan(rank))})


def with_columns(rows: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    """The table with these columns, which replace those of the same name."""
    for name, values in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.append_column(name, values) if at < 0 else rows.set_column(at, name, values)
    return rows


def _reason(code: str, rank: float, methods: tuple[str, ...], request: PruneRequest) -> str:
    details = {
        LOW: f": {rank:.4f} by {', '.join(methods)}",
        CAP: f": {request.cap} of a {request.strata}",
        FLAGGED: f": {', '.join(request.drop_flags)}",
    }
    return code + details.get(code, "")
