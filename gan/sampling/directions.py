"""Directions in w along which images change in one way, and their files. Without torch, as clients need them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gan.errors import RequestError
from gan.runtime.files import sha256
from gan.sampling.latents import Floats
from gan.sampling.ws_file import read_arrays, write_arrays

FORMAT = "salon-directions-1"
MOST = 100.0  # standard deviations that an edit may move by
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One direction. An amount of 1 moves ws by `sigma` along it, in the layers from `first` to `last`."""

    name: str  # letters, digits, _ . -
    vector: Floats  # [w_dim], of length 1
    sigma: float  # standard deviation of w along it
    first: int  # layer
    last: int  # layer, inclusive
    method: str  # pca, sefa or supervised
    explained_variance: float | None = None  # share of the variance of w along it; with sefa of the styles' energy


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Directions of one generator, by name, in the order in which they were found."""

    entries: Mapping[str, Direction]
    num_ws: int
    snapshot: str | None = None  # SHA-256 of the file of the generator that they are of
    about: Mapping[str, Any] = field(default_factory=dict)  # how they were found

    @classmethod
    def of(cls, entries: Iterable[Direction], **values: Any) -> "Directions":
        """From a list."""
        return cls(entries={entry.name: entry for entry in entries}, **values)

    def edit(self, ws: Floats, amounts: Mapping[str, float]) -> Floats:
        """ws [N, num_ws, w_dim], moved along directions by amounts in standard deviations. Order does not matter.

        Raises RequestError for a name that is not there.
        """
        ws = np.array(ws, np.float32)
        for name in sorted(amounts):
            direction = self[name]
            ws[:, direction.first : direction.last + 1] += (
                np.float32(amounts[name] * direction.sigma) * direction.vector
            )
        return ws

    def __getitem__(self, name: str) -> Direction:
        if name not in self.entries:
            raise RequestError(f"`direction` must be one of {', '.join(self.entries)}; got {name} instead")
        return self.entries[name]

    def renamed(self, old: str, new: str) -> "Directions":
        """With another name for one of them. Raises RequestError where the name is none, or is taken."""
        if not _NAME.fullmatch(new):
            raise RequestError(f"`direction` must be named by letters, digits, _ . -, at most 64; got {new!r} instead")
        if new in self.entries and new != old:
            raise RequestError(f"`direction` must have a name of its own; {new} is taken")
        entries = [replace(d, name=new) if d.name == self[old].name else d for d in self.entries.values()]
        return replace(self, entries={entry.name: entry for entry in entries})

    def as_of(self, digest: str) -> "Directions | None":
        """With the names that they had when the file's SHA-256 was `digest`, before rename(); None: it never was."""
        earlier, renames = self, self.about.get("renames")
        try:
            for last in reversed(renames if isinstance(renames, list) else []):
                earlier = earlier.renamed(last["new"], last["old"])
                if last["of"] == digest:
                    return earlier
        except (LookupError, TypeError, RequestError):  # nobody's but a damaged file's
            return None
        return None

    def save(self, path: Path) -> None:
        """Write the file, atomically."""
        rows = list(self.entries.values())
        listed = [
            {name: getattr(d, name) for name in ("name", "first", "last", "method", "explained_variance")} for d in rows
        ]
        about = {"format": FORMAT, "snapshot": self.snapshot, "num_ws": self.num_ws, "directions": listed, **self.about}
        vectors, sigmas = np.stack([d.vector for d in rows]), np.array([d.sigma for d in rows], np.float32)
        write_arrays(path, about, vectors=vectors.astype(np.float32), sigmas=sigmas)

    @classmethod
    def open(
        cls, path: Path, num_ws: int | None = None, w_dim: int | None = None, parameter: str = "directions"
    ) -> "Directions":
        """Read a file, for a generator of this shape; None: of any.

        Raises RequestError, which names `parameter`, for another file, or directions of another generator's shape.
        """
        about, arrays = read_arrays(path, "a file of directions", FORMAT, ("vectors", "sigmas"), parameter)
        vectors, sigmas = arrays["vectors"], arrays["sigmas"]
        listed, layers, snapshot = about.pop("directions", None), about.pop("num_ws", None), about.pop("snapshot", None)
        try:
            entries = [
                Direction(**one, vector=vector, sigma=float(sigma))
                for one, vector, sigma in zip(listed, vectors, sigmas, strict=True)
            ]
            whole = vectors.ndim == 2 and all(
                _NAME.fullmatch(d.name) and 0 <= d.first <= d.last < layers and isinstance(d.method, str)
                for d in entries
            )
        except (TypeError, ValueError) as error:
            raise RequestError(f"`{parameter}` must be a file of directions; {path} is damaged") from error
        names = {entry.name for entry in entries}
        finite = np.isfinite(vectors).all() and np.isfinite(sigmas).all()
        if not (whole and finite and entries and len(names) == len(entries)):
            raise RequestError(f"`{parameter}` must be a file of directions; {path} is damaged")
        if (num_ws or layers, w_dim or vectors.shape[1]) != (layers, vectors.shape[1]):
            raise RequestError(
                f"`{parameter}` must be of this generator, of {num_ws} layers and w of {w_dim}; {path} is of {layers} "
                f"and {vectors.shape[-1]} instead"
            )
        return cls.of(
            entries, num_ws=int(layers), snapshot=snapshot if isinstance(snapshot, str) else None, about=about
        )


def rename(path: Path, old: str, new: str) -> Directions:
    """Give a direction of a file another name, atomically -> all of them.

    The file keeps what it was before, so that recipes of pictures that were made with the former name are followed.
    Raises RequestError as Directions.open and Directions.renamed.
    """
    digest, directions = sha256(path), Directions.open(path)
    renames = [*directions.about.get("renames", []), {"of": digest, "old": old, "new": new}]
    renamed = replace(directions.renamed(old, new), about={**directions.about, "renames": renames})
    renamed.save(path)
    return renamed


def parse_amounts(texts: Iterable[str], parameter: str = "direction") -> dict[str, float]:
    """["sky=1.5", "pc2=-1"] -> {"sky": 1.5, "pc2": -1.0}; the same name twice adds up.

    Raises RequestError, which names `parameter`, for anything else, or an amount beyond 100.
    """
    amounts: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            amount = float(number)
        except ValueError:
            amount = np.nan
        if not equals or not name or not abs(amount) <= MOST:
            raise RequestError(
                f"`{parameter}` must be NAME=AMOUNT, standard deviations from -{MOST:g} to {MOST:g}; got {text} instead"
            )
        amounts[name] = amounts.get(name, 0.0) + amount
    return amounts
