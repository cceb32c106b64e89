"""What the log of a starting Triton says: which models are loaded, and in one line why it will not start."""

import fcntl
import os
import re
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from gan.errors import RequestError, SalonError

LAST_LINES = 12  # that a message shows
LOOKED_AT = 2**20  # bytes of a log that are read
CAP = 16 * 2**20  # bytes
_LOADED = re.compile(r"successfully loaded '([^']+)'")
_FAULTS = (  # model and reason
    re.compile(r"failed to load '([^']+)' version \d+: ([^\n]*)"),
    re.compile(r"Poll failed for model directory '([^']+)': ([^\n]*)"),
    re.compile(r"failed to load model '([^']+)': ([^\n]*)"),
)
_PARSING = re.compile(r"Error parsing text-format [^:]*: ([^\n]*)")
_SHARED_MEMORY = re.compile(r"shared memory key '[^'\n]*' to requested size|shared memory[^\n]*No space left on device")
_LIBRARY = re.compile(r"error while loading shared libraries: ([^\s:]+)")


class ServerLog:
    """A log that a server appends to: the file `path`, or None for one that vanishes when both have closed it.

    It is kept from growing without end: see cap. Raises RequestError when it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        try:
            self.file: IO[bytes] = tempfile.TemporaryFile("a+b") if path is None else open(path, "a+b")  # noqa: SIM115
        except OSError as error:
            if path is None:
                raise SalonError(
                    f"the server's log needs room for a temporary file ({error.strerror}): `log` names another file, "
                    "and the environment variable TMPDIR another folder"
                ) from error
            raise RequestError(f"`log` must be a file that can be written; got {path}: {error.strerror}") from error
        fcntl.fcntl(self.file, fcntl.F_SETFL, os.O_APPEND)  # so that it may be emptied under the server that writes
        self._lock = threading.RLock()
        self.begin()

    def begin(self) -> None:
        """Look from here on: another server writes now."""
        with self._lock:
            self._read = self._size()
            self._text = b""  # of the server that writes, until it is ready; LOOKED_AT bytes at most

    def text(self) -> str:
        """What this server wrote, and of much the last part."""
        with self._lock:
            size = self._size()
            if size < self._read:  # emptied by somebody
                self._read = 0
            begin = max(self._read, size - LOOKED_AT)
            self._text = (self._text + os.pread(self.file.fileno(), size - begin, begin))[-LOOKED_AT:]
            self._read = size
            return self._text.decode(errors="replace")

    def cap(self) -> None:
        """Move what is written to PATH.1, where it is more than CAP bytes: the log never takes more than twice that."""
        with self._lock:
            if self.file.closed or self._size() <= CAP:
                return
            self.text()  # its last part is not lost to messages
            with suppress(OSError):  # a full disk: what matters is that it does not grow
                if self._path is not None:
                    shutil.copyfile(self._path, self._path.with_name(f"{self._path.name}.1"))
            self.file.truncate(0)
            self._read = 0

    def loaded(self) -> list[str]:
        """Names of the models that were loaded, in that order."""
        return _LOADED.findall(self.text())

    def last_lines(self) -> str:
        """The last lines, without the frames of tables, for a message."""
        lines = [line for line in self.text().splitlines() if line.strip() and line[0] not in "+|"]
        return "\n".join(f"  {line[:300]}" for line in lines[-LAST_LINES:])

    def fault(self) -> SalonError | None:
        """What no start comes back from, where the log names it, with the remedy."""
        text = self.text()
        if library := _LIBRARY.search(text):
            return SalonError(
                f"The server needs the shared library {library[1]}, which this machine lacks: install the package that "
                "holds it, and put its folder into LD_LIBRARY_PATH"
            )
        if _SHARED_MEMORY.search(text):
            free = shutil.disk_usage("/dev/shm").free >> 20
            return SalonError(
                f"The server has too little shared memory: {free} MiB of /dev/shm are free; each instance of a model "
                "takes 1 MiB and the images of its requests. Remedy: give it more (mount -o remount,size=1G /dev/shm; "
                "in a container docker run --shm-size 1g), or export with fewer instances"
            )
        reasons = {model: _reason(reason) for fault in reversed(_FAULTS) for model, reason in fault.findall(text)}
        if not reasons:
            return None
        parsing = _PARSING.search(text)
        named = "; ".join(f"{model}: {reason}" for model, reason in sorted(reasons.items()))
        remedy = "export again, or take it out of the repository"
        if "unable to find backend library for backend" in text:
            remedy = "this server lacks that backend: export with the backend python"
        elif parsing:
            named += f" ({parsing[1]})"
        return RequestError(f"Models could not be loaded. {named}. Remedy: {remedy}")

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self.file.close()

    def _size(self) -> int:
        return os.fstat(self.file.fileno()).st_size


def _reason(quoted: str) -> str:
    # What the log puts in quotes, on one line, without the traceback of a Python error.
    lines = quoted.rstrip('"').split(r"\n\nAt:")[0].split(r"\n")
    return " ".join(line.strip() for line in lines if line.strip()).removeprefix("Internal: ").rstrip(".")
