"""Files of ws, which were found for a picture or made by hand, to generate from. Without torch, as clients need it.

A file is `.npz` with `ws`, float32 [N, num_ws, w_dim], and `about`, JSON with format and snapshot, the SHA-256 of the
generator's snapshot, and what else its writer tells: images, the names of the N.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gan.errors import RequestError
from gan.runtime.files import atomic, require_format
from gan.sampling.latents import Floats

FORMAT = "salon-ws-1"
_SAFE = re.compile(r"\w[\w .,+@=()-]{0,99}")  # names of images that can be names of files


@dataclass(frozen=True, kw_only=True)
class WsFile:
    """ws of one generator."""

    ws: Floats  # [N, num_ws, w_dim]
    snapshot: str | None = None  # SHA-256 of the file of the generator that they are of; None: not known
    about: Mapping[str, Any] = field(default_factory=dict)  # what else the file tells, as JSON holds it

    def names(self) -> list[str]:
        """Names of files for the N images, without suffix: of the images that they were found for, or row0000."""
        given, count = self.about.get("images"), len(self.ws)
        known = isinstance(given, list) and all(isinstance(name, str) for name in given)
        stems = [Path(name.replace("\\", "/")).stem for name in given or ()] if known else []
        safe = all(_SAFE.fullmatch(stem) for stem in stems) and len(stems) == count
        distinct = len({stem.lower() for stem in stems}) == count
        return stems if safe and distinct else [f"row{row:04d}" for row in range(count)]

    def save(self, path: Path) -> None:
        """Write the file, atomically."""
        about = {"format": FORMAT, "snapshot": self.snapshot, **self.about}
        write_arrays(path, about, ws=np.asarray(self.ws, np.float32))

    @classmethod
    def open(cls, path: Path, num_ws: int, w_dim: int, parameter: str = "ws") -> "WsFile":
        """Read a file, for a generator of so many layers.

        Raises RequestError, which names `parameter`, for another file, or ws of another generator's shape.
        """
        about, arrays = read_arrays(path, "a file of ws", FORMAT, ("ws",), parameter)
        ws = arrays["ws"]
        if ws.ndim != 3 or not len(ws) or ws.shape[1:] != (num_ws, w_dim) or not np.isfinite(ws).all():
            shape = "x".join(map(str, ws.shape)) or "a single number"
            raise RequestError(
                f"`{parameter}` must hold finite ws of this generator, Nx{num_ws}x{w_dim}; {path} holds {shape} instead"
            )
        snapshot = about.pop("snapshot", None)
        return cls(ws=ws, snapshot=snapshot if isinstance(snapshot, str) else None, about=about)


def told_of(kind: str, path: Path, found_for: str | None, snapshot: str | None) -> str | None:
    """A warning where a file, `kind` such as "ws", was made for another snapshot than `snapshot`; else None.

    It is none to refuse: a tuned generator, and a later snapshot of a run, understand much the same ws.
    """
    if found_for is None or snapshot is None or found_for == snapshot:
        return None
    return (
        f"Warning: the {kind} of {path} were found for the snapshot {found_for[:12]}, and are used with "
        f"{snapshot[:12]}: images may differ from what they were found for"
    )


def write_arrays(path: Path, about: Mapping[str, Any], **arrays: np.ndarray) -> None:
    """Write `.npz` with arrays and `about` as JSON in it, atomically."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)  # type: ignore[arg-type]


def read_arrays(
    path: Path, kind: str, format: str, names: tuple[str, ...], parameter: str
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """What write_arrays wrote -> `about` without its format, and the float32 arrays of these names.

    Nothing in it is executed. Raises RequestError, which names `parameter`, for any other file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].astype(np.uint8).tobytes())
            arrays = {name: file[name].astype(np.float32) for name in names}
        if not isinstance(about, dict):
            raise ValueError("about is no JSON object")
    except FileNotFoundError as error:
        raise RequestError(f"`{parameter}` must be {kind}; {path} does not exist") from error
    except Exception as error:  # a damaged archive can make its reader raise anything
        raise RequestError(f"`{parameter}` must be {kind}, .npz as Salon writes it; {path} is none") from error
    require_format(path, kind, about.pop("format", None), format)
    return about, arrays
