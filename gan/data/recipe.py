"""What a generated picture's file says of itself: that a generator made it, with what, and how to make it again.

How a file holds it is gan.data.xmp's.
"""

import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image

from gan import __version__
from gan.config import MAX_SEED, NOISE_MODES, PRECISIONS
from gan.data import xmp
from gan.errors import RequestError

KINDS = (
    *("image", "grid", "mix", "interpolation", "timelapse", "sheet"),
    *("journey", "blend", "projection"),
)
NUMBERS = ("seeds", "columns", "layers", "rows")
HASHES = ("snapshot", "other", "dataset", "ws", "columns_ws", "directions", "keyframes", "audio")
MP4 = (b"ftyp", 4)  # what an MP4 has, and where
_RECIPE = re.compile(r'salon:recipe="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a picture was made. What does not apply is None or empty, and is not written."""

    kind: str  # one of KINDS
    seeds: Sequence[int] = ()  # of the image, of a grid row by row, of an animation's keys; of a mix the rows'
    columns: Sequence[int] = ()  # seeds of a mix's columns, or rows of the file `columns_ws`
    layers: Sequence[int] = ()  # that a mix takes from its columns
    ws: str | None = None  # SHA-256 of the file of ws that it was made from, instead of seeds
    rows: Sequence[int] = ()  # of that file
    columns_ws: str | None = None  # SHA-256 of the file of ws that a mix's columns were made from, instead of seeds
    edits: Mapping[str, float] = field(default_factory=dict)  # direction -> amount, in standard deviations
    directions: str | None = None  # SHA-256 of the file of these directions
    grid: str | None = None  # columns x rows
    frames: int | None = None  # of an interpolation from seed to seed, of a journey in all
    keyframes: str | None = None  # SHA-256 of a journey's file
    audio: str | None = None  # SHA-256 of the file of sound that drives it
    journey: Mapping[str, Any] = field(default_factory=dict)  # easing, loop, seconds and drives of it, as JSON has them
    class_name: str | None = None
    truncation_psi: float | None = None
    truncation_cutoff: int | None = None  # layers that are truncated; None: all
    noise_mode: str | None = None
    precision: str | None = None
    model: str | None = None  # name and version of a served generator
    snapshot: str | None = None  # SHA-256 of its file
    other: str | None = None  # SHA-256 of the snapshot that it is blended with
    dataset: str | None = None  # fingerprint of what the generator learned from
    kimg: float | None = None  # thousands of images that it had seen
    salon: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without what does not apply."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {name: list(values[name]) for name in NUMBERS} | {"edits": dict(self.edits)}
        values["journey"] = dict(self.journey)
        return {name: value for name, value in values.items() if value not in (None, [], {})}

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """From the JSON of to_dict. Raises ValueError for anything else; fields of later versions are passed over."""
        values = json.loads(text)
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or values.get("kind") not in KINDS:
            raise ValueError(f"a recipe must be a JSON object of one of the kinds {', '.join(KINDS)}")
        recipe = cls(**{name: value for name, value in values.items() if name in known})
        recipe._check()
        return recipe

    def _check(self) -> None:
        for name in NUMBERS:
            numbers = getattr(self, name)
            if not isinstance(numbers, list | tuple) or not all(type(n) is int and 0 <= n <= MAX_SEED for n in numbers):
                raise ValueError(f"{name} of a recipe must be whole numbers from 0 to {MAX_SEED}")
        if self.kind not in ("timelapse", "projection") and not (self.seeds or self.rows or self.keyframes):
            raise ValueError(f"a recipe of {self.kind} must name its seeds, or rows of a file of ws")
        if self.kind == "mix" and not self.columns:
            raise ValueError("a recipe of mix must name its columns")
        if not isinstance(self.edits, dict) or not all(
            type(amount) in (int, float) and abs(amount) < 1e9 for amount in self.edits.values()
        ):
            raise ValueError("edits of a recipe must be an object of directions and amounts")
        if not isinstance(self.journey, dict):
            raise ValueError("journey of a recipe must be an object")
        for name, kinds in (("truncation_psi", (int, float)), ("truncation_cutoff", (int,)), ("frames", (int,))):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, kinds) or not -1e9 < value < 1e9
            ):
                raise ValueError(f"{name} of a recipe must be a number; got {value!r} instead")
        if (self.truncation_cutoff or 0) < 0:
            raise ValueError(f"truncation_cutoff of a recipe must be 0 or more; got {self.truncation_cutoff} instead")
        for name, choices in (("noise_mode", NOISE_MODES), ("precision", PRECISIONS)):
            if getattr(self, name) not in (None, *choices):
                raise ValueError(f"{name} of a recipe must be one of {', '.join(choices)}")
        for name in ("grid", "class_name", "noise_mode", "precision", "model", *HASHES, "salon"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} of a recipe must be text; got {value!r} instead")

    def sentence(self) -> str:
        """For a person to read."""
        return xmp.sentence(self.to_dict())

    def save_options(self, format: str) -> dict[str, Any]:
        """What Pillow's save takes of it, for a file of the format jpeg, png, webp or gif."""
        return xmp.save_options(self.to_dict(), format)

    def comment(self) -> str:
        """What files without XMP have."""
        return xmp.comment(self.to_dict())


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a file says of where it comes from."""

    marked: bool  # as made by a trained model, or showing such an image beside a real one
    recipe: Recipe | None  # Salon's, where it is there and can be read
    format: str  # jpeg, png, webp, gif or mp4


def read(path: Path) -> Provenance:
    """What a picture or animation says of where it comes from. Nothing in it is trusted, and nothing is executed.

    Raises RequestError when it is none, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error
    format, text = _mp4(path) if content[MP4[1] :].startswith(MP4[0]) else _picture(path, content)
    marked = any(mark in text for mark in (xmp.TRAINED, xmp.COMPOSITE))
    return Provenance(marked=marked, recipe=_recipe(text), format=format)


def _picture(path: Path, content: bytes) -> tuple[str, str]:
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
            info, format = image.info, str(image.format).lower()
            image.load()  # a PNG may have text behind its pixels
            found = {**info, **image.info}
    except Exception as error:  # a hostile file can make a decoder raise anything
        raise RequestError(f"{path} must be a PNG, JPEG, WebP, GIF or MP4; it is none, or is damaged") from error
    texts = (found.get(name, "") for name in (xmp.PNG_XMP, "xmp", "comment"))
    return format, "\n".join(t.decode("utf-8", "replace") if isinstance(t, bytes) else str(t) for t in texts)


def _mp4(path: Path) -> tuple[str, str]:
    import av

    try:
        with av.open(str(path)) as container:
            return "mp4", container.metadata.get("comment", "")
    except (av.FFmpegError, OSError) as error:
        raise RequestError(f"{path} must be a PNG, JPEG, WebP, GIF or MP4; it is damaged: {error}") from error


def _recipe(text: str) -> Recipe | None:
    found = _RECIPE.search(text)
    candidates = [html.unescape(found[1])] if found else text.splitlines()[::-1][:1]
    for candidate in candidates:
        try:
            return Recipe.from_json(candidate)
        except (ValueError, TypeError, RecursionError):
            continue
    return None
