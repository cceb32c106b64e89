"""Checkpoints: everything that an exact resume needs. Written whole or not at all, verified before they are used."""

import io
import re
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import torch

from gan.errors import RequestError
from gan.runtime.console import say
from gan.runtime.file_kinds import foreign_kind, why_unreadable
from gan.runtime.files import atomic, disk_error, require_format

FORMAT = "salon-checkpoint-1"
_IMPORT = ". Networks of other implementations become a snapshot with `salon import`"
_NAME = re.compile(r"checkpoint-(\d{10})\.pt")


def path_for(folder: Path, cur_nimg: int) -> Path:
    """Name of the checkpoint after `cur_nimg` images."""
    return folder / f"checkpoint-{cur_nimg:010d}.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain containers), atomically. Raises SalonError when the disk is full."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        writer = _RememberError(file)
        try:
            torch.save({"format": FORMAT, **state}, cast(IO[bytes], writer))
        except RuntimeError as error:  # torch hides the reason
            raise (disk_error(writer.error, path) if writer.error else error) from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; executes nothing from it.

    Raises RequestError when it is missing, torn (no archive directory) or corrupt (CRC-32 of a record differs).
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch's format is a ZIP with a checksum for each record
            if bad := archive.testzip():
                raise RequestError(f"{path} is corrupt: the checksum of {bad} does not match")
            # torch takes a record marked as a folder for empty, and leaves its tensor as the memory happens to be.
            if marked := [entry.filename for entry in archive.infolist() if entry.external_attr]:
                raise RequestError(f"{path} is corrupt: the directory entry of {marked[0]} was changed")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except RequestError:
        raise
    except zipfile.BadZipFile as error:
        reason = (
            f"it is {kind}" if (kind := foreign_kind(path)) else f"it is no checkpoint, or an incomplete one{_IMPORT}"
        )
        raise RequestError(f"{path} cannot be read: {reason}") from error
    except Exception as error:  # a damaged archive fails in many ways
        raise RequestError(f"{path} cannot be read: {why_unreadable(path, error)}{_IMPORT}") from error
    if not isinstance(state, dict) or "learner" not in state:
        raise RequestError(f"{path} must be a checkpoint of `salon train`{_IMPORT}")
    require_format(path, "a checkpoint", state.pop("format", FORMAT), FORMAT)  # the first ones named none
    return state


def list_newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted((p for p in folder.glob("checkpoint-*.pt") if _NAME.fullmatch(p.name)), reverse=True)


def load_newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that verifies; damaged ones are reported and passed over. None when there is none.

    Raises RequestError when there are some and all are damaged.
    """
    paths = list_newest_first(folder)
    for path in paths:
        try:
            return path, load(path)
        except RequestError as error:
            say(f"Passing over a damaged checkpoint: {error}")
    if paths:
        raise RequestError(
            f"none of the {len(paths)} checkpoints in {folder} can be read; start anew with `resume` never"
        )
    return None


class _RememberError(io.RawIOBase):
    """A binary file that remembers the operating system's error."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
