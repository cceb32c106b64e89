"""Names of files in archives and lists, as the systems of their makers wrote them. Light."""

import unicodedata


def canonical_name(name: str) -> str:
    """A path by which it may be compared: in NFC, with "/" between folders, and without "./" in front."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


def is_hidden(name: str) -> bool:
    """Whether a path is, or lies in, what file systems add by themselves: hidden files and folders, and __MACOSX."""
    parts = name.replace("\\", "/").split("/")
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in parts)
