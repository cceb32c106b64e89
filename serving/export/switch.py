"""The switch of a model repository to a new version: all renames or none.

A journal is written before the first one and removed after the last one. While it is there, the repository is between
two versions: `undo` brings the old one back, whoever was killed at whatever point. A version's folder is not served
before its config.pbtxt names it, which therefore is replaced last.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from gan.errors import RequestError
from gan.runtime.files import atomic, fsync, read_json, remove_stale_partials, write_json
from serving.export.family import CONFIG, JOURNAL


def switch(repository: Path, staged: Path, models: Sequence[str], version: int, record: str) -> None:
    """Move what lies in `staged` to where it is served: MODEL/VERSION and MODEL/config.pbtxt of each of the `models`,
    in their order, and the file `record`.

    On any failure the repository is as it was. Raises what failed.
    """
    configs = {model: _read(repository / model / CONFIG) for model in models}
    write_json(repository / JOURNAL, {"version": version, "record": record, "configs": configs})
    try:
        for model in models:
            if configs[model] is not None:
                _move(staged / model / str(version), repository / model / str(version))
        _move(staged / record, repository / record)
        for model in models:
            if configs[model] is None:  # at once: servers refuse a model without a version, or without a description
                _move(staged / model, repository / model)
            else:
                _move(staged / model / CONFIG, repository / model / CONFIG)
    except BaseException:
        undo(repository)
        raise
    _end(repository)


def undo(repository: Path) -> bool:
    """Bring the version back that a switch began from, where one did not end -> whether there was one."""
    if not (repository / JOURNAL).exists():
        return False
    journal = read_json(repository / JOURNAL)
    if not isinstance(journal, dict) or not {"version", "record", "configs"} <= journal.keys():
        raise RequestError(f"{repository / JOURNAL} must be the journal of an export; remove it, and export again")
    for model, config in journal["configs"].items():
        folder = repository / model
        if config is None:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        if _read(folder / CONFIG) != config:
            with atomic(folder / CONFIG) as temporary:
                temporary.write_text(config, encoding="utf-8")
        shutil.rmtree(folder / str(journal["version"]), ignore_errors=True)
        remove_stale_partials(folder)
    (repository / journal["record"]).unlink(missing_ok=True)
    _end(repository)
    return True


def _end(repository: Path) -> None:
    (repository / JOURNAL).unlink()
    fsync(repository)
    remove_stale_partials(repository)


def _read(config: Path) -> str | None:
    return config.read_text(encoding="utf-8") if config.exists() else None


def _move(source: Path, target: Path) -> None:
    with atomic(target) as temporary:
        try:
            source.rename(temporary)
        except OSError:  # of another file system
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, temporary)
