"""What the log of a starting Triton says: which models are loaded, and in one line why it will not start."""

import os
import re
import tempfile
from pathlib import Path
from typing import IO

from gan.errors import RequestError, SalonError

LAST_LINES = 12  # that a message shows
_LOADED = re.compile(r"successfully loaded '([^']+)'")
_FAULTS = (  # model and reason
    re.compile(r"failed to load '([^']+)' version \d+: ([^\n]*)"),
    re.compile(r"Poll failed for model directory '([^']+)': ([^\n]*)"),
    re.compile(r"failed to load model '([^']+)': ([^\n]*)"),
)
_PARSING = re.compile(r"Error parsing text-format [^:]*: ([^\n]*)")
_PORT = re.compile(r"Socket '[^'\n]*:(\d+)' already in use")
_LIBRARY = re.compile(r"error while loading shared libraries: ([^\s:]+)")


class PortTaken(RequestError):
    """Another process listens on a port that the server was to have."""


class ServerLog:
    """A log that a server appends to: the file `path`, or None for one that vanishes when both have closed it.

    Raises RequestError when it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            self.file: IO[bytes] = tempfile.TemporaryFile() if path is None else open(path, "a+b")  # noqa: SIM115
        except OSError as error:
            raise RequestError(f"`log` must be a file that can be written; got {path}: {error.strerror}") from error
        self._start = os.fstat(self.file.fileno()).st_size  # what other servers wrote before

    def text(self) -> str:
        """What this server wrote."""
        size = os.fstat(self.file.fileno()).st_size - self._start
        return os.pread(self.file.fileno(), size, self._start).decode(errors="replace")

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
        if port := _PORT.search(text):
            return PortTaken(f"Port {port[1]} is taken by another process: choose another, or 0 for any")
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
        self.file.close()


def _reason(quoted: str) -> str:
    # What the log puts in quotes, on one line, without the traceback of a Python error.
    lines = quoted.rstrip('"').split(r"\n\nAt:")[0].split(r"\n")
    return " ".join(line.strip() for line in lines if line.strip()).removeprefix("Internal: ").rstrip(".")
