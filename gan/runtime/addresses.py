"""Names by which a web server may be asked, and sites whose pages may ask it, as commands take them."""

import re
from collections.abc import Iterable

from gan.errors import RequestError


def check_host_names(names: Iterable[str]) -> None:
    """Raises RequestError for a name that is no host's, and so could never be in a request."""
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name):
            raise RequestError(f"`allow_host` must be a name alone, such as gallery.example; got {name} instead")


def check_origins(origins: Iterable[str]) -> None:
    """Raises RequestError for what no browser sends as an origin."""
    for origin in origins:
        if not re.fullmatch(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", origin):
            raise RequestError(f"`allow_origin` must be a site such as https://me.example; got {origin} instead")
