"""Files that are either whole or absent, and hashes of what they hold."""

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gan.errors import RequestError, SalonError

# What the system says of a path where nothing can be written, whatever room there is.
BAD_PLACE = (
    *(errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP),
)
# What a file system says that does not sync folders, or of a folder that may be written and not be read.
_NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF, errno.EACCES)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; on success make it durable and rename it to `path`.

    On any failure the temporary file or folder is removed and `path` is as it was before.
    Raises SalonError, naming the free space, when the disk is full; RequestError when `path` cannot be a file's.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)  # of a killed process that had the same number, as the first one in a container always has
        yield temporary
        for part in [*temporary.rglob("*"), temporary] if temporary.is_dir() else [temporary]:
            fsync(part)
        temporary.replace(path)
        fsync(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        with suppress(OSError):  # such as of a folder that could not be made: the error above says it better
            _remove(temporary)


def disk_error(error: OSError, path: Path) -> SalonError:
    """The error to raise for an OSError met while writing `path`: what failed, what is free, what to do."""
    if error.errno in BAD_PLACE:
        return RequestError(f"{path} could not be written: {error.strerror}; choose another place")
    folder = next((p for p in Path(path).absolute().parents if p.is_dir()), Path("/"))
    free = shutil.disk_usage(folder).free / 1e9
    return SalonError(
        f"{path} could not be written: {error.strerror or error}. {free:.1f} GB are free in {folder}. "
        "What was there before is untouched; make room or choose another folder, then run the command again."
    )


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. It may hold names of files in other bytes than UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(escaped(json.dumps(value, indent=2, ensure_ascii=False)) + "\n", encoding="utf-8")


def escaped(text: str) -> str:
    """`text` with \\udc80 to \\udcff, as in JSON, for bytes of file names that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """A path of the file `path` in UTF-8, for libraries that take no other; it holds within the block."""
    if escaped(str(path)) == str(path):
        yield path
        return
    with open(path, "rb") as file:
        yield Path(f"/dev/fd/{file.fileno()}")


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises RequestError when the file is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{path} must be a readable JSON file; got {reason} instead") from error


def require_format(path: Path, kind: str, format: object, known: str) -> None:
    """Raise RequestError unless the `format` of a file, `kind` such as "a snapshot", is the known salon-snapshot-1."""
    if format != known:
        other = isinstance(format, str) and format.rpartition("-")[0] == known.rpartition("-")[0]
        remedy = ", which another version of Salon wrote" if other else ""
        raise RequestError(f"{path} must be {kind} in the format {known}; got {format} instead{remedy}")


def cache_folder() -> Path:
    """Where Salon keeps what it can make again: $SALON_CACHE, else $XDG_CACHE_HOME/salon, else ~/.cache/salon.

    Of a user without a home, as containers have them, in the folder for temporary files. Raises RequestError where that
    is somebody else's.
    """
    if base := os.environ.get("SALON_CACHE"):
        return Path(base)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "salon"
    try:
        return Path.home() / ".cache" / "salon"
    except RuntimeError:  # neither $HOME nor an entry for the user's number
        return _temporary_folder()


def _temporary_folder() -> Path:
    # Libraries are loaded from the cache: nobody else may have put them there.
    folder = Path(tempfile.gettempdir()) / f"salon-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700)
    try:
        status = folder.lstat()
    except OSError as error:
        raise disk_error(error, folder) from error
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        raise RequestError(f"{folder} belongs to others; set SALON_CACHE to a folder for what Salon keeps")
    return folder


def remove_stale_partials(folder: Path) -> None:
    """Remove the temporary files that writers killed in `folder` left behind (their process no longer runs)."""
    for partial in folder.glob(".*.partial"):
        pid = partial.name.split(".")[-2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc").exists():
            _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Make a file durable, or the names in a folder, where the file system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def refuse_inside(out: Path, folder: Path, *, parameter: str) -> None:
    """Raise RequestError when `out` is the folder `folder`, which `parameter` names, or lies in it."""
    if folder.is_dir() and folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise RequestError(f"`out` must lie outside `{parameter}`, which stays as it is; got {out} instead")


def refuse_existing(files: Sequence[Path], overwrite: bool | None = None, *, parameter: str = "out") -> None:
    """Raise RequestError when `parameter` would replace one of `files`. `overwrite` is None where none can be asked."""
    if not overwrite and (existing := [file for file in files if file.exists()]):
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        remedy = "choose another" if overwrite is None else "choose another, or add `overwrite`"
        raise RequestError(f"`{parameter}` would replace {existing[0]}{more}; {remedy}")
