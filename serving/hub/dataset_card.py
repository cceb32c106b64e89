"""The card of a dataset: README.md with what the hub reads, a sheet of images, and what is in it for machines.

card.json has the numbers, images.jsonl each image's class, style and so on, croissant.json says what the files are.
"""

import json
import re
import shlex
import time
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from curation.prepare.dataset_info import MAX_IMAGES, describe, draw_montage
from gan import __version__
from gan.data.collection import Collection
from gan.errors import RequestError
from gan.runtime.files import atomic, escaped, sha256, write_json
from serving.hub import croissant, markdown, selection
from serving.hub.croissant import TABLE
from serving.hub.front_matter import front_matter
from serving.hub.hub import HUGGING_FACE
from serving.hub.kinds import README, allowed, megabytes
from serving.hub.push import CARD, CARD_FORMAT
from serving.hub.request import DATASETS, PLACE, CardRequest

CROISSANT = "croissant.json"
MONTAGE = "images.jpg"
COLUMNS = ("style", "genre", "artist")  # of a manifest, that a card has
_SHOWN = 20  # values of a column in the card
_WIDE = 512  # pixels at which the sheet is shown, at least
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))


def write(request: CardRequest) -> dict[str, Any]:
    """Write the card of the dataset ZIP `source` -> figures: out, files, sha256, images.

    Its manifest is `manifest`, else the one beside it. Raises RequestError for what only a generator has.
    """
    for name in ("evaluation", "data", "data_repo", "class_name"):
        if getattr(request, name) is not None:
            raise RequestError(f"`{name}` is for the card of a generator; {request.source} is a dataset")
    if not allowed(request.source.name, "dataset"):
        raise RequestError(
            f"`source` must have a plain name, such as paintings64.zip; got {request.source.name!r} instead"
        )
    collection = Collection.open(request.source, request.manifest)
    facts = describe(collection.dataset)
    table = _write_table(collection, request.out / TABLE)
    draw_montage(collection.dataset, request.out / MONTAGE)
    archive = _file(request.source)
    repo = request.repo and DATASETS + request.repo.removeprefix(DATASETS)
    name = repo.rpartition("/")[2] if repo else request.source.stem
    folder = re.sub(r"[^\w.-]", "-", name)
    shape, chosen = str(collection.dataset.shape), selection.of_collection(collection)
    columns = {column: counts for column in COLUMNS if (counts := _counts(collection, column))}
    text = markdown.render(
        "dataset.md.j2",
        front=_front(request, name, facts),
        name=name,
        folder=folder,
        path=shlex.quote(f"{folder}/{request.source.name}"),
        repo=repo or DATASETS + PLACE,
        file=request.source.name,
        images=facts["images"],
        shape=shape,
        classes=facts["classes"] or {},
        formats=facts["formats"],
        columns=columns,
        fingerprint=facts["fingerprint"],
        montage=_montage(request.out / MONTAGE, facts["images"]),
        selection=chosen,
        settings=chosen.settings if chosen else {},
        license=request.license,
        creator=request.creator,
        size=megabytes(archive["size"]),
        sha256=archive["sha256"],
    )
    described = croissant.describe(
        name=name,
        description=f"{facts['images']:,} images of {shape} pixels, prepared with Salon for training generators.",
        license=request.license,
        creator=request.creator,
        url=f"{HUGGING_FACE}/{repo}" if repo else f"urn:sha256:{facts['fingerprint']}",
        published=time.strftime("%Y-%m-%d", time.gmtime()),
        archive=archive,
        table=table,
        formats=sorted(facts["formats"]),
        columns=table["columns"],
    )
    about = {
        "format": CARD_FORMAT,
        "kind": "dataset",
        "sha256": archive["sha256"],
        "license": request.license,
        "creator": request.creator,
        **{key: facts[key] for key in ("images", "width", "height", "channels", "classes", "formats", "fingerprint")},
        "manifest": chosen and chosen.to_dict(),
        "salon": __version__,
    }
    write_json(request.out / CROISSANT, described)
    write_json(request.out / CARD, about)
    markdown.write(request.out / README, text)
    files = [README, CARD, CROISSANT, TABLE, MONTAGE]
    figures = {"out": str(request.out), "kind": "dataset", "images": facts["images"], "sha256": archive["sha256"]}
    return {**figures, "files": files}


def _file(path: Path) -> dict[str, Any]:
    return {"name": path.name, "size": path.stat().st_size, "sha256": sha256(path)}


def _write_table(collection: Collection, path: Path) -> dict[str, Any]:
    """Write a line of JSON for each image -> name, size, sha256 and columns of the file."""
    dataset = collection.dataset
    values: dict[str, list[Any]] = {}
    if dataset.labels is not None:
        values["label"] = [dataset.class_name(label) for label in dataset.labels.tolist()]
    if collection.manifest is not None:
        for column in (*COLUMNS, "verdict"):
            own: list[Any] = [None] * len(dataset)
            for index, value in zip(collection.indices, collection.column(column), strict=True):
                own[index] = value
            if any(own):
                values[column] = own
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for index, name in enumerate(dataset.names):
            row = {"file_name": name, **{column: own[index] for column, own in values.items()}}
            file.write(escaped(json.dumps(row, ensure_ascii=False)) + "\n")
    return {**_file(path), "columns": list(values)}


def _counts(collection: Collection, column: str) -> list[tuple[str, int]]:
    counts = Counter(value for value in collection.column(column) if value)
    shown: list[tuple[str, int]] = counts.most_common(_SHOWN)
    rest = sum(counts.values()) - sum(count for _, count in shown)
    return [*shown, *([(f"{len(counts) - _SHOWN} others", rest)] if rest else [])]


def _montage(path: Path, images: int) -> dict[str, Any]:
    with Image.open(path) as image:
        return {"file": path.name, "count": min(images, MAX_IMAGES), "width": max(image.width, _WIDE)}


def _front(request: CardRequest, name: str, facts: dict[str, Any]) -> str:
    size = next((text for most, text in _SIZES if facts["images"] < most), "n>10M")
    return front_matter(
        {
            "license": request.license,
            "pretty_name": name,
            "task_categories": ["unconditional-image-generation"],
            "tags": ["salon", "croissant", "image"],
            "size_categories": [size],
        }
    )
