"""A folder of models as Triton and OpenVINO Model Server read it: MODEL/config.pbtxt and MODEL/<version>/model.onnx.

The models of one export are published together or not at all. A version's number is never given twice, not even after
it was deleted: servers keep answers by model and version. One counter serves all models, so that those of one export
have the same number.
"""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gan import __version__
from gan.errors import RequestError, SalonError
from gan.runtime.console import say
from gan.runtime.files import BAD_PLACE, disk_error, read_json, remove_stale_partials, sha256, write_json
from gan.runtime.lock import lock
from serving.contract import CLASSIFIER, DIRECTIONS_FILE, ENSEMBLES, SIZES, ModelMetadata
from serving.export import family, model_config
from serving.export.model_config import Description, Settings, part_names, served_name
from serving.export.switch import switch, undo

NO_CACHE = "__pycache__"  # an empty file in a version's folder, which copies may lack
COUNTER = "versions.json"  # {"last": the last number that was given}


@dataclass(frozen=True)
class Model:
    """A model that is ready to be published."""

    metadata: ModelMetadata
    settings: Settings
    files: Path | None  # folder with the files of the version; None: there are none, as of ensembles

    @property
    def name(self) -> str:
        """Under which it is served."""
        return served_name(self.metadata)

    def names(self) -> list[str]:
        """Of its files, in their folder."""
        return [] if self.files is None else sorted(path.name for path in self.files.iterdir() if path.is_file())


class ModelRepository:
    """The models in a folder. Raises RequestError when it is a file."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise RequestError(f"`out` must be a folder; {path} is a file")

    def models(self) -> dict[str, ModelMetadata]:
        """Metadata by name, of all models of Salon's."""
        return {name: description.metadata for name, description in self._descriptions().items()}

    def refuse_others(self, names: list[str]) -> None:
        """Raise RequestError when one of the names belongs to a folder that is no model of Salon's."""
        ours = self.models()
        for name in names:
            folder = self.path / name
            if folder.is_dir() and name not in ours and any(folder.iterdir()):
                raise RequestError(
                    f"{folder} is there and is no model of Salon's; choose another `out`, or another `name`"
                )

    def refuse_styles(self, name: str, kinds: Sequence[str], styles: list[str]) -> None:
        """Raise RequestError when the kinds have a classifier of other `styles` than other generators' models give."""
        for other, about in self.models().items() if CLASSIFIER in kinds else ():
            if about.kind == "generate_and_classify" and about.generator != name and about.styles != styles:
                raise RequestError(
                    f"`classifier` must know the styles {', '.join(about.styles)}, which {other} gives; it knows "
                    f"{', '.join(styles)}. Choose another `out`, or remove that folder first"
                )

    def recover(self) -> None:
        """Undo an export that was killed while it was published, if there is one."""
        if (self.path / family.JOURNAL).exists():
            with self._lock():
                undone = undo(self.path)  # else the one that was under way has ended meanwhile
            if undone:
                say(f"An export to {self.path} was stopped half-way: undone")

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """A folder for what is to be published, beside the repository: it is moved from there, and never seen half.

        Where nothing can be written beside it, a folder for temporary files. Raises SalonError for an OSError in the
        block, with what to do.
        """
        parent: Path | None = self.path.absolute().parent
        assert parent is not None
        try:
            try:
                parent.mkdir(parents=True, exist_ok=True)
                remove_stale_partials(parent)
                place = _temporary_folder(f".{self.path.name}-export-", parent)
            except OSError as error:
                if error.errno not in BAD_PLACE or not self.path.is_dir():
                    raise
                parent = None
                place = _temporary_folder("salon-export-", None)
        except OSError as error:
            raise _no_room(error, self.path, parent) from error
        with place as folder:
            try:
                yield Path(folder)
            except OSError as error:
                raise _no_room(error, self.path, parent) from error

    def publish(self, models: Sequence[Model], rollback: int | None = None) -> int:
        """Number of the version that is added of each model: of all, or of none when anything fails.

        `rollback` is the version that this one repeats. Servers go on to serve the version before this one too, where
        it is of the same sizes, for clients that began with it.
        """
        with self.workplace() as staged, self._lock():
            undo(self.path)
            remove_stale_partials(self.path)
            version = 1 + max([self._last_version(), *(n for name in self._folders() for n in self._versions(name))])
            write_json(self.path / COUNTER, {"last": version})  # first: a number that failed is spent
            configs = self._configs(models, version)
            for model in models:
                folder = staged / model.name / str(version)
                folder.mkdir(parents=True)
                for file in model.names():
                    assert model.files is not None
                    _link(model.files / file, folder / file)
                (folder.parent / family.CONFIG).write_text(configs[model.name], encoding="utf-8")
            generators = [model for model in models if model.metadata.kind != CLASSIFIER]
            first = (generators or list(models))[0].metadata
            name = first.generator or CLASSIFIER
            record = {
                "format": family.FORMAT,
                "name": name,
                "version": version,
                "snapshot": first.snapshot,
                "cur_nimg": first.cur_nimg,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "salon": __version__,
                "rollback": rollback,
                "models": {
                    model.name: {"metadata": model.metadata.to_dict(), "settings": dataclasses.asdict(model.settings)}
                    for model in models
                },
                "files": {
                    file.relative_to(staged).as_posix(): sha256(file)
                    for model in models
                    for file in sorted((staged / model.name / str(version)).iterdir())
                    if file.name != NO_CACHE
                },
            }
            record_file = family.record_file(staged, version, name)
            write_json(record_file, record)
            switch(self.path, staged, [model.name for model in models], version, record_file.name)
        return version

    def _descriptions(self) -> dict[str, Description]:
        found = {}
        for config in sorted(self.path.glob(f"*/{model_config.FILE}")):
            try:
                found[config.parent.name] = model_config.read(config)
            except ValueError:
                continue  # a model of somebody else's, which may stand beside
        return found

    def _configs(self, models: Sequence[Model], version: int) -> dict[str, str]:
        # The texts of config.pbtxt, by name.
        known = self._descriptions()
        new = {model.name: version for model in models}
        # An ensemble that is not published now goes on with the classifier that it was published with.
        bound = {
            (part, number)
            for name, description in known.items()
            if name not in new
            for part, number in description.parts.items()
        }
        newest = {name: max(served) for name in known if (served := self._served(name, known))}
        texts = {}
        for model in models:
            about, parts, earlier = model.metadata, {}, {}
            if about.kind in ENSEMBLES:
                parts = {part: new.get(part, newest.get(part, -1)) for part in part_names(about)}
            elif (old := known.get(model.name)) and _fit(old, model):
                earlier = {
                    number: metadata
                    for number, metadata in self._served(model.name, known).items()
                    if number == newest[model.name] or (model.name, number) in bound
                }
            directions = self._directions(model, version, earlier)
            texts[model.name] = model_config.describe(about, model.settings, version, earlier, parts, directions)
        return texts

    def _directions(self, model: Model, version: int, earlier: Mapping[int, ModelMetadata]) -> dict[int, bytes]:
        # Files of directions, by version, where a model has any.
        folders = {
            number: self.path / model.name / str(number) for number, about in earlier.items() if about.directions
        }
        if model.metadata.directions and model.files is not None:
            folders[version] = model.files
        return {number: (folder / DIRECTIONS_FILE).read_bytes() for number, folder in folders.items()}

    def _served(self, name: str, known: Mapping[str, Description]) -> dict[int, ModelMetadata]:
        # Versions of a model that are served now. A description from before there were several names none.
        if name not in known:
            return {}
        there = self._versions(name)
        versions = known[name].versions or dict.fromkeys(sorted(there)[-1:], known[name].metadata)
        return {number: metadata for number, metadata in versions.items() if number in there}

    def _lock(self) -> AbstractContextManager[object]:
        # One process at a time.
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return lock(self.path / ".lock")
        except OSError as error:
            raise disk_error(error, self.path) from error

    def _last_version(self) -> int:
        counter = self.path / COUNTER
        if not counter.exists():
            return 0
        value = read_json(counter)
        if not isinstance(value, dict) or not isinstance(value.get("last"), int):
            raise RequestError(f'{counter} must be {{"last": NUMBER}}; got {value} instead')
        return int(value["last"])

    def _folders(self) -> list[str]:
        return [folder.name for folder in self.path.iterdir() if folder.is_dir()]

    def _versions(self, name: str) -> list[int]:
        return [int(entry.name) for entry in (self.path / name).iterdir() if entry.name.isdecimal()]


def _fit(old: Description, new: Model) -> bool:
    # Whether one config.pbtxt can describe both.
    def shape(about: ModelMetadata) -> tuple[object, ...]:
        sizes = *(getattr(about, size) for size in SIZES), about.width, about.height, about.channels
        return *sizes, about.num_classes, about.styles

    ours = "python" if new.metadata.kind == "seed_to_png" else new.settings.backend
    return old.backend == ours and shape(old.metadata) == shape(new.metadata)


def _temporary_folder(prefix: str, parent: Path | None) -> "tempfile.TemporaryDirectory[str]":
    # Named so that remove_stale_partials knows whose it was.
    return tempfile.TemporaryDirectory(prefix=prefix, suffix=f".{os.getpid()}.partial", dir=parent)


def _no_room(error: OSError, path: Path, parent: Path | None) -> SalonError:
    if parent is not None:
        return disk_error(error, path)
    return SalonError(
        f"there is no room for temporary files: {error.strerror or error}; nothing can be written beside {path}, so "
        "set TMPDIR to a folder with room"
    )


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # of another file system, or one without links
        shutil.copyfile(source, target)
