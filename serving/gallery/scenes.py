"""Image specifications: all that determines an image of the gallery, read from an address and written as one."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from gan.data.recipe import Recipe
from gan.errors import RequestError
from gan.sampling.directions import MOST, Directions
from gan.sampling.latents import MAX_SEED, Floats, loop, mix
from serving.contract import IMAGE_FORMATS, PSI_RANGE, ModelMetadata
from serving.recipes import served_recipe

# The layers of a synthesis network from coarse to fine, in thirds, by what they decide (Karras et al. 2019, 3.1).
PARTS = ("composition", "shapes", "colour")
# Values of `view` in addresses, which links hold: a grid, an image, a style mix, an interpolation.
VIEWS = ("wall", "picture", "mix", "journey")


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """An image: of a seed, of a style mix with the parts `layers` of the seed `to`, or a step of an interpolation.

    Its ws are moved along directions by the amounts `edits`, in standard deviations.
    """

    model: str  # name of the generator
    seed: int
    psi: float = 1.0  # truncation
    label: int | None = None  # index of the class; None: for a generator without classes
    to: int | None = None  # second seed of a style mix or an interpolation; None: neither
    layers: tuple[str, ...] = ()  # of a style mix: those of PARTS that come from `to`
    step: int = 0  # of an interpolation: 0 is `seed`, `steps` is `to`
    steps: int = 0  # 0: no interpolation
    edits: tuple[tuple[str, float], ...] = ()  # directions and amounts, none of which is 0, in the order of the names

    @classmethod
    def from_query(
        cls,
        query: Mapping[str, str],
        metadata: ModelMetadata,
        max_images: int,
        directions: Directions | None = None,
    ) -> "ImageSpec":
        """The specification that an address's parameters hold; `metadata` and `directions` are the generator's,
        `max_images` the limit of images in one request.

        Raises RequestError, naming the parameter, for what the generator cannot generate.
        """
        layers = tuple(part for part in query.get("layers", "").split(",") if part)
        if unknown := [part for part in layers if part not in PARTS]:
            raise RequestError(f"layers must be some of {', '.join(PARTS)}; got {unknown[0]} instead")
        steps = _integer(query, "steps", 0, max_images - 1)
        to = _integer(query, "to", None, MAX_SEED)
        if to is None and (steps or layers):
            raise RequestError("to must name a second seed where there are layers or steps; it is missing")
        return cls(
            model=query.get("model", ""),
            seed=_integer(query, "seed", 0, MAX_SEED) or 0,
            psi=_psi(query.get("psi", "1")),
            label=_label(query, metadata),
            to=to,
            layers=tuple(part for part in PARTS if part in layers),
            step=_integer(query, "step", 0, steps or 0) or 0,
            steps=steps or 0,
            edits=_edits(query.get("edits", ""), directions),
        )

    def query(self) -> str:
        """Parameters of the image's address, the inverse of from_query."""
        fields: dict[str, object] = {"model": self.model, "seed": self.seed, "psi": f"{self.psi:g}"}
        if self.label is not None:
            fields["class"] = self.label
        if self.to is not None:
            fields["to"] = self.to
        if self.layers:
            fields["layers"] = ",".join(self.layers)
        if self.steps:
            fields |= {"step": self.step, "steps": self.steps}
        if self.edits:
            fields["edits"] = ",".join(f"{name}:{amount:g}" for name, amount in self.edits)
        return urlencode(fields, safe=",:")

    def tag(self, metadata: ModelMetadata) -> str:
        """Digest of the snapshot, its directions and the specification, 32 hexadecimal digits: it changes when the
        pixels do.
        """
        source = f"{metadata.snapshot} {metadata.directions}" if self.edits else f"{metadata.snapshot}"
        return hashlib.sha256(f"{source} {self.query()}".encode()).hexdigest()[:32]

    def version(self, metadata: ModelMetadata) -> str:
        """`v` in addresses: the first digits of the SHA-256 of the snapshot, "" where it is not known, and of an edited
        image those of its directions as well.
        """
        snapshot = (metadata.snapshot or "")[:12]
        return f"{snapshot}-{(metadata.directions or '')[:8]}" if snapshot and self.edits else snapshot

    def seeds(self) -> list[int]:
        """Seeds whose latents the image is made from: one or two."""
        return [self.seed] if self.to is None else [self.seed, self.to]

    def recipe(self, metadata: ModelMetadata) -> Recipe:
        """How the image, or the interpolation that it is a step of, is made."""
        index = "" if self.label is None else str(self.label)
        class_name = metadata.classes[self.label] if self.label is not None and metadata.classes else index or None
        made: dict[str, Any] = {"class_name": class_name, "truncation_psi": self.psi}
        if self.edits:
            made |= {"edits": dict(self.edits), "directions": metadata.directions}
        if self.to is None:
            return served_recipe(metadata, "image", seeds=[self.seed], **made)
        if self.steps:
            return served_recipe(metadata, "interpolation", seeds=[self.seed, self.to], frames=self.steps, **made)
        chosen = layers(self.layers, metadata.num_ws or 0)
        return served_recipe(metadata, "image", seeds=[self.seed], columns=[self.to], layers=chosen, **made)

    def title(self) -> str:
        """Caption of the image."""
        return f"{self._seed_title()}, edited" if self.edits else self._seed_title()

    def described(self) -> str:
        """The same in full, with the amounts."""
        amounts = ", ".join(f"{name} {amount:+g}" for name, amount in self.edits)
        return f"{self._seed_title()}, edited by {amounts}" if amounts else self._seed_title()

    def _seed_title(self) -> str:
        if self.to is None:
            return f"Seed {self.seed}"
        if self.steps:
            return f"From seed {self.seed} to seed {self.to}"
        parts = " and ".join([", ".join(self.layers[:-1]), *self.layers[-1:]] if self.layers[1:] else self.layers)
        return f"Seed {self.seed} with {parts} of seed {self.to}" if parts else f"Seed {self.seed}"

    def file_name(self) -> str:
        """Name of the downloaded file, without suffix."""
        middle = f"-step{self.step}of{self.steps}" if self.steps else "".join(f"-{part}" for part in self.layers)
        seeds = f"{self.model}-{self.seed}" + (f"{middle}-{self.to}" if self.to is not None else "")
        return seeds + "".join(f"-{name}{amount:+g}" for name, amount in self.edits)[:100]


def scene(view: str, spec: ImageSpec, count: int) -> list[ImageSpec]:
    """Specifications of all images of a view, which `spec` describes: "wall" is a grid of `count` seeds, "picture" one
    image, "mix" a style mix after its two parents, "journey" an interpolation of `count` images.

    Raises RequestError for an unknown view, or one of two seeds where `to` is None.
    """
    if view not in VIEWS:
        raise RequestError(f"view must be one of {', '.join(VIEWS)}; got {view} instead")
    of_seed = replace(spec, to=None, layers=(), step=0, steps=0)
    if view == "picture":
        return [of_seed]
    if view == "wall":
        return [replace(of_seed, seed=(spec.seed + i) % (MAX_SEED + 1)) for i in range(count)]
    if spec.to is None:
        raise RequestError(f"to must name a second seed for view {view}; it is missing")
    if view == "mix":
        return [of_seed, replace(of_seed, seed=spec.to), replace(spec, step=0, steps=0)]
    if count < 2:
        raise RequestError(f"count must be 2 or more for view {view}; got {count} instead")
    return [replace(spec, layers=(), step=step, steps=count - 1) for step in range(count)]


def combine(spec: ImageSpec, ws: Floats, directions: Directions | None = None) -> Floats:
    """ws of the image [1, num_ws, w_dim], from those of its seeds [1 or 2, num_ws, w_dim].

    Raises RequestError where it is edited along directions that there are not.
    """
    combined = _combined(spec, ws)
    if not spec.edits:
        return combined
    if directions is None:
        raise RequestError(f"{spec.model} is served without directions")
    return directions.edit(combined, dict(spec.edits))


def _combined(spec: ImageSpec, ws: Floats) -> Floats:
    if spec.to is None:
        return ws
    if not spec.steps:
        return mix(ws[:1], ws[1:], layers(spec.layers, ws.shape[1]))
    # A loop of two seeds goes there and comes back on the same way: this is its first half, and the seed at its end.
    return loop(ws, spec.steps)[spec.step : spec.step + 1]


def layers(parts: Sequence[str], num_ws: int) -> list[int]:
    """Indices of the layers that PARTS name, of `num_ws` layers."""
    bounds = [round(num_ws * i / len(PARTS)) for i in range(len(PARTS) + 1)]
    return [layer for i, part in enumerate(PARTS) if part in parts for layer in range(bounds[i], bounds[i + 1])]


def image_format(text: str) -> str:
    """`text` itself, which must be one of contract.IMAGE_FORMATS. Raises RequestError for another."""
    if text not in IMAGE_FORMATS:
        raise RequestError(f"format must be one of {', '.join(IMAGE_FORMATS)}; got {text} instead")
    return text


def _integer(query: Mapping[str, str], name: str, default: int | None, maximum: int) -> int | None:
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


def _label(query: Mapping[str, str], metadata: ModelMetadata) -> int | None:
    if not metadata.num_classes:
        if query.get("class"):
            raise RequestError("class must be left out: this generator was trained without classes")
        return None
    return _integer(query, "class", 0, metadata.num_classes - 1)


def _edits(text: str, directions: Directions | None) -> tuple[tuple[str, float], ...]:
    # "age:1.5,sky:-2"; what is moved by 0 is not edited.
    amounts: dict[str, float] = {}
    if text and directions is None:
        raise RequestError("edits must be left out: this generator is served without directions")
    for part in text.split(",") if text and directions else ():
        name, _, number = part.partition(":")
        if directions is None or name not in directions.entries:
            known = ", ".join(directions.entries if directions else ())
            raise RequestError(f"edits must be of some of {known}; got {name[:40]!r} instead")
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        if not abs(amount) <= MOST:
            wanted = f"NAME:AMOUNT, standard deviations from -{MOST:g} to {MOST:g}"
            raise RequestError(f"edits must be {wanted}; got {part[:80]!r} instead")
        amounts[name] = round(amount, 4)
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount))
