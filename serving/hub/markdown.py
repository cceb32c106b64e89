"""Markdown of templates, and what stands in it safely."""

import functools
import re
from pathlib import Path
from typing import Any

import jinja2

from eval.report.html import number
from gan.runtime.files import atomic, escaped

_TEMPLATES = Path(__file__).parent / "templates"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#$~])")


def text(value: object) -> str:
    """A value as plain text in a paragraph or a cell: no markup, and on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(escaped(str(value)).split()))


def code(value: object) -> str:
    """A value as code in a line or a cell."""
    plain = " ".join(escaped(str(value)).split()).replace("`", "'").replace("|", "¦")
    return f"`{plain}`"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=False,  # Markdown: each value goes through a filter of its own
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": text, "code": code, "number": number}
    return environment


def render(template: str, **values: Any) -> str:
    """A template of serving/hub/templates, with `values`."""
    return _environment().get_template(template).render(**values)


def write(path: Path, card: str) -> None:
    """Write a rendered card, atomically, with at most one blank line in a row."""
    with atomic(path) as temporary:
        temporary.write_text(escaped(re.sub(r"\n{3,}", "\n\n", card)), encoding="utf-8")
