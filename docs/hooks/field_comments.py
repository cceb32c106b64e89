"""For mkdocstrings: fields of dataclasses are explained by the comments beside them, which become a table."""

import re
from typing import Any

import griffe

_COMMENT = re.compile(r"(?:^|\s{2})# (.*)$")


class FieldComments(griffe.Extension):
    """Adds a table of the fields that have a comment to the docstring of their class."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called by Griffe for each class, when its members are read."""
        fields = [member for member in cls.members.values() if member.is_attribute and "property" not in member.labels]
        rows = [f"| `{field.name}` | {text} |" for field in fields if (text := comment(field))]
        decorators = {str(decorator.value).partition("(")[0] for decorator in cls.decorators}
        if rows and cls.docstring and "dataclass" in decorators:
            cls.docstring.value += "\n".join(["\n", "| field | |", "| --- | --- |", *rows])


def comment(field: griffe.Object) -> str:
    """The comment at the end of a field's lines, else the one above them."""
    lines, first, last = field.lines_collection[field.filepath], field.lineno, field.endlineno
    if beside := _COMMENT.search(lines[last - 1]):
        texts = [beside[1]]
    else:
        texts, above = [], first - 2
        while above >= 0 and (found := re.fullmatch(r"\s*# (.*)", lines[above])):
            texts.insert(0, found[1])
            above -= 1
    return " ".join(texts).replace("|", "\\|").replace("<", "&lt;")
