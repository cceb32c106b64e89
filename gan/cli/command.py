"""The class of Salon's commands: options in the place of parameters, and options from a dataclass."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gan.errors import SalonError
from gan.runtime.console import in_options, speaking_of

Function = TypeVar("Function", bound=Callable[..., Any])


class Command(click.Command):
    """A command in whose messages the options stand that set the library's parameters.

    A parameter is that of an option with its name in Python or on the command line, or of an argument.
    """

    def invoke(self, ctx: click.Context) -> Any:
        with speaking_of(option_names(self, ctx)):
            try:
                return super().invoke(ctx)
            except SalonError as error:
                error.args = (in_options(str(error)),)
                raise


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def option_names(command: click.Command, ctx: click.Context) -> dict[str, str]:
    """Parameter -> what a person types for it: --seeds, or SNAPSHOT for an argument."""
    names: dict[str, str] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len)
            names[option.removeprefix("--").replace("-", "_")] = option
        else:
            option = parameter.make_metavar(ctx).strip("[].")  # SOURCE... is one SOURCE in a sentence
        names[str(parameter.name)] = option
    return names


def takes(request: type[Any], name: str = "request") -> Callable[[Function], Function]:
    """Hand the options that are fields of the dataclass `request` over as one argument `name`.

    It stands between @click.command and the options. An option's default is its field's, and `--help` shows it; an
    option whose field has none is required.
    """
    fields = {field.name: field for field in dataclasses.fields(request) if field.init}

    def decorate(function: Function) -> Function:
        own = [p for p in getattr(function, "__click_params__", []) if p.name in fields]
        for parameter in own:
            _set_default(parameter, fields[str(parameter.name)])

        @functools.wraps(function)
        def wrapper(**values: Any) -> Any:
            chosen = {str(p.name): values.pop(str(p.name)) for p in own}
            return function(**{name: request(**chosen)}, **values)

        return wrapper  # type: ignore[return-value]  # functools keeps the options, click the call

    return decorate


def _set_default(parameter: click.Parameter, field: "dataclasses.Field[Any]") -> None:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default is dataclasses.MISSING:
        parameter.required = True
        return
    parameter.required = False
    if default is None or isinstance(parameter, click.Argument):
        return
    parameter.default = default
    if isinstance(parameter, click.Option) and not parameter.is_flag and parameter.show_default is None:
        parameter.show_default = default != ()
