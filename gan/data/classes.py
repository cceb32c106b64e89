"""Classes by name and by index: the one place where requests, labels and reports turn one into the other. Light."""

import unicodedata
from collections.abc import Sequence

from gan.errors import RequestError

MAX_CLASSES = 100_000  # more are taken for a mistake, such as a column of numbers that name no classes
_SHOWN = 20  # names in a message


def class_name(index: int, names: Sequence[str] | None) -> str:
    """What to call a class: its name, or its index where it has none."""
    return names[index] if names and index < len(names) else str(index)


def class_index(
    chosen: int | str | None, num_classes: int, names: Sequence[str] | None, parameter: str = "class_name"
) -> int | None:
    """The index of the class `chosen`; None for networks without classes.

    A string is the name of a class, or else an index, unless names of classes are numbers themselves; an integer is an
    index. Raises RequestError, which names `parameter`, for what is no class, and where a class is missing or needless.
    """
    if not num_classes:
        if chosen is not None:
            raise RequestError(f"`{parameter}` must be left out: this generator was trained without classes")
        return None
    if chosen is None:
        raise RequestError(f"`{parameter}` must be given: this generator has {_known(num_classes, names)}")
    index = _named(chosen, names or []) if isinstance(chosen, str) else int(chosen)
    if index is None or not 0 <= index < num_classes:
        raise RequestError(f"`{parameter}` must be one of {_known(num_classes, names)}; got {chosen} instead")
    return index


def _named(chosen: str, names: Sequence[str]) -> int | None:
    indices = {unicodedata.normalize("NFC", name): index for index, name in reversed(list(enumerate(names)))}
    index = indices.get(unicodedata.normalize("NFC", chosen))
    if index is None and chosen.isdecimal() and not any(name.isdecimal() for name in names):
        return int(chosen)
    return index


def _known(num_classes: int, names: Sequence[str] | None) -> str:
    if not names:
        return f"{num_classes} classes, 0 to {num_classes - 1}"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{num_classes} classes, {', '.join(names[:_SHOWN])}{more}"
