"""Where a manifest comes from, and what differs between two: every decision can be traced, and undone by its parent."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import columns as naming
from gan.data import manifest
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
        kept = ("hash", "parent", "dataset", "command", "parameters", "versions", "verdicts", "reasons")
        chain.append({"path": str(current), **{key: header.get(key) for key in kept}})
        current = _parent(current, header)
    return {"manifests": chain, "missing": header.get("parent") if current is None else None}


def _parent(child: Path, header: dict[str, Any]) -> Path | None:
    folder = child.absolute().parent
    places = [folder / str(header["parent_at"])] if header.get("parent_at") else []
    places += sorted(file.parent for file in folder.glob("*/manifest.json"))
    for place in places if header.get("parent") else []:
        if (place / "manifest.json").is_file() and place.resolve() != child.resolve():
            found = read_json(place / "manifest.json")
            if isinstance(found, dict) and found.get("hash") == header["parent"]:
                return place
    return None


def diff(a: Path, b: Path, kind: str | None = None) -> dict[str, Any]:
    """What the manifest `b` decides otherwise than `a`: counts by change, by stratum and by reason, and examples.

    Images are told apart by their name in the dataset where both judge the same, else by their source; those without a
    name by their source. Raises RequestError when that leaves two rows alike, or no image has a stratum.
    """
    columns = ["name", "source", "verdict", "reason", "reviewer", *([kind] if kind else [])]
    before, after = manifest.read(a, columns), manifest.read(b, columns)
    if kind and not any(len(found.rows.column(kind).drop_null()) for found in (before, after)):
        raise RequestError(f"--strata {kind} needs a {kind} for some image; {a} and {b} have none")
    same = before.dataset == after.dataset
    key_a, key_b = _keys(before, same), _keys(after, same)
    where = pc.index_in(key_a, value_set=key_b)  # in b, null where it is not
    common = np.asarray(pc.is_valid(where))
    added = np.asarray(pc.invert(pc.is_in(key_b, value_set=key_a)))
    rows_a, rows_b = before.rows.filter(common), after.rows.take(where.drop_null())
    old, new = (pc.fill_null(rows.column("verdict"), naming.NONE) for rows in (rows_a, rows_b))
    changed = np.asarray(pc.not_equal(old, new))
    moves = [
        f"{x} -> {y}" for x, y in zip(old.filter(changed).to_pylist(), new.filter(changed).to_pylist(), strict=True)
    ]
    decided = rows_b.filter(changed)
    strata, names = naming.strata(decided, kind)
    reasons = [(reason or naming.NONE).partition(":")[0] for reason in decided.column("reason").to_pylist()]
    columns_a, columns_b = (set(manifest.header_schema(m.header).names) for m in (before, after))
    keys = pc.coalesce(decided.column("name"), decided.column("source"))
    examples = zip(
        keys.slice(0, EXAMPLES).to_pylist(),
        moves,
        decided.column("reason").to_pylist(),
        decided.column("reviewer").to_pylist(),
        strict=False,
    )
    return {
        "a": {"path": str(a), "hash": before.hash, "kept": before.header["verdicts"].get(manifest.KEEP, 0)},
        "b": {"path": str(b), "hash": after.hash, "kept": after.header["verdicts"].get(manifest.KEEP, 0)},
        "same_dataset": same,
        "changed": len(moves),
        "added": int(added.sum()),
        "removed": int((~common).sum()),
        "changes": _sorted(Counter(moves)),
        "strata": _nested(zip((names[i] for i in strata.tolist()), moves, strict=True)),
        "reasons": _nested(zip(reasons, moves, strict=True)),
        "columns_added": sorted(columns_b - columns_a),
        "columns_removed": sorted(columns_a - columns_b),
        "examples": [dict(zip(("image", "change", "reason", "reviewer"), each, strict=True)) for each in examples],
    }


def _keys(found: manifest.Manifest, same_dataset: bool) -> pa.Array:
    first, second = ("name", "source") if same_dataset else ("source", "name")
    keys = pc.coalesce(found.rows.column(first), found.rows.column(second)).combine_chunks()
    if len(pc.unique(keys)) < len(keys):
        raise RequestError(f"{found.path} must tell its rows apart by {first}; some are the same")
    return keys


def _nested(pairs: Any) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for outer, inner in pairs:
        counts.setdefault(outer, Counter())[inner] += 1
    return {outer: _sorted(counts[outer]) for outer in sorted(counts)}


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
