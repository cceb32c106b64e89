"""What a number is: everything that would make it another number, in one key. Only equal keys may be compared."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gan.errors import RequestError

REAL_IMAGES = "real_images"  # option of a metric that is of so many of the reference images, not of all


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Identity of a result. Its text is the key that people read; the hashes in it are compared as well."""

    metric: str  # such as fid
    extractor: str
    preprocess: str
    precision: str
    backend: str
    weights: str  # SHA-256 of the extractor's weights
    reference: str  # digest of the reference images' identity
    reference_n: int
    n: int  # generated images
    options: Mapping[str, Any] = field(default_factory=dict)  # of the metric, such as k
    dims: int | None = None  # principal components of the reference that the features are reduced to; None: all
    rejection: str | None = None  # how the generated images were chosen among candidates; None: they were not

    def __str__(self) -> str:
        chosen = f"/{self.rejection}" if self.rejection else ""
        reduced = f"/pca={self.dims}" if self.dims else ""
        drawn = f"/real={short_count(self.options[REAL_IMAGES])}" if REAL_IMAGES in self.options else ""
        how = f"{self.extractor}{reduced}/{self.preprocess}/{self.precision}"
        return f"{self.metric}@{how}{drawn}/n={short_count(self.n)}{chosen}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Identity":
        """From what to_dict gave. Raises RequestError for anything else."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise RequestError(f"a result must have a full identity; {error}") from error


def require_comparable(a: Identity, b: Identity) -> None:
    """Raise RequestError that names what differs, unless two results answer the same question."""
    left, right = a.to_dict(), b.to_dict()
    differing = [
        f"{name} is {_brief(left[name])} and {_brief(right[name])}" for name in left if left[name] != right[name]
    ]
    if differing:
        raise RequestError(f"{a} and {b} must not be compared: {'; '.join(differing)}")


def digest(identity: Mapping[str, Any]) -> str:
    """Short name of an identity, for folders: 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def short_count(n: int) -> str:
    """10000 -> 10k, 2500 -> 2500, 50000 -> 50k."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 32 else f"{text[:12]}…"
