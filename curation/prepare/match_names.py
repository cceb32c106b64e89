"""Find files by the names that lists give them: exactly, else loosely where that can mean one file only."""

import re
from collections import defaultdict
from collections.abc import Iterable

from gan.data.names import canonical_name

_LOST = re.compile(r"[^ -~\u0370-\u1fff\u2c00-\ufffc\ufffe-\U0010ffff]")


def base_name(name: str) -> str:
    """The last part of a path."""
    return canonical_name(name).rpartition("/")[2]


def loose_name(name: str) -> str:
    """What the encodings that a name may have gone through leave of it, in lower case and with "-" for "_".

    That is printable ASCII and other scripts: accented letters, and the signs that wrong encodings make of them, go.
    """
    name = canonical_name(name)
    return (name if name.isascii() else _LOST.sub("", name)).lower().replace("_", "-")


def match(rows: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """The canonical name of each file that a row names -> that of the row.

    They are equal, or else, where one row and one file have it, in their `loose_name`.
    """
    row_names, file_names = ({canonical_name(name) for name in names} for names in (rows, files))
    loose_rows, loose_files = _by_loose_name(row_names), _by_loose_name(file_names)
    found = {}
    for loose, names in loose_files.items():
        found.update({name: name for name in names if name in row_names})
        if len(names) == len(loose_rows[loose]) == 1 and _says_something(loose):
            found[names[0]] = loose_rows[loose][0]
    return found


def _by_loose_name(names: Iterable[str]) -> defaultdict[str, list[str]]:
    by_loose_name = defaultdict(list)
    for name in names:
        by_loose_name[loose_name(name)].append(name)
    return by_loose_name


def _says_something(loose: str) -> bool:
    # ".jpg" is all that is left of "é.jpg" and of "ö.jpg".
    stem, dot, suffix = loose.rpartition("/")[2].rpartition(".")
    return any(map(str.isalnum, stem if dot else suffix))
