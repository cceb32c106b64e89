"""The lists of the WikiArt dataset, as the ArtGAN project distributes them: style, genre and artist of each painting.

Each kind has a class file ("12 Impressionism") and a train and a val list ("Impressionism/claude-monet_x.jpg,12"). The
lists are irregular: two lines of heading, doubled commas, CRLF, names spoilt by a wrong encoding, suffixes or none.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curation.prepare.match_names import base_name, match
from gan.data.names import canonical_name
from gan.errors import RequestError

KINDS = ("style", "genre", "artist")
_FILE = re.compile(rf"({'|'.join(KINDS)})_(class|train|val)(\.txt|\.csv)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Painting:
    """One painting of the lists: its path there (folder/name) and its classes; None where a list leaves it out."""

    path: str
    style: str | None
    genre: str | None
    artist: str | None


@dataclass(frozen=True)
class Conflict:
    """A painting that one list puts into two classes; the first one counts."""

    path: str
    kind: str
    kept: str
    other: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the lists have for a file."""

    painting: Painting | None = None  # None: nothing, or several
    by_path: bool = False  # by the names of folder and file; False: by that of the file alone
    loosely: bool = False  # the names are equal in `loose_name` alone
    ambiguous: bool = False  # paintings of several folders have the file's name


class WikiArt:
    """The lists in the folder `wikiart_csv`. Raises RequestError where one of them is missing or unreadable."""

    def __init__(self, wikiart_csv: Path) -> None:
        self.conflicts: list[Conflict] = []
        self.repeats = 0  # rows that repeat an earlier one
        self.malformed = 0  # rows without a known class
        files = _files(wikiart_csv)
        classes = {kind: _classes(files[kind, "class"]) for kind in KINDS}
        assigned = {kind: self._assign(kind, files, classes[kind]) for kind in KINDS}
        self.classes = {kind: list(classes[kind].values()) for kind in KINDS}
        paths = sorted(set().union(*assigned.values()))
        self.paintings = [Painting(path, *(assigned[kind].get(path) for kind in KINDS)) for path in paths]
        self._by_path = {canonical_name(painting.path): painting for painting in self.paintings}
        self._by_name: dict[str, list[Painting]] = {}
        for path, painting in self._by_path.items():
            self._by_name.setdefault(base_name(path), []).append(painting)

    def find(self, files: Sequence[str]) -> list[Found]:
        """What the lists have for each file folder/name: by both names, else by its own where that is unique."""
        paths, names = match(self._by_path, files), match(self._by_name, map(base_name, files))
        found = []
        for file in map(canonical_name, files):
            path, name = paths.get(file), names.get(base_name(file))
            if path is not None:
                found.append(Found(self._by_path[path], by_path=True, loosely=path != file))
            elif name is not None and len(self._by_name[name]) == 1:
                found.append(Found(self._by_name[name][0], loosely=name != base_name(file)))
            else:
                found.append(Found(ambiguous=name is not None))
        return found

    def select(self, chosen: dict[str, tuple[str, ...]]) -> list[Painting]:
        """The paintings that have one of the names chosen for each kind; a kind without any does not select.

        Raises RequestError for a name that is no class (nor, for a style, the name of its folder).
        """
        classes = {kind: {self._class(kind, name) for name in names} for kind, names in chosen.items() if names}
        return [p for p in self.paintings if all(getattr(p, kind) in names for kind, names in classes.items())]

    def _class(self, kind: str, name: str) -> str:
        names = {_loosely(known): known for known in self.classes[kind]}
        if kind == "style":
            names = {_loosely(p.path.split("/")[0]): p.style for p in self.paintings if p.style} | names
        if _loosely(name) in names:
            return names[_loosely(name)]
        near = [names[match] for match in difflib.get_close_matches(_loosely(name), names, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
        raise RequestError(
            f"`{kind}` must be a {kind} of the WikiArt lists; got {name} instead: {hint}"
            f"The names are {', '.join(self.classes[kind])}"
        )

    def _assign(self, kind: str, files: dict[tuple[str, str], Path], classes: dict[int, str]) -> dict[str, str]:
        assigned: dict[str, str] = {}
        for part in ("train", "val"):  # in this order: the first row wins
            for path, number in _rows(files[kind, part]):
                name = classes.get(number) if number is not None else None
                if name is None:
                    self.malformed += 1
                elif path not in assigned:
                    assigned[path] = name
                elif assigned[path] == name:
                    self.repeats += 1
                else:
                    self.conflicts.append(Conflict(path, kind, assigned[path], name))
        return assigned


def describe(wikiart_csv: Path, chosen: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Figures of the paintings that a selection takes from the lists, by genre. Raises as WikiArt and select do."""
    wikiart = WikiArt(wikiart_csv)
    paintings = wikiart.select(chosen)
    genres = genre_counts(paintings)
    selected = {painting.path for painting in paintings}
    return {
        "images": len(paintings),
        "genres": genres,
        "without_genre": genres.get("(none)", 0),
        "conflicts": [asdict(conflict) for conflict in wikiart.conflicts if conflict.path in selected],
        "repeated_rows": wikiart.repeats,
        "malformed_rows": wikiart.malformed,
    }


def genre_counts(paintings: Iterable[Painting]) -> dict[str, int]:
    """Paintings per genre, the commonest first; "(none)" counts those that the genre lists leave out."""
    counts = Counter(painting.genre or "(none)" for painting in paintings)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _files(folder: Path) -> dict[tuple[str, str], Path]:
    if not folder.is_dir():
        raise RequestError(f"`wikiart_csv` must be the folder of the WikiArt lists; got {folder}, no folder, instead")
    files = {}
    for path in sorted(folder.rglob("*")):
        match = _FILE.fullmatch(path.name)
        if match and path.is_file():
            files[match[1].lower(), match[2].lower()] = path
    missing = [f"{kind}_{part}" for kind in KINDS for part in ("class", "train", "val") if (kind, part) not in files]
    if missing:
        raise RequestError(
            f"`wikiart_csv` must be a folder with the style, genre and artist lists of WikiArt; {folder} lacks "
            f"{', '.join(missing)}"
        )
    return files


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"`wikiart_csv`: {path} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # never fails; `loose_name` drops the characters that it gets wrong
    return [line for line in re.split(r"\r?\n|\r", text) if line.strip()]


def _classes(path: Path) -> dict[int, str]:
    classes = {}
    for line in _lines(path):
        number, _, name = line.strip().partition(" ")
        if not number.isdecimal() or not name.strip():
            raise RequestError(f"`wikiart_csv`: {path} must hold lines such as '0 landscape'; got {line!r} instead")
        classes[int(number)] = name.strip()
    return classes


def _rows(path: Path) -> Iterator[tuple[str, int | None]]:
    """Path in the lists and class number of each row; None for what is no number."""
    for line in _lines(path):
        name, _, number = line.rpartition(",")  # the last comma: names may hold others
        name, number = name.rstrip(", ").strip(), number.strip()
        if line.startswith("(Path to image)"):
            continue
        yield name, int(number) if number.isdecimal() and name else None


def _loosely(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()
