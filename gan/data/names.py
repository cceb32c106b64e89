"""Names of files in archives and lists, as the systems of their makers wrote them. Light."""

import unicodedata
from pathlib import PurePath

# Files that lie beside images and are no images; whatever else there is is tried.
_IGNORED_SUFFIXES = frozenset(
    (
        *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".md", ".rst", ".html", ".htm", ".xml", ".yaml", ".yml", ".toml"),
        *(".ini", ".log", ".py", ".sh", ".parquet", ".npy", ".npz", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".db"),
        *(".sqlite", ".lnk", ".url"),
    )
)
_IGNORED_NAMES = frozenset(("thumbs.db", "desktop.ini", "license", "readme", "makefile"))


def canonical_name(name: str) -> str:
    """A path by which it may be compared: in NFC, with "/" between folders, and without "./" in front."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


def printable(name: str) -> str:
    """A name that can be written to a report: what is no UTF-8 in it is escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_hidden(name: str) -> bool:
    """Whether a path is, or lies in, what file systems add by themselves: hidden files and folders, and __MACOSX."""
    parts = name.replace("\\", "/").split("/")
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in parts)


def is_ignored(name: str) -> bool:
    """Whether a file's name says that it is no image."""
    path = PurePath(name)
    return path.suffix.lower() in _IGNORED_SUFFIXES or path.name.lower() in _IGNORED_NAMES
