"""What a file is that was taken for a checkpoint or weights: the usual wrong downloads, by their first bytes."""

from pathlib import Path

_STARTS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: `git lfs pull` fetches it"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
)
_HTML = (b"<!doctype html", b"<html", b"<?xml", b"<head")
_TAR = slice(257, 262)  # where a tar has its name


def foreign_kind(path: Path) -> str | None:
    """What the file obviously is, for messages; None: nothing obvious, or not readable."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError:
        return None
    if not start:
        return "empty"
    for signature, kind in _STARTS:
        if start.startswith(signature):
            return kind
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_HTML):
        return (
            "a web page, not the file itself: download it again, from the link to the file, and logged in where needed"
        )
    return "a tar archive: unpack it first" if start[_TAR] == b"ustar" else None


def why_unreadable(path: Path, error: Exception) -> str:
    """Why a file of tensors cannot be read: what it obviously is, else the first line of the library's error.

    Not torch's or NumPy's advice to load it unsafely.
    """
    if kind := foreign_kind(path):
        return f"it is {kind}"
    if any(advice in str(error) for advice in ("Weights only load failed", "allow_pickle")):
        return "it holds other things than tensors and arrays, which are not loaded: they may be programs"
    known = not isinstance(error, LookupError)  # whose text is the key alone
    lines = str(error).strip().splitlines() if known else []
    return lines[0] if lines else "it is no such file, or is damaged"
