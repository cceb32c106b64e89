"""Which files of a folder or ZIP are tried as images, by their names alone; gan.data.decode says what they hold."""

from pathlib import Path

# Files that lie beside images and are no images; whatever else there is is tried.
IGNORED_SUFFIXES = frozenset(
    (
        *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".md", ".rst", ".html", ".htm", ".xml", ".yaml", ".yml", ".toml"),
        *(".ini", ".log", ".py", ".sh", ".parquet", ".npy", ".npz", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".db"),
        *(".sqlite", ".lnk", ".url"),
    )
)
IGNORED_NAMES = frozenset(("thumbs.db", "desktop.ini", "license", "readme", "makefile"))


def is_hidden(name: str) -> bool:
    """Whether a path with "/" is of a hidden file or folder, or of what macOS adds to ZIPs: nobody means these."""
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in name.split("/"))


def is_ignored(name: str) -> bool:
    """Whether a file's name says that it is no image."""
    return Path(name).suffix.lower() in IGNORED_SUFFIXES or Path(name).name.lower() in IGNORED_NAMES
