"""The kinds of files that go to a hub and are taken from one, and the list of them with their hashes.

A repository that `salon push` wrote has FILES: {"format", "kind", "salon", "files": {name: {"size", "sha256"}}}.
README.md is not in it, as people change that on the hub.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan import __version__
from gan.errors import RequestError
from gan.runtime.files import require_format

FILES = "salon-files.json"
FORMAT = "salon-files-1"
README = "README.md"
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
SUFFIXES = {
    "model": (".safetensors", ".json", *_IMAGES),
    "dataset": (".zip", ".json", ".jsonl", *_IMAGES),
}
CONTENT = {"model": ".safetensors", "dataset": ".zip"}  # what a repository is for
_PROGRAMS = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".npy", ".npz", ".joblib", ".py", ".so", ".sh")
_MAGIC = {
    ".png": b"\x89PNG\r\n\x1a\n",
    ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
    ".webp": b"RIFF",
}
MAX_LIST = 1_000_000  # bytes of FILES


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What FILES says of one file."""

    size: int  # bytes
    sha256: str


def allowed(name: str, kind: str) -> bool:
    """Whether a file of this name is sent and taken: of an allowed kind, and in no folder."""
    plain = "/" not in name and "\\" not in name and not name.startswith(".") and name.isprintable()
    return plain and len(name) <= 200 and (name == README or Path(name).suffix in SUFFIXES[kind])


def is_hash(text: object) -> bool:
    """Whether `text` is a SHA-256, or a SHA-1, in hexadecimal: it names files that have partly come."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", text) is not None


def may_run(name: str) -> bool:
    """Whether files of such a name are programs, or may hold some, as pickles do."""
    return Path(name).suffix.lower() in _PROGRAMS


def require_content(path: Path, name: str) -> None:
    """Raise RequestError unless the file at `path` begins as its `name` says: no pickle under another name."""
    suffix = Path(name).suffix
    with open(path, "rb") as file:
        start = file.read(16)
    size = path.stat().st_size
    if suffix == ".safetensors":
        # 8 bytes with the length of the JSON that follows
        good = start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8
    elif suffix == ".zip":
        good = zipfile.is_zipfile(path)
    elif suffix in _MAGIC:
        good = start.startswith(_MAGIC[suffix])
    else:
        good = not start or (start[:1].isascii() and start[:1] != b"\x00")
    if not good:
        raise RequestError(f"{name} must be a file as its name says; it is another, and was not taken")


def listing(kind: str, files: Mapping[str, Listed]) -> bytes:
    """FILES, as bytes."""
    entries = {name: {"size": one.size, "sha256": one.sha256} for name, one in sorted(files.items())}
    values = {"format": FORMAT, "kind": kind, "salon": __version__, "files": entries}
    return (json.dumps(values, indent=2) + "\n").encode()


def parse_listing(content: bytes, kind: str, where: str) -> dict[str, Listed]:
    """What FILES says, by name. Raises RequestError, which begins with `where`, for anything else."""
    try:
        values: Any = json.loads(content)
        require_format(Path(where), "a list of files", values.get("format"), FORMAT)
        if values.get("kind") != kind:
            raise RequestError(f"{where} must be of a {kind}; it is of a {values.get('kind')}")
        files = {}
        for name, entry in values["files"].items():
            size, digest = entry["size"], entry["sha256"]
            if not (type(size) is int and size >= 0 and is_hash(digest)):
                raise ValueError(name)
            files[name] = Listed(size=size, sha256=digest)
    except RequestError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{where} must list files with size and sha256; it does not") from error
    if bad := [name for name in files if not allowed(name, kind)]:
        raise RequestError(f"{where} must list files of allowed kinds alone; got {bad[0]!r} instead")
    return files


def megabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.2f} MB" if size >= 1e4 else f"{size:,} bytes"


def counted(number: int) -> str:
    """So many files, for people."""
    return f"{number} file{'' if number == 1 else 's'}"
