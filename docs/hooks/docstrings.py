"""For mkdocstrings: docstrings are plain text, and comments beside the fields of a dataclass become a table."""

import re
from typing import Any

import griffe

_COMMENT = re.compile(r"\s{2}# (.*)$")


class Docstrings(griffe.Extension):
    """Makes Markdown of docstrings and of comments."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called by Griffe for each class, when its members are read: adds the table of its fields."""
        fields = [member for member in cls.members.values() if member.is_attribute and "property" not in member.labels]
        rows = [f"| `{field.name}` | {escaped(text)} |" for field in fields if (text := comment(field))]
        decorators = {str(decorator.value).partition("(")[0] for decorator in cls.decorators}
        if rows and cls.docstring and "dataclass" in decorators:
            cls.docstring.value += "\n".join(["\n", "| field | |", "| --- | --- |", *rows])

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by Griffe for each object, before its members are read: escapes its docstring, but for code."""
        if obj.docstring:
            lines = obj.docstring.value.splitlines()
            obj.docstring.value = "\n".join(line if line.startswith("    ") else escaped(line) for line in lines)


def comment(field: griffe.Object) -> str:
    """The comment at the end of a field's lines, else the one above them; "" where there is none."""
    lines, first, last = field.lines_collection[field.filepath], field.lineno, field.endlineno
    if beside := _COMMENT.search(lines[last - 1]):
        return beside[1]
    texts: list[str] = []
    while above := re.fullmatch(r"\s*# (.*)", lines[first - 2 - len(texts)]):
        texts.insert(0, above[1])
    return " ".join(texts)


def escaped(text: str) -> str:
    """The text as Markdown; what is in backticks stays as it is."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_|])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)
