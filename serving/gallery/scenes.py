"""What a visitor of the gallery asks for: pictures by what decides them, and the address that makes each again."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from gan.errors import RequestError
from gan.sampling.latents import MAX_SEED, Floats, loop, mix
from serving.contract import IMAGE_FORMATS, PSI_RANGE, ModelMetadata

# The layers of a synthesis network from coarse to fine, in thirds, by what they decide (Karras et al. 2019, 3.1).
PARTS = ("composition", "shapes", "colour")
VIEWS = ("wall", "picture", "mix", "journey")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture: of a seed, of a mix with the parts `layers` of the seed `to`, or a step on the way to it."""

    model: str
    seed: int
    psi: float = 1.0
    label: int | None = None
    to: int | None = None
    layers: tuple[str, ...] = ()  # of a mix: those of PARTS that come from `to`
    step: int = 0  # of a journey: 0 is `seed`, `steps` is `to`
    steps: int = 0  # 0: no journey

    @classmethod
    def from_query(cls, query: Mapping[str, str], about: ModelMetadata, most: int) -> "Picture":
        """Read an address; `about` is the generator's, `most` the limit of pictures a request.

        Raises RequestError, naming the parameter, for what the generator cannot paint.
        """
        layers = tuple(part for part in query.get("layers", "").split(",") if part)
        if unknown := [part for part in layers if part not in PARTS]:
            raise RequestError(f"layers must be some of {', '.join(PARTS)}; got {unknown[0]} instead")
        steps = _whole(query, "steps", 0, most - 1)
        to = _whole(query, "to", None, MAX_SEED)
        if to is None and (steps or layers):
            raise RequestError("to must name a second seed where there are layers or steps; it is missing")
        return cls(
            model=query.get("model", ""),
            seed=_whole(query, "seed", 0, MAX_SEED) or 0,
            psi=_psi(query.get("psi", "1")),
            label=_label(query, about),
            to=to,
            layers=tuple(part for part in PARTS if part in layers),
            step=_whole(query, "step", 0, steps or 0) or 0,
            steps=steps or 0,
        )

    def query(self) -> str:
        """The parameters of its address, the inverse of from_query."""
        fields: dict[str, object] = {"model": self.model, "seed": self.seed, "psi": f"{self.psi:g}"}
        if self.label is not None:
            fields["class"] = self.label
        if self.to is not None:
            fields["to"] = self.to
        if self.layers:
            fields["layers"] = ",".join(self.layers)
        if self.steps:
            fields |= {"step": self.step, "steps": self.steps}
        return urlencode(fields, safe=",")

    def tag(self, about: ModelMetadata) -> str:
        """What changes exactly when the pixels may: a digest of the snapshot and of all that decides the picture."""
        return hashlib.sha256(f"{about.snapshot} {self.query()}".encode()).hexdigest()[:32]

    def seeds(self) -> list[int]:
        """The seeds that it needs latents of."""
        return [self.seed] if self.to is None else [self.seed, self.to]

    def title(self) -> str:
        """What hangs beside it."""
        if self.to is None:
            return f"No. {self.seed}"
        if self.steps:
            return f"From No. {self.seed} to No. {self.to}"
        parts = " and ".join([", ".join(self.layers[:-1]), *self.layers[-1:]] if self.layers[1:] else self.layers)
        return f"No. {self.seed} with {parts} of No. {self.to}" if parts else f"No. {self.seed}"

    def file_name(self) -> str:
        """A name for the download, without suffix."""
        middle = f"-step{self.step}of{self.steps}" if self.steps else "".join(f"-{part}" for part in self.layers)
        return f"{self.model}-{self.seed}" + (f"{middle}-{self.to}" if self.to is not None else "")


def scene(view: str, picture: Picture, count: int) -> list[Picture]:
    """The pictures of a view, all of which `picture` describes: a wall of `count` seeds, a picture, a mix (first its
    two parents), a journey of `count` pictures. Raises RequestError for an unknown view, or a journey to nowhere.
    """
    if view not in VIEWS:
        raise RequestError(f"view must be one of {', '.join(VIEWS)}; got {view} instead")
    alone = replace(picture, to=None, layers=(), step=0, steps=0)
    if view == "picture":
        return [alone]
    if view == "wall":
        return [replace(alone, seed=(picture.seed + i) % (MAX_SEED + 1)) for i in range(count)]
    if picture.to is None:
        raise RequestError(f"to must name a second seed for a {view}; it is missing")
    if view == "mix":
        return [alone, replace(alone, seed=picture.to), replace(picture, step=0, steps=0)]
    if count < 2:
        raise RequestError(f"count must be 2 or more for a journey; got {count} instead")
    return [replace(picture, layers=(), step=step, steps=count - 1) for step in range(count)]


def combine(picture: Picture, ws: Floats) -> Floats:
    """ws of the picture's seeds [1 or 2, num_ws, w_dim] -> ws [1, num_ws, w_dim] of the picture."""
    if picture.to is None:
        return ws
    if not picture.steps:
        return mix(ws[:1], ws[1:], layers(picture.layers, ws.shape[1]))
    # A loop of two seeds goes there and comes back on the same way: this is its first half, and the seed at its end.
    return loop(ws, picture.steps)[picture.step : picture.step + 1]


def layers(parts: Sequence[str], num_ws: int) -> list[int]:
    """The layers of some PARTS."""
    bounds = [round(num_ws * i / len(PARTS)) for i in range(len(PARTS) + 1)]
    chosen = [range(bounds[i], bounds[i + 1]) for i, part in enumerate(PARTS) if part in parts]
    return [layer for some in chosen for layer in some]


def image_format(text: str) -> str:
    """One of contract.IMAGE_FORMATS. Raises RequestError for another."""
    if text not in IMAGE_FORMATS:
        raise RequestError(f"format must be one of {', '.join(IMAGE_FORMATS)}; got {text} instead")
    return text


def _whole(query: Mapping[str, str], name: str, default: int | None, maximum: int) -> int | None:
    text = query.get(name)
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= maximum):
        raise RequestError(f"{name} must be a whole number from 0 to {maximum}; got {text[:40]!r} instead")
    return int(text)


def _psi(text: str) -> float:
    low, high = PSI_RANGE
    try:
        psi = float(text)
    except ValueError:
        psi = math.nan
    if not low <= psi <= high:
        raise RequestError(f"psi must be a number from {low:g} to {high:g}; got {text[:40]!r} instead")
    return round(psi, 4) + 0.0  # so that its address says all of it; -0.0 is 0


def _label(query: Mapping[str, str], about: ModelMetadata) -> int | None:
    if not about.num_classes:
        if query.get("class"):
            raise RequestError("class must be left out: this generator was trained without classes")
        return None
    return _whole(query, "class", 0, about.num_classes - 1)
