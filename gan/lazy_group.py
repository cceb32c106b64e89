"""A click group whose sub-commands are named as strings and imported when they are used."""

import importlib
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that imports a sub-command only when it is asked for. `lazy` maps names to "module:function"."""

    def __init__(self, *arguments: Any, lazy: dict[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, name = self.lazy[cmd_name].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command
