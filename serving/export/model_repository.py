"""A folder of models as Triton and OpenVINO Model Server read it: MODEL/config.pbtxt and MODEL/<version>/model.onnx.

A version is a new folder that appears whole or not at all, and its number is never given twice, not even after it was
deleted: servers keep answers by model and version. One counter serves all models, so that those of one export have the
same number.
"""

import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError
from gan.runtime.files import atomic, disk_error, read_json, remove_stale_partials, write_json
from gan.runtime.lock import lock
from serving.contract import ModelMetadata
from serving.export import model_config
from serving.export.model_config import served_name

COUNTER = "versions.json"  # {"last": the last number that was given}


@dataclass(frozen=True)
class Model:
    """A model that is ready to be published."""

    metadata: ModelMetadata
    config: str  # text of config.pbtxt
    files: Path | None  # folder that becomes the version; None: an empty one, as ensembles have

    def write_version(self, folder: Path) -> None:
        """Make the folder of a version."""
        if self.files is None:
            folder.mkdir()
        else:
            shutil.copytree(self.files, folder)


class ModelRepository:
    """The models in a folder. Raises RequestError when it is a file."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise RequestError(f"`out` must be a folder; {path} is a file")

    def models(self) -> dict[str, ModelMetadata]:
        """Metadata by name, of all models of Salon's."""
        metadata = {}
        for config in sorted(self.path.glob(f"*/{model_config.FILE}")):
            try:
                metadata[config.parent.name] = model_config.read_about(config)
            except ValueError:
                continue  # a model of somebody else's, which may stand beside
        return metadata

    def refuse_others(self, names: list[str]) -> None:
        """Raise RequestError when one of the names belongs to a folder that is no model of Salon's."""
        ours = self.models()
        for name in names:
            folder = self.path / name
            if folder.is_dir() and name not in ours and any(folder.iterdir()):
                raise RequestError(
                    f"{folder} is there and is no model of Salon's; choose another `out`, or another `name`"
                )

    def publish(self, models: list[Model]) -> int:
        """Number of the version that is added of each model, in the order given. Older versions stay."""
        with self._lock():
            version = 1 + max([self._last_version(), *(n for name in self._folders() for n in self._versions(name))])
            write_json(self.path / COUNTER, {"last": version})  # first: a number that failed is spent
            remove_stale_partials(self.path)
            for model in models:
                folder = self.path / served_name(model.metadata)
                if folder.exists():
                    remove_stale_partials(folder)
                    with atomic(folder / str(version)) as temporary:
                        model.write_version(temporary)
                    with atomic(folder / model_config.FILE) as temporary:
                        temporary.write_text(model.config, encoding="utf-8")
                else:  # at once: servers refuse a model without a version, or without a description
                    with atomic(folder) as temporary:
                        temporary.mkdir()
                        model.write_version(temporary / str(version))
                        (temporary / model_config.FILE).write_text(model.config, encoding="utf-8")
        return version

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
