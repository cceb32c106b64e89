"""The block of YAML that a card begins with. Strings are written as JSON writes them, which is YAML too."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def front_matter(values: Mapping[str, Any]) -> str:
    """Mappings, lists, strings, numbers and booleans as a block between lines of ---; without what is empty."""
    lines = [*_mapping({name: value for name, value in values.items() if value not in (None, [], {})}, 0)]
    return "\n".join(["---", *lines, "---"])


def _mapping(values: Mapping[str, Any], indent: int) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping | list):
            yield f"{' ' * indent}{name}:"
            yield from _mapping(value, indent + 2) if isinstance(value, Mapping) else _list(value, indent)
        else:
            yield f"{' ' * indent}{name}: {_scalar(value)}"


def _list(values: Sequence[Any], indent: int) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping):
            first, *rest = _mapping(value, indent + 2)
            yield f"{' ' * indent}- {first.lstrip()}"
            yield from rest
        else:
            yield f"{' ' * indent}- {_scalar(value)}"


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
