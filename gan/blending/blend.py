"""A snapshot whose generator is blended of two others', and the sheet that shows what to choose."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan import snapshot
from gan.blending import lineage, sheet
from gan.blending.request import BlendRequest
from gan.blending.weights import blended
from gan.device.selection import select
from gan.networks.generator import Generator
from gan.runtime.files import sha256
from gan.sampling.marking import Marking
from gan.sampling.request import MarkingRequest
from gan.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class Blend:
    """What was blended."""

    a: Path
    b: Path
    related: bool  # known to be of one lineage
    about: dict[str, Any]  # what the snapshot says of it


def blend(request: BlendRequest, marking: MarkingRequest | None = None) -> Blend:
    """Write what the request asks for.

    Raises RequestError for generators that differ in shape, or that are not known to be of one lineage.
    """
    a, b = snapshot.find(request.a), snapshot.find(request.b)
    lineage.require_alike(a, b)
    if not request.unrelated:
        lineage.require_related(a, b)
    config = a.config.network
    weight = 1.0 if request.weight is None else request.weight
    about: dict[str, Any] = {
        "made_by": "blend",
        "a": sha256(a.path),
        "b": sha256(b.path),
        "from_layer": request.from_layer,
        "weight": weight,
        "mapping": request.mapping or (None if request.from_layer is None else "a"),
        "ancestors": sorted(lineage.known(a) | lineage.known(b)),
    }
    G = Generator(config)
    weights = (a.G_ema.state_dict(), b.G_ema.state_dict())
    chosen = blended(*weights, config, from_layer=request.from_layer, weight=weight, mapping=request.mapping)
    if request.sheet is not None:
        sheet.draw(a, b, request, request.sheet, Marking(marking or MarkingRequest()), select(request.device))
    if request.out is not None:
        G.load_state_dict(chosen)
        _save(request.out, G, a, b, about)
    return Blend(a=a.path, b=b.path, related=not request.unrelated or lineage.related(a, b), about=about)


def _save(path: Path, G: Generator, a: Snapshot, b: Snapshot, about: dict[str, Any]) -> None:
    # Names of classes are those of the mapping network, which gives them their ws; b's discriminator must know them.
    classes = b.classes if about["mapping"] == "b" else a.classes
    D = b.D if classes == b.classes else None
    snapshot.save(path, G, D, b.config, b.cur_nimg, classes, lineage=about)
