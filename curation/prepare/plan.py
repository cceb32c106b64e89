"""What a preparation will read and write: the image files that a request chooses, with their labels and lists."""

import sys
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import ImageColor

from curation.prepare.addresses import shown
from curation.prepare.find_images import find
from curation.prepare.image_files import ImageFile
from curation.prepare.labels import Labels, assign
from curation.prepare.request import EVERY, PrepareRequest
from curation.prepare.resize import ImageSettings
from curation.prepare.video import clips
from curation.prepare.wikiart import Painting, WikiArt
from curation.prepare.worker_pool import cores, fault_tolerant_map
from gan.data.collection import manifest_beside
from gan.errors import RequestError

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

    @property
    def files(self) -> list[ImageFile]:
        """The files that are prepared, in order: those whose tasks have the label that they need."""
        return [task.file for task in self.tasks if self.has_label(task)]

    def has_label(self, task: Task) -> bool:
        """Whether a task has the label that it needs to be kept."""
        return self.labels is None or task.label is not None


def make_plan(request: PrepareRequest, scratch: Path) -> PreparationPlan:
    """Find the image files, look them up in the WikiArt lists, select and label them; see `find` for `scratch`.

    Raises RequestError for sources, lists, labels or a background that cannot be used, and an unknown name.
    """
    settings, output = _settings(request), _output(request)
    wikiart = WikiArt(request.wikiart_csv) if request.wikiart_csv else None
    selected = wikiart.select(request.chosen) if wikiart else []  # an unknown name is told before files are looked for
    outputs = [output.archive, output.manifest, output.report] if output else []
    label_column = request.label_column if request.labels == "dataset" else None
    chosen = any(request.chosen.values())  # then the limit counts what is chosen
    videos = settings.video_every is not None
    limit = None if chosen else request.limit
    listing = find(request.sources, scratch, outputs, label_column, limit, videos=videos)
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
    if settings.video_every is not None:
        tasks = _with_frames(list(tasks), settings.video_every, request.workers or cores(), labelled=labels is not None)
    return PreparationPlan(
        tasks=_limited(tasks, request.limit),
        labels=labels,
        ignored=listing.ignored,
        videos_ignored=listing.videos_ignored,
        wikiart=counts,
        settings=settings,
        output=output,
    )


def parameters(request: PrepareRequest, settings: ImageSettings) -> dict[str, Any]:
    """What decides the result: neither the number of workers nor where the files lie."""
    return {
        "sources": [shown(s) if isinstance(s, str) else s.resolve().name for s in request.sources],
        **asdict(settings),
        "labels": Path(request.labels).name if request.labels else None,
        "label_column": request.label_column,
        **{kind: list(names) for kind, names in request.chosen.items()},
        "wikiart": request.wikiart_csv is not None,
        "limit": request.limit,
        "keep_duplicates": request.keep_duplicates,
    }


def _settings(request: PrepareRequest) -> ImageSettings:
    assert request.resolution is not None
    try:
        red, green, blue = ImageColor.getrgb(request.background)[:3]
    except ValueError:
        raise RequestError(
            f"`background` must be a colour such as white or #20304f; got {request.background} instead"
        ) from None
    return ImageSettings(
        resolution=request.resolution,
        fit=request.fit,
        format=request.format,
        quality=request.quality,
        filter=request.filter,
        background=(red, green, blue),
        max_pixels=request.max_pixels,
        crops=request.crops,
        video_every=request.video_every or (EVERY if request.video_scenes else None),
        video_scenes=request.video_scenes,
    )


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


def _output(request: PrepareRequest) -> Output | None:
    archive = request.archive
    if archive is None:
        return None
    manifest = manifest_beside(archive)
    if manifest.exists() and not (manifest / "manifest.json").is_file():
        raise RequestError(f"`out` must leave room for its manifest; {manifest} exists and is no manifest: move it")
    return Output(archive=archive, manifest=manifest, report=archive.with_suffix(".report.json"))


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
