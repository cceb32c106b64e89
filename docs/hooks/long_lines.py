"""For MkDocs: a command that is too long for the page goes on in the next line, as a shell reads it."""

import re
from typing import Any

WIDTH = 72  # characters


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Break the lines of commands."""
    return re.sub(r"^(salon|torchrun) .*--.*$", lambda line: broken(line[0]), markdown, flags=re.MULTILINE)


def broken(line: str) -> str:
    """The line in as many as it needs, broken before options; as it is where quotes would make that uncertain."""
    first, *options = re.split(r" (?=--?[a-z])", line)
    if set(line) & set("\"'`"):
        return line
    lines = [first]
    for option in options:
        if len(f"{lines[-1]} {option} \\") > WIDTH:
            lines.append(f"    {option}")
        else:
            lines[-1] += f" {option}"
    return " \\\n".join(lines)
