"""Families: the models of one export, which have a snapshot and a version's number in common.

A record, NAME.VERSION.json in the model repository, says what was exported as a version, and the SHA-256 of its files.
`check` holds a repository against its records; it needs nothing that a server lacks. Versions from before there were
records are known by config.pbtxt alone.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan.errors import RequestError
from gan.runtime.files import read_json, require_format, sha256
from serving.contract import CLASSIFIER, PARAMETER, ModelMetadata

FORMAT = "salon-family-1"
CONFIG = "config.pbtxt"
JOURNAL = "unfinished-export.json"  # there while models are switched: see serving.export.switch
_METADATA = re.compile(rf'key: "{PARAMETER}"\s+value {{\s+string_value: "((?:[^"\\]|\\.)*)"')
_SERVED = re.compile(r"^\s+versions: (\d+)$", re.MULTILINE)  # of the version policy "specific"
_REMEDY = "export again, or go back to a version with `rollback`"


def record_file(repository: Path, version: int, name: str = "*") -> Path:
    """The file of a version's record, whether it is there or not."""
    return next(repository.glob(f"{name}.{version}.json"), repository / f"{name}.{version}.json")


def read_record(file: Path) -> dict[str, Any]:
    """What was exported as a version. Raises RequestError where the file is no such record."""
    record = read_json(file)
    require_format(file, "the record of an export", record.get("format") if isinstance(record, dict) else None, FORMAT)
    return dict(record)


def check(repository: Path) -> None:
    """Raise RequestError, with what to do, unless every family is whole and as it was exported.

    That is: no export stopped half-way, the newest models of a family are of one snapshot and one version, and the
    files of all versions that are served have the SHA-256 of their records. Versions from before there were records
    pass without the last.
    """
    if (repository / JOURNAL).exists():
        raise RequestError(
            f"{repository} holds an export that is under way or stopped half-way; if it stopped, {_REMEDY}"
        )
    models = _models(repository)
    families: dict[str, _Model] = {}
    for model in models:
        if not model.served:
            raise RequestError(f"{model.name} has no version that could be served; {_REMEDY}")
        first = families.setdefault(model.family, model)
        if (model.metadata.snapshot, model.newest) != (first.metadata.snapshot, first.newest):
            raise RequestError(
                f"{model.family} is of several snapshots: {_told(first)}, but {_told(model)}; an export stopped "
                f"half-way, or files were copied: {_REMEDY}"
            )
    for version in sorted({version for model in models for version in model.served}):
        if (file := record_file(repository, version)).exists():
            _check_files(repository, read_record(file), [m.name for m in models if version in m.served])


def check_files(repository: Path, record: dict[str, Any]) -> None:
    """Raise RequestError unless all files of a record are there, as they were exported."""
    _check_files(repository, record, record["models"])


def list_versions(repository: Path) -> list[dict[str, Any]]:
    """Every version, by number: version, name (of its generator), snapshot, cur_nimg, date (UTC), rollback (the version
    that it repeats), models, and state: "served", "kept" (for clients that began with it) or "stored".

    What is not known of versions from before there were records is None. Raises RequestError for no repository.
    """
    if not repository.is_dir():
        raise RequestError(f"`out` must be a model repository; {repository} is no folder")
    models = _models(repository)
    rows = []
    for version in sorted({version for model in models for version in model.folders}):
        there = [model for model in models if version in model.folders]
        own = [model for model in there if model.family != CLASSIFIER] or there
        row: dict[str, Any] = {"version": version, "name": own[0].family}
        row |= dict.fromkeys(("snapshot", "cur_nimg", "date", "rollback"))
        newest = [model.metadata for model in own if version == model.newest]
        if newest:
            row |= {"snapshot": newest[0].snapshot, "cur_nimg": newest[0].cur_nimg}
        if (file := record_file(repository, version)).exists():
            record = read_record(file)
            row |= {key: record[key] for key in ("name", "snapshot", "cur_nimg", "date", "rollback")}
        kept = any(version in model.served for model in own)
        row["models"] = [model.name for model in there]
        rows.append(row | {"state": "served" if newest else "kept" if kept else "stored"})
    return rows


@dataclass(frozen=True)
class _Model:
    name: str
    metadata: ModelMetadata
    folders: list[int]  # versions that are there
    served: list[int]  # of them

    @property
    def family(self) -> str:
        return self.metadata.generator or CLASSIFIER  # which is no generator's

    @property
    def newest(self) -> int:
        return max(self.served, default=0)


def _models(repository: Path) -> list[_Model]:
    models = []
    for config in sorted(repository.glob(f"*/{CONFIG}")):
        try:
            text = config.read_text(encoding="utf-8")
            metadata = ModelMetadata.from_json(_unescape(_METADATA.findall(text)[0]))
        except (OSError, ValueError, IndexError):
            continue  # a model of somebody else's, which may stand beside
        folders = sorted(int(entry.name) for entry in config.parent.iterdir() if entry.name.isdecimal())
        named = {int(version) for version in _SERVED.findall(text)}
        served = [version for version in folders if version in named] if named else folders[-1:]
        models.append(_Model(config.parent.name, metadata, folders, served))
    return models


def _unescape(text: str) -> str:
    # As the text format of protocol buffers writes strings, which escapes single quotes too.
    return str(json.loads('"' + text.replace("\\'", "'") + '"'))


def _told(model: _Model) -> str:
    return f"{model.name} is version {model.newest} of {(model.metadata.snapshot or 'none')[:8]}"


def _check_files(repository: Path, record: dict[str, Any], models: list[str]) -> None:
    for file, digest in record["files"].items():
        if file.partition("/")[0] not in models:
            continue
        path = repository / file
        if not path.is_file() or sha256(path) != digest:
            state = "is not what was exported" if path.is_file() else "is missing"
            raise RequestError(f"{path} {state}: its SHA-256 must be {digest[:8]}...; {_REMEDY}")
