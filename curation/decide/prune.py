"""Verdicts: from a scored manifest to a new one that drops the least typical images, each with its reason.

Images leave for what they are ranked among all, in quotas by stratum. What a person decided stands. The images that a
discriminator finds far more real than generated ones are what the generator lacks: they are reported, and only that.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import columns as naming
from curation.decide import quotas
from curation.score import image_checks
from gan import __version__
from gan.data import manifest
from gan.errors import RequestError
from gan.runtime.files import refuse_existing

REVIEWER = "salon curate prune"
UNDER_COVERED = "under-covered"
DEFAULT_METHODS = ("density", "knn")
DISCRIMINATORS = ("d-low", "d-core", "d-cross")
LOW, CAP, LISTED, FLAGGED = "low rank", "cap", "listed", "flagged"  # codes of reasons


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to drop. Shares are of the images that the manifest keeps so far."""

    manifest: Path
    out: Path | None  # None: only report
    keep: float = 0.95  # share to keep of all
    strata: str | None = None  # column: genre, style, artist or label; None: one stratum
    floor: float | None = None  # share to keep of each stratum at least; None: a stratum may lose twice what all lose
    cap: int | None = None  # images a stratum at most, whatever the floor; None: any number
    methods: tuple[str, ...] = ()  # names of scores; empty: those of DEFAULT_METHODS that there are
    fuse: str = "mean"  # one of verdicts.FUSIONS
    protect: Path | None = None  # list of images to keep
    drop: Path | None = None  # list of images to drop, before all others and whatever the floor
    drop_flags: tuple[str, ...] = ()  # codes of `salon curate check` to drop, likewise
    tail: float = 0.05  # share with the highest discriminator scores to report

    def quota(self) -> float:
        """The share of each stratum that stays at least."""
        if self.floor is not None:
            return self.floor
        return round(max(0.0, 2 * self.keep - 1), 9) if self.strata else 0.0

    def __post_init__(self) -> None:
        if self.floor is not None and self.strata is None:
            raise RequestError("--floor needs --strata: it is the share of each stratum to keep")
        if self.cap is not None and self.strata is None:
            raise RequestError("--cap needs --strata: it is the number of images of each stratum to keep")
        refuse_existing([self.out] if self.out else [])  # verdicts are never changed in place


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of each row; masks [N] do not overlap, save `under_covered`."""

    rank: NDArray[np.float64]  # fused, NaN where there is no score
    reasons: dict[str, NDArray[np.bool_]]  # code -> the rows dropped for it
    restored: NDArray[np.bool_]  # protected, and dropped before
    under_covered: NDArray[np.bool_]


def prune(request: Request) -> dict[str, Any]:
    """Decide, and write the new manifest unless `request.out` is None -> the figures, by stratum and by reason.

    Raises RequestError when a score is missing, a list names unknown images, or the two lists the same image.
    """
    columns = list(manifest.header_schema(manifest.read_header(request.manifest)).names)
    methods = _methods(request, columns)
    judges = [method for method in DISCRIMINATORS if column(method) in columns]
    flags = ["flags"] if "flags" in columns else []
    needed = {*naming.NAMES, "verdict", "reviewer", *([request.strata] if request.strata else []), *flags}
    found = manifest.read(request.manifest, sorted(needed | {column(m) for m in (*methods, *judges)}))
    decision = _decide(request, found.rows, methods, judges)
    parameters = {
        "keep": request.keep,
        "strata": request.strata,
        "floor": request.quota(),
        "cap": request.cap,
        "methods": list(methods),
        "fuse": request.fuse,
        "drop_flags": list(request.drop_flags),
        "tail": request.tail,
        "protected": _names(found.rows, request.protect, "--protect"),
        "listed": _names(found.rows, request.drop, "--drop"),
    }
    figures = _figures(request, found.rows, decision)
    if not figures["kept"]:
        raise RequestError(f"--keep {request.keep:g} leaves no image of {request.manifest}; choose a larger share")
    digest = None
    if request.out is not None:
        digest = manifest.write_tables(
            request.out,
            _tables(request, decision, methods),
            dataset=found.dataset,
            parent=found.hash,
            parent_at=relative(request.manifest, request.out),
            command=REVIEWER,
            parameters=parameters,
            versions={"salon": __version__, "numpy": np.__version__},
            strata=figures["strata"],
        )
    return {"out": str(request.out) if request.out else None, "hash": digest, "parent": found.hash, **figures} | {
        "parameters": parameters
    }


def column(method: str) -> str:
    """The column of a method's scores."""
    return f"score_{method.replace('-', '_')}"


def relative(parent: Path, out: Path) -> str:
    """Where a parent lies as seen from the folder that holds `out`: the two may move together."""
    return Path(os.path.relpath(parent.absolute(), out.absolute().parent)).as_posix()


def _methods(request: Request, columns: list[str]) -> tuple[str, ...]:
    methods = request.methods or tuple(method for method in DEFAULT_METHODS if column(method) in columns)
    if missing := [method for method in methods if column(method) not in columns]:
        has = ", ".join(naming.score_columns(columns)) or "no scores"
        raise RequestError(
            f"--method {missing[0]} needs the scores of that method; {request.manifest} has {has}: "
            "make them with salon curate score"
        )
    if not methods and request.keep < 1:
        raise RequestError(f"{request.manifest} must have scores; make them with salon curate score, or say --keep 1")
    return methods


def _decide(request: Request, rows: pa.Table, methods: tuple[str, ...], judges: list[str]) -> Decision:
    kept = np.asarray(manifest.is_kept(rows))
    protect = naming.listed(rows, request.protect, "--protect") if request.protect else np.zeros(len(rows), bool)
    drop = naming.listed(rows, request.drop, "--drop") if request.drop else np.zeros(len(rows), bool)
    named = np.asarray(pc.is_valid(rows.column("name")))
    for bad, message in (
        (protect & drop, "--protect and --drop must not name the same image"),
        (protect & ~named, "--protect must name images of the dataset, and this one never entered it"),
    ):
        if bad.any():
            raise RequestError(f"{message}: {rows.column('source')[int(np.argmax(bad))].as_py()}")
    restored = protect & ~kept
    kept |= restored
    reviewers = pc.fill_null(rows.column("reviewer"), "salon ")
    a_person = ~np.asarray(pc.starts_with(reviewers, "salon "))
    fixed = protect | a_person
    flagged = _flagged(rows, request.drop_flags) & kept & ~fixed
    listed = drop & kept
    reasons = {LISTED: listed, FLAGGED: flagged & ~listed}

    strata, names = naming.strata(rows, request.strata)
    if request.strata and names == [naming.NONE]:
        raise RequestError(f"--strata {request.strata} needs a {request.strata} for some image; the manifest has none")
    before = np.bincount(strata[kept], minlength=len(names))
    gone = listed | flagged
    room = np.array([quotas.at_most(request.quota(), n) for n in before], np.int64)
    room -= np.bincount(strata[gone], minlength=len(names))
    rank = (
        quotas.fuse([_among(naming.floats(rows, column(m)), kept) for m in methods], request.fuse)
        if methods
        else (np.full(len(rows), np.nan))
    )
    order = np.asarray(pc.sort_indices(pc.fill_null(rows.column("name"), "")), np.int64)
    candidates = kept & ~fixed & ~gone
    budget = quotas.at_most(request.keep, int(kept.sum())) - int(gone.sum())
    reasons[LOW] = quotas.drop_lowest(rank, order, strata, candidates, room, budget)
    if request.cap is not None:
        left = kept & ~gone & ~reasons[LOW]
        excess = np.bincount(strata[left], minlength=len(names)) - request.cap
        lowest = np.nan_to_num(rank, nan=1.0)  # those without a score last
        reasons[CAP] = quotas.drop_lowest(lowest, order, strata, candidates & left, excess, len(rows))
    tail = np.zeros(len(rows), bool)
    if judges:
        real = quotas.fuse([_among(naming.floats(rows, column(judge)), kept) for judge in judges])
        tail = quotas.highest(real, kept, request.tail)
    return Decision(rank=rank, reasons=reasons, restored=restored, under_covered=tail)


def _among(scores: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(kept, scores, np.nan)


def _flagged(rows: pa.Table, codes: tuple[str, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(len(rows), bool)
    if codes and "flags" not in rows.column_names:
        raise RequestError("--drop-flag needs a manifest with flags; make one with salon curate check")
    known = (*image_checks.CODES, *image_checks.OF_THE_SET, UNDER_COVERED)
    if unknown := [code for code in codes if code not in known]:
        raise RequestError(f"--drop-flag must be one of {', '.join(known)}; got {unknown[0]} instead")
    for code in codes:
        around = pc.binary_join_element_wise("", pc.fill_null(rows.column("flags"), ""), "", ",")
        mask |= np.asarray(pc.match_substring(around, f",{code},"))
    return mask


def _names(rows: pa.Table, file: Path | None, option: str) -> list[str]:
    if file is None:
        return []
    chosen = rows.filter(naming.listed(rows, file, option))
    return sorted(pc.coalesce(chosen.column("name"), chosen.column("source")).to_pylist())


def _figures(request: Request, rows: pa.Table, decision: Decision) -> dict[str, Any]:
    strata, names = naming.strata(rows, request.strata)
    dropped = np.zeros(len(rows), bool)
    for mask in decision.reasons.values():
        dropped |= mask
    kept = np.asarray(manifest.is_kept(rows)) | decision.restored
    masks = {"images": kept, "kept": kept & ~dropped, **decision.reasons, UNDER_COVERED: decision.under_covered}
    masks["without a score"] = kept & np.isnan(decision.rank)
    counts = {key: np.bincount(strata[mask], minlength=len(names)).tolist() for key, mask in masks.items()}
    return {
        **{key: sum(values) for key, values in counts.items()},
        "restored": int(decision.restored.sum()),
        "strata": {name: {key: values[i] for key, values in counts.items()} for i, name in enumerate(names)},
    }


def _tables(request: Request, decision: Decision, methods: tuple[str, ...]) -> Iterator[pa.Table]:
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
        covered = decision.under_covered[here].tolist()
        flags = part.column("flags").to_pylist() if "flags" in part.column_names else [None] * len(part)
        codes = [
            ",".join([*naming.without(flag, UNDER_COVERED), *([UNDER_COVERED] if under else [])]) or (flag and "")
            for flag, under in zip(flags, covered, strict=True)
        ]
        texts = {"verdict": verdict, "reason": reason, "reviewer": reviewer, "flags": codes}
        columns = {name: pa.array(values, pa.string()) for name, values in texts.items()}
        yield with_columns(part, columns | {"fused_rank": pa.array(rank, mask=np.isnan(rank))})


def with_columns(rows: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    """The table with these columns, which replace those of the same name."""
    for name, values in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.append_column(name, values) if at < 0 else rows.set_column(at, name, values)
    return rows


def _reason(code: str, rank: float, methods: tuple[str, ...], request: Request) -> str:
    details = {
        LOW: f": {rank:.4f} by {', '.join(methods)}",
        CAP: f": {request.cap} of a {request.strata}",
        FLAGGED: f": {', '.join(request.drop_flags)}",
    }
    return code + details.get(code, "")
