"""`dataset.json`, the labels of a dataset in the layout of the StyleGAN3 family.

{"labels": [[name, class], ...]} with classes 0, 1, ... or one-hot vectors, or {"labels": null}; Salon adds the names of
the classes as "classes", and "channels" where images are not RGB: 1 for grey, 4 for RGBA. Names that systems write
otherwise (NFD, backslashes) are the same names here.
"""

import json
from dataclasses import dataclass
from typing import Any

from gan.data.names import canonical_name
from gan.errors import RequestError
from gan.image_shape import KINDS


@dataclass(frozen=True, kw_only=True)
class DatasetLabels:
    """The labels of a dataset: `by_name` has the canonical names of its images."""

    by_name: dict[str, int]
    classes: list[str] | None  # names of classes 0, 1, ...; None: they have none
    num_classes: int  # at least; one-hot vectors may have places for classes without images


def channels(content: bytes, where: str) -> int:
    """The channels that the bytes of a dataset.json name; 3 without. Raises RequestError, which begins with `where`."""
    try:
        named = json.loads(content).get("channels", 3)
    except (ValueError, AttributeError, UnicodeDecodeError):
        return 3  # parse says what is wrong
    if named not in KINDS or isinstance(named, bool | float):
        raise RequestError(f"{where} must have the channels 1 (grey), 3 (RGB) or 4 (RGBA); got {named!r} instead")
    return int(named)


def parse(content: bytes, where: str) -> DatasetLabels | None:
    """Read the bytes of a dataset.json; None where it holds no labels.

    Raises RequestError, which begins with `where`, for anything else, and for labels that are no classes.
    """
    labels, names = _load(content, where)
    if labels is None:
        return None
    lengths = {len(label) for label in labels.values() if isinstance(label, list)}
    for name, label in labels.items():
        labels[name] = _class(label, name, where)  # in place: there may be millions
    by_name: dict[str, int] = labels
    if len(lengths) > 1:
        raise RequestError(f"{where} must hold one-hot vectors of one length; got {sorted(lengths)} instead")
    at_least = (*lengths, len(names or ()), max(by_name.values(), default=-1) + 1)
    return DatasetLabels(by_name=by_name, classes=names, num_classes=max(at_least))


def _load(content: bytes, where: str) -> tuple[dict[str, Any] | None, list[str] | None]:
    # The labels as they are, by canonical name, and the names of classes.
    try:
        loaded = json.loads(content)
        pairs, classes = loaded.get("labels"), loaded.get("classes")
        if pairs is None:
            return None, None
        labels = {canonical_name(str(name)): label for name, label in pairs}
        return labels, [str(name) for name in classes] if classes else None
    except (ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise RequestError(f"{where} must hold {{'labels': [[name, class], ...]}}") from error


def _class(label: Any, name: str, where: str) -> int:
    index = None
    got = repr(label)[:60]
    if isinstance(label, list):
        if label and label.count(1) == 1 and label.count(0) == len(label) - 1:
            return label.index(1)
        got = "a vector that is not one-hot"
    elif isinstance(label, int):  # bool too
        index = int(label)
    elif isinstance(label, float):
        index = int(label) if label.is_integer() else None
        got = f"the real number {label}"
    elif isinstance(label, str) and label.isdecimal():
        index = int(label)
    if index is None:
        raise RequestError(
            f"{where} must hold classes, as whole numbers or one-hot vectors; got {got} instead, for {name}"
        )
    if index < 0:
        raise RequestError(f"{where} must hold classes from 0 on; got {index} instead, for {name}")
    return index
