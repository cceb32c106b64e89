"""Keywords of a call -> the request that a command would make of its options."""

import dataclasses
import typing
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from gan.errors import RequestError

AnyPath = str | PathLike[str]
Request = TypeVar("Request")


def request_of(kind: type[Request], fields: Mapping[str, Any], **own: Any) -> Request:
    """The request of a kind, in which text becomes a path where it takes one, and a list a tuple.

    Raises RequestError for a field that it has not, or a value that it refuses.
    """
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(fields) - names_of(kind)):
        known = ", ".join(sorted(names_of(kind) - set(own)))
        raise RequestError(f"`{unknown[0]}` is no field of {kind.__name__}, whose fields are {known}")

    def fitting(name: str, value: Any) -> Any:
        kinds = {hints[name], *typing.get_args(hints[name])}
        if isinstance(value, str | PathLike) and Path in kinds:
            return Path(value)
        return tuple(value) if isinstance(value, list) else value

    return kind(**{name: fitting(name, value) for name, value in {**fields, **own}.items()})


def parted(fields: Mapping[str, Any], *kinds: type) -> list[dict[str, Any]]:
    """The fields of each kind of request; what none of them has is among the first's, which will refuse it."""
    others = [{name: fields[name] for name in fields if name in names_of(kind)} for kind in kinds[1:]]
    taken = {name for part in others for name in part}
    return [{name: value for name, value in fields.items() if name not in taken}, *others]


def names_of(kind: type) -> set[str]:
    """Names of a request's fields."""
    return {field.name for field in dataclasses.fields(kind)}
