"""What is to be prepared: the request, checked, and the list of candidates that it chooses."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curation.prepare.find_images import Candidate, find
from curation.prepare.labels import Labels, assign
from curation.prepare.resize import Settings
from curation.prepare.wikiart import Painting, WikiArt
from gan.errors import RequestError
from gan.runtime.files import refuse_existing


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to prepare. Raises RequestError for an `out` that cannot be meant."""

    sources: list[Path]
    out: Path | None  # None: read and report only
    settings: Settings
    labels: str | None = None  # folders, style, genre, artist or the path of a CSV file
    wikiart: WikiArt | None = None
    chosen: dict[str, tuple[str, ...]] = field(default_factory=dict)  # names per kind of list; none: no selection
    workers: int = 1
    limit: int | None = None  # only the first so many candidates
    overwrite: bool = False
    keep_duplicates: bool = False

    def __post_init__(self) -> None:
        if self.out is None:
            return
        if self.out.suffix.lower() != ".zip":
            raise RequestError(f"--out must end in .zip; got {self.out} instead")
        if self.out.is_dir():
            raise RequestError(f"--out must be a file; got {self.out}, which is a folder, instead")
        refuse_existing([self.out], self.overwrite)
        if self.manifest.exists() and not (self.manifest / "manifest.json").is_file():
            raise RequestError(f"--out must leave room for its manifest; {self.manifest} exists and is none: move it")
        for source in self.sources:
            if source.resolve() in (self.out.resolve(), *self.out.resolve().parents):
                raise RequestError(f"--out must lie outside SOURCE, which stays as it is; got {self.out} instead")

    @property
    def manifest(self) -> Path:
        """Where the manifest goes: beside the archive."""
        assert self.out is not None
        return self.out.with_suffix(".manifest")

    @property
    def report(self) -> Path:
        """Where the report goes: beside the archive."""
        assert self.out is not None
        return self.out.with_suffix(".report.json")

    def parameters(self) -> dict[str, Any]:
        """What decides the result: neither the number of workers nor where the files lie."""
        return {
            "sources": [source.resolve().name for source in self.sources],
            **asdict(self.settings),
            "labels": Path(self.labels).name if self.labels else None,
            **{kind: list(names) for kind, names in self.chosen.items()},
            "wikiart": self.wikiart is not None,
            "limit": self.limit,
            "keep_duplicates": self.keep_duplicates,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A candidate with what is known about it before it is opened."""

    candidate: Candidate
    painting: Painting | None
    label: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The chosen candidates in the order of the dataset."""

    tasks: list[Task]
    labels: Labels | None
    ignored: int  # files that are no images by their names
    wikiart: dict[str, int] | None  # how the files were found in the lists


def make_plan(request: Request) -> Plan:
    """Find the candidates, look them up in the WikiArt lists, select and label them."""
    beside = [request.out, request.manifest, request.report] if request.out else []
    found = find(request.sources, beside)
    candidates = found.candidates
    paintings: list[Painting | None] = [None] * len(candidates)
    counts = None
    if request.wikiart:
        candidates, paintings, counts = _look_up(request.wikiart, request.chosen, candidates)
    candidates, paintings = candidates[: request.limit], paintings[: request.limit]
    labels = assign(request.labels, candidates, paintings) if request.labels else None
    indices = labels.indices if labels else [None] * len(candidates)
    rows = zip(candidates, paintings, indices, strict=True)
    tasks = [Task(candidate=candidate, painting=painting, label=label) for candidate, painting, label in rows]
    return Plan(tasks=tasks, labels=labels, ignored=found.ignored, wikiart=counts)


def _look_up(
    wikiart: WikiArt, chosen: dict[str, tuple[str, ...]], candidates: list[Candidate]
) -> tuple[list[Candidate], list[Painting | None], dict[str, int]]:
    """Find the candidates in the lists; with a selection, leave out the others and those that are in no list."""
    selecting = any(chosen.values())
    selected = {painting.path for painting in wikiart.select(chosen)} if selecting else set()
    counts = Counter(dict.fromkeys(("found", "found_by_name_only", "ambiguous", "not_in_lists", "not_selected"), 0))
    kept: list[tuple[Candidate, Painting | None]] = []
    for candidate in candidates:
        name = candidate.name.rpartition("/")[2]
        painting = wikiart.find(candidate.folder, name)
        if painting is None:
            counts["ambiguous" if wikiart.is_ambiguous(name) else "not_in_lists"] += 1
        else:
            counts["found"] += 1
            counts["found_by_name_only"] += not wikiart.is_listed(candidate.folder, name)
        if selecting and (painting is None or painting.path not in selected):
            counts["not_selected"] += painting is not None
        else:
            kept.append((candidate, painting))
    counts["conflicts_in_lists"] = len(wikiart.conflicts)
    return [candidate for candidate, _ in kept], [painting for _, painting in kept], dict(counts)
