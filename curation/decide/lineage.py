"""Where a manifest comes from, and what differs between two: every decision can be traced, and undone by its parent."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import columns
from gan.data import manifest
from gan.data.manifest import Manifest
from gan.errors import RequestError
from gan.runtime.files import read_json

EXAMPLES = 20  # changed images that the figures name


def log(path: Path) -> dict[str, Any]:
    """The manifest and its parents, the newest first; their rows are verified.

    A parent is looked for where it was, and beside its child. `missing` is the hash of one that was not found. Raises
    RequestError when rows of one are not those that its hash names.
    """
    chain: list[dict[str, Any]] = []
    seen: set[Path] = set()
    current: Path | None = path
    header: dict[str, Any] = {}
    while current is not None and current.resolve() not in seen:
        seen.add(current.resolve())
        header = manifest.read(current, []).header
        keys = ("hash", "parent", "dataset", "parameters", "versions", "verdicts", "reasons")
        command = header.get("command") or (header.get("parameters") or {}).get("command")  # check and score's is there
        chain.append({"path": str(current), "command": command, **{key: header.get(key) for key in keys}})
        current = _parent(current, header)
    return {"manifests": chain, "missing": header.get("parent") if current is None else None}


def _parent(child: Path, header: dict[str, Any]) -> Path | None:
    folder = child.absolute().parent
    places = [folder / str(header["parent_at"])] if header.get("parent_at") else []
    places += sorted(file.parent for file in folder.glob("*/manifest.json"))
    for place in places if header.get("parent") else []:
        if (place / "manifest.json").is_file() and place.resolve() != child.resolve():
            candidate = read_json(place / "manifest.json")
            if isinstance(candidate, dict) and candidate.get("hash") == header["parent"]:
                return place
    return None


def diff(a: Path, b: Path, strata: str | None = None) -> dict[str, Any]:
    """What the manifest `b` decides otherwise than `a`: counts by change, by stratum and by reason, and examples.

    `strata` is a column of STRATA; None counts by no stratum. Images are told apart by their name in the dataset where
    both manifests are of the same one, else by their source; those without a name by their source. Raises RequestError
    when that leaves two rows alike, or no image has a stratum.
    """
    before, after = manifest.read(a, []), manifest.read(b, [])
    if strata and not any(len(m.column(strata).drop_null()) for m in (before, after)):
        raise RequestError(f"`strata` {strata} needs a {strata} for some image; {a} and {b} have none")
    same_dataset = before.dataset == after.dataset
    key_a, key_b = _keys(before, same_dataset), _keys(after, same_dataset)
    place = pc.index_in(key_a, value_set=key_b)  # in b, null where it is not
    common = np.asarray(pc.is_valid(place))
    added = len(key_b) - int(common.sum())
    place = place.drop_null()
    del key_a, key_b
    old = pc.fill_null(before.column("verdict").filter(common), columns.NONE)
    new = pc.fill_null(after.column("verdict").take(place), columns.NONE)
    changed = np.asarray(pc.not_equal(old, new))
    verdicts = zip(old.filter(changed).to_pylist(), new.filter(changed).to_pylist(), strict=True)
    changes = [f"{verdict} -> {other}" for verdict, other in verdicts]
    place = place.filter(pa.array(changed))
    told = ["name", "source", "reason", "reviewer", *([strata] if strata else [])]
    decided = pa.table({name: after.column(name).take(place) for name in told})
    indices, names = columns.strata(decided, strata)
    reasons = [(reason or columns.NONE).partition(":")[0] for reason in decided.column("reason").to_pylist()]
    columns_a, columns_b = (set(manifest.header_schema(m.header).names) for m in (before, after))
    return {
        "a": _identity(before),
        "b": _identity(after),
        "same_dataset": same_dataset,
        "changed": len(changes),
        "added": added,
        "removed": int((~common).sum()),
        "changes": _sorted(Counter(changes)),
        "strata": _nested((names[i] for i in indices.tolist()), changes),
        "reasons": _nested(reasons, changes),
        "columns_added": sorted(columns_b - columns_a),
        "columns_removed": sorted(columns_a - columns_b),
        "examples": _examples(decided, changes),
    }


def _identity(read: Manifest) -> dict[str, Any]:
    return {"path": str(read.path), "hash": read.hash, "kept": read.header["verdicts"].get(manifest.KEEP, 0)}


def _examples(decided: pa.Table, changes: Sequence[str]) -> list[dict[str, str | None]]:
    images = pc.coalesce(decided.column("name"), decided.column("source")).slice(0, EXAMPLES).to_pylist()
    reasons, reviewers = (decided.column(name).slice(0, EXAMPLES).to_pylist() for name in ("reason", "reviewer"))
    rows = zip(images, changes[:EXAMPLES], reasons, reviewers, strict=True)
    return [dict(zip(("image", "change", "reason", "reviewer"), row, strict=True)) for row in rows]


def _keys(read: Manifest, same_dataset: bool) -> pa.Array:
    first, second = ("name", "source") if same_dataset else ("source", "name")
    parts = (pc.coalesce(*part.columns) for part in manifest.parts(read.path, [first, second]))
    keys = pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.string()).combine_chunks()
    if pc.count_distinct(keys, "all").as_py() < len(keys):
        raise RequestError(f"{read.path} must tell its rows apart by {first}; some are the same")
    return keys


def _nested(groups: Iterable[str], changes: Iterable[str]) -> dict[str, dict[str, int]]:
    # Counts of changes by group, in alphabetical order.
    counts: dict[str, Counter[str]] = {}
    for group, change in zip(groups, changes, strict=True):
        counts.setdefault(group, Counter())[change] += 1
    return {group: _sorted(counts[group]) for group in sorted(counts)}


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
