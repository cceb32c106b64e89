"""What `salon curate auto` does: check, score and prune, one after the other, and the page of what was decided.

OUT                    the manifest: its verdicts are what training goes by
NAME-checked.manifest  flags, the parent of the next
NAME-scored.manifest   scores, the parent of OUT
NAME-review.html       the page

A step whose manifest is there already, of the same parent, version and parameters, is not done again.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.auto.request import AutoRequest
from curation.decide import prune, review_page
from curation.decide.materialize import open_to_write
from curation.decide.request import ReviewRequest
from curation.score import check, score
from curation.score.methods import RANKING
from gan import __version__
from gan.data import manifest
from gan.data.collection import manifest_beside
from gan.errors import RequestError
from gan.runtime.console import say
from gan.runtime.files import atomic, escaped

Header = dict[str, Any]


def auto(request: AutoRequest) -> dict[str, Any]:
    """Curate a dataset with defaults -> figures.

    Raises RequestError for a request that does not fit the dataset, and where something else lies at `out` or beside
    it and `overwrite` does not allow to replace it: before anything is computed.
    """
    source = request.manifest or manifest_beside(request.dataset)
    if request.manifest is None and not source.is_dir():
        raise RequestError(f"`manifest` must name the manifest of {request.dataset}; there is none beside it")
    if source.resolve() in {path.resolve() for path in (request.out, request.checked, request.scored)}:
        raise RequestError(f"`out` must name another manifest than {source}, from which it is made")
    steps = _Steps(request, manifest.read_header(source))
    steps.take("check", request.checked, _checked(request), lambda: check.check(request.check()))
    steps.take("score", request.scored, _scored(request), lambda: score.score(request.score()))
    planned = prune.prune(request.prune(dry_run=True))
    steps.take("prune", request.out, {"parameters": planned["parameters"]}, lambda: prune.prune(request.prune()))
    made = _page(request, steps)
    before = manifest.read(request.scored, ["name", "verdict"])
    after = manifest.read(request.out, ["name", "verdict", "reason", "flags"])
    return {
        "manifest": str(request.out),
        "hash": after.hash,
        "images": planned["images"],
        "kept": planned["kept"],
        "dropped": _dropped(before.rows, after.rows, request.drop_flags),
        "flagged": _flagged(after.rows),
        "strata": planned["strata"],
        "steps": steps.done,
        "page": str(request.page),
        "page_images": made,
    }


class _Steps:
    """The steps in their order: one that is done, of what came before as it is now, is reused."""

    def __init__(self, request: AutoRequest, source: Header) -> None:
        self.request, self.header = request, source
        self.done: list[dict[str, Any]] = []
        self.places = [request.checked, request.scored, request.out, request.page]

    def take(self, name: str, place: Path, wanted: Header, make: Callable[[], object]) -> None:
        """Reuse the manifest at `place` where it is a child of the last one with what is `wanted`; else make it."""
        number, started = len(self.done) + 1, time.perf_counter()
        reused = _is_child(place, self.header, wanted)
        if reused:
            say(f"[{number}/3] {name}: {place} is up to date")
        else:
            self.refuse(self.places[number - 1 :])
            say(f"[{number}/3] {name}: {place}")
            with _replacing(place):
                make()
        self.header = manifest.read_header(place)
        seconds = round(time.perf_counter() - started, 3)
        self.done.append({"step": name, "manifest": str(place), "reused": reused, "seconds": seconds})

    def refuse(self, places: list[Path]) -> None:
        """Raise RequestError where something lies that would be replaced, and must not."""
        for place in places:
            if not place.exists():
                continue
            if not self.request.overwrite:
                raise RequestError(
                    f"`out` would replace {place}, which is of another request or dataset; choose another, or add "
                    "`overwrite`"
                )
            if place != self.request.page and not (place / "manifest.json").is_file():
                raise RequestError(f"`out` would replace {place}, which is no manifest; choose another")


def _is_child(place: Path, parent: Header, wanted: Header) -> bool:
    if not (place / "manifest.json").is_file():
        return False
    header = manifest.read_header(place)
    same = header.get("parent") == parent["hash"] and header.get("dataset") == parent["dataset"]
    return same and (header.get("versions") or {}).get("salon") == __version__ and _has(header, wanted)


def _has(found: Any, wanted: Any) -> bool:
    # Whether `found` is `wanted`, or a dictionary with all that is in it.
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(key in found and _has(found[key], wanted[key]) for key in wanted)
    return bool(found == wanted)


def _checked(request: AutoRequest) -> Header:
    # What the header of a manifest with flags holds.
    return {"parameters": {"command": "salon curate check", "labels": request.labels or "none", "known": None}}


def _scored(request: AutoRequest) -> Header:
    parameters = {"command": "salon curate score", "methods": list(RANKING), "strata": request.strata or "none"}
    return {"parameters": {**parameters, "state": None}}


@contextmanager
def _replacing(place: Path) -> Iterator[None]:
    # What lies at `place` is put aside while another is made there, and comes back when that fails.
    aside = place.with_name(f".{place.name}.{os.getpid()}.replaced")
    there = place.exists()
    if there:
        place.rename(aside)
    try:
        yield
    except BaseException:
        if there and not place.exists():
            aside.rename(place)
        raise
    if there:
        shutil.rmtree(aside)


def _page(request: AutoRequest, steps: _Steps) -> int | None:
    # Write the page of the review -> images on it; None where it is there.
    mark = f"Manifest {steps.header['hash'][:12]}."
    collection = open_to_write(request.dataset, request.out, request.page)
    if request.page.exists():
        if mark in request.page.read_text(encoding="utf-8", errors="replace"):
            return None
        steps.refuse([request.page])
    content = review_page.content(
        collection.require_manifest().whole(),
        collection.dataset,
        count=ReviewRequest.count,
        size=ReviewRequest.size,
        seed=ReviewRequest.seed,
    )
    with atomic(request.page) as file:
        file.write_text(escaped(review_page.html(content)), encoding="utf-8")
    return len(content["images"])


def _dropped(before: pa.Table, after: pa.Table, codes: tuple[str, ...]) -> dict[str, int]:
    # Why images were dropped now -> how many: a flag's code, or what salon curate prune says.
    new = pc.and_(manifest.is_kept(before), pc.invert(manifest.is_kept(after)))
    rows = after.filter(new)
    reasons = (reason.partition(":")[0] for reason in rows.column("reason").to_pylist())
    flags = ((text or "").split(",") for text in rows.column("flags").to_pylist())
    counts: Counter[str] = Counter()
    for reason, own in zip(reasons, flags, strict=True):
        counts[next((code for code in codes if code in own), reason) if reason == prune.FLAGGED else reason] += 1
    return dict(counts.most_common())


def _flagged(rows: pa.Table) -> dict[str, int]:
    # Flags of the images that stay -> how many have each.
    kept = rows.filter(manifest.is_kept(rows)).column("flags").to_pylist()
    return dict(Counter(code for text in kept for code in (text or "").split(",") if code).most_common())
