"""What commands print: results on standard output, everything else on standard error."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import click
from tqdm import tqdm

from gan.errors import SalonError
from gan.runtime.files import escaped

Item = TypeVar("Item")
_PARAMETER = re.compile(r"`([A-Za-z_]\w*)`")
_options: Mapping[str, str] | None = None  # parameter -> option of the running command


def is_main() -> bool:
    """Whether this process speaks for all; of several that torchrun started, the one of rank 0 does."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def speaking_of(options: Mapping[str, str]) -> Iterator[None]:
    """While a command runs: messages name its options where the library names parameters (parameter -> option)."""
    global _options
    before, _options = _options, options
    try:
        yield
    finally:
        _options = before


def in_options(message: str) -> str:
    """`message` with each `parameter` as the running command's option, or by its bare name where it has none."""
    options = _options
    return message if options is None else _PARAMETER.sub(lambda name: options.get(name[1], name[1]), message)


def say(message: str) -> None:
    """Print one line for the person at the terminal, on standard error, without breaking a progress bar.

    When the terminal or the reader is gone, the line is lost, and the work goes on.
    """
    if is_main():
        with suppress(OSError):
            tqdm.write(in_options(message), file=sys.stderr)


def result(text: str, figures: dict[str, Any], as_json: bool) -> None:
    """Print a command's result on standard output: `text`, or `figures` as the only JSON object."""
    if not is_main():
        return
    try:
        click.echo(escaped(json.dumps(figures, ensure_ascii=False, default=str) if as_json else text))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SalonError(f"standard output could not be written: {error.strerror}") from error


def table(rows: Iterable[Iterable[object]], header: list[str] | None = None) -> str:
    """Lay rows out in columns: text to the left, numbers to the right."""
    cells = [[str(c) for c in row] for row in ([list(header)] if header else []) + [list(r) for r in rows]]
    if not cells:
        return ""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    numeric = [all(_is_number(row[i]) for row in cells[1 if header else 0 :]) for i in range(len(widths))]
    lines = (
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def duration(seconds: float) -> str:
    """Seconds for people: "5.2 s", "3 min 20 s", "2 h 5 min", "3 d 4 h". Less than zero is shown as zero."""
    if seconds < 59.95:  # what rounds to less than a minute
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def progress(items: Iterable[Item], description: str, total: int | None = None, unit: str = "img") -> Iterable[Item]:
    """Iterate with a bar that shows rate and time left on standard error; silent where that is no terminal."""
    hidden = None if is_main() else True  # None: where standard error is no terminal
    bar: Iterable[Item] = tqdm(
        items, desc=description, total=total, unit=f" {unit}", disable=hidden, dynamic_ncols=True, leave=False
    )
    return bar


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("%", "").lstrip("-").strip().isdigit() or text in ("", "-")
