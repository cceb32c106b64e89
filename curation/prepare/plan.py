"""What a preparation will read and write: the image files that a request chooses, with their labels and lists."""

import sys
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from curation.prepare.addresses import shown
from curation.prepare.find_images import find
from curation.prepare.headers import Look, drawn, read_headers
from curation.prepare.image_files import ImageFile
from curation.prepare.labels import Labels, assign
from curation.prepare.request import CHANNELS, EVERY, MAX_CROP, PrepareRequest
from curation.prepare.resize import ImageSettings, colour
from curation.prepare.shapes import AUTO, BUCKETS, bucket_of, require_resolution, scaled
from curation.prepare.video import clips
from curation.prepare.wikiart import Painting, WikiArt
from curation.prepare.worker_pool import cores, fault_tolerant_map
from gan.data.collection import manifest_beside
from gan.data.decode import Colour
from gan.errors import RequestError
from gan.image_shape import SQUARE, ImageShape

_COUNTS = ("found", "found_by_name_only", "found_loosely", "ambiguous", "not_in_lists", "not_selected")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """An image file, or a part of a video, with what is known about it before it is opened."""

    file: ImageFile
    painting: Painting | None
    label: int | None


@dataclass(frozen=True, kw_only=True)
class Output:
    """The files of a prepared dataset, side by side."""

    archive: Path
    manifest: Path
    report: Path

    @classmethod
    def beside(cls, archive: Path) -> "Output":
        """What lies beside an archive. Raises RequestError where its manifest has no place."""
        manifest = manifest_beside(archive)
        if manifest.exists() and not (manifest / "manifest.json").is_file():
            raise RequestError(f"`out` must leave room for its manifest; {manifest} exists and is no manifest: move it")
        return cls(archive=archive, manifest=manifest, report=archive.with_suffix(".report.json"))


@dataclass(frozen=True, kw_only=True)
class PreparationPlan:
    """The chosen image files in the order of the dataset, and what becomes of them."""

    tasks: list[Task]
    labels: Labels | None
    ignored: int  # files that are no images by their names
    videos_ignored: int
    wikiart: dict[str, int] | None  # how the files were found in the lists
    settings: ImageSettings
    output: Output | None  # None: a dry run
    look: dict[str, Any] | None = None  # what the headers say, where they decide
    bucket: str = ""

    @property
    def files(self) -> list[ImageFile]:
        """The files that are prepared, in order: those whose tasks have the label that they need."""
        return [task.file for task in self.tasks if self.has_label(task)]

    def has_label(self, task: Task) -> bool:
        """Whether a task has the label that it needs to be kept."""
        return self.labels is None or task.label is not None


def make_plans(request: PrepareRequest, scratch: Path) -> list[PreparationPlan]:
    """Find the image files, look them up in the WikiArt lists, select and label them; see `find` for `scratch`.

    With `buckets` there is a plan for each bucket that has images, else one. Raises RequestError for sources, lists,
    labels or a background that cannot be used, and an unknown name.
    """
    background = colour(request.background)
    outputs = {bucket: Output.beside(archive) for bucket, archive in request.archives.items()}
    wikiart = WikiArt(request.wikiart_csv) if request.wikiart_csv else None
    selected = wikiart.select(request.chosen) if wikiart else []  # an unknown name is told before files are looked for
    own = [path for output in outputs.values() for path in (output.archive, output.manifest, output.report)]
    label_column = request.label_column if request.labels == "dataset" else None
    chosen = any(request.chosen.values())  # then the limit counts what is chosen
    every = _every(request)
    limit = None if chosen else request.limit
    listing = find(request.sources, scratch, own, label_column, limit, videos=every is not None)
    files, counts = listing.files, None
    paintings: Sequence[Painting | None] = [None] * len(files)
    if wikiart:
        files, paintings, counts = _look_up(wikiart, selected if chosen else None, files)
    # Before the limit, which must not decide what is a class.
    labels = assign(
        request.labels,
        files,
        paintings,
        label_column=request.label_column,
        datasets=listing.datasets,
        beside=listing.beside,
        classes=listing.classes,
    )
    indices = labels.indices if labels else [None] * len(files)
    rows = zip(files, paintings, indices, strict=True)
    tasks: Iterable[Task] = [Task(file=file, painting=painting, label=label) for file, painting, label in rows]
    if every is not None:
        tasks = _with_frames(list(tasks), every, request.workers or cores(), labelled=labels is not None)
    parts = _parts(_limited(tasks, request.limit), request, labelled=labels is not None)
    return [
        PreparationPlan(
            tasks=part.tasks,
            labels=labels,
            ignored=listing.ignored,
            videos_ignored=listing.videos_ignored,
            wikiart=counts,
            settings=_settings(request, background, part),
            output=outputs.get(part.bucket),
            look=part.look.figures(request.resolution if _is_proposed(request, part) else None) if part.look else None,
            bucket=part.bucket,
        )
        for part in parts
    ]


def parameters(request: PrepareRequest, settings: ImageSettings) -> dict[str, Any]:
    """What decides the result: neither the number of workers nor where the files lie."""
    shape = settings.shape
    others = asdict(settings)
    del others["shape"], others["max_crop"]
    return {
        "sources": [shown(s) if isinstance(s, str) else s.resolve().name for s in request.sources],
        **({"resolution": shape.width} if shape.width == shape.height else {"size": shape.size}),
        **({} if shape.channels == 3 else {"channels": shape.channels}),
        **others,
        **({} if settings.max_crop == 1 else {"max_crop": settings.max_crop}),
        **({"buckets": True} if request.buckets else {}),
        "labels": Path(request.labels).name if request.labels else None,
        "label_column": request.label_column,
        **{kind: list(names) for kind, names in request.chosen.items()},
        "wikiart": request.wikiart_csv is not None,
        "limit": request.limit,
        "keep_duplicates": request.keep_duplicates,
    }


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The tasks of one dataset, and what was seen of their files."""

    tasks: list[Task]
    look: Look | None = None
    bucket: str = ""


def _parts(tasks: list[Task], request: PrepareRequest, *, labelled: bool) -> list[_Part]:
    """All tasks as one part, or those of each bucket: what has no size to go by is in the largest."""
    if request.size is not None and request.channels != AUTO:
        return [_Part(tasks=tasks)]
    seen = [task for task in tasks if not (labelled and task.label is None)]
    seen = seen if request.buckets else drawn(seen)
    headers = read_headers(
        [task.file for task in seen],
        every=_every(request),
        max_pixels=request.max_pixels,
        channels=request.channels,
        workers=request.workers or cores(),
    )
    if not request.buckets:
        return [_Part(tasks=tasks, look=Look([header for header in headers if header], len(tasks)))]
    sizes = {id(task): header for task, header in zip(seen, headers, strict=True) if header}
    names = {task: bucket_of(header.width, header.height) for task, header in sizes.items()}
    largest = max(BUCKETS, key=list(names.values()).count)
    parts = {bucket: [task for task in tasks if names.get(id(task), largest) == bucket] for bucket in BUCKETS}
    return [
        _Part(tasks=own, look=Look([sizes[id(task)] for task in own if id(task) in sizes], len(own)), bucket=bucket)
        for bucket, own in parts.items()
        if own
    ]


def _settings(request: PrepareRequest, background: Colour, part: _Part) -> ImageSettings:
    channels, size = CHANNELS.get(request.channels), request.size
    if part.look and channels is None:
        channels = part.look.channels
        request.require_alpha(channels, "`channels` auto finds images that are transparent")
    if part.look and size is None:
        base = part.look.proposals[0].base if _is_proposed(request, part) else SQUARE
        size = scaled(base, require_resolution(request.resolution))
    assert channels and size
    return ImageSettings(
        shape=ImageShape(*size, channels),
        fit=request.fit or ("crop" if request.crops_by_default else "stretch"),
        max_crop=(MAX_CROP if request.crops_by_default else 1) if request.max_crop is None else request.max_crop,
        format=request.format or ("png" if channels == 4 else "jpeg"),
        quality=request.quality,
        filter=request.filter,
        background=background,
        max_pixels=request.max_pixels,
        crops=request.crops,
        video_every=_every(request),
        video_scenes=request.video_scenes,
    )


def _is_proposed(request: PrepareRequest, part: _Part) -> bool:
    """Whether the sizes of a part's images decide its shape."""
    return request.size is None and part.bucket != "square"


def _every(request: PrepareRequest) -> float | None:
    return request.video_every or (EVERY if request.video_scenes else None)


def _with_frames(tasks: list[Task], every: float, workers: int, *, labelled: bool) -> Generator[Task]:
    """The tasks with the parts of each video in its place; the headers of some videos ahead are read."""

    def is_read(task: Task) -> bool:
        return task.file.is_video and not task.file.problem and not (labelled and task.label is None)

    videos = [task.file for task in tasks if is_read(task)]
    with closing(fault_tolerant_map(partial(clips, every=every), videos, _crashed, workers)) as parts:
        for task in tasks:
            for file in next(parts) if is_read(task) else [task.file]:
                yield replace(task, file=file)


def _crashed(video: ImageFile) -> list[ImageFile]:
    return [replace(video, problem="decoder crashed")]


def _limited(tasks: Iterable[Task], limit: int | None) -> list[Task]:
    """The tasks of the first so many files and frames."""
    chosen, left = [], limit or sys.maxsize
    for task in tasks:
        if clip := task.file.clip:
            task = replace(task, file=replace(task.file, clip=replace(clip, count=min(left, clip.count))))
        chosen.append(task)
        left -= task.file.clip.count if task.file.clip else 1
        if left <= 0:
            break
    return chosen


def _look_up(
    wikiart: WikiArt, selected: Sequence[Painting] | None, files: Sequence[ImageFile]
) -> tuple[list[ImageFile], list[Painting | None], dict[str, int]]:
    """Find the files in the lists; with a selection, leave out the others and those that are in no list."""
    paths = None if selected is None else {painting.path for painting in selected}
    counts = Counter(dict.fromkeys(_COUNTS, 0))
    kept: list[tuple[ImageFile, Painting | None]] = []
    names = [f"{file.folder}/{file.name.rpartition('/')[2]}" for file in files]
    for file, found in zip(files, wikiart.find(names), strict=True):
        painting = found.painting
        if painting is None:
            counts["ambiguous" if found.ambiguous else "not_in_lists"] += 1
        else:
            counts["found"] += 1
            counts["found_by_name_only"] += not found.by_path
            counts["found_loosely"] += found.loosely
        if paths is not None and (painting is None or painting.path not in paths):
            counts["not_selected"] += painting is not None
        else:
            kept.append((file, painting))
    counts["conflicts_in_lists"] = len(wikiart.conflicts)
    return [file for file, _ in kept], [painting for _, painting in kept], dict(counts)
