"""What all interactive pages have in common: their frame, a stylesheet (page.css) and a script (page.js)."""

import base64
import hashlib
from html import escape
from importlib.resources import files
from string import Template

PACKAGE = "gan.runtime"  # which page.css and page.js are files of


def read(package: str, name: str) -> str:
    """The text of a package's file."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def html(title: str, *, head: str, body: str) -> str:
    """A whole page as HTML. `title` is plain text; `head` and `body` are HTML."""
    return Template(read(PACKAGE, "page.html")).substitute(title=escape(title, quote=False), head=head, body=body)


def allowed(text: str) -> str:
    """What a page's security policy says to allow one style or script that stands in it, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
