"""Names of files in archives and lists, as the systems of their makers wrote them. Light."""

import unicodedata


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
