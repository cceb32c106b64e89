"""What `salon curate map` does: features, positions, thumbnails, one page."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.child_manifest import stratum_numbers
from curation.map import page_columns, sheets
from curation.map.layout import Layout, layout, require_library
from curation.map.request import MapRequest
from curation.map.sample import stratified
from curation.score.inputs import opened
from eval.data.feature_cache import features_of
from eval.data.snapshot_source import SnapshotSource
from eval.features.extractor import Extractor
from gan.data.classes import class_name
from gan.data.collection import Collection
from gan.data.images import Pixels, for_display, to_rgb
from gan.data.strata import STRATA
from gan.errors import RequestError
from gan.runtime import distributed, page
from gan.runtime.console import progress
from gan.runtime.files import atomic, escaped, refuse_inside
from gan.runtime.parallel import ordered_map

PACKAGE = "curation.map"
SCRIPTS = (
    "page.view.js",
    "page.dots.js",
    "page.colours.js",
    "page.select.js",
    "page.js",
)  # in the order in which they are run
UNITS = 65_535  # of a coordinate on the page


def draw(request: MapRequest) -> dict[str, Any]:
    """Write the page of a map -> figures.

    Raises RequestError for a request that does not fit the collection, and where openTSNE is missing.
    """
    require_library()
    refuse_inside(request.out, request.dataset, parameter="dataset")
    started = time.perf_counter()
    with opened(request, only_kept=False) as (collection, extractors):
        if distributed.world_size() > 1:
            raise RequestError("a map is made by one process; start it without torchrun")
        (extractor,) = extractors.values()
        strata = _strata(collection)
        places = stratified(
            stratum_numbers(collection, strata), request.count - request.generated, seed=request.seed
        ).tolist()
        side = sheets.side_for(len(places) + request.generated, min(collection.dataset.shape.size))
        features = features_of(collection.dataset, collection.indices[places], extractor)
        classes: list[str | None] = []
        thumbnails: list[Pixels] = []
        if request.snapshot is not None:
            gen_features, thumbnails, classes = _generated(request, extractor, side)
            features = np.concatenate([features, gen_features])
        drawn = time.perf_counter()
        found = layout(features, seed=request.seed)
        laid_out = time.perf_counter() - drawn
        content = _content(request, collection, places, classes, found, strata)
        content["side"], content["sheets"] = (
            side,
            list(sheets.sheets(_thumbnails(collection, places, side, thumbnails), side)),
        )
        text = html(content)
    with atomic(request.out) as file:
        file.write_text(escaped(text), encoding="utf-8")
    return {
        "page": str(request.out),
        "bytes": request.out.stat().st_size,
        "images": len(collection.rows),
        "shown": len(places),
        "generated": len(classes),
        "sampled_by": strata if len(places) < len(collection.rows) else None,
        "thumbnail": side,
        "features": request.features,
        "extractor": extractor.identity,
        "components": found.components,
        "perplexity": found.perplexity,
        "neighbours_kept": found.kept,
        "columns": [column["name"] for column in content["columns"]],
        "color": content["color"],
        "manifest": str(collection.require_manifest().path),
        "hash": collection.require_manifest().hash,
        "layout_seconds": round(laid_out, 3),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _strata(collection: Collection) -> str | None:
    # The column by which a sample is drawn, and which colours the images at first: the first that tells any apart.
    for name in STRATA:
        if len(set(collection.column(name)) - {None}) > 1:
            return name
    return None


def _generated(
    request: MapRequest, extractor: Extractor, side: int
) -> tuple[NDArray[np.float32], list[Pixels], list[str | None]]:
    # Features [n, D], thumbnails and classes of a snapshot's images, of each class as many.
    assert request.snapshot is not None
    source = SnapshotSource(request.snapshot, request.generated, seed=request.seed, device=extractor.device)
    number = source.G.config.num_classes
    seeds = source.seeds(0, len(source))
    classes = [place % number for place in range(len(seeds))] if number else None
    features, thumbnails, waiting = [], [], []
    for image in progress(source.generate(seeds, classes), "Generating", len(seeds)):
        thumbnails.append(sheets.shrunk(for_display(image), side))
        waiting.append(to_rgb(image))
        if len(waiting) == extractor.batch_size:
            features.append(extractor(waiting)["features"])
            waiting = []
    if waiting:
        features.append(extractor(waiting)["features"])
    names: list[str | None] = (
        [None] * len(seeds) if classes is None else [class_name(c, source.snapshot.classes) for c in classes]
    )
    return np.concatenate(features), thumbnails, names


def _thumbnails(collection: Collection, places: list[int], side: int, generated: list[Pixels]) -> Iterator[Pixels]:
    def real(index: int) -> Pixels:
        return sheets.shrunk(for_display(collection.dataset.image(index)), side)

    with ThreadPoolExecutor() as pool:
        images = ordered_map(pool, real, collection.indices[places].tolist())
        yield from progress(images, "Making thumbnails", len(places))
    yield from generated


def _content(
    request: MapRequest,
    collection: Collection,
    places: list[int],
    classes: list[str | None],
    found: Layout,
    strata: str | None,
) -> dict[str, Any]:
    # What the page shows, save the thumbnails, as JSON.
    manifest = collection.require_manifest()
    columns = page_columns.page_columns(collection, places, classes)
    names = [column["name"] for column in columns]
    if request.color is not None and request.color not in names:
        raise RequestError(f"`color` must be one of {', '.join(names)}; got {request.color} instead")
    usual = (strata, page_columns.ORIGIN if classes else None, "verdict")
    x, y = _units(found.positions).T.tolist()
    sources = collection.column("source")
    across, full = sheets.per_sheet(sheets.side_for(len(places) + len(classes), min(collection.dataset.shape.size)))
    return {
        "title": manifest.path.name,
        "summary": _summary(request, collection, len(places), len(classes), strata, found),
        "manifest": manifest.hash[:12],
        "across": across,
        "full": full,
        "x": x,
        "y": y,
        "names": [collection.dataset.names[i] for i in collection.indices[places].tolist()],
        "sources": [sources[place] for place in places],
        "lines": page_columns.lines(collection, places),
        "seed": request.seed,
        "columns": columns,
        "color": request.color or next((name for name in usual if name in names), names[0] if names else None),
    }


def _summary(
    request: MapRequest, collection: Collection, shown: int, generated: int, strata: str | None, found: Layout
) -> str:
    total = len(collection.rows)
    parts = [f"{shown:,} images"]
    if shown < total:
        drawn = f"by {strata}, each with its share" if strata else "at random"
        parts = [f"A sample of {shown:,} of {total:,} images, drawn {drawn}"]
    if generated:
        parts.append(f"{generated:,} generated")
    text = " and ".join(parts) + f", laid out by {request.features}."
    if found.kept is not None:
        text += f" Of an image's 10 nearest, {found.kept:.0%} are so on the map; distances between groups say little."
    return text


def _units(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    # Positions [N, 2] -> whole numbers from 0 to UNITS, on one scale, the shorter side in the middle.
    low, high = positions.min(axis=0), positions.max(axis=0)
    extent = max(float((high - low).max()), 1e-12)
    centred = (positions - (low + high) / 2) / extent + 0.5
    units: NDArray[np.int64] = np.rint(centred * UNITS).astype(np.int64)
    return units


def html(content: dict[str, Any]) -> str:
    """The whole page as HTML. It may load nothing, and speak to nobody."""
    style = page.read(page.PACKAGE, "page.css") + page.read(PACKAGE, "page.css")
    script = page.read(page.PACKAGE, "page.js") + "".join(page.read(PACKAGE, name) for name in SCRIPTS)
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {page.allowed(style)}; script-src {page.allowed(script)}"
    )
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return page.html(
        f"Map: {content['title']}",
        head=f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<link rel="icon" href="data:,">\n'
        f"<style>{style}</style>",
        body=Template(page.read(PACKAGE, "page.html")).substitute(
            script=script,
            content=text.replace("<", "\\u003c"),  # no name can end the script element
        ),
    )
