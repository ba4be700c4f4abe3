"""One option for each setting of a search, for every command that searches."""

from collections.abc import Callable, Collection
from functools import reduce
from typing import Any

import click

from sem_search.settings import SearchSettings, format_default

BARE_SWITCH: dict[str, Any] = {"is_flag": False, "flag_value": "true"}
"""An option that may stand without a value. No other may: "-1" would be read as an option, and not named as wrong."""

Command = Callable[..., Any]


def join_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return what gives a command several options, in this order.

    Args:
        options: From `click.option`.
    """
    return lambda command: reduce(lambda given, add: add(given), reversed(options), command)


def add_settings_options(command: Command, *, but: Collection[str] = ()) -> Command:
    """Give a command one option per setting.

    Args:
        command: That takes them by name, as text.
        but: Settings that it has no option for, or one of its own.
    """
    for name, field in reversed(SearchSettings.model_fields.items()):
        if name in but:
            continue
        default = format_default(field)
        shown = f"  [default: {default}]" if default else ""
        command = click.option(
            f"--{name.replace('_', '-')}",
            name,
            metavar="VALUE",
            default=None,
            **(BARE_SWITCH if field.annotation is bool else {}),
            help=f"{field.description}{shown}",
        )(command)
    return command
