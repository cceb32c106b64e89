"""Keyframe files: TOML that says what a journey passes through. Without torch.

directions = "directions.npz"   # for edits and sound; paths are relative to the file's folder

[[key]]
seed = 3                        # or: ws = "found.npz" and row = 0
psi = 0.7
class = "portrait"              # of a seed
edits = {smile = 1.5}           # amounts in standard deviations
seconds = 2.0                   # to the next key; of the last one without a loop: how long it stays

[audio]                         # what sound drives; see gan.sampling.drives
onset = "speed"
low = {to = "psi", amount = 0.3}
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from gan.config import MAX_SEED
from gan.errors import RequestError
from gan.sampling import drives
from gan.sampling.directions import MOST
from gan.sampling.drives import Drive

SECONDS = Fraction(2)  # to the next key, where a key says nothing
LONGEST = 3600  # seconds from key to key
MOST_KEYS = 10_000
FIELDS = ("seed", "ws", "row", "psi", "class", "edits", "seconds")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One picture that a journey passes through: of a seed, or of a row of a file of ws."""

    seed: int | None = None
    ws: Path | None = None
    row: int = 0
    psi: float | None = None  # truncation; None: the command's for a seed, 1 for a row
    class_name: str | int | None = None  # of a seed: name or index; None: the command's
    edits: Mapping[str, float] = field(default_factory=dict)  # direction -> amount, in standard deviations
    seconds: Fraction | None = None  # to the next key; None: SECONDS, of the last one without a loop 0


@dataclass(frozen=True, kw_only=True)
class Keyframes:
    """What a file says."""

    keys: tuple[Key, ...]
    directions: Path | None = None
    drives: Mapping[str, Drive] | None = None  # what features of the sound drive; None: nothing is said


def read(path: Path) -> Keyframes:
    """Read a file. Raises RequestError, which names `keyframes`, the key and the field, for anything else."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"`keyframes` must be a readable TOML file; {path}: {reason}") from error
    try:
        return _parsed(content, path.parent)
    except RequestError as error:
        raise RequestError(f"`keyframes` {path}: {error}") from error


def _parsed(content: Mapping[str, Any], folder: Path) -> Keyframes:
    if unknown := sorted(set(content) - {"key", "directions", "audio"}):
        raise RequestError(f"there is no field {unknown[0]}; known are directions, [[key]] and [audio]")
    tables = content.get("key", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise RequestError("key must be tables, [[key]], one at least")
    if len(tables) > MOST_KEYS:
        raise RequestError(f"key must be at most {MOST_KEYS:,} tables; got {len(tables):,} instead")
    keys = tuple(_key(table, f"key {number}", folder) for number, table in enumerate(tables, 1))
    directions = content.get("directions")
    if directions is not None and (not isinstance(directions, str) or not directions):
        raise RequestError(f"directions must be a path; got {directions!r} instead")
    audio = content.get("audio")
    return Keyframes(
        keys=keys,
        directions=None if directions is None else folder / directions,
        drives=None if audio is None else drives.of_table(audio),
    )


def _key(table: Mapping[str, Any], name: str, folder: Path) -> Key:
    if unknown := sorted(set(table) - set(FIELDS)):
        raise RequestError(f"{name}: there is no field {unknown[0]}; known are {', '.join(FIELDS)}")
    if ("seed" in table) == ("ws" in table):
        raise RequestError(f"{name}: either seed or ws must be given")
    for own, other in (("row", "ws"), ("class", "seed")):
        if own in table and other not in table:
            raise RequestError(f"{name}: {own} goes with {other} alone")
    ws, class_name, edits = table.get("ws"), table.get("class"), table.get("edits", {})
    if ws is not None and (not isinstance(ws, str) or not ws):
        raise RequestError(f"{name}: ws must be a path; got {ws!r} instead")
    if class_name is not None and (isinstance(class_name, bool) or not isinstance(class_name, str | int)):
        raise RequestError(f"{name}: class must be a name or an index; got {class_name!r} instead")
    if not isinstance(edits, dict):
        raise RequestError(f"{name}: edits must be a table of directions and amounts; got {edits!r} instead")
    for direction, amount in edits.items():
        _number(amount, f"{name}: edits.{direction}", -MOST, MOST)
    psi, seconds = table.get("psi"), table.get("seconds")
    if seconds is not None and not _number(seconds, f"{name}: seconds", 0, LONGEST):
        raise RequestError(f"{name}: seconds must be above 0; got {seconds!r} instead")
    return Key(
        seed=_whole(table["seed"], f"{name}: seed") if "seed" in table else None,
        ws=None if ws is None else folder / ws,
        row=_whole(table.get("row", 0), f"{name}: row"),
        psi=None if psi is None else _number(psi, f"{name}: psi", -2, 2),
        class_name=class_name,
        edits={direction: float(amount) for direction, amount in edits.items()},
        seconds=None if seconds is None else Fraction(str(seconds)),
    )


def _whole(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SEED:
        raise RequestError(f"{name} must be a whole number from 0 to {MAX_SEED}; got {value!r} instead")
    return value


def _number(value: object, name: str, least: float, most: float) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:  # type: ignore[arg-type, operator]
        raise RequestError(f"{name} must be a number from {least:g} to {most:g}; got {value!r} instead")
    return float(value)  # type: ignore[arg-type]
