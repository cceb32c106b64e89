"""What other installed packages add to Salon: entry points (importlib.metadata), loaded when a request names one.

The names in a group come from the packages' metadata, and nothing is imported for them. A package is named in every
message about what it added, and a broken one is no one's trouble who does not ask for it.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from gan.errors import RequestError, SalonError
from gan.runtime.console import say

METRICS, EXTRACTORS, SCORES = "salon.metrics", "salon.extractors", "salon.scores"  # groups of entry points
GROUPS = {METRICS: "metric", EXTRACTORS: "extractor", SCORES: "score"}  # group -> what its objects are called
Kind = TypeVar("Kind")
_told: set[tuple[str, str]] = set()


def names(group: str, taken: Collection[str] = ()) -> list[str]:
    """The names that installed packages offer in a group, without those that are Salon's own, `taken`."""
    return sorted({entry.name for entry in entry_points(group=group)} - set(taken))


def load(group: str, name: str, kind: type[Kind], *, parameter: str, form: str) -> tuple[Kind, str]:
    """The object of class `kind` that a package offers as `name` -> it, and the package with its version.

    `form` is the pattern of a name. Raises RequestError, which names `parameter` and the package, where two packages
    offer the name, it is not of that form, or the package cannot be imported or offers something else.
    """
    entries = list(entry_points(group=group, name=name))
    packages = sorted({package_of(entry) for entry in entries})
    if len(packages) != 1:
        raise RequestError(f"`{parameter}` {name} is offered by {' and by '.join(packages) or 'no package'}: keep one")
    package = packages[0]
    if not re.fullmatch(form, name):
        raise RequestError(f"`{parameter}` {name} of {package} must have a name of the form {form}")
    try:
        offered = entries[0].load()
    except (Exception, SystemExit) as error:  # of whatever a foreign module does
        raise RequestError(
            f"`{parameter}` {name} of {package} cannot be loaded from {entries[0].value}: {_line(error)}"
        ) from error
    if not isinstance(offered, kind):
        raise RequestError(
            f"`{parameter}` {name} of {package} must be a {kind.__module__}.{kind.__qualname__}; got a "
            f"{type(offered).__name__} instead"
        )
    return offered, package


def packages() -> dict[str, list[str]]:
    """What each installed package offers, such as "metric mean_distance", without importing it."""
    offered: dict[str, set[str]] = {}
    for group, kind in GROUPS.items():
        for entry in entry_points(group=group):
            offered.setdefault(package_of(entry), set()).add(f"{kind} {entry.name}")
    return {package: sorted(own) for package, own in sorted(offered.items())}


def tell_taken(group: str, name: str) -> None:
    """Say once that a package offers a name that is Salon's own, which counts."""
    for entry in entry_points(group=group, name=name) if (group, name) not in _told else ():
        _told.add((group, name))
        say(f"Note: {package_of(entry)} offers the {GROUPS[group]} {name}, which is a name of Salon's: Salon's is used")


def package_of(entry: EntryPoint) -> str:
    """The package that an entry point is of, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package without a name"


@contextmanager
def running(what: str, package: str) -> Iterator[None]:
    """Around a call of `what` that a package added: its exceptions become a SalonError that names the package."""
    try:
        yield
    except SalonError:
        raise
    except Exception as error:
        raise SalonError(f"{what} of {package} failed: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
