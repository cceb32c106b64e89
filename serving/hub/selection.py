"""How many images of a dataset a manifest keeps, and why the others were dropped."""

from dataclasses import dataclass
from typing import Any

from gan.data.collection import Collection

# Of `salon prepare`, what was done to images; its sources, which are local paths, stay out.
_SETTINGS = ("resolution", "shape", "fit", "format", "quality", "filter", "crops", "channels", "max_crop", "labels")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a manifest says, in numbers."""

    hash: str
    rows: int
    verdicts: dict[str, int]  # keep, drop and quarantine -> images
    reasons: dict[str, int]  # code -> images that were dropped for it
    settings: dict[str, Any]  # how the images were prepared

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"hash": self.hash, "rows": self.rows, "verdicts": self.verdicts, "reasons": self.reasons}


def of_collection(collection: Collection) -> Selection | None:
    """Of the collection's manifest; None where it has none."""
    if collection.manifest is None:
        return None
    header = collection.manifest.header
    parameters = header.get("parameters") or {}
    settings = {name: parameters[name] for name in _SETTINGS if parameters.get(name) not in (None, [], False, "none")}
    return Selection(
        hash=collection.manifest.hash,
        rows=header["rows"],
        verdicts=header["verdicts"],
        reasons=dict(sorted(header["reasons"].items(), key=lambda item: (-item[1], item[0]))),
        settings=settings,
    )
