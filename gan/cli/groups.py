"""A click group whose sub-commands are named as strings and imported when they are used."""

import difflib
import importlib
from typing import Any

import click

from gan.cli.command import Command, Group


class LazyGroup(Group):
    """A group that imports a sub-command only when it is asked for. `lazy` maps names to "module:function"."""

    def __init__(self, *arguments: Any, lazy: dict[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, which sees no names here to suggest."""
        if args[0] not in self.lazy and (close := difflib.get_close_matches(args[0], self.lazy, 1)):
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{close[0]}'?")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, name = self.lazy[cmd_name].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, Command | click.Group)
        return command
