"""A gallery of what a manifest decided, as one page that needs nothing else: thumbnails, scores, reasons, filters.

It shows a few of each kind: removed images, those next to the border on either side, under-covered ones, copies beside
the best of them, images of a doubtful label, and kept ones drawn at random, without which one sees only what went
wrong.
"""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from string import Template
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from curation import columns
from curation.decide import quotas
from curation.decide.prune import LOW, UNDER_COVERED
from curation.score import image_checks
from curation.score.methods import NEXT, RANKING, score_column
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.data.images import encode, for_display
from gan.errors import RequestError
from gan.runtime import page
from gan.runtime.parallel import ordered_map

FILTERS = ("genre", "style", "artist", "label")
Chosen = dict[str, NDArray[np.int64]]  # section -> rows, in the order in which they are shown
ABOUT = {
    "Removed": "Dropped, the least typical first.",
    "Borderline": "Next to the border: half of them just dropped, half just kept.",
    "Under-covered": "The discriminator finds them more real than what the generator makes. They are kept.",
    "Copies": "Each picture's copies, the best first: that of most pixels.",
    "Mislabelled": "Their neighbours agree on another label, which is named.",
    "Random kept": "Drawn from all that is kept.",
    "Next": "Decide on each with k or d, to keep or to drop, and the next one follows. What to look at most first.",
}


def choose(rows: pa.Table, count: int, seed: int) -> tuple[Chosen, dict[str, int]]:
    """At most `count` rows for each section of the gallery, and how many there are in all."""
    kept = np.asarray(manifest.is_kept(rows))
    named = np.asarray(pc.is_valid(rows.column("name")))
    removed = named & np.asarray(pc.equal(rows.column("verdict"), manifest.DROP))
    rank = np.full(len(rows), np.nan)
    if "fused_rank" in rows.column_names:
        rank = columns.floats(rows, "fused_rank")
    by_rank = np.argsort(rank, kind="stable")  # those without a rank last
    by_rank = by_rank[~np.isnan(rank[by_rank])]
    low = removed & np.asarray(pc.starts_with(pc.fill_null(rows.column("reason"), ""), LOW))
    under = named & _flagged(rows, UNDER_COVERED)
    doubtful = named & _flagged(rows, image_checks.MISLABELLED)
    copies = _copies(rows)
    fell, stayed = by_rank[low[by_rank]], by_rank[kept[by_rank]]
    half = count // 2
    border = np.r_[fell[::-1][:half][::-1], stayed[:half]] if len(fell) else fell
    unranked = np.flatnonzero(removed & np.isnan(rank))
    all_removed = np.r_[by_rank[removed[by_rank]], unranked]
    some = np.random.default_rng(seed).permutation(np.flatnonzero(kept))[:count]
    sections = {
        "Removed": all_removed[:count],
        "Borderline": border,
        "Under-covered": np.flatnonzero(under)[:count],
        "Copies": copies[:count],
        "Mislabelled": np.flatnonzero(doubtful)[:count],
        "Random kept": np.sort(some),
    }
    totals = {
        "Removed": len(all_removed),
        "Borderline": len(border),
        "Under-covered": int(under.sum()),
        "Copies": len(copies),
        "Mislabelled": int(doubtful.sum()),
        "Random kept": int(kept.sum()),
    }
    return sections, totals


def choose_next(rows: pa.Table, count: int, seed: int) -> tuple[Chosen, dict[str, int]]:
    """At most `count` rows on which to decide next, and how many there are: those that salon curate learn proposed.

    Where it proposed none yet, half are the least typical by their scores, and half drawn at random from what is kept:
    a model needs verdicts of both kinds. Raises RequestError without scores, and when all proposed have a verdict.
    """
    judged = columns.by_person(rows)
    if NEXT in rows.column_names:
        order = np.where(judged, np.nan, columns.floats(rows, NEXT))
        places = np.argsort(order, kind="stable")[: int((~np.isnan(order)).sum())]
        if not len(places):
            raise RequestError("`next` found a verdict on all that was proposed; propose more with salon curate learn")
        return {"Next": places[:count]}, {"Next": len(places)}
    scores = [score_column(method) for method in RANKING if score_column(method) in rows.column_names]
    if not scores:
        raise RequestError("`next` needs a manifest with scores; make them with salon curate score")
    free = np.asarray(manifest.is_kept(rows)) & ~judged
    rank = quotas.fuse([np.where(free, columns.floats(rows, name), np.nan) for name in scores])
    lowest = np.argsort(rank, kind="stable")[: min((count + 1) // 2, int((~np.isnan(rank)).sum()))]
    others = np.random.default_rng(seed).permutation(np.setdiff1d(np.flatnonzero(free), lowest))
    return {"Next": np.r_[lowest, others[: count - len(lowest)]]}, {"Next": int(free.sum())}


def _flagged(rows: pa.Table, code: str) -> NDArray[np.bool_]:
    if "flags" not in rows.column_names:
        return np.zeros(len(rows), bool)
    return np.asarray(pc.match_substring(pc.fill_null(rows.column("flags"), ""), code))


def _copies(rows: pa.Table) -> NDArray[np.int64]:
    # Rows of copies, group by group, the best of each first.
    if "copy_of" not in rows.column_names:
        return np.empty(0, np.int64)
    group = np.asarray(pc.fill_null(rows.column("embedding_group"), -1), np.int64)
    order = np.lexsort((np.asarray(pc.is_valid(rows.column("copy_of"))), group))
    return order[group[order] >= 0]


def content(
    found: manifest.Manifest, dataset: ImageDataset, *, count: int, size: int, seed: int, next_alone: bool = False
) -> dict[str, Any]:
    """What the page shows, as JSON: sections of at most `count` images with thumbnails of `size` pixels.

    `next_alone` shows only what to decide on next; raises RequestError as `choose_next` does.
    """
    sections, totals = (choose_next if next_alone else choose)(found.rows, count, seed)
    indices = np.unique(np.concatenate(list(sections.values())))
    rows = found.rows.take(pa.array(indices))
    where = {name: index for index, name in enumerate(dataset.names)}
    names = rows.column("name").to_pylist()
    with ThreadPoolExecutor() as pool:
        thumbnails = list(ordered_map(pool, lambda name: _thumbnail(dataset, where[name], size), names))
    sources = dict(zip(*(found.rows.column(name).to_pylist() for name in ("name", "source")), strict=True))
    entries = [
        _entry(row, dataset, sources) | {"thumbnail": t} for row, t in zip(rows.to_pylist(), thumbnails, strict=True)
    ]
    ids = found.rows.column("name")
    verdicts = ", ".join(f"{name} {number:,}" for name, number in found.header["verdicts"].items())
    return {
        "title": found.path.name,
        "summary": f"{len(found.rows):,} images: {verdicts}. Manifest {found.hash[:12]}.",
        "filters": [kind for kind in FILTERS if len({entry[kind] for entry in entries} - {None})],
        "about": FILTERS,
        "size": min(size, max(dataset.shape.size)),
        "next": next_alone,
        "images": entries,
        "sections": [
            {
                "title": title,
                "about": ABOUT[title],
                "total": totals[title],
                "images": ids.take(pa.array(some)).to_pylist(),
            }
            for title, some in sections.items()
            if len(some)
        ],
    }


def html(shown: dict[str, Any]) -> str:
    """The whole page as HTML. It may load nothing, and only speak to where it came from, of larger images too."""
    style, script = (
        page.read(page.PACKAGE, f"page.{kind}") + page.read("curation.decide", f"review_page.{kind}")
        for kind in ("css", "js")
    )
    policy = (
        f"default-src 'none'; img-src data: 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"style-src {page.allowed(style)}; script-src {page.allowed(script)}"
    )
    text = json.dumps(shown, ensure_ascii=False).replace("<", "\\u003c")  # no name can end the script element
    return page.html(
        f"Review: {shown['title']}",
        head=f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<link rel="icon" href="data:,">\n'
        f"<style>{style}</style>",
        body=Template(page.read("curation.decide", "review_page.html")).substitute(script=script, content=text),
    )


def _entry(row: dict[str, Any], dataset: ImageDataset, sources: dict[str, str]) -> dict[str, Any]:
    label = row["label"]
    classes = dataset.classes or []
    named = None if label is None else classes[label] if label < len(classes) else str(label)
    scores = []
    for column in columns.score_columns(list(row)):
        if row[column] is not None:
            error = row.get(f"{column}_se")
            text = f"{row[column]:.4g}" + ("" if error is None else f" ± {error:.2g}")
            scores.append([column.removeprefix("score_").replace("_", "-"), text])
    if row.get("fused_rank") is not None:
        scores.append(["rank", f"{row['fused_rank']:.4f}"])
    kept = ("source", "style", "genre", "artist", "verdict", "reason", "reviewer")
    noted = {"label": named, "scores": scores, "flags": _flags(row), "copy": _copy(row, sources)}
    return {"id": row["name"], **noted, **{k: row[k] for k in kept}}


def _flags(row: dict[str, Any]) -> str | None:
    # The codes, with the probable label beside a doubtful one.
    codes = (row.get("flags") or "").split(",")
    probable = f"{image_checks.MISLABELLED}, probably {row.get('probable_label')}"
    told = [probable if code == image_checks.MISLABELLED and row.get("probable_label") else code for code in codes]
    return ", ".join(told) or None


def _copy(row: dict[str, Any], sources: dict[str, str]) -> str | None:
    # What an image is a copy of.
    if row.get("known_copy"):
        return f"copy of the known {row['known_copy']}"
    if row.get("copy_of"):
        return f"copy of {sources[row['copy_of']]}, {row['width']} by {row['height']} px"
    if "copy_of" in row and row.get("embedding_group") is not None:
        return f"best of its copies, {row['width']} by {row['height']} px"
    return None


def _thumbnail(dataset: ImageDataset, index: int, size: int) -> str:
    image = Image.fromarray(for_display(dataset.image(index)))
    image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=None)
    return "data:image/jpeg;base64," + base64.b64encode(encode(image, "jpeg", 70)).decode()
